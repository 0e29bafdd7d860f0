"""One server of the tests: started, killed, frozen and restarted with all its processes, and never left behind."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tests.servers import keeper as keeper_program
from tests.servers.keeper import family, frozen, signal_family

_ports = iter(random.sample(range(16_000, 32_000), 16_000))

START_S = 60.0
_ORDERLY_S = 10.0


class Keeper:
    """Ends servers and deletes their folders when the test run ends, even by SIGKILL."""

    def __init__(self) -> None:
        """Start the watching process."""
        self._process = subprocess.Popen(
            [sys.executable, "-I", keeper_program.__file__], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.folder = Path(tempfile.mkdtemp(prefix="tympan-servers-"))
        self.folder.chmod(0o711)  # Servers that run as another user have to pass.
        self._tell("folder", str(self.folder))

    def watch(self, pid: int) -> None:
        """Watch over a process and its descendants."""
        self._tell("watch", str(pid))

    def forget(self, pid: int) -> None:
        """Forget a process that has ended."""
        self._tell("forget", str(pid))

    def close(self) -> None:
        """End what is left and delete the folder."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)

    def _tell(self, action: str, value: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{action} {value}\n")
        self._process.stdin.flush()


@dataclass(frozen=True, slots=True)
class Command:
    """How a process of a server is started; ``user`` matters only when the tests run as root."""

    arguments: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None


class Server:
    """A server that tests may treat badly. A subclass says how it starts and when it is ready."""

    name = "server"
    end_signal = signal.SIGTERM

    def __init__(self, keeper: Keeper) -> None:
        """Choose a folder and a port; ``start`` starts it."""
        self.keeper = keeper
        self.port = free_port()
        self.folder = keeper.folder / f"{self.name}-{self.port}"
        self.folder.mkdir(mode=0o711)
        self.log = self.folder / "server.log"
        self.env: dict[str, str] = {}
        """More for the environment of the server itself, from its next start on."""
        self._processes: list[subprocess.Popen[bytes]] = []

    def commands(self) -> Iterable[Command]:
        """Return the processes that make up the server, in order of their start."""
        raise AssertionError(self.name)

    def ready(self) -> bool:
        """Return whether the server answers."""
        return port_open(self.port)

    def wipe(self) -> None:
        """Delete everything that tests have stored in the server."""
        raise AssertionError(self.name)

    def start(self) -> None:
        """Start the server and wait until it answers."""
        for command in self.commands():
            self._spawn(command)
        self.wait_ready()

    def wait_ready(self, limit_s: float = START_S) -> None:
        """Wait until the server answers; AssertionError with the end of its log when it does not."""
        wait_until(self.ready, limit_s, lambda: f"{self.name} is not ready:\n{self.log_tail()}", self._alive_or_raise)

    def kill(self) -> None:
        """End every process of the server with SIGKILL at once, as a crash of its machine would."""
        members = self.pids
        for process in self._processes:
            signal_family(process.pid, signal.SIGKILL)
            process.wait(timeout=30)
            self.keeper.forget(process.pid)
        self._processes.clear()
        wait_until(lambda: not any(map(_alive, members)), 30, lambda: f"{self.name} has survivors")

    def stop(self) -> None:
        """Freeze the server: connections stay open, new ones are accepted by the kernel, and nothing answers."""
        for process in self._processes:
            signal_family(process.pid, signal.SIGSTOP)
        wait_until(lambda: self.frozen, 30, lambda: f"{self.name} does not freeze")

    def cont(self) -> None:
        """Let a frozen server go on."""
        for process in self._processes:
            signal_family(process.pid, signal.SIGCONT)

    def restart(self) -> None:
        """Start the server anew with what it kept; ends it first, orderly, when it is running."""
        self.close()
        self.start()

    def close(self) -> None:
        """End the server orderly, by force after ten seconds."""
        self.cont()
        for process in reversed(self._processes):
            process.send_signal(self.end_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=_ORDERLY_S)
        self.kill()

    def ensure(self) -> None:
        """Make sure that the server answers, whatever a test did to it."""
        self.cont()
        if self.running:
            self.wait_ready()
        else:
            self.kill()
            self.start()

    @property
    def running(self) -> bool:
        """Whether all its processes exist, frozen or not."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    @property
    def frozen(self) -> bool:
        """Whether all its processes are stopped."""
        return all(frozen(process.pid) for process in self._processes)

    @property
    def pids(self) -> list[int]:
        """The ids of all its processes, children included."""
        return [pid for process in self._processes for pid in family(process.pid)]

    def log_tail(self, chars: int = 3000) -> str:
        """Return the end of the server's log."""
        return self.log.read_text(errors="replace")[-chars:] if self.log.exists() else ""

    def run(self, command: Command, limit_s: float = START_S) -> str:
        """Run a tool of the server to its end and return its output; AssertionError with it when it fails."""
        done = subprocess.run(
            command.arguments, **_surroundings(command, self.folder), capture_output=True, check=False, timeout=limit_s
        )
        text: str = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"{command.arguments[0]} gave {done.returncode}:\n{text[-3000:]}"
        return text

    def _spawn(self, command: Command) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command.arguments,
                **_surroundings(replace(command, env={**command.env, **self.env}), self.folder),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.keeper.watch(process.pid)
        self._processes.append(process)

    def _alive_or_raise(self) -> None:
        ended = [process.returncode for process in self._processes if process.poll() is not None]
        assert not ended, f"{self.name} ended with {ended}:\n{self.log_tail()}"


def wait_until(
    condition: Callable[[], bool],
    limit_s: float,
    says: Callable[[], str] = lambda: "it did not happen in time",
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Wait until ``condition`` holds; AssertionError with what ``says`` returns after three times ``limit_s``.

    What takes ``limit_s`` at most where the tests are alone may take longer where they are not.
    """
    deadline = time.monotonic() + 3 * limit_s
    while not condition():
        meanwhile()
        assert time.monotonic() < deadline, says()
        time.sleep(0.05)


def port_open(port: int) -> bool:
    """Return whether something accepts connections on this port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port() -> int:
    """Return a port nobody uses, below those that the kernel gives to outgoing connections.

    None is returned twice: who was given one may not listen on it yet, or just now be dead and come back.
    """
    for port in islice(_ports, 200):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


def own(path: Path, user: str | None) -> None:
    """Give a file or folder to ``user`` when the tests run as root."""
    if user and os.geteuid() == 0:
        shutil.chown(path, user)


def _alive(pid: int) -> bool:
    """Return whether a process, or a thread of one whose first has ended, is still there and holds its ports."""
    tasks = Path(f"/proc/{pid}/task")
    return pid in family(pid) or (tasks.is_dir() and len(list(tasks.iterdir())) > 1)


def _surroundings(command: Command, folder: Path) -> dict[str, Any]:
    kept = ("PATH", "LANG", "TMPDIR")
    env = {name: os.environ[name] for name in kept if name in os.environ}
    return {
        "env": {**env, **command.env},
        "cwd": folder,
        "user": command.user if os.geteuid() == 0 else None,
    }
