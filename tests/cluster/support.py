"""A cluster under test: api, worker and scheduler processes on the servers that the fixtures start."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.servers.process import free_port, wait_until

START_S = 40.0
FAST = {"HEARTBEAT_S": "0.5", "LEASE_S": "3", "SWEEP_S": "0.5", "POLL_S": "0.2", "DRAIN_S": "5"}
"""Times a tenth of the defaults."""


@dataclass(slots=True)
class Node:
    """One process of the cluster."""

    kind: str
    port: int
    log: Path
    environment: Mapping[str, str]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        """Where it answers HTTP."""
        return f"http://127.0.0.1:{self.port}"

    def start(self, **extra: str) -> None:
        """Start the process; ``extra`` are further settings, without their prefix."""
        environment = {**self.environment, **{f"TYMPAN_{name}": value for name, value in extra.items()}}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("tympan")), self.kind],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Return when the process takes work; AssertionError with its log when it does not."""
        wait_until(self.is_ready, START_S, lambda: f"{self.kind} is not ready:\n{self.log.read_text()[-4000:]}")

    def is_ready(self) -> bool:
        """Return whether the process says that it is ready."""
        assert self.process is None or self.process.poll() is None, self.log.read_text()[-4000:]
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and its children."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Stop the process and its children where they are."""
        self.signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let them go on."""
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process and its children at once."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait(10)

    def stop(self, limit_s: float = 15.0) -> int:
        """Ask the process to end and return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(limit_s)


@dataclass(slots=True)
class Cluster:
    """The processes of a cluster."""

    folder: Path
    settings: Mapping[str, str]
    nodes: list[Node] = field(default_factory=list)

    def add(self, kind: str, **extra: str) -> Node:
        """Start one more process; ``kind`` is the name of its command."""
        number = len(self.nodes)
        settings = {**FAST, **self.settings, "DATA_DIR": str(self.folder / f"{kind}{number}")}
        port = free_port()
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
        environment |= {f"TYMPAN_{name}": value for name, value in {**settings, "PORT": str(port)}.items()}
        node = Node(kind, port, self.folder / f"{kind}{number}.log", environment)
        node.start(**extra)
        self.nodes.append(node)
        return node

    def migrate(self) -> None:
        """Make the schema."""
        environment = {**os.environ, **{f"TYMPAN_{name}": value for name, value in self.settings.items()}}
        program = str(Path(sys.executable).with_name("tympan"))
        subprocess.run([program, "migrate"], env=environment, check=True, timeout=60, capture_output=True)

    def logs(self) -> str:
        """Return the end of every log."""
        return "\n".join(f"== {node.log.name}\n{node.log.read_text()[-3000:]}" for node in self.nodes)


@contextlib.contextmanager
def open_cluster(folder: Path, settings: Mapping[str, str]) -> Iterator[Cluster]:
    """Yield a cluster without processes on a migrated database; what was started is killed at the end."""
    defaults = {"MODE": "cluster", "SECRET_KEY": "k" * 32, "ENGINE": "fake", "LOG_FORMAT": "json"}
    cluster = Cluster(folder, {**defaults, **settings})
    cluster.migrate()
    try:
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()
