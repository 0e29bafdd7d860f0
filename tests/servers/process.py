"""One server of the tests: started, killed, frozen and restarted as a process group, and never left behind."""

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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

START_S = 60.0
_PREFIX = "tympan-servers-"

# Ends what is registered when its standard input closes, which happens however the tests end. The kernel's signal on
# the parent's death (PR_SET_PDEATHSIG) would not do: it comes when the *thread* that started the child ends, is
# forgotten when the child changes its user (PostgreSQL), and does not reach grandchildren (nginx, Erlang).
_KEEPER = """
import os, shutil, signal, sys
groups, folders = set(), set()
for line in sys.stdin:
    action, _, value = line.strip().partition(" ")
    (folders if action.endswith("folder") else groups).__getattribute__(
        "add" if action.startswith("add") else "discard")(value)
for group in groups:
    try:
        os.killpg(int(group), signal.SIGKILL)
    except ProcessLookupError:
        pass
for folder in folders:
    shutil.rmtree(folder, ignore_errors=True)
"""


class Keeper:
    """Ends servers and deletes their folders when the test run ends, even by SIGKILL."""

    def __init__(self) -> None:
        """Start the watching process."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", _KEEPER], stdin=subprocess.PIPE, text=True, start_new_session=True
        )
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        self.folder.chmod(0o711)  # Servers that run as another user have to pass.
        self._tell("add_folder", str(self.folder))

    def add(self, group: int) -> None:
        """Watch over a process group."""
        self._tell("add", str(group))

    def discard(self, group: int) -> None:
        """Forget a process group that has ended."""
        self._tell("discard", str(group))

    def close(self) -> None:
        """End what is left and delete the folder."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tell(self, action: str, value: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{action} {value}\n")
        self._process.stdin.flush()


@dataclass(frozen=True, slots=True)
class Command:
    """How a server's process is started; ``user`` only matters to root."""

    arguments: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None


class Server:
    """A server that tests may treat badly. A subclass says how it starts and when it is ready."""

    name = "server"

    def __init__(self, keeper: Keeper) -> None:
        """Choose a folder and a port; ``start`` starts it."""
        self.keeper = keeper
        self.port = free_port()
        self.folder = keeper.folder / f"{self.name}-{self.port}"
        self.folder.mkdir(mode=0o711)
        self.log = self.folder / "server.log"
        self._processes: list[subprocess.Popen[bytes]] = []

    def commands(self) -> Iterable[Command]:
        """Return the processes that make up the server, in order of their start."""
        raise AssertionError(self.name)

    def ready(self) -> bool:
        """Return whether the server answers."""
        return port_open(self.port)

    def wipe(self) -> None:
        """Delete everything the server holds."""

    def start(self) -> None:
        """Start the server and wait until it answers."""
        for command in self.commands():
            self._spawn(command)
        self.wait_ready()

    def wait_ready(self, limit_s: float = START_S) -> None:
        """Wait until the server answers; AssertionError with the end of its log when it does not."""
        wait_until(self.ready, limit_s, lambda: f"{self.name} is not ready:\n{self.log_tail()}", self._alive_or_raise)

    def kill(self) -> None:
        """End every process of the server with SIGKILL, as a crash of its machine would."""
        self._signal(signal.SIGKILL)
        for process in self._processes:
            process.wait(timeout=30)
            self.keeper.discard(process.pid)
        self._processes.clear()

    def stop(self) -> None:
        """Freeze the server: connections stay open and nothing answers."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start the server anew with what it kept; ends it first, orderly, when it is running."""
        self.close()
        self.start()

    def close(self) -> None:
        """End the server orderly within ten seconds, else by force."""
        self.cont()
        for process in reversed(self._processes):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=10)
        self.kill()

    def ensure(self) -> None:
        """Make sure that the server answers, whatever the test before did to it."""
        self.cont()
        if not self._processes or any(process.poll() is not None for process in self._processes):
            self.kill()
            self.start()
        else:
            self.wait_ready()

    @property
    def running(self) -> bool:
        """Whether all its processes exist."""
        return bool(self._processes) and all(process.poll() is None for process in self._processes)

    @property
    def groups(self) -> list[int]:
        """The ids of its process groups."""
        return [process.pid for process in self._processes]

    def log_tail(self, chars: int = 3000) -> str:
        """Return the end of the server's log."""
        return self.log.read_text(errors="replace")[-chars:] if self.log.exists() else ""

    def _spawn(self, command: Command) -> None:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command.arguments,
                env={**_plain_environment(), **command.env},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=command.user if os.geteuid() == 0 else None,
            )
        self.keeper.add(process.pid)
        self._processes.append(process)

    def _signal(self, number: signal.Signals) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    def _alive_or_raise(self) -> None:
        ended = [process.returncode for process in self._processes if process.poll() is not None]
        assert not ended, f"{self.name} ended with {ended}:\n{self.log_tail()}"


def wait_until(
    condition: Callable[[], bool],
    limit_s: float,
    says: Callable[[], str] = lambda: "it did not happen",
    meanwhile: Callable[[], None] = lambda: None,
) -> None:
    """Wait until ``condition`` holds; AssertionError after ``limit_s``."""
    deadline = time.monotonic() + limit_s
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
    """Return a port nobody uses, below those that the kernel gives to outgoing connections."""
    for port in _candidates():
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is no free port")


def _candidates() -> Iterator[int]:
    for _ in range(200):
        yield random.randrange(16_000, 32_000)  # noqa: S311


def _plain_environment() -> dict[str, str]:
    kept = ("PATH", "LANG", "LD_LIBRARY_PATH", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}
