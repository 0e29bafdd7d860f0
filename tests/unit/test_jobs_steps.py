"""A job is taken through its steps, whatever gets in the way, and gives the text that a synchronous call gives."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs_support import LANES, TENANT, Shop, in_thread, open_shop
from tests.pipeline_support import answer
from tympan.domain import Job, JobState, Lane, NewJob, Options, Source, SourceKind, StepKind, WindowResult, WindowTask
from tympan.errors import (
    AudioQuarantined,
    EngineDeviceLost,
    FetchFailed,
    InsufficientStorage,
    JobNotFinished,
    JobNotRetryable,
    MediaMissing,
    ModelNotFound,
    NotFound,
    StorageUnavailable,
)
from tympan.jobs.media import job_prefix, media_key, section_prefix
from tympan.jobs.retrying import BASE_S, MAX_DELAY_S
from tympan.jobs.service import new_id
from tympan.pipeline import RequestContext, Transcriber
from tympan.storage.tables import jobs
from tympan.storage.upkeep import MAX_CRASHES
from tympan.storage.work import LeaseLost


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on SQLite."""
    with open_shop(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("seconds", [3.0, 19.0, 47.0, 140.0])
@pytest.mark.parametrize("language", [None, "de"])
def test_a_job_gives_the_transcript_of_a_synchronous_call(shop: Shop, seconds: float, language: str | None) -> None:
    """One section or many, language given or found out: the same text, times, language and accounting."""
    options = Options(language=language)
    job = shop.submit(seconds, options=options)
    shop.work_off()
    stored = shop.service.transcript(TENANT, job.id)[1]
    whole = shop.transcriber.transcribe(shop.pcm(seconds), options, RequestContext("sync"))
    same = {"processing_s": 0.0, "stats": whole.stats}
    assert dataclasses.replace(stored, **same) == dataclasses.replace(whole, **same)  # type: ignore[arg-type]
    done = shop.get(job)
    assert (done.state, done.progress.audio_s_done, done.attempts) == (JobState.SUCCEEDED, seconds, 1)


@pytest.mark.parametrize("seconds", [18.0, 70.0])
def test_a_job_tells_speakers_apart_like_a_synchronous_call(shop: Shop, seconds: float) -> None:
    """Levels travel with the sections: the speakers of the file change every 10 or 20 s, and so do the segments'."""
    options = Options(diarize=True)
    job = shop.submit(seconds, options=options)
    shop.work_off()
    stored = shop.service.transcript(TENANT, job.id)[1]
    whole = shop.transcriber.transcribe(shop.pcm(seconds), options, RequestContext("sync"))
    assert shop.get(job).options.diarize
    assert [one.speaker for one in stored.segments] == [one.speaker for one in whole.segments]
    clear = [one for one in stored.segments if one.start_s // 10 == one.end_s // 10]
    assert [one.speaker for one in clear] == ["A" if (one.start_s // 10) % 3 == 0 else "B" for one in clear]
    assert {one.speaker for one in clear} == {"A", "B"}


def test_audio_without_a_word_is_a_result_too(shop: Shop) -> None:
    """No speech, no sections, no failure: an empty text over the whole length."""
    path = shop.folder / "silence"
    path.write_bytes(bytes(32_000 * 4))
    shop.desk.reply = lambda task: dataclasses.replace(answer(task), text="", tokens=(), words=())
    new = NewJob(new_id("job"), Source(SourceKind.STORED), Options())
    job = shop.service.submit(new, path)[0]
    shop.work_off()
    transcript = shop.service.transcript(TENANT, job.id)[1]
    assert (transcript.text, transcript.duration_s) == ("", 4.0)


def test_only_the_upload_is_left_when_a_job_has_ended(shop: Shop) -> None:
    """The sections' samples go with the sections."""
    job = shop.submit(60.0)
    shop.work_off()
    assert [blob.key for blob in shop.blobs.list("")] == [media_key(job.id)]


def test_sections_can_be_claimed_while_the_rest_is_being_cut(shop: Shop) -> None:
    """When a worker has the second section in hand, the first is up for others."""
    job = shop.submit(100.0)
    prepare = shop.work.claim("one", LANES)
    assert prepare is not None
    seen = threading.Event()
    original = shop.work.add_section

    def watched(claim: object, cut: object) -> None:
        original(claim, cut)  # type: ignore[arg-type]
        if not seen.is_set():
            other = shop.work.claim("two", LANES)
            assert other is not None
            assert (other.kind, other.index) == (StepKind.SECTION, 0)
            seen.set()

    shop.work.add_section = watched  # type: ignore[method-assign]
    bench = shop.bench("one")
    bench._steps.run(prepare, threading.Event(), shop.folder)
    assert seen.is_set()
    assert shop.get(job).progress.sections_total == 5


def test_a_preparation_that_runs_twice_cuts_alike_and_keeps_finished_sections(shop: Shop) -> None:
    """The second run follows the first one's cuts even where sections have another length by now."""
    job = shop.submit(100.0)
    first = shop.bench("one")
    claim = shop.work.claim("one", LANES)
    assert claim is not None
    calls = 0
    original = shop.work.add_section

    def breaks(held: object, cut: object) -> None:
        nonlocal calls
        calls += 1
        original(held, cut)  # type: ignore[arg-type]
        if calls == 3:
            raise InsufficientStorage

    shop.work.add_section = breaks  # type: ignore[method-assign,assignment]
    with pytest.raises(InsufficientStorage):
        first._steps.run(claim, threading.Event(), shop.folder)
    shop.work.add_section = original  # type: ignore[method-assign]
    done = shop.work.claim("two", LANES)
    assert done is not None
    shop.bench("two")._steps.run(done, threading.Event(), shop.folder)
    shop.work.release(claim)
    shop.section_s = 40.0
    tasks = len(shop.desk.tasks)
    shop.work_off()
    assert shop.get(job).state is JobState.SUCCEEDED
    assert shop.get(job).progress.sections_done == 4
    decoded_twice = [task for task in shop.desk.tasks[tasks:] if task.window.index < 3 and task.params.align]
    assert decoded_twice == []


def test_a_step_that_lost_its_lease_writes_nothing(shop: Shop) -> None:
    """The fence: what a frozen worker brings late is refused, and the result is the other one's."""
    job = shop.submit(8.0)
    stale = shop.work.claim("stale", LANES)
    assert stale is not None
    shop.upkeep.disown()
    shop.work_off("fresh")
    with pytest.raises(LeaseLost):
        shop.bench("stale")._steps.run(stale, threading.Event(), shop.folder)
    assert shop.get(job).state is JobState.SUCCEEDED


def test_an_expired_lease_cannot_be_written_under_even_before_the_sweep(tmp_path: Path) -> None:
    """The lease's end counts, not the sweeper's eye."""
    with open_shop(tmp_path, lease_s=0.05) as shop:
        shop.submit(8.0)
        claim = shop.work.claim("slow", LANES)
        assert claim is not None
        time.sleep(0.1)
        with pytest.raises(LeaseLost):
            shop.work.fail(claim, MediaMissing())


def test_passing_errors_are_tried_again_and_counted(shop: Shop) -> None:
    """Two failures of the engine, then success: three attempts."""
    failures = iter([EngineDeviceLost(), EngineDeviceLost()])

    def reply(task: WindowTask) -> WindowResult | BaseException:
        return next(failures, None) or answer(task)

    shop.desk.reply = reply
    job = shop.submit(4.0)
    bench = shop.bench()
    deadline = time.monotonic() + 60
    while shop.get(job).state is not JobState.SUCCEEDED:
        assert time.monotonic() < deadline
        if not bench.work_once(LANES):
            time.sleep(0.05)
    assert shop.get(job).attempts == 3


def test_an_error_that_stays_ends_the_job_with_its_cause(shop: Shop) -> None:
    """Audio that kills engines fails at once: it is not worth another engine."""
    shop.desk.reply = lambda _task: AudioQuarantined("It died.", remedy="Check it.")
    job = shop.submit(4.0)
    shop.work_off()
    ended = shop.get(job)
    assert ended.state is JobState.FAILED
    assert ended.error is not None
    assert (ended.error.code, ended.error.message, ended.error.remedy) == ("audio_quarantined", "It died.", "Check it.")
    with pytest.raises(JobNotFinished, match="It died"):
        shop.service.transcript(TENANT, job.id)


def test_an_unknown_language_fails_with_the_field_at_fault(shop: Shop) -> None:
    """What the model cannot do is said as in a synchronous call."""
    job = shop.submit(4.0, options=Options(language="xx"))
    shop.work_off()
    error = shop.get(job).error
    assert error is not None
    assert error.code == "unsupported_language"


def test_a_job_for_another_model_is_not_transcribed_with_this_one(shop: Shop) -> None:
    """A name that was taken on trust while the model was loading is checked before the work begins."""
    job = shop.submit(4.0, model="another")
    bench = shop.bench()

    def pick(name: str | None) -> Transcriber:
        raise ModelNotFound(f"The model {name!r} is not served here.", param="model")

    bench._steps._pick = pick  # type: ignore[attr-defined]
    bench.work_once(LANES)
    error = shop.get(job).error
    assert error is not None
    assert error.code == "model_not_found"
    assert shop.desk.tasks == []


def test_E7_audio_shorter_than_its_row_fails_once(shop: Shop) -> None:
    """A truncated object is a typed failure, not a loop."""
    job = shop.submit(4.0)
    path = shop.folder / "blobs" / media_key(job.id)
    path.write_bytes(path.read_bytes()[:1000])
    shop.work_off()
    ended = shop.get(job)
    assert ended.error is not None
    assert (ended.state, ended.error.code, ended.attempts) == (JobState.FAILED, "media_changed", 1)


@pytest.mark.parametrize("gone", [False, True], ids=["damaged", "gone"])
def test_a_section_whose_audio_is_lost_is_cut_again(shop: Shop, *, gone: bool) -> None:
    """Samples are checked before they are decoded; what was done stays done, and the text is whole."""
    other = shop.submit(50.0)
    shop.work_off()
    job = shop.submit(50.0, options=Options(prompt="no result is reused"))
    shop.work_off(limit=2)
    lost = [section for section in (0, 1, 2) if shop.blobs.size(f"{section_prefix(job.id, section)}pcm")]
    assert lost == [1, 2]
    _lose(shop, job, lost, gone=gone)
    tasks = len(shop.desk.tasks)
    shop.work_off()
    assert shop.get(job).state is JobState.SUCCEEDED
    assert shop.get(job).progress.audio_s_done == 50.0
    assert shop.service.transcript(TENANT, job.id)[1].text == shop.service.transcript(TENANT, other.id)[1].text
    assert all(task.window.index >= 4 for task in shop.desk.tasks[tasks:] if task.params.align)
    assert [blob.key for blob in shop.blobs.list(job_prefix(job.id))] == [media_key(job.id)]


def test_a_section_that_is_lost_again_and_again_ends_the_job(shop: Shop) -> None:
    """Five tries in all, as for anything that may pass."""
    job = shop.submit(50.0)
    shop.work_off(limit=1)
    for _ in range(5):
        assert shop.get(job).state is JobState.RUNNING
        _lose(shop, job, [0], gone=False)
        shop.work_off(limit=2)  # The section finds it out, and the audio is cut again.
    ended = shop.get(job)
    assert (ended.state, ended.error and ended.error.code) == (JobState.FAILED, "media_missing")


def test_without_the_job_s_own_audio_a_lost_section_ends_the_job(shop: Shop) -> None:
    """There is nothing left to cut."""
    job = shop.submit(50.0)
    shop.work_off(limit=1)
    shop.blobs.delete_prefix(job_prefix(job.id))
    shop.work_off()
    ended = shop.get(job)
    assert (ended.state, ended.error and ended.error.code) == (JobState.FAILED, "media_missing")


def _lose(shop: Shop, job: Job, sections: list[int], *, gone: bool) -> None:
    """Take away the audio of some sections of a job, or turn a bit in it."""
    for section in sections:
        path = shop.folder / "blobs" / section_prefix(job.id, section) / "pcm"
        data = bytearray(path.read_bytes())
        data[-7] ^= 0xFF
        path.unlink()
        if not gone:
            path.write_bytes(data)


def test_a_job_whose_workers_die_is_given_up(tmp_path: Path) -> None:
    """Five leases that ran out end the job; its neighbours are not charged."""
    with open_shop(tmp_path, lease_s=0.02) as shop:
        job, neighbour = shop.submit(4.0), shop.submit(4.0, seed=2, priority=-1)
        for _ in range(MAX_CRASHES):
            claim = shop.work.claim("dies", LANES)
            assert claim is not None
            assert claim.job.id == job.id
            time.sleep(0.04)
            assert shop.upkeep.release_expired() == 1
        ended = shop.get(job)
        assert ended.error is not None
        assert (ended.state, ended.error.code) == (JobState.FAILED, "quarantined")
        assert shop.get(neighbour).attempts == 0


def test_a_cancelled_job_stops_within_a_window_and_keeps_nothing_of_its_work(shop: Shop) -> None:
    """Cancelling ends the job at once; the worker notices by its watch and gives up between two windows."""
    shop.desk.hold = True
    job = shop.submit(60.0)
    bench = shop.bench(watch_s=0.05, heartbeat_s=0.1)
    bench.start()
    worker = in_thread(lambda: [bench.work_once(LANES) for _ in range(2)])
    deadline = time.monotonic() + 60
    while not shop.desk.open:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert shop.service.cancel(TENANT, job.id).state is JobState.CANCELLED
    worker.join(30)
    assert not worker.is_alive()
    assert shop.service.cancel(TENANT, job.id).state is JobState.CANCELLED
    assert shop.work.claim("other", LANES) is None
    bench.close()


def test_a_passed_deadline_expires_a_job_unstarted(shop: Shop) -> None:
    """Neither a claim nor the sweeper lets a late job begin."""
    now = time.time()
    late, later = shop.submit(4.0, deadline=now - 1), shop.submit(4.0, seed=2, deadline=now - 1)
    assert shop.upkeep.expire_deadlines() == 2
    third = shop.submit(4.0, seed=3, deadline=now - 1)
    assert shop.work_off() == 0
    assert {shop.get(job).state for job in (late, later, third)} == {JobState.EXPIRED}
    error = shop.get(late).error
    assert error is not None
    assert error.code == "deadline_passed"


def test_equal_jobs_share_a_result_for_a_while(shop: Shop) -> None:
    """Same audio, same options, same model: no second transcription; other options: one."""
    shop.submit(8.0)
    shop.work_off()
    decoded = len(shop.desk.tasks)
    same = shop.submit(8.0)
    shop.work_off()
    assert len(shop.desk.tasks) == decoded
    assert shop.service.transcript(TENANT, same.id)[1].text
    progress = shop.get(same).progress
    assert (progress.sections_done, progress.sections_total, progress.audio_s_done) == (0, 0, 8.0)
    other = shop.submit(8.0, options=Options(beam_size=1))
    shop.work_off()
    assert len(shop.desk.tasks) > decoded
    assert shop.get(other).state is JobState.SUCCEEDED
    shop.submit(8.0, tenant="another")
    before = len(shop.desk.tasks)
    shop.work_off()
    assert len(shop.desk.tasks) > before, "another tenant's result was used"


@pytest.mark.parametrize(("asked_s", "least_s", "most_s"), [(None, 0, 1), (300.0, 300, 301), (86_400.0, 600, 601)])
def test_a_host_that_asks_for_patience_gets_it(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, asked_s: float | None, least_s: float, most_s: float
) -> None:
    """Its Retry-After is added to our own waiting time, ten minutes at most."""
    waits: list[float] = []
    monkeypatch.setattr(shop.work, "retry", lambda _claim, wait_s: waits.append(wait_s))
    shop.desk.reply = lambda _task: FetchFailed(retry_after_s=asked_s)
    shop.submit(8.0)
    shop.work_off(limit=2)
    assert len(waits) == 1
    assert least_s <= waits[0] <= most_s


def test_a_job_that_was_served_serves_no_other(shop: Shop) -> None:
    """Or a result would live on from job to job, long after its time; it says what it is, and costs no work."""
    first = shop.submit(8.0)
    shop.work_off()
    second = shop.submit(8.0)
    shop.work_off()
    assert [shop.service.transcript(TENANT, job.id)[1].is_cached for job in (first, second)] == [False, True]
    shop.service.erase(TENANT, first.id)
    third = shop.submit(8.0)
    decoded = len(shop.desk.tasks)
    shop.work_off()
    assert len(shop.desk.tasks) > decoded
    assert not shop.service.transcript(TENANT, third.id)[1].is_cached


def test_a_result_of_other_weights_than_its_fingerprint_says_serves_nobody(shop: Shop) -> None:
    """Another worker's engine made the sections after this one had prepared the job."""
    job = shop.submit(8.0)
    shop.work_off()
    shop.database.write(lambda tx: tx.execute(jobs.update().where(jobs.c.id == job.id).values(weights="f" * 32)))
    shop.submit(8.0)
    decoded = len(shop.desk.tasks)
    shop.work_off()
    assert len(shop.desk.tasks) > decoded


def test_retry_makes_a_new_job_with_the_same_audio(shop: Shop) -> None:
    """The failed one stays failed; its audio is still there when the new one is done."""
    shop.desk.reply = lambda _task: AudioQuarantined()
    failed = shop.submit(8.0, metadata='{"a": "b"}')
    shop.work_off()
    shop.desk.reply = answer
    again = shop.service.retry(TENANT, failed.id)
    assert (again.retry_of, again.metadata, again.state) == (failed.id, '{"a": "b"}', JobState.QUEUED)
    shop.work_off()
    assert shop.get(again).state is JobState.SUCCEEDED
    assert shop.get(failed).state is JobState.FAILED
    with pytest.raises(JobNotRetryable):
        shop.service.retry(TENANT, again.id)
    shop.blobs.delete_prefix(f"jobs/{failed.id}/")
    with pytest.raises(MediaMissing):
        shop.service.retry(TENANT, failed.id)


def test_an_erased_job_is_gone_in_the_middle_of_its_work(shop: Shop) -> None:
    """Its row, its audio, its sections; what the worker still brings finds no place."""
    job = shop.submit(60.0)
    shop.work_off(limit=2)
    claim = shop.work.claim("busy", LANES)
    assert claim is not None
    shop.service.erase(TENANT, job.id)
    with pytest.raises((LeaseLost, MediaMissing)):
        shop.bench("busy")._steps.run(claim, threading.Event(), shop.folder)
    with pytest.raises(NotFound):
        shop.service.get(TENANT, job.id)
    assert list(shop.blobs.list("")) == []
    assert shop.work_off() == 0


def test_what_the_job_cannot_help_is_waited_for_and_not_counted(shop: Shop) -> None:
    """A full disk delays a job; it neither fails it nor uses up its tries."""
    job = shop.submit(8.0)
    original, calls = shop.blobs.adopt, 0

    def full(key: str, source: Path) -> None:
        nonlocal calls
        calls += 1
        if calls <= 2 and "sections" in key:
            raise InsufficientStorage(retry_after_s=0.01)
        original(key, source)

    shop.blobs.adopt = full  # type: ignore[method-assign]
    deadline = time.monotonic() + 60
    while shop.get(job).state is not JobState.SUCCEEDED:
        assert time.monotonic() < deadline
        shop.work_off()
    assert (calls, shop.get(job).attempts) == (3, 1)


class _Counted(threading.Event):
    """Takes note of how long somebody wants to wait, and lets nobody wait."""

    def __init__(self) -> None:
        super().__init__()
        self.asked_s: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.asked_s.append(timeout or 0.0)
        return self.is_set()


def test_G6_while_the_storage_is_away_few_steps_ask_for_it(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker rests after each step that failed, for longer each time, however many wait, until one works."""
    for _ in range(9):
        shop.submit(4.0)
    bench = shop.bench()
    rests = bench._draining = _Counted()
    with monkeypatch.context() as away:

        def refuse(*_: object) -> None:
            raise StorageUnavailable(retry_after_s=60.0)

        away.setattr(bench._steps, "run", refuse)
        assert all(bench.work_once(LANES) for _ in range(8))
    assert rests.asked_s == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert bench.work_once(LANES)
    assert rests.asked_s[-1] == 0.0


@pytest.mark.parametrize("budget", ["left", "spent"])
def test_G6_beyond_the_budget_a_step_waits_the_longest_time(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    """Its retries are as many; they come when the others have had theirs."""
    shop.submit(4.0)
    bench = shop.bench()
    while budget == "spent" and bench._budget.allows_retry():
        pass
    waits: list[float] = []
    monkeypatch.setattr(bench._work, "retry", lambda _, wait_s: waits.append(wait_s))

    def break_off(*_: object) -> None:
        raise EngineDeviceLost

    monkeypatch.setattr(bench._steps, "run", break_off)
    assert bench.work_once(LANES)
    assert waits[0] <= BASE_S if budget == "left" else waits == [MAX_DELAY_S]


def test_interactive_jobs_go_before_batch_jobs(shop: Shop) -> None:
    """The lane decides first, then the priority, then the fair order."""
    slow, urgent = shop.submit(4.0, priority=-5), shop.submit(4.0, priority=5)
    call = shop.submit(4.0, lane=Lane.INTERACTIVE)
    plain = shop.submit(4.0)
    taken = [shop.work.claim("w", LANES) for _ in range(4)]
    assert [claim.job.id for claim in taken if claim] == [call.id, urgent.id, plain.id, slow.id]
