"""Calls that are answered at once by workers elsewhere, and how it is known that there are any."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs_support import TENANT, Shop, in_thread, open_shop
from tests.servers.process import wait_until
from tympan.bootstrap.waiting import wait_for
from tympan.domain import Lane, Options
from tympan.errors import Cancelled, ConfigError, MediaMissing, RequestTimeout, StorageUnavailable, TympanError
from tympan.jobs.remote import Lookout, RemoteTranscriber
from tympan.jobs.signals import LocalSignals
from tympan.pipeline import RequestContext
from tympan.storage.jobs import JobFilter


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return stores on SQLite."""
    with open_shop(tmp_path / "shop") as opened:
        yield opened


def _context(limit_s: float | None = None) -> RequestContext:
    deadline = None if limit_s is None else time.monotonic() + limit_s
    return RequestContext("req_1", TENANT, Lane.INTERACTIVE, 3600.0, threading.Event(), deadline)


def _remote(shop: Shop) -> RemoteTranscriber:
    return RemoteTranscriber(shop.service, "demo", Lookout(lambda: True), LocalSignals())


def test_a_call_is_a_job_that_leaves_nothing(shop: Shop) -> None:
    """The text is the worker's; row and audio are gone when it is returned."""
    worker = in_thread(lambda: wait_until(lambda: bool(shop.work_off()), 10))
    transcript = _remote(shop).transcribe(shop.pcm(10.0), Options(), _context())
    worker.join(10)
    assert transcript.text.startswith("w0. w1.")
    assert shop.store.page(TENANT, JobFilter()) == []
    assert list(shop.blobs.list("")) == []


def test_a_call_for_a_model_is_a_job_for_that_model(shop: Shop) -> None:
    """So that a worker which has it takes it; the default's jobs name none, and any worker may."""
    remote = RemoteTranscriber(shop.service, "large", Lookout(lambda: True), LocalSignals(), job_model=lambda: "large")
    errors = list[type[TympanError]]()

    def call() -> None:
        try:
            remote.transcribe(shop.pcm(3.0), Options(), _context(3.0))
        except TympanError as error:
            errors.append(type(error))

    caller = in_thread(call)
    wait_until(lambda: [job.model for job in shop.store.page(TENANT, JobFilter())] == ["large"], 5)
    assert shop.work.claim("w", tuple(Lane), (), ("base",)) is None
    caller.join(10)
    assert errors == [RequestTimeout]


def test_a_worker_that_tells_is_heard_before_the_next_look(shop: Shop) -> None:
    """A signal ends the wait between two looks."""
    signals = LocalSignals()
    heard = in_thread(lambda: signals.wait("job_1", 60.0))
    wait_until(lambda: "job_1" in signals._waiting, 5)
    signals.announce("job_1")
    heard.join(5)
    assert not heard.is_alive()


def test_the_workers_error_is_raised_here(shop: Shop) -> None:
    """With its kind, so that it gets its status."""
    context, errors = _context(), list[TympanError]()

    def call() -> None:
        try:
            _remote(shop).transcribe(shop.pcm(10.0), Options(), context)
        except TympanError as error:
            errors.append(error)

    caller = in_thread(call)
    wait_until(lambda: bool(shop.store.page(TENANT, JobFilter())), 10)
    shop.blobs.delete_prefix(f"jobs/{shop.store.page(TENANT, JobFilter())[0].id}/")
    shop.work_off()
    caller.join(10)
    assert isinstance(errors[0], MediaMissing)


@pytest.mark.parametrize("end", ["deadline", "departure"])
def test_who_gives_up_takes_the_job_along(shop: Shop, end: str) -> None:
    """At the deadline, or when the caller has gone."""
    context = _context(0.2 if end == "deadline" else None)
    if end == "departure":
        context.cancel.set()
    with pytest.raises(RequestTimeout if end == "deadline" else Cancelled):
        _remote(shop).transcribe(shop.pcm(10.0), Options(), context)
    assert shop.store.page(TENANT, JobFilter()) == []


def _answer(lookout: Lookout) -> bool:
    return lookout.says_yes


def test_a_lookout_answers_without_waiting() -> None:
    """While the question hangs the last answer stands, until it is too old to be believed."""
    hang, hangs, answered = threading.Event(), threading.Event(), threading.Event()

    def ask() -> bool:
        if hang.is_set():
            hangs.set()
            assert answered.wait(60)
        return True

    lookout = Lookout(ask, period_s=0.01, stale_s=0.2)
    assert _answer(lookout) is False
    lookout.start()
    wait_until(lambda: lookout.says_yes, 30)
    hang.set()
    assert hangs.wait(30)
    wait_until(lambda: not lookout.says_yes, 30)
    hang.clear()
    answered.set()
    wait_until(lambda: lookout.says_yes, 30)
    lookout.stop()


@pytest.mark.parametrize("error", [StorageUnavailable("away"), ZeroDivisionError("a mistake")])
def test_a_question_that_cannot_be_asked_is_a_no(error: Exception) -> None:
    """Without the database nothing is ready; whatever it was, the question is asked again."""
    failures = [error]

    def ask() -> bool:
        if failures:
            raise failures.pop()
        return True

    lookout = Lookout(ask, period_s=0.2)
    lookout.start()
    assert not lookout.says_yes
    wait_until(lambda: lookout.says_yes, 5)
    lookout.stop()


def test_O7_needs_are_waited_for_one_after_another(capsys: pytest.CaptureFixture[str]) -> None:
    """Each is tried until it is met; what is asked for afterwards is not tried before."""
    left: dict[str, list[TympanError]] = {
        "database": [StorageUnavailable("away"), ConfigError("no schema")],
        "storage": [StorageUnavailable("away")],
    }
    tried: list[str] = []

    def check(what: str) -> None:
        tried.append(what)
        if left[what]:
            raise left[what].pop(0)

    needs = {what: (lambda what=what: check(what)) for what in left}
    assert wait_for(needs, threading.Event())
    assert tried == ["database"] * 3 + ["storage"] * 2


def test_O7_waiting_ends_when_the_process_is_asked_to() -> None:
    """However long the need is not met."""
    over = threading.Event()

    def away() -> None:
        raise StorageUnavailable

    waiting = in_thread(lambda: wait_for({"database": away}, over))
    over.set()
    waiting.join(30)
    assert not waiting.is_alive()
