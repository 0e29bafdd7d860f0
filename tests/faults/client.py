"""Clients: they hand in a mixed load, repeat what was not answered, and write down what they were told."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tests.faults.checker import TERMINAL, History, Promise
from tests.faults.process import BAD, HashDesk, pcm, transcriber
from tympan.domain import Options
from tympan.pipeline import RequestContext

SETTLE_S = 30.0
"""Bound for everything to end after the last crash; ten times what it takes, for loaded machines."""


class Service(Protocol):
    """What clients talk to: a house of bare processes, or a server behind HTTP."""

    def ask(self, request: str, **values: object) -> Any:
        """Return the answer to one request, however often it takes to get one."""
        ...


@dataclass
class Client:
    """One client and what it was told."""

    service: Service
    history: History = field(default_factory=History)
    endpoint: str | None = None

    def submit(self, intent: str, audio: bytes, **expected: Any) -> Promise:
        """Hand in a job."""
        promise = self.history.promise(intent, **expected)
        told = self.service.ask("submit", intent=intent, audio=audio, language="en", endpoint=self.endpoint)
        promise.told.append(told)
        return promise

    def again(self, promise: Promise, audio: bytes) -> None:
        """Hand the same job in once more, as if the first answer had been lost."""
        told = self.service.ask("submit", intent=promise.intent, audio=audio, language="en", endpoint=self.endpoint)
        promise.told.append(told)

    def cancel(self, promise: Promise) -> None:
        """Cancel a job; what the answer says is how it has ended."""
        state = self.service.ask("cancel", job_id=promise.told[-1])
        promise.seen.append(state)
        promise.ends = frozenset({state})

    def erase(self, promise: Promise) -> None:
        """Erase a job."""
        promise.erased = None
        self.service.ask("erase", job_id=promise.told[-1])
        promise.erased = True

    def look(self, promise: Promise) -> tuple[str, int]:
        """Return a job's state and finished sections."""
        state, sections = self.service.ask("state", job_id=promise.told[-1])
        promise.seen.append(state)
        return state, sections

    def wait(self, promise: Promise, until: Callable[[str, int], bool], limit_s: float = SETTLE_S) -> None:
        """Look until the job is as wanted, or has ended, or time is up."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            state, sections = self.look(promise)
            if until(state, sections) or state in TERMINAL or state == "gone":
                return
            time.sleep(0.02)

    def settle(self, limit_s: float = SETTLE_S) -> None:
        """Look at every job until all have ended; what has not by then is for the checker to find."""
        deadline = time.monotonic() + limit_s
        for promise in self.history.promises.values():
            if not promise.erased:
                self.wait(promise, lambda state, _: state in TERMINAL, deadline - time.monotonic())


def mixed_load(client: Client, seed: int) -> None:
    """A short job, one of three sections, one cancelled in the middle, one erased, and one with a broken file."""
    base = 1000 * (seed + 1)
    cancelled = client.submit("cancelled", pcm(120.0, base), ends=frozenset({"cancelled"}))
    client.submit("bad", BAD, ends=frozenset({"failed"}), error_code="corrupt_media")
    erased = client.submit("erased", pcm(4.0, base + 1), ends=TERMINAL)
    short = pcm(4.0, base + 2)
    promise = client.submit("short", short, text=expected_text(4.0, base + 2))
    client.submit("long", pcm(26.0, base + 3), text=expected_text(26.0, base + 3))
    client.wait(cancelled, lambda _, sections: sections > 0)
    client.cancel(cancelled)
    client.again(promise, short)
    client.wait(erased, lambda _, __: False)
    client.erase(erased)


@cache
def expected_text(seconds: float, seed: int, revision: str = "fake") -> str:
    """Return what one undisturbed pass makes of ``pcm(seconds, seed)``, with this ``revision`` of the model."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "pcm")
        path.write_bytes(pcm(seconds, seed))
        return (
            transcriber(HashDesk(revision=revision))
            .transcribe(path, Options(language="en"), RequestContext("expected"))
            .text
        )
