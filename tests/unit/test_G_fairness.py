"""Shares between tenants, waiting without starving, and windows that nobody waits for any more."""

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

from tests.batching_support import make_item, origin
from tests.jobs_support import LANES, open_shop
from tympan.batching.cost import CostModel
from tympan.batching.queue import BatchLimits, Origin, QueueLimits, WindowQueue
from tympan.domain import Lane, NewJob, Options, Source, SourceKind, StepKind
from tympan.errors import Cancelled, RequestTimeout
from tympan.jobs.service import new_id
from tympan.pipeline import Audience, RequestContext
from tympan.storage.tables import tenants

SOURCE = Source(SourceKind.STORED, "", 32_000)
ONE = BatchLimits(max_windows=1)
WEIGHTS = {"a": 4.0, "b": 2.0, "c": 1.0, "d": 1.0}
SHARES = {tenant: weight / 8 for tenant, weight in WEIGHTS.items()}


def error_of(served: dict[str, float]) -> float:
    """Return by how much the shares are off, as a part of what each tenant is due; the worst one's."""
    total = sum(served.values())
    return max(abs(served[tenant] / total - share) / share for tenant, share in SHARES.items())


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
def test_G3_windows_are_shared_by_weight(lane: Lane) -> None:
    """Four tenants of weights 4:2:1:1, all with work waiting: after 200 windows nobody is off by a tenth."""
    queue = WindowQueue(QueueLimits(max_audio_s=1e9, aging_s=1e9))
    lengths = {"a": 5.0, "b": 9.0, "c": 3.0, "d": 7.0}
    for number in range(200):
        for tenant, weight in WEIGHTS.items():
            queue.put(make_item(origin(f"{tenant}{number % 7}", tenant, lane, weight), lengths[tenant]))
    served = dict.fromkeys(WEIGHTS, 0.0)
    for _ in range(200):
        (item,) = queue.take(0.0, ONE, CostModel())
        served[item.origin.tenant] += item.audio_s
    assert error_of(served) <= 0.10


def test_G3_jobs_are_claimed_by_weight(tmp_path: Path) -> None:
    """Four tenants of weights 4:2:1:1 with 200 jobs in all: as long as all have some, nobody is off by a tenth."""
    with open_shop(tmp_path) as shop:
        rows = [{"id": tenant, "weight": weight} for tenant, weight in WEIGHTS.items()]
        shop.database.write(lambda tx: tx.execute(insert(tenants), rows))
        for number in range(200):
            shop.submit(2.0, seed=number, tenant="abcd"[number % 4])
        served = dict.fromkeys(WEIGHTS, 0.0)
        while served["a"] < 48:
            claim = shop.work.claim("w", LANES)
            assert claim is not None
            served[claim.job.tenant] += claim.kind is StepKind.PREPARE
    assert error_of(served) <= 0.10


def test_G3_one_job_beside_a_thousand_waits_twice_as_long_at_most(tmp_path: Path) -> None:
    """The other's steps done before it ends are no more than its own: it takes turns with one tenant, not with jobs."""
    with open_shop(tmp_path) as shop:
        new = [NewJob(new_id("job"), SOURCE, Options(), tenant="busy") for _ in range(1000)]
        shop.submit(1.0, seed=3, tenant="busy")
        shop.database.write(lambda tx: shop.store.insert_many(tx, new))
        alone = 3
        rare = shop.submit(1.0, seed=2, tenant="rare")
        bench, count = shop.bench(), 0
        while not shop.service.get("rare", rare.id).state.is_terminal:
            assert bench.work_once(LANES)
            count += 1
    assert count <= 2 * alone + 1


def test_a_small_weight_still_gets_on() -> None:
    """A weight of nothing counts as a little."""
    queue = WindowQueue(QueueLimits(max_audio_s=1e9, aging_s=1e9))
    for number in range(300):
        queue.put(make_item(origin(f"r{number % 3}", "rich", weight=1.0)))
    queue.put(make_item(origin("p", "poor", weight=0.0)))
    turns = [queue.take(0.0, ONE, CostModel())[0].origin.tenant for _ in range(200)]
    assert "poor" in turns


def test_G4_nobody_starves_whatever_comes_above() -> None:
    """With more live and interactive work than the engine can do, each batch window runs within a bound.

    It counts as interactive after one aging time and as live after two; then only what came before it, and one turn of
    every other tenant, is ahead.
    """
    aging_s, n_busy = 5.0, 3
    queue = WindowQueue(QueueLimits(max_windows=10_000, max_audio_s=1e9, aging_s=aging_s))
    waits, second = [], 0.0
    for tick in range(600):
        second = tick * 0.5
        for number in range(n_busy):
            lane = Lane.LIVE if number % 2 else Lane.INTERACTIVE
            queue.put(make_item(origin(f"{tick}-{number}", f"busy{number}", lane), at_s=second))
        if tick % 20 == 0:
            queue.put(make_item(origin(f"patient{tick}", "patient", Lane.BATCH), at_s=second))
        (item,) = queue.take(second, ONE, CostModel())
        if item.origin.tenant == "patient":
            waits.append(second - item.enqueued_s)
    assert len(waits) >= 600 // 20 - 2
    assert max(waits) <= 2 * aging_s + (n_busy + 2) * 0.5


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
def test_a_backlog_of_its_own_does_not_put_a_long_file_before_short_ones(lane: Lane) -> None:
    """On a slow machine the file's windows wait for one another for longer than the aging time: a clip goes next."""
    queue = WindowQueue(QueueLimits(max_audio_s=1e9, aging_s=20.0))
    for _ in range(16):
        queue.put(make_item(origin("file", lane=lane), 28.0))
    now_s = 0.0
    for _ in range(14):
        now_s += 3.0
        (item,) = queue.take(now_s, ONE, CostModel())
        queue.put(make_item(origin("file", lane=lane), 28.0, at_s=now_s))
    queue.put(make_item(origin("clip"), 5.0, at_s=now_s))
    (item,) = queue.take(now_s + 3.0, ONE, CostModel())
    assert item.origin.request_id == "clip"


def test_a_clip_is_not_held_up_by_long_windows_in_its_own_batch() -> None:
    """What is much longer waits for its own turn, and takes the short ones along then."""
    slow = CostModel()
    for _ in range(20):
        slow.observe(make_item(duration_s=10.0).task.params, [10.0], 400.0)
    limits = BatchLimits(max_ms=300.0, idle_ms=2000.0)
    queue = WindowQueue()
    for item in (make_item(origin("clip"), 5.0), make_item(origin("file"), 28.0), make_item(origin("near"), 9.0)):
        queue.put(item)
    assert [item.origin.request_id for item in queue.take(0.0, limits, slow)] == ["clip", "near"]
    queue.put(make_item(origin("other"), 5.0))
    assert [item.origin.request_id for item in queue.take(0.0, limits, slow)] == ["file", "other"]


def test_G5_a_window_past_its_deadline_is_never_begun() -> None:
    """What nobody waits for at the moment of the batch is taken out, and its future says so."""
    context = RequestContext("late", deadline=10.0)
    late = make_item(Origin("late", "t", Lane.INTERACTIVE, is_wanted=context.is_wanted))
    other = make_item(origin("other"))
    queue = WindowQueue()
    queue.put(late)
    queue.put(other)
    assert queue.take(10.5, ONE, CostModel()) == [other]
    assert late.reply.cancelled()
    assert len(queue) == 0


def test_F6_windows_of_a_caller_who_has_gone_wait_no_more() -> None:
    """The next batch is made without them, before the request itself has noticed."""
    context = RequestContext("gone", audience=Audience())
    queue = WindowQueue()
    for index in range(3):
        queue.put(make_item(Origin("gone", "t", Lane.INTERACTIVE, is_wanted=context.is_wanted), float(index + 1)))
    assert context.audience is not None
    context.audience.leave()
    assert queue.take(0.0, ONE, CostModel()) == []
    assert len(queue) == 0


def test_work_stands_still_until_somebody_waits_again() -> None:
    """``check`` comes back when the caller does: one whose time was over, and one who had gone."""
    audience = Audience(until=time.monotonic() - 1)
    context = RequestContext("r", audience=audience)
    for _ in range(2):
        timer = threading.Timer(0.05, audience.enter, [time.monotonic() + 60])
        assert not context.is_wanted(time.monotonic())
        started = time.monotonic()
        timer.start()
        context.check()
        assert time.monotonic() - started >= 0.04
        assert context.is_wanted(time.monotonic())
        audience.leave()
    context.cancel.set()
    with pytest.raises(Cancelled):
        context.check()


def test_without_an_audience_the_deadline_counts() -> None:
    """Then nobody comes back, and the request is told that its time is over."""
    with pytest.raises(RequestTimeout):
        RequestContext("r", deadline=time.monotonic() - 1).check()


def test_the_most_patient_one_counts() -> None:
    """Who comes later with less time does not shorten it, and one who waits for ever makes it for ever."""
    audience = Audience(until=100.0)
    audience.enter(50.0)
    assert audience.until == 100.0
    audience.enter(200.0)
    assert audience.until == 200.0
    audience.enter(None)
    assert audience.until is None


def test_G4_a_newcomer_goes_before_whoever_had_the_last_window_and_wants_more() -> None:
    """However much a long file is owed, for the short ones that went first, nobody waits for two of its windows."""
    queue = WindowQueue()
    overtaken = []
    queue.put(make_item(origin("file"), 28.0))
    for number in range(40):
        queue.put(make_item(origin("file"), 28.0))
        assert [item.origin.request_id for item in queue.take(0.0, ONE, CostModel())] == ["file"]
        queue.put(make_item(origin(f"clip{number}"), 5.0))
        (item,) = queue.take(0.0, ONE, CostModel())
        if item.origin.request_id == "file":
            overtaken.append(number)
            queue.take(0.0, ONE, CostModel())
            queue.put(make_item(origin("file"), 28.0))
    assert overtaken == []


def test_G4_newcomers_in_a_row_do_not_hold_up_a_long_file() -> None:
    """With a new clip always there, the file has its share all the same, long before aging."""
    queue = WindowQueue()
    for _ in range(60):
        queue.put(make_item(origin("file"), 28.0))
    taken: list[str] = []
    for number in range(200):
        queue.put(make_item(origin(f"clip{number}"), 5.0))
        taken.extend(item.origin.request_id for item in queue.take(0.0, ONE, CostModel()))
    assert 5 <= taken.count("file") <= 40
