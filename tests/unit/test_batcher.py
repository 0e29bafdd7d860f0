"""The batcher's loop against a scripted host: one answer per window, whatever the engine does."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batching_support import (
    NO_PREFETCH_S,
    Script,
    Step,
    died,
    failing,
    fine,
    make_task,
    origin,
    running,
    submit_together,
)
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.queue import BatchLimits, QueueLimits, WindowQueue
from tympan.batching.recovery import RecoveryPolicy
from tympan.batching.stats import BatcherState, BatchReport
from tympan.domain import Lane, Window, WindowResult, WindowTask
from tympan.engine.base import EngineSpec
from tympan.errors import (
    ConfigError,
    EngineDeviceLost,
    EngineError,
    EngineOutOfMemory,
    ModelNotFound,
    Overloaded,
    Unavailable,
)

QUICK = RecoveryPolicy(backoff_s=0.01, max_backoff_s=0.02)
OPTIONS = BatcherOptions(
    batch=BatchLimits(max_windows=16, max_ms=1e9, idle_ms=1e9, take_turns=False),
    recovery=QUICK,
    prefetch_lead_s=NO_PREFETCH_S,
)
OOM = EngineOutOfMemory("CUDA failed with error out of memory")
LOST = EngineDeviceLost("unspecified launch failure")
TASKS = [make_task(n) for n in range(8)]


@dataclass
class Diary:
    """An observer that remembers."""

    reports: list[BatchReport] = field(default_factory=list)
    restarts: list[str] = field(default_factory=list)

    def on_batch(self, report: BatchReport) -> None:
        """Remember a batch."""
        self.reports.append(report)

    def on_restart(self, reason: str) -> None:
        """Remember a restart."""
        self.restarts.append(reason)


def outcome(reply: Future[WindowResult]) -> str:
    """Return ``ok`` or the error's code."""
    error = reply.exception(10.0)
    return "ok" if error is None else getattr(error, "code", repr(error))


def eventually(condition: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait until ``condition`` holds."""
    deadline_s = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline_s, "did not happen in time"
        time.sleep(0.002)


def test_windows_of_different_requests_share_a_batch_and_get_their_own_results() -> None:
    """Eight requests, one batch, each answer from its own audio."""
    script = Script()
    with running(OPTIONS, script=script) as batcher:
        replies = submit_together(batcher, TASKS, script)
        texts = [reply.result(5.0).text for reply in replies]
        alone = [batcher.submit(task, origin()).result(5.0).text for task in TASKS]
    assert script.seen[1] == list(range(8))
    assert texts == alone
    assert len(set(texts)) == 8


def test_requests_take_turns_in_halves_and_a_request_alone_has_the_engine() -> None:
    """One half of the callers is decoded while the other prepares; one caller's windows go together."""
    turns = replace(OPTIONS, batch=replace(OPTIONS.batch, take_turns=True))
    script = Script()
    with running(turns, script=script) as batcher:
        for reply in submit_together(batcher, TASKS, script):
            reply.result(5.0)
    assert [len(batch) for batch in script.seen[1:]] == [4, 2, 2]
    script = Script()
    with running(turns, script=script) as batcher:
        same = origin()
        for reply in submit_together(batcher, TASKS, script, of=same):
            reply.result(5.0)
    assert [len(batch) for batch in script.seen[1:]] == [8]


def test_a_batch_that_fails_is_halved_until_only_the_culprit_fails() -> None:
    """The neighbours of a window the engine cannot do are done, in at most 2n - 1 batches."""
    script = Script()

    def refuse_five(tasks: Sequence[WindowTask]) -> EngineError | None:
        return EngineError("bad window") if any(task.window.index == 5 for task in tasks) else None

    script.steps.extend([fine, *[refuse_five] * 20])
    with running(OPTIONS, script=script) as batcher:
        replies = submit_together(batcher, TASKS, script)
        assert [outcome(reply) for reply in replies] == ["ok"] * 5 + ["engine_failed"] + ["ok"] * 2
        assert len(script.seen) - 1 <= 15
        assert batcher.stats().restarts == 0


def test_out_of_memory_halves_the_batch_in_place() -> None:
    """One refusal costs no restart, and the halves run."""
    script = Script(steps=[fine, failing(OOM)])
    with running(OPTIONS, script=script) as batcher:
        replies = submit_together(batcher, TASKS, script)
        assert [outcome(reply) for reply in replies] == ["ok"] * 8
        assert [len(batch) for batch in script.seen] == [1, 8, 4, 4]
        assert batcher.stats().restarts == 0


def test_memory_that_stays_short_ends_in_smaller_batches_and_then_in_an_error() -> None:
    """Three refusals in a row: a new process and half the batch size; a window that never fits is told so."""
    script = Script(steps=[fine, *[failing(OOM)] * 300])
    with running(OPTIONS, script=script) as batcher:
        replies = submit_together(batcher, TASKS[:2], script)
        assert [outcome(reply) for reply in replies] == ["engine_out_of_memory"] * 2
        stats = batcher.stats()
        assert stats.max_batch < 16
        assert 1 <= stats.restarts <= (len(script.seen) - 1) / 3
        script.steps.clear()
        assert batcher.submit(TASKS[3], origin()).result(5.0).text


def test_the_batch_size_grows_back() -> None:
    """After enough good batches the limit rises again, one at a time, up to where it was."""
    recovery = replace(QUICK, successes_before_growth=2)
    script = Script(steps=[failing(OOM)] * 3)
    with running(replace(OPTIONS, recovery=recovery), script=script) as batcher:
        assert outcome(batcher.submit(TASKS[0], origin())) == "ok"
        assert batcher.stats().max_batch == 8
        for _ in range(40):
            batcher.submit(TASKS[0], origin()).result(5.0)
        assert batcher.stats().max_batch == 16


@pytest.mark.parametrize("step", [died, failing(LOST)], ids=["crash", "device lost"])
def test_after_a_crash_the_suspects_run_one_by_one(step: Step) -> None:
    """A lost process costs nobody an answer; the eight that were running are told apart."""
    script = Script(steps=[fine, step])
    diary = Diary()
    with running(OPTIONS, script=script, observer=diary) as batcher:
        replies = submit_together(batcher, TASKS, script)
        assert [outcome(reply) for reply in replies] == ["ok"] * 8
        assert [len(batch) for batch in script.seen] == [1, 8] + [1] * 8
        assert batcher.stats().restarts == 1
    assert diary.restarts == ["engine_device_lost"]


def test_a_window_that_crashes_every_engine_is_quarantined_after_three() -> None:
    """Its neighbours are done; it is answered after at most three restarts."""
    script = Script()

    def crash_on_two(tasks: Sequence[WindowTask]) -> object:
        return died(tasks) if any(task.window.index == 2 for task in tasks) else None

    script.steps.extend([fine, *[crash_on_two] * 40])  # type: ignore[list-item]
    with running(OPTIONS, script=script) as batcher:
        replies = submit_together(batcher, TASKS, script)
        assert [outcome(reply) for reply in replies] == ["ok"] * 2 + ["audio_quarantined"] + ["ok"] * 5
        with pytest.raises(EngineError, match="3 times on this audio"):
            replies[2].result()
        assert batcher.stats().restarts == 3
        assert batcher.ready or batcher.stats().state is BatcherState.RECYCLING


def test_a_prefetched_batch_goes_again_unchanged_before_the_suspects() -> None:
    """What only waited inside the lost process is innocent."""
    script = Script(steps=[died])
    script.gate.clear()
    options = replace(OPTIONS, prefetch_lead_s=3600.0)
    with running(options, script=script) as batcher:
        first = batcher.submit(TASKS[0], origin("a"))
        eventually(lambda: len(script.seen) == 1)
        second = batcher.submit(TASKS[1], origin("b"))
        eventually(lambda: len(script.seen) == 2)
        third = batcher.submit(TASKS[2], origin("c"))
        script.gate.set()
        assert [outcome(reply) for reply in (first, second, third)] == ["ok"] * 3
    assert script.seen == [[0], [1], [1], [0], [2]]


def test_the_next_batch_is_handed_over_shortly_before_the_running_one_ends() -> None:
    """A newcomer finds one batch ahead of it, not two, until the lead time before the end."""
    one_each = replace(OPTIONS.batch, max_windows=1)
    script = Script()
    script.gate.clear()
    with running(replace(OPTIONS, batch=one_each, prefetch_lead_s=0.0), script=script) as batcher:
        began_s = time.monotonic()
        replies = [batcher.submit(make_task(n, 10.0), origin(f"r{n}")) for n in range(2)]
        eventually(lambda: len(script.seen) == 2)
        waited_s = time.monotonic() - began_s
        script.gate.set()
        assert [outcome(reply) for reply in replies] == ["ok"] * 2
    # The model's first guess for a 10-s window is 320 ms.
    assert 0.3 <= waited_s <= 20.0


def test_a_long_window_waits_outside_while_clips_are_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    """However early the next batch is handed over, a clip that comes during the running one goes before it."""
    looked: list[bool] = []
    better_waits = WindowQueue.better_waits

    def look(queue: WindowQueue, now_s: float, limits: BatchLimits) -> bool:
        looked.append(better_waits(queue, now_s, limits))
        return looked[-1]

    monkeypatch.setattr(WindowQueue, "better_waits", look)
    limits = BatchLimits(max_windows=1, max_ms=300.0, idle_ms=2000.0)
    script = Script()
    script.gate.clear()
    with running(replace(OPTIONS, batch=limits, prefetch_lead_s=3600.0), script=script) as batcher:
        replies = [batcher.submit(make_task(0, 28.0), origin("file", lane=Lane.BATCH))]
        eventually(lambda: len(script.seen) == 1)
        replies += [batcher.submit(make_task(0, 1.0), origin(f"clip{n}")) for n in range(2)]
        script.gate.set()
        assert [outcome(reply) for reply in replies] == ["ok"] * 3
        script.gate.clear()
        replies = [batcher.submit(make_task(1, 1.0), origin("clip2"))]
        eventually(lambda: len(script.seen) == 4)
        looked.clear()
        replies.append(batcher.submit(make_task(2, 28.0), origin("file", lane=Lane.BATCH)))
        eventually(lambda: True in looked)
        replies.append(batcher.submit(make_task(3, 1.0), origin("clip3")))
        eventually(lambda: len(script.seen) == 5)
        script.gate.set()
        assert [outcome(reply) for reply in replies] == ["ok"] * 3
    assert script.seen[3:] == [[1], [3], [2]]


def test_gone_windows_are_not_run() -> None:
    """A future cancelled while waiting withdraws its window; one that runs cannot be withdrawn any more."""
    script = Script()
    script.gate.clear()
    with running(OPTIONS, script=script) as batcher:
        runs = batcher.submit(TASKS[0], origin("a"))
        eventually(runs.running)
        goes, stays = batcher.submit(TASKS[1], origin("b")), batcher.submit(TASKS[2], origin("c"))
        assert goes.cancel()
        assert not runs.cancel()
        script.gate.set()
        assert outcome(stays) == outcome(runs) == "ok"
    assert script.seen == [[0], [2]]


def test_a_full_queue_says_when_to_come_back() -> None:
    """The refusal carries at least the predicted time of what waits, and nothing accepted is harmed."""
    script = Script()
    script.gate.clear()
    options = replace(OPTIONS, queue=QueueLimits(max_windows=2))
    with running(options, script=script) as batcher:
        first = batcher.submit(TASKS[0], origin())
        eventually(first.running)
        waiting = [batcher.submit(make_task(n, 30.0), origin(f"r{n}", lane=Lane.BATCH)) for n in range(2)]
        with pytest.raises(Overloaded) as caught:
            batcher.submit(TASKS[1], origin())
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s >= 1.8
        stats = batcher.stats()
        assert (stats.queued_windows[Lane.BATCH], stats.queued_audio_s[Lane.BATCH]) == (2, 60.0)
        assert stats.running_windows == 1
        assert stats.predicted_wait_s(10.0) == pytest.approx(stats.predicted_drain_s + 0.3)
        script.gate.set()
        assert [outcome(reply) for reply in (first, *waiting)] == ["ok"] * 3


@pytest.mark.parametrize("samples", [0, 480_001])
def test_a_window_of_impossible_length_is_a_programming_error(samples: int) -> None:
    """It is refused before it can reach an engine."""
    batcher = Batcher(EngineSpec("fake", "demo"), OPTIONS)
    with pytest.raises(ValueError, match="1 to 480000 samples"):
        batcher.submit(WindowTask(Window(0, np.zeros(samples, np.int16), ()), TASKS[0].params), origin())


def test_before_it_is_loaded_the_engine_is_unavailable() -> None:
    """A start-up refusal is typed and says when to try again."""
    batcher = Batcher(EngineSpec("fake", "demo"), OPTIONS, make_host=Script().make_host)
    with pytest.raises(Unavailable) as caught:
        batcher.submit(TASKS[0], origin())
    assert caught.value.retry_after_s
    assert not batcher.ready
    assert batcher.info is None
    batcher.close(0.0)
    assert batcher.stats().state is BatcherState.CLOSED


@pytest.mark.parametrize("error", [ModelNotFound("no such model"), ConfigError("no such engine")])
def test_a_load_that_cannot_succeed_is_not_repeated(error: ModelNotFound | ConfigError) -> None:
    """A missing model is reported at once, without a crash loop, and says so to every caller."""
    script = Script(loads=[error])
    batcher = Batcher(EngineSpec("fake", "demo"), OPTIONS, make_host=script.make_host)
    batcher.start()
    with pytest.raises(type(error), match=error.message):
        batcher.wait_ready(30.0)
    with pytest.raises(Unavailable, match=error.message):
        batcher.submit(TASKS[0], origin())
    assert script.starts == 1
    batcher.close(0.0)


def test_a_load_that_fails_is_repeated_with_growing_pauses_and_given_up() -> None:
    """Attempts are bounded in number and rate; the state tells which error it was."""
    script = Script(loads=[EngineError(f"driver {n}") for n in range(9)])
    recovery = RecoveryPolicy(backoff_s=0.02, max_backoff_s=0.08, max_load_failures=5)
    batcher = Batcher(EngineSpec("fake", "demo"), replace(OPTIONS, recovery=recovery), make_host=script.make_host)
    began_s = time.monotonic()
    batcher.start()
    eventually(lambda: batcher.stats().state is BatcherState.FAILED)
    assert time.monotonic() - began_s >= 0.02 + 0.04 + 0.08 + 0.08
    assert script.starts == 5
    assert batcher.failure is not None
    assert batcher.failure.message == "driver 4"
    batcher.close(0.0)


def test_while_the_engine_cannot_be_loaded_windows_are_refused_and_then_it_recovers() -> None:
    """New windows are refused at the first failed reload, waiting ones after three; a good load ends it."""
    recovery = RecoveryPolicy(backoff_s=0.1, max_backoff_s=0.1, max_load_failures=100_000)
    script = Script(steps=[died])
    with running(replace(OPTIONS, recovery=recovery), script=script) as batcher:
        script.loads.extend([EngineError("busy")] * 100_000)
        victim = batcher.submit(TASKS[0], origin())
        eventually(lambda: batcher.stats().state is BatcherState.DOWN)
        assert not batcher.ready
        with pytest.raises(Unavailable, match="busy"):
            batcher.submit(TASKS[1], origin())
        assert outcome(victim) == "unavailable"
        del script.loads[1:]
        eventually(lambda: batcher.ready)
        assert outcome(batcher.submit(TASKS[1], origin())) == "ok"


def test_a_window_submitted_while_the_engine_is_replaced_waits_for_the_new_one() -> None:
    """A neighbour's crash costs other requests time, not windows."""
    script = Script(steps=[died])
    with running(replace(OPTIONS, recovery=RecoveryPolicy(backoff_s=0.02)), script=script) as batcher:
        script.loading.clear()
        first = batcher.submit(TASKS[0], origin("a"))
        eventually(lambda: batcher.stats().state is BatcherState.RECYCLING)
        second = batcher.submit(TASKS[1], origin("b"))
        assert not batcher.ready
        script.loading.set()
        assert [outcome(first), outcome(second)] == ["ok", "ok"]


def test_a_process_that_grew_too_large_is_replaced_between_batches() -> None:
    """A leak costs a planned restart, no window and no charge."""
    script = Script(memory_bytes=10)
    diary = Diary()
    recovery = replace(QUICK, max_memory_bytes=100)
    with running(replace(OPTIONS, recovery=recovery), script=script, observer=diary) as batcher:
        assert outcome(batcher.submit(TASKS[0], origin())) == "ok"
        script.memory_bytes = 101
        assert outcome(batcher.submit(TASKS[0], origin())) == "ok"
        script.memory_bytes = 10
        assert outcome(batcher.submit(TASKS[0], origin())) == "ok"
    assert diary.restarts == ["memory"]
    assert all(report.error is None for report in diary.reports)


def test_closing_finishes_what_was_accepted() -> None:
    """With time to drain, every accepted window is done, and new ones are refused."""
    script = Script()
    with running(OPTIONS, script=script) as batcher:
        script.gate.clear()
        replies = [batcher.submit(task, origin()) for task in TASKS]
        closer = threading.Thread(target=batcher.close, args=(60.0,))
        closer.start()
        eventually(lambda: not batcher.ready)
        with pytest.raises(Unavailable, match="shutting down"):
            batcher.submit(TASKS[0], origin())
        script.gate.set()
        closer.join(60.0)
        assert not closer.is_alive()
        assert [outcome(reply) for reply in replies] == ["ok"] * 8
        assert batcher.stats().state is BatcherState.CLOSED


def test_closing_out_of_time_answers_the_rest() -> None:
    """Windows that cannot be finished in time are refused, not forgotten."""
    script = Script()
    with running(OPTIONS, script=script) as batcher:
        script.gate.clear()
        replies = [batcher.submit(task, origin()) for task in TASKS]
        began_s = time.monotonic()
        batcher.close(0.1)
        assert time.monotonic() - began_s < 20.0
        assert [outcome(reply) for reply in replies] == ["unavailable"] * 8


def test_a_failing_observer_does_not_stop_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    """Metrics are a guest: their fault is logged, the windows are answered."""

    class Broken(Diary):
        def on_batch(self, report: BatchReport) -> None:
            raise RuntimeError("disk full of metrics")

    with running(OPTIONS, script=Script(), observer=Broken()) as batcher:
        assert [outcome(batcher.submit(task, origin())) for task in TASKS] == ["ok"] * 8
    assert "observer failed" in caplog.text


def test_reports_and_totals_agree() -> None:
    """What the observer hears and what ``stats`` says is the same work."""
    diary = Diary()
    script = Script()
    with running(OPTIONS, script=script, observer=diary) as batcher:
        for reply in submit_together(batcher, TASKS, script):
            reply.result(5.0)
        eventually(lambda: len(diary.reports) == 2)
        stats = batcher.stats()
    assert (stats.batches, stats.windows, stats.audio_s) == (2, 9, 9.0)
    assert stats.mean_batch == 4.5
    assert sum(report.windows for report in diary.reports) == 9
    assert stats.compute_s == pytest.approx(sum(report.compute_s for report in diary.reports))


FAULTS = st.lists(
    st.sampled_from([fine, fine, died, failing(OOM), failing(LOST), failing(EngineError("bad"))]), max_size=30
)


@settings(max_examples=40, deadline=None)
@given(FAULTS, st.integers(1, 12), st.sets(st.integers(0, 11)), st.sampled_from([NO_PREFETCH_S, 3600.0]))
def test_every_window_gets_exactly_one_answer_whatever_happens(
    faults: list[Step], count: int, cancelled: set[int], lead_s: float
) -> None:
    """Crashes, exhausted memory, errors and departures in any order: each future ends once, and nothing is left."""
    script = Script(steps=faults)
    recovery = RecoveryPolicy(backoff_s=0.001, max_backoff_s=0.001)
    options = replace(OPTIONS, recovery=recovery, prefetch_lead_s=lead_s)
    answers: Counter[int] = Counter()
    with running(options, script=script) as batcher:
        replies = []
        for number in range(count):
            reply = batcher.submit(make_task(number, 0.1), origin(f"r{number % 3}"))
            reply.add_done_callback(lambda _, number=number: answers.update([number]))  # type: ignore[misc]
            replies.append(reply)
            if number in cancelled:
                reply.cancel()
        for reply in replies:
            expected = {"ok", "engine_failed", "audio_quarantined", "engine_out_of_memory"}
            assert reply.cancelled() or outcome(reply) in expected
        eventually(lambda: sum(batcher.stats().queued_windows.values()) == 0)
        assert batcher.stats().running_windows == 0
    assert answers == Counter(range(count))
