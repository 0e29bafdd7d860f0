"""Work for a cluster, handed in over HTTP as patient clients do, and the verdict on what became of it."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from tests.cluster.support import Cluster, Node
from tests.faults.checker import TERMINAL, History, Promise, check
from tests.faults.evidence import Evidence, gather
from tests.media import tone, wav
from tests.servers.process import wait_until
from tests.servers.rabbitmq import VirtualHost
from tympan.domain import Lane
from tympan.jobs.celery_app import queue_name
from tympan.storage.blobs import BlobStore
from tympan.storage.database import Database

ENDS_S = 60.0
"""Bound for everything to end once the fault is over; ten times what it takes on an idle machine."""

_OPTIONS = {"vad": "false", "language": "en"}
_TRIES_S = 45.0


def clip(seconds: float = 2.0, pitch_hz: float = 440.0) -> bytes:
    """Return a short file; each pitch has a text of its own."""
    return wav(tone(seconds, pitch_hz=pitch_hz), 16_000)


@dataclass(slots=True)
class Load:
    """Jobs of one test. ``statuses`` are those of every answer, connection errors as 0."""

    cluster: Cluster
    api: Node
    database: Database
    blobs: BlobStore
    history: History = field(default_factory=History)
    statuses: list[int] = field(default_factory=list)
    took_s: list[float] = field(default_factory=list)
    texts: dict[bytes, str] = field(default_factory=dict)

    def text_of(self, audio: bytes) -> str:
        """Return the text of an undisturbed run."""
        if audio not in self.texts:
            answer = httpx.post(
                f"{self.api.url}/v1/audio/transcriptions", files={"file": audio}, data=_OPTIONS, timeout=60
            )
            assert answer.status_code == 200, answer.text + self.cluster.logs()
            self.texts[audio] = answer.json()["text"]
        return self.texts[audio]

    def submit(self, intent: str, audio: bytes, **expected: Any) -> Promise:
        """Hand in a job, trying again while that is refused for the moment, as a client would."""
        promise = self.history.promise(intent, text=self.texts.get(audio), **expected)
        deadline = time.monotonic() + _TRIES_S
        while (answer := self.post_job(intent, audio)) is None or answer.status_code in (409, 503):
            assert time.monotonic() < deadline, f"{intent} is not taken: {answer and answer.text}"
            time.sleep(0.2)
        assert answer.status_code == 202, answer.text
        promise.told.append(answer.json()["id"])
        return promise

    def post_job(self, intent: str, audio: bytes) -> httpx.Response | None:
        """Return the answer to one request for a job, ``None`` when the connection broke."""
        data = {**_OPTIONS, "metadata": json.dumps({"intent": intent})}
        headers = {"idempotency-key": intent.replace(" ", "-")}
        return self.ask("POST", "/v1/jobs", files={"file": audio}, data=data, headers=headers)

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response | None:
        """Return one answer, ``None`` when the connection broke; note its status and how long it took."""
        began = time.monotonic()
        try:
            answer = httpx.request(method, self.api.url + path, timeout=30, **options)
        except httpx.TransportError:
            answer = None
        self.took_s.append(time.monotonic() - began)
        self.statuses.append(answer.status_code if answer is not None else 0)
        return answer

    def states(self) -> dict[str, str]:
        """Return the state of every job, from the database."""
        query = text("select id, state from jobs where metadata <> '{}'")  # Calls that wait for their text have none.
        return {row.id: row.state for row in self.database.read(lambda tx: tx.execute(query).all())}

    def unfinished(self) -> int:
        """Return how many accepted jobs have not ended."""
        states = self.states()
        told = [job_id for promise in self.history.promises.values() for job_id in promise.told]
        return sum(states.get(job_id) not in TERMINAL for job_id in told)

    def settle(self, limit_s: float = ENDS_S) -> None:
        """Wait until all jobs have ended, at most ``limit_s``."""
        wait_until(lambda: not self.unfinished(), limit_s, lambda: f"{self.states()}\n{self.cluster.logs()}")

    def evidence(self) -> Evidence:
        """Return what is in the stores now. Calls that are answered at once leave nothing that is judged."""
        found = gather(self.database, self.blobs)
        jobs = tuple(job for job in found.jobs if job.intent is not None)
        named = {job.id for job in jobs}
        results = {job_id: words for job_id, words in found.results.items() if job_id in named}
        steps = tuple(step for step in found.steps if step.job_id in named)
        blobs = tuple(key for key in found.blobs if key.split("/")[1] in named)
        return replace(found, jobs=jobs, results=results, steps=steps, blobs=blobs)

    def verdict(self) -> list[str]:
        """Return every broken promise."""
        return check(self.history, self.evidence())

    def prove(self, limit_s: float = ENDS_S) -> None:
        """Wait for all to end, and fail unless every promise was kept."""
        self.settle(limit_s)
        broken = self.verdict()
        assert broken == [], self.cluster.logs()
        kept, found = {entry.job_id for entry in self.evidence().entries("result")}, self.states()
        assert {job_id for job_id, state in found.items() if state == "succeeded"} <= kept, "the diary has gaps"


def metric(node: Node, name: str) -> float:
    """Return the value of one metric of a process."""
    lines = httpx.get(f"{node.url}/metrics", timeout=20).text.splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


def consumers_of(host: VirtualHost, limit_s: float = 30.0) -> dict[str, str]:
    """Wait until every lane has a consumer; return the channel of each, by the name of the lane's queue."""
    lanes = set(map(queue_name, Lane))
    wait_until(lambda: lanes <= host.consumers().keys(), limit_s, lambda: str(host.consumers()))
    return {queue: channel for queue, channel in host.consumers().items() if queue in lanes}


def thread_count(node: Node) -> int:
    """Return how many threads a process has."""
    assert node.process is not None
    return len(list(Path(f"/proc/{node.process.pid}/task").iterdir()))


def file_count(node: Node) -> int:
    """Return how many files and connections a process has open."""
    assert node.process is not None
    return len(list(Path(f"/proc/{node.process.pid}/fd").iterdir()))


def zombies(node: Node) -> list[str]:
    """Return the names of the children of a process that have ended and were not noticed."""
    assert node.process is not None
    parent, found = str(node.process.pid), []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It has gone meanwhile.
            name, _, rest = entry.read_text(errors="replace").rpartition(")")
            if rest.split()[:2] == ["Z", parent]:
                found.append(name)
    return found


def during(for_s: float, probe: Callable[[], object], pause_s: float = 0.1) -> None:
    """Call ``probe`` again and again for ``for_s``."""
    deadline = time.monotonic() + for_s
    while time.monotonic() < deadline:
        probe()
        time.sleep(pause_s)
