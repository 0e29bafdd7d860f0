"""One model on several devices: whoever is done first gets the next window, and one that fails is done without."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from tests.batching_support import INFO, NO_PREFETCH_S, Script, died, make_task, origin, running
from tests.webhook_receiver import wait_until
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.group import BatcherGroup
from tympan.batching.queue import BatchLimits, QueueLimits
from tympan.batching.recovery import RecoveryPolicy
from tympan.batching.stats import BatcherState, BatcherStats, together
from tympan.domain import Lane
from tympan.engine.base import EngineSpec
from tympan.errors import ModelError, Overloaded, Unavailable

OPTIONS = BatcherOptions(
    queue=QueueLimits(max_windows=4),
    batch=BatchLimits(max_windows=1, max_ms=1e9, idle_ms=1e9, take_turns=False),
    recovery=RecoveryPolicy(backoff_s=0.01, max_backoff_s=0.02, max_load_failures=2),
    prefetch_lead_s=NO_PREFETCH_S,
)
BROKEN = ModelError("The weights are cut short.")


@contextmanager
def group_of(*scripts: Script) -> Iterator[BatcherGroup]:
    """Give a group, loaded, with a scripted host for each device."""
    group = BatcherGroup([Batcher(EngineSpec("fake", "demo"), OPTIONS, None, each.make_host) for each in scripts])
    group.start()
    try:
        group.wait_ready(5.0)
        yield group
    finally:
        for each in scripts:
            each.gate.set()
        group.close(0.0)


def _closed() -> Script:
    script = Script()
    script.gate.clear()
    return script


def test_windows_go_to_whichever_device_is_done_first() -> None:
    """With both at a standstill they are dealt out evenly; everybody gets an answer."""
    one, other = _closed(), _closed()
    with group_of(one, other) as group:
        replies = [group.submit(make_task(n), origin(f"r{n}")) for n in range(6)]
        wait_until(lambda: len(one.seen) == len(other.seen) == 1)
        waiting = [member.stats().queued_windows[Lane.INTERACTIVE] for member in group._members]
        assert waiting == [2, 2]
        one.gate.set()
        other.gate.set()
        assert all(reply.result(5.0).text for reply in replies)
        assert (group.stats().windows, group.stats().state) == (6, BatcherState.READY)


def test_texts_are_the_same_on_every_device() -> None:
    """It does not matter where a window ran."""
    with group_of(Script(), Script()) as group, running(OPTIONS, script=Script()) as alone:
        for n in range(6):
            task = make_task(n)
            assert group.submit(task, origin()).result(5.0) == alone.submit(task, origin()).result(5.0)


def test_a_device_that_cannot_load_the_model_is_done_without() -> None:
    """The others serve; when none can, the reason is told."""
    with group_of(Script(loads=[BROKEN]), Script()) as group:
        assert group.ready
        assert (group.failure, group.info) == (None, INFO)
        assert all(group.submit(make_task(n), origin()).result(5.0).text for n in range(4))
    broken = [Script(loads=[BROKEN]), Script(loads=[BROKEN])]
    with pytest.raises(ModelError, match="cut short"), group_of(*broken):
        pass


def test_a_device_that_dies_costs_no_window() -> None:
    """What it had is done when it is back; what comes meanwhile goes to the other."""
    dies = Script(steps=[died])
    with group_of(dies, Script()) as group:
        replies = [group.submit(make_task(n), origin(f"r{n}")) for n in range(4)]
        assert all(reply.result(5.0).text for reply in replies)
        assert group.ready
        assert (dies.starts, group.stats().restarts) == (2, 1)


def test_the_last_device_to_fail_takes_the_group_with_it() -> None:
    """Then nothing is accepted any more, and the failure is that of a device."""
    scripts = [_closed(), _closed()]
    with group_of(*scripts) as group:
        replies = [group.submit(make_task(n), origin(f"r{n}")) for n in range(2)]
        wait_until(lambda: all(script.seen for script in scripts))
        for script in scripts:
            script.steps, script.loads = [died], [BROKEN]
            script.gate.set()
        wait_until(lambda: group.stats().state is BatcherState.FAILED)
        assert not group.ready
        assert isinstance(group.failure, ModelError)
        assert all(isinstance(reply.exception(5.0), Unavailable) for reply in replies)
        with pytest.raises(Unavailable, match="cut short"):
            group.submit(make_task(), origin())


def test_a_group_is_full_when_every_device_is() -> None:
    """Four wait for each beside the one that runs; the next is refused with the time after which to come again."""
    scripts = [_closed(), _closed()]
    with group_of(*scripts) as group:
        for n in range(2):
            group.submit(make_task(n), origin(f"r{n}"))
        wait_until(lambda: all(script.seen for script in scripts))
        for n in range(8):
            group.submit(make_task(n), origin(f"s{n}"))
        with pytest.raises(Overloaded) as caught:
            group.submit(make_task(), origin("late"))
        assert caught.value.retry_after_s is not None


def test_closing_ends_all_devices_side_by_side() -> None:
    """Accepted windows are finished; nothing new is taken."""
    with group_of(Script(), Script()) as group:
        replies = [group.submit(make_task(n), origin(f"r{n}")) for n in range(4)]
        group.close(5.0)
        assert all(reply.result(0.0).text for reply in replies)
        with pytest.raises(Unavailable, match="shutting down"):
            group.submit(make_task(), origin())
    assert group.stats().state is BatcherState.CLOSED


def test_real_processes_share_the_work() -> None:
    """Two processes of the fake engine; one is killed, and no window is lost."""
    spec = EngineSpec("fake", "demo", options=(("ms_per_window", "20"),))
    with ExitStack() as stack:
        members = [Batcher(replace(spec, device_index=index), OPTIONS) for index in range(2)]
        group = BatcherGroup(members)
        stack.callback(group.close, 0.0)
        group.start()
        assert group.wait_ready(20.0).engine == "fake"
        assert (group.memory_bytes or 0) > max(member.memory_bytes or 0 for member in members) > 0
        replies = [group.submit(make_task(n), origin(f"r{n}")) for n in range(8)]
        host = members[0]._host
        assert host is not None
        threading.Timer(0.03, host.abort).start()
        assert all(reply.result(20.0).text for reply in replies)
        assert all(member.stats().windows >= 2 for member in members)


def test_figures_of_several_are_joined() -> None:
    """Sums, and what a newcomer can expect: the shortest wait, and a rate that each adds to."""
    busy = BatcherStats(state=BatcherState.READY, predicted_drain_s=4.0, compute_s_per_audio_s=0.2, windows=3)
    free = BatcherStats(state=BatcherState.READY, predicted_drain_s=1.0, compute_s_per_audio_s=0.2, windows=5)
    gone = BatcherStats(state=BatcherState.FAILED)
    found = together([gone, busy, free])
    assert (found.state, found.windows, found.predicted_drain_s) == (BatcherState.READY, 8, 1.0)
    assert found.compute_s_per_audio_s == pytest.approx(0.1)
    assert together([gone, gone]).state is BatcherState.FAILED
    with pytest.raises(ValueError, match="at least one"):
        BatcherGroup([])
