"""Who stays in memory and who goes: the pure policy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.batching.eviction import Resident, Rules, fits_beside, make_room, need_bytes, overdue, pause_s

RULES = Rules(budget_bytes=100, dwell_s=20.0, patience_s=60.0)
NOW = 1000.0


def resident(name: str = "a", memory: int = 60, **changes: object) -> Resident:
    """Return a model that came long ago, is free, and was used a minute ago."""
    values: dict[str, object] = {"since_s": 0.0, "used_s": NOW - 60, **changes}
    return Resident(name, memory, **values)  # type: ignore[arg-type]


def test_without_a_budget_everything_fits() -> None:
    """Nobody set a limit, or the device does not say what it has."""
    assert make_room(10**12, [resident()], Rules(), NOW).fits


def test_what_fits_is_loaded_beside_the_others() -> None:
    """Up to the last byte."""
    assert make_room(40, [resident()], RULES, NOW).fits
    assert not make_room(41, [resident()], RULES, NOW).fits


def test_what_is_larger_than_the_budget_has_to_be_alone() -> None:
    """An estimate on the safe side must not keep a machine from serving; but the others go first."""
    assert make_room(500, [], RULES, NOW).fits
    move = make_room(500, [resident("a", 10), resident("b", 10)], RULES, NOW)
    assert not move.fits
    assert set(move.evict) == {"a", "b"}


def test_the_one_used_longest_ago_goes_first_and_no_more_than_needed() -> None:
    """LRU."""
    there = [
        resident("new", 30, used_s=NOW - 1),
        resident("old", 30, used_s=NOW - 9),
        resident("mid", 30, used_s=NOW - 5),
    ]
    assert make_room(40, there, RULES, NOW).evict == ("old",)
    assert make_room(41, there, RULES, NOW).evict == ("old", "mid")


def test_pinned_models_stay() -> None:
    """They are passed over, and where they leave too little room no waiting helps."""
    assert make_room(30, [resident("p", 50, pinned=True, used_s=0), resident("a", 50)], RULES, NOW).evict == ("a",)
    move = make_room(60, [resident("p", 50, pinned=True), resident("a", 50)], RULES, NOW)
    assert move.hopeless
    assert not move.evict


def test_one_in_use_is_asked_to_yield_and_not_evicted() -> None:
    """It goes when those who use it have finished."""
    move = make_room(60, [resident(held_since_s=NOW - 5)], RULES, NOW)
    assert move.evict == ()
    assert move.yielding == ("a",)


def test_one_that_is_held_for_long_is_not_asked_to_yield() -> None:
    """A stream of an hour would keep its other callers waiting for nothing."""
    move = make_room(60, [resident(held_since_s=NOW - 61)], RULES, NOW)
    assert move == make_room(60, [resident(held_since_s=NOW - 3000)], RULES, NOW)
    assert (move.evict, move.yielding, move.fits, move.hopeless) == ((), (), False, False)


def test_one_that_came_just_now_stays_for_its_dwell() -> None:
    """The next look is when its time is up."""
    move = make_room(60, [resident(since_s=NOW - 19.5)], RULES, NOW)
    assert (move.evict, move.yielding) == ((), ())
    assert move.wait_s == pytest.approx(0.5)
    assert make_room(60, [resident(since_s=NOW - 20)], RULES, NOW).evict == ("a",)


def test_a_free_model_goes_before_one_in_use_even_if_it_was_used_later() -> None:
    """Nobody is kept waiting who need not be."""
    there = [resident("busy", 50, used_s=NOW - 99, held_since_s=NOW - 1), resident("free", 50, used_s=NOW - 1)]
    assert make_room(50, there, RULES, NOW).evict == ("free",)


def test_what_is_on_its_way_out_is_waited_for() -> None:
    """Its memory is not free yet, but nobody else has to go for it."""
    move = make_room(40, [resident("a", 50, leaving=True), resident("b", 50)], RULES, NOW)
    assert (move.fits, move.evict, move.yielding) == (False, (), ())


def test_who_comes_later_may_only_take_what_is_left_over() -> None:
    """Else small models would keep a large one away for good."""
    assert fits_beside([30], 10, [resident("a", 60)], RULES)
    assert not fits_beside([31], 10, [resident("a", 60)], RULES)
    assert not fits_beside([95], 10, [], RULES)
    assert fits_beside([10**12], 10, [], Rules())


def test_models_that_outgrew_the_budget_are_thinned_out() -> None:
    """The free one used longest ago; nobody when only one is there, or one is leaving already."""
    there = [resident("a", 60, used_s=NOW - 9), resident("b", 60, used_s=NOW - 5)]
    assert overdue(there, RULES, NOW) == "a"
    assert overdue([resident("a", 500)], RULES, NOW) is None
    assert overdue([resident("a", 60, leaving=True), resident("b", 60)], RULES, NOW) is None
    assert overdue([resident("a", 60, held_since_s=1.0), resident("b", 60, pinned=True)], RULES, NOW) is None
    assert overdue([resident("a", 60, since_s=NOW), resident("b", 60, since_s=NOW)], RULES, NOW) is None
    assert overdue([resident("a", 60), resident("b", 40)], RULES, NOW) is None


def test_a_need_is_estimated_first_and_measured_later() -> None:
    """The estimate is kept until the model has worked for a while; what is larger counts at once."""
    assert need_bytes(100, 0, 0) == 100
    assert need_bytes(100, 50, 3) == 100
    assert need_bytes(100, 150, 3) == 150
    assert need_bytes(100, 50, 8) == 50


def test_pauses_after_failures_double_up_to_a_limit() -> None:
    """5, 10, 20 and so on, never more than five minutes."""
    assert [pause_s(n, 5.0, 300.0) for n in (1, 2, 3, 7, 99)] == [5.0, 10.0, 20.0, 300.0, 300.0]


_RESIDENTS = st.lists(
    st.builds(
        Resident,
        name=st.uuids().map(str),
        memory_bytes=st.integers(1, 80),
        since_s=st.floats(NOW - 100, NOW),
        used_s=st.floats(NOW - 100, NOW),
        held_since_s=st.none() | st.floats(NOW - 100, NOW),
        pinned=st.booleans(),
        leaving=st.booleans(),
    ),
    max_size=6,
)


@given(st.integers(1, 120), _RESIDENTS)
def test_R7_nobody_goes_who_may_stay(needed: int, there: list[Resident]) -> None:
    """Whatever is there: never one in use, pinned, young or leaving; and when it fits, it fits."""
    move = make_room(needed, there, RULES, NOW)
    by_name = {each.name: each for each in there}
    for name in move.evict:
        gone = by_name[name]
        assert gone.held_since_s is None
        assert not gone.pinned
        assert not gone.leaving
        assert gone.since_s + RULES.dwell_s <= NOW
    assert not any(by_name[name].pinned for name in move.yielding)
    assert move.wait_s > 0
    if move.fits:
        assert not there or needed + sum(each.memory_bytes for each in there) <= 100
        assert not move.evict
