"""The queue's policy: lanes, fairness, batch keys, caps and bounds."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.batching_support import make_item, origin
from tympan.batching.cost import CostModel
from tympan.batching.key import batch_key
from tympan.batching.queue import BatchLimits, Item, QueueLimits, WindowQueue, total_audio_s
from tympan.domain import DecodeParams, Lane, Task
from tympan.errors import Overloaded

WIDE = BatchLimits(max_windows=100, max_ms=1e9, idle_ms=1e9)
ONE = BatchLimits(max_windows=1)


def filled(*items: Item, limits: QueueLimits | None = None) -> WindowQueue:
    """Return a queue holding ``items``."""
    queue = WindowQueue(limits)
    for item in items:
        queue.put(item)
    return queue


def take_all(queue: WindowQueue, limits: BatchLimits = ONE, now_s: float = 0.0) -> list[list[Item]]:
    """Take batches until the queue is empty."""
    batches = []
    while batch := queue.take(now_s, limits, CostModel()):
        batches.append(batch)
    return batches


def order(queue: WindowQueue, now_s: float = 0.0) -> list[str]:
    """Return the request ids in the order in which windows leave one by one."""
    return [item.origin.request_id for (item,) in take_all(queue, now_s=now_s)]


def test_an_empty_queue_gives_an_empty_batch() -> None:
    """Nothing waits, nothing is taken."""
    assert WindowQueue().take(0.0, WIDE, CostModel()) == []


def test_higher_lanes_go_first() -> None:
    """Lanes are strict, whatever the order of arrival."""
    queue = filled(*(make_item(origin(lane.name, lane=lane)) for lane in reversed(Lane)))
    assert order(queue) == ["LIVE", "INTERACTIVE", "BATCH"]


def test_a_window_that_waited_counts_as_one_lane_higher() -> None:
    """An aged batch window competes as an equal with interactive ones, and came first."""
    old, new = make_item(origin("old", lane=Lane.BATCH), at_s=0.0), make_item(origin("new"), at_s=25.0)
    assert order(filled(new, old, limits=QueueLimits(aging_s=30.0)), now_s=25.0) == ["new", "old"]
    assert order(filled(old, new, limits=QueueLimits(aging_s=20.0)), now_s=25.0) == ["old", "new"]


def test_no_lane_starves_under_a_permanent_higher_load() -> None:
    """With live work always waiting, a batch window still runs after twice the aging time and a bit."""
    queue = filled(make_item(origin("patient", lane=Lane.BATCH)), limits=QueueLimits(aging_s=10.0))
    for second in range(40):
        for turn in range(2):
            queue.put(make_item(origin(f"live{turn}", lane=Lane.LIVE), at_s=float(second)))
        (item,) = queue.take(float(second), ONE, CostModel())
        if item.origin.request_id == "patient":
            assert 20 <= second <= 22
            return
    pytest.fail("the batch window starved")


def test_tenants_share_by_audio_seconds_not_by_windows() -> None:
    """A tenant with 30-s windows gets one for every six 5-s windows of another."""
    queue = filled(
        *(make_item(origin("long", "a"), 30.0) for _ in range(10)),
        *(make_item(origin("short", "b"), 5.0) for _ in range(60)),
    )
    served = {"a": 0.0, "b": 0.0}
    for _ in range(35):
        (item,) = queue.take(0.0, ONE, CostModel())
        served[item.origin.tenant] += item.audio_s
        assert abs(served["a"] - served["b"]) <= 30.0


def test_many_requests_do_not_buy_a_tenant_a_larger_share() -> None:
    """Fairness is between tenants first: nine requests of one get as much as the one of another."""
    queue = filled(
        *(make_item(origin(f"a{n}", "a")) for n in range(9) for _ in range(4)),
        *(make_item(origin("b", "b")) for _ in range(8)),
    )
    first = [queue.take(0.0, ONE, CostModel())[0].origin.tenant for _ in range(16)]
    assert first.count("b") == 8


def test_requests_of_one_tenant_share_by_audio_seconds() -> None:
    """Two equal requests of a tenant alternate, although one came first with everything."""
    queue = filled(*(make_item(origin("first")) for _ in range(5)), *(make_item(origin("second")) for _ in range(5)))
    names = order(queue)
    assert all(one != other for one, other in pairwise(names))


@pytest.mark.parametrize("tenant", ["same", "other"])
def test_a_three_hour_file_delays_a_short_clip_by_at_most_one_batch(tenant: str) -> None:
    """However long the file has been served, the clip's window is in the very next batch."""
    queue = filled(
        *(make_item(origin("file", "same"), 20.0) for _ in range(540)), limits=QueueLimits(max_audio_s=20000.0)
    )
    for _ in range(30):
        queue.take(0.0, BatchLimits(), CostModel())
    queue.put(make_item(origin("clip", tenant), 5.0))
    batch = queue.take(0.0, BatchLimits(), CostModel())
    assert batch[0].origin.request_id == "clip"


def test_the_file_is_not_punished_for_the_time_it_was_alone() -> None:
    """After a newcomer joins, both progress; the old backlog is no debt."""
    queue = filled(*(make_item(origin("file", "a")) for _ in range(60)))
    for _ in range(40):
        queue.take(0.0, ONE, CostModel())
    for _ in range(10):
        queue.put(make_item(origin("new", "b")))
    names = [queue.take(0.0, ONE, CostModel())[0].origin.request_id for _ in range(10)]
    assert names.count("new") in {5, 6}


def test_an_endless_stream_of_newcomers_does_not_hold_up_a_long_file() -> None:
    """Each newcomer is served at once, and the file still gets a share."""
    queue = filled(*(make_item(origin("file"), 20.0) for _ in range(5)), limits=QueueLimits(aging_s=1e9))
    queue.take(0.0, ONE, CostModel())
    for number in range(60):
        queue.put(make_item(origin(f"clip{number}"), 5.0))
        (item,) = queue.take(0.0, ONE, CostModel())
        if item.origin.request_id == "file":
            return
    pytest.fail("the file starved")


@pytest.mark.parametrize(
    "other",
    [
        {"task": Task.TRANSLATE},
        {"language": None},
        {"prompt": "p"},
        {"hotwords": "h"},
        {"beam_size": 1},
        {"best_of": 1},
        {"temperature": 0.2},
        {"full_context": True},
        {"align": True},
        {"language_only": True},
    ],
)
def test_windows_of_different_keys_never_share_a_batch(other: dict[str, object]) -> None:
    """Every parameter that shapes the pass separates."""
    params = DecodeParams(language="en")
    changed = replace(params, **other)  # type: ignore[arg-type]
    assert batch_key(params) != batch_key(changed)
    queue = filled(make_item(params=params), make_item(params=changed), make_item(params=params))
    assert [len(batch) for batch in take_all(queue, WIDE)] == [2, 1]


def test_windows_of_different_known_languages_share_a_batch() -> None:
    """The language is one token of equal length in every prompt."""
    queue = filled(*(make_item(params=DecodeParams(language=language)) for language in ("en", "de", "fr")))
    assert len(take_all(queue, WIDE)) == 1


def test_a_batch_has_at_most_max_windows() -> None:
    """The cap on the count holds, and nothing is lost."""
    queue = filled(*(make_item() for _ in range(10)))
    assert [len(batch) for batch in take_all(queue, replace(WIDE, max_windows=4))] == [4, 4, 2]


def test_a_batch_is_short_while_somebody_else_waits() -> None:
    """At 30 ms per second and 20 ms per batch, 300 ms hold nine 1-s windows under contention, 2000 ms 66 alone."""
    windows = [make_item(origin("file")) for _ in range(80)]
    limits = BatchLimits(max_windows=100, max_ms=300.0, idle_ms=2000.0)
    assert len(filled(*windows).take(0.0, limits, CostModel())) == 66
    rival = make_item(origin("rival"), params=DecodeParams(beam_size=1))
    assert len(filled(*windows, rival).take(0.0, limits, CostModel())) == 9


def test_lower_lanes_do_not_shorten_a_batch_but_ride_within_max_ms() -> None:
    """Work below is no contention; it may fill what is left of ``max_ms``."""
    limits = BatchLimits(max_windows=100, max_ms=300.0, idle_ms=2000.0)
    below = [make_item(origin("bulk", lane=Lane.BATCH)) for _ in range(50)]
    assert len(filled(*(make_item() for _ in range(20)), *below).take(0.0, limits, CostModel())) == 20
    assert len(filled(make_item(), *below).take(0.0, limits, CostModel())) == 9


def test_live_windows_carry_no_passengers_from_below() -> None:
    """Latency of live speech is worth more than a full batch."""
    queue = filled(make_item(origin("live", lane=Lane.LIVE)), *(make_item() for _ in range(5)))
    assert [len(batch) for batch in take_all(queue, WIDE)] == [1, 5]


def test_one_window_always_goes_however_slow_the_machine() -> None:
    """The cap never blocks the head."""
    cost = CostModel()
    cost.observe(DecodeParams(), [1.0], 60_000.0)
    queue = filled(make_item(origin("a")), make_item(origin("b")))
    assert len(queue.take(0.0, BatchLimits(), cost)) == 1


def test_similar_lengths_are_preferred() -> None:
    """A 5-s head takes the other 5-s windows before the rest, from other requests too."""
    lengths = (5.0, 29.0, 28.0, 5.5, 3.9, 27.0, 5.9)
    queue = filled(*(make_item(origin(f"r{n}"), length) for n, length in enumerate(lengths)))
    batch = queue.take(0.0, replace(WIDE, max_windows=3), CostModel())
    assert [item.audio_s for item in batch] == [5.0, 5.5, 5.9]


def test_lengths_mix_when_nothing_alike_waits() -> None:
    """Windows are encoded one by one, so a long one may join a short one."""
    mixed = filled(make_item(origin("a"), 8.5), make_item(origin("b"), 28.0))
    assert len(mixed.take(0.0, WIDE, CostModel())) == 2


def test_one_request_cannot_stretch_a_batch_that_others_wait_for() -> None:
    """Beside others, a request adds windows up to ``max_ms`` only; other requests' windows may still join."""
    limits = BatchLimits(max_windows=16, max_ms=300.0, idle_ms=2000.0)
    long_file = [make_item(origin("long"), 5.0) for _ in range(10)]
    clips = [make_item(origin(f"clip{n}"), 5.0) for n in range(4)]
    batch = filled(*long_file, *clips).take(0.0, limits, CostModel())
    assert sum(item.origin.request_id == "long" for item in batch) == 1
    assert len(batch) == 5
    alone = filled(*(make_item(origin("long"), 5.0) for _ in range(10)))
    assert len(alone.take(0.0, limits, CostModel())) == 10


def test_gone_windows_vanish_when_the_next_batch_is_taken() -> None:
    """A departed caller costs no engine time, and its future is told."""
    stays, goes = make_item(origin("stays")), make_item(origin("goes"))
    queue = filled(goes, stays)
    assert goes.reply.cancel()
    assert queue.take(0.0, WIDE, CostModel()) == [stays]
    assert len(queue) == 0
    assert queue.audio_s_by_lane[Lane.INTERACTIVE] == 0.0


def test_the_queue_is_bounded_in_windows_and_in_audio() -> None:
    """One window or one second too many is refused with a remedy, and what waits stays."""
    queue = filled(*(make_item() for _ in range(3)), limits=QueueLimits(max_windows=3))
    with pytest.raises(Overloaded, match="full"):
        queue.put(make_item())
    assert len(queue) == 3
    queue = filled(make_item(duration_s=20.0), limits=QueueLimits(max_audio_s=25.0))
    with pytest.raises(Overloaded):
        queue.put(make_item(duration_s=6.0))
    queue.put(make_item(duration_s=5.0))


def test_gone_windows_make_room() -> None:
    """Cancelled windows are purged before a new one is refused."""
    goes = make_item()
    queue = filled(goes, limits=QueueLimits(max_windows=1))
    goes.reply.cancel()
    queue.put(make_item())
    assert len(queue) == 1


def test_the_books_of_fairness_stay_small() -> None:
    """Ten thousand short requests leave no trace behind."""
    queue = filled(make_item(origin("anchor", lane=Lane.BATCH)), limits=QueueLimits(aging_s=1e9))
    for number in range(10_000):
        queue.put(make_item(origin(f"r{number}", f"t{number % 700}")))
        queue.take(0.0, ONE, CostModel())
    assert len(queue._shares) < 200


ITEMS = st.lists(
    st.tuples(
        st.sampled_from(list(Lane)),
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from(["1", "2", "3"]),
        st.sampled_from([0.5, 3.0, 10.0, 29.9]),
        st.sampled_from([None, "en"]),
        st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(ITEMS, st.integers(1, 8), st.floats(0.0, 100.0))
def test_every_window_leaves_once_in_a_batch_of_its_key(
    rows: list[tuple[Lane, str, str, float, str | None, bool]], size: int, now_s: float
) -> None:
    """Nothing is lost or doubled, batches are uniform, and the counters return to zero; gone windows never leave."""
    items = []
    for lane, tenant, request, duration_s, language, gone in rows:
        item = make_item(origin(request, tenant, lane), duration_s, params=DecodeParams(language=language))
        items.append(item)
        if gone:
            item.reply.cancel()
    queue = filled(*items)
    batches = take_all(queue, replace(BatchLimits(), max_windows=size), now_s)
    taken = [item for batch in batches for item in batch]
    assert sorted(map(id, taken)) == sorted(id(item) for item, row in zip(items, rows, strict=True) if not row[5])
    assert all(len({item.key for item in batch}) == 1 and len(batch) <= size for batch in batches)
    assert len(queue) == 0
    assert set(queue.audio_s_by_lane.values()) == {0.0}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([0.5, 3.0, 10.0, 29.9])), min_size=1, max_size=60))
def test_no_backlogged_tenant_falls_behind_by_more_than_a_window(rows: list[tuple[str, float]]) -> None:
    """While tenants have work waiting, what they got differs by at most the longest window."""
    queue = filled(*(make_item(origin("r", tenant), duration_s) for tenant, duration_s in rows))
    left = {tenant: sum(1 for row in rows if row[0] == tenant) for tenant, _ in rows}
    served = dict.fromkeys(left, 0.0)
    while all(left.values()):
        (item,) = queue.take(0.0, ONE, CostModel())
        left[item.origin.tenant] -= 1
        served[item.origin.tenant] += item.audio_s
        assert max(served.values()) - min(served.values()) <= 30.0


def test_drain_hands_over_everything() -> None:
    """Closing finds every waiting window."""
    items = [make_item(origin(f"r{n}")) for n in range(5)]
    queue = filled(*items)
    assert total_audio_s(queue.drain()) == 5.0
    assert len(queue) == 0
