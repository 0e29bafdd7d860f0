"""Processes of ``tests.faults.process``, seen from the test: started, asked, killed, frozen, and started again."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from tests.faults import process
from tests.faults.evidence import Evidence, gather, keep_diary
from tests.faults.process import Plan
from tests.jobs_support import open_shop
from tympan.storage.blobs import open_blobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.tables import webhook_endpoints

_START_S, _ANSWER_S, _END_S = 60.0, 30.0, 20.0
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload([process.__name__])

ENDPOINT = "ep_1"
"""A place for webhooks that exists; nobody sends there."""


class Gone(Exception):
    """The process ended before it answered."""


class Refused(Exception):
    """The process answered with an error; its code."""


class Worker:
    """One process."""

    def __init__(self, plan: Plan) -> None:
        """Start it; ``ask`` waits until it is ready."""
        self.plan = plan
        self._wire, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(target=process.main, args=(theirs, plan), daemon=True)
        self._process.start()
        theirs.close()
        self._ready = False

    @property
    def pid(self) -> int:
        """Its id."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, negative for a signal; ``None`` while it lives."""
        return self._process.exitcode

    def ask(self, request: str, **values: object) -> Any:
        """Return its answer. Raises ``Gone`` and ``Refused``."""
        try:
            if not self._ready:
                self._receive(_START_S)
                self._ready = True
            self._wire.send((request, values))
            kind, value = self._receive(_ANSWER_S)
        except (EOFError, OSError) as error:
            raise Gone from error
        if kind == "error":
            raise Refused(value)
        return value

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self.wait()

    def stop(self) -> None:
        """Freeze it."""
        os.kill(self.pid, signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def wait(self) -> int | None:
        """Wait for its end; return how it ended."""
        self._process.join(_END_S)
        return self._process.exitcode

    def close(self) -> None:
        """End it in order if it lives, by force if need be."""
        if self._process.is_alive():
            self.cont()
            try:
                self._wire.send(None)
                self._process.join(_END_S)
            except OSError:
                pass
        self._process.kill()
        self._process.join(_END_S)
        self._wire.close()
        self._process.close()

    def log(self) -> str:
        """Return what it has logged."""
        path = self.plan.folder / f"log-{self.pid}"
        return path.read_text() if path.exists() else ""

    def _receive(self, limit_s: float) -> Any:
        if not self._wire.poll(limit_s):
            raise AssertionError(f"process {self.pid} did not answer in {limit_s} s; exit code {self.exit_code}")
        return self._wire.recv()


@dataclass
class House:
    """A folder with the processes that work on it."""

    plan: Plan
    database: Database
    workers: list[Worker] = field(default_factory=list)
    crashes: int = 0
    takes_over_after: bool = True

    @property
    def folder(self) -> Path:
        """Where everything is."""
        return self.plan.folder

    def start(self, **changes: Any) -> Worker:
        """Start one more process, planned like the others but for ``changes``."""
        worker = Worker(replace(self.plan, **changes))
        self.workers.append(worker)
        return worker

    def replace(self, worker: Worker) -> None:
        """Kill one process and start another like it, which becomes the first of the list."""
        worker.kill()
        self.workers.remove(worker)
        worker.close()
        self.workers.insert(0, Worker(worker.plan))

    def ask(self, request: str, **values: object) -> Any:
        """Return the answer of the last process; when it is killed, start another and ask again, as a client would."""
        while True:
            try:
                return self.workers[-1].ask(request, **values)
            except Gone:
                assert self.workers[-1].wait() == -signal.SIGKILL, self.workers[-1].log()[-3000:]
                self.crashes += 1
                assert self.crashes < 20
                self.start(takes_over=self.takes_over_after)

    def evidence(self) -> Evidence:
        """Return what is there now; processes that died leave their part of the staging folder to the next start."""
        blobs = open_blobs(None, self.folder / "blobs")
        staged = [path.name for path in (self.folder / "blobs" / ".staging").iterdir()]
        return gather(self.database, blobs, staged)


@contextmanager
def open_house(folder: Path, **plan: Any) -> Iterator[House]:
    """Yield a house with an empty database that keeps a diary; end all its processes at the end."""
    with open_shop(folder) as shop:
        keep_diary(shop.database)
        shop.database.write(_add_endpoint)
    house = House(Plan(folder, **plan), Database(sqlite_url(folder / "t.db")))
    try:
        yield house
    finally:
        for worker in house.workers:
            worker.close()
        house.database.close()


def _add_endpoint(tx: Connection) -> None:
    values = {"id": ENDPOINT, "tenant": "default", "url": "https://example.org/", "description": "", "state": "active"}
    tx.execute(insert(webhook_endpoints).values(values | {"secret": "", "implicit": False, "created_at": 0.0}))
