"""What a caller hears while workers elsewhere are at the rest: in order, each once, and what the whole will be."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.jobs_support import LANES, TENANT, Shop, in_thread, open_shop
from tests.pipeline_support import answer
from tests.servers.process import wait_until
from tympan.domain import Lane, Options, Segment, StepKind, Transcript, WindowResult, WindowTask
from tympan.errors import Cancelled, TympanError, Unavailable
from tympan.jobs.remote import Lookout, RemoteTranscriber
from tympan.jobs.signals import LocalSignals
from tympan.jobs.telling import Telling
from tympan.pipeline import RequestContext
from tympan.storage.jobs import JobFilter

LONG_S = 140.0


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return stores on SQLite, whose sections have four windows."""
    with open_shop(tmp_path / "shop") as opened:
        yield opened


class Caller:
    """Somebody who waits for a file of 140 s, in a thread of their own."""

    def __init__(self, shop: Shop, options: Options | None = None) -> None:
        """Ask; without signals, so that only the database tells when a section is finished."""
        self.heard: list[Segment] = []
        self.transcript: Transcript | None = None
        self.error: TympanError | None = None
        self.cancel = threading.Event()
        self._remote = RemoteTranscriber(shop.service, "demo", Lookout(lambda: True), LocalSignals())
        self._shop, self._options = shop, options or Options()
        self.thread = in_thread(self._ask)
        wait_until(lambda: bool(shop.store.page(TENANT, JobFilter())), 10)

    def told(self, news: Sequence[Segment]) -> None:
        """Hear what is told."""
        self.heard += news

    @property
    def text(self) -> str:
        """What was heard so far."""
        return "".join(segment.text for segment in self.heard).strip()

    def result(self) -> Transcript:
        """Return the whole, once it is there."""
        self.thread.join(10)
        assert self.transcript is not None
        return self.transcript

    def _ask(self) -> None:
        context = RequestContext("req_1", TENANT, Lane.INTERACTIVE, 3600.0, self.cancel, on_segments=self.told)
        try:
            self.transcript = self._remote.transcribe(self._shop.pcm(LONG_S), self._options, context)
        except TympanError as error:
            self.error = error


def done(shop: Shop) -> str:
    """Return the text of the sections that are finished."""
    job = shop.store.page(TENANT, JobFilter())[0]
    return " ".join(section.text for section in shop.store.partial_texts(job.id))


def test_the_text_comes_section_by_section_and_is_that_of_the_whole(shop: Shop) -> None:
    """Each finished section is heard before the next is begun, and without a signal; nothing is heard twice."""
    caller, bench = Caller(shop), shop.bench()
    assert bench.work_once(LANES)  # The audio is cut.
    for _ in range(6):
        before = caller.text
        assert bench.work_once(LANES)
        wait_until(lambda: caller.text == done(shop), 10)
        assert len(caller.text) > len(before)
    assert caller.thread.is_alive()
    shop.work_off()
    transcript = caller.result()
    whole = shop.transcriber.transcribe(shop.pcm(LONG_S), Options(), RequestContext("sync"))
    assert transcript.text == whole.text
    assert tuple(caller.heard) == transcript.segments[: len(caller.heard)]


def test_a_section_waits_for_those_before_it(shop: Shop) -> None:
    """The second may be finished first, on another worker: its text comes behind that of the first."""
    caller = Caller(shop)
    shop.bench("cutter").work_once(LANES)
    first = shop.work.claim("slow", LANES)
    assert first is not None
    assert (first.kind, first.index) == (StepKind.SECTION, 0)
    assert shop.bench("quick").work_once(LANES)
    jobs = shop.store.page(TENANT, JobFilter())
    assert shop.service.section_result(TENANT, jobs[0].id, 1) is not None
    assert not caller.heard
    shop.work.release(first)
    shop.work_off()
    assert caller.text == caller.result().text[: len(caller.text)]


def test_who_is_told_and_leaves_takes_the_job_along(shop: Shop) -> None:
    """In the middle of it: the rows go, and the worker finds nothing more to do."""
    caller, bench = Caller(shop), shop.bench()
    bench.work_once(LANES)
    bench.work_once(LANES)
    wait_until(lambda: bool(caller.heard), 10)
    caller.cancel.set()
    caller.thread.join(10)
    assert isinstance(caller.error, Cancelled)
    assert shop.store.page(TENANT, JobFilter()) == []
    assert not bench.work_once(LANES)


def test_what_was_told_has_to_be_what_the_whole_says(shop: Shop) -> None:
    """A job that another model has begun anew ends the stream with an error, since nothing told is taken back."""
    job = shop.submit(40.0, lane=Lane.INTERACTIVE)
    bench = shop.bench()
    bench.work_once(LANES)
    bench.work_once(LANES)
    heard: list[Segment] = []
    telling = Telling(lambda index: shop.service.section_result(TENANT, job.id, index), job.options, heard.extend)
    telling.go_on()
    assert heard
    shop.work_off()
    transcript = shop.service.transcript(TENANT, job.id)[1]
    telling.check(transcript)
    other = tuple(replace(one, text=f" not{one.text}") for one in transcript.segments)
    with pytest.raises(Unavailable, match="restarted with another model"):
        telling.check(replace(transcript, segments=other))


def test_a_foreign_section_is_not_told(shop: Shop) -> None:
    """Whoever has the id of another tenant's job learns nothing by it."""
    job = shop.submit(40.0, lane=Lane.INTERACTIVE)
    bench = shop.bench()
    bench.work_once(LANES)
    bench.work_once(LANES)
    assert shop.service.section_result(TENANT, job.id, 0) is not None
    assert shop.service.section_result("another", job.id, 0) is None


def test_who_waits_has_short_sections(tmp_path: Path) -> None:
    """Half a minute each, so that text comes soon and all workers take part; nobody waits for a job's."""
    with open_shop(tmp_path) as shop:
        shop.section_s = 300.0
        awaited = shop.submit(LONG_S, lane=Lane.INTERACTIVE)
        job = shop.submit(LONG_S, seed=2)
        shop.work_off()
        assert shop.get(awaited).progress.sections_total == 5
        assert shop.get(job).progress.sections_total == 1


def test_short_sections_settle_the_language_by_as_many_windows_as_one_machine_asks(shop: Shop) -> None:
    """The first two windows are in doubt and in the first section; the third, in the second section, decides."""
    votes = {0: (("en", 0.3), ("de", 0.2)), 1: (("en", 0.3), ("de", 0.2)), 2: (("de", 0.9), ("en", 0.05))}

    def reply(task: WindowTask) -> WindowResult:
        found = answer(task)
        return found if task.params.language else replace(found, language_probabilities=votes[task.window.index])

    shop.desk.reply, shop.section_s = reply, 10.0
    job = shop.submit(40.0, lane=Lane.INTERACTIVE)
    shop.work_off()
    whole = shop.transcriber.transcribe(shop.pcm(40.0), Options(), RequestContext("sync"))
    assert whole.language == "de"
    assert shop.get(job).language == "de"


def test_a_language_is_found_by_asking_for_nothing_else(shop: Shop) -> None:
    """The worker hears one window of 28, and what it answers is what a machine with a model answers."""
    remote = RemoteTranscriber(shop.service, "demo", Lookout(lambda: True), LocalSignals())
    worker = in_thread(lambda: wait_until(lambda: bool(shop.work_off()), 10))
    asked = Options(languages=("de", "en"))
    found = remote.detect_language(shop.pcm(LONG_S), RequestContext("req_1", TENANT), asked)
    worker.join(10)
    assert [task.params.language_only for task in shop.desk.tasks] == [True]
    assert shop.desk.tasks[0].params.languages == ("de", "en")
    here = shop.transcriber.detect_language(shop.pcm(LONG_S), RequestContext("req_1", TENANT), asked)
    assert replace(found, processing_s=0.0) == replace(here, processing_s=0.0)
    assert (found.language, found.text, found.segments) == ("en", "", ())
    assert shop.store.page(TENANT, JobFilter()) == []
    assert list(shop.blobs.list("")) == []
