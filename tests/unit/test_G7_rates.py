"""How fast a tenant may go: the rate itself, its ledger in memory, and what clocks and crowds do to them."""

import threading
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tympan.access.gcra import Charge, Lead, Rate, Reading
from tympan.access.ledger import LocalLedger

_STEPS = st.lists(st.tuples(st.floats(0, 30), st.integers(1, 3)), min_size=1, max_size=60)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        """Begin somewhere."""
        self.now_s = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now_s


def _ledger(max_keys: int = 1000) -> tuple[LocalLedger, Clock]:
    clock = Clock()
    return LocalLedger(clock, max_keys), clock


def _charge(n: float = 1, units: float = 10, period_s: float = 60.0, name: str = "requests") -> Charge:
    return Charge(name, Rate(units, period_s), n)


@settings(max_examples=200, deadline=None)
@given(_STEPS, st.integers(1, 20), st.sampled_from([1.0, 60.0, 86_400.0]))
def test_G7_nobody_gets_more_than_a_burst_and_the_rate(
    steps: list[tuple[float, int]], units: int, period_s: float
) -> None:
    """Between any two moments: at most the burst and what the rate gives in that time, and one for rounding."""
    ledger, clock = _ledger()
    had: list[tuple[float, float]] = []
    for pause_s, n in steps:
        clock.now_s += pause_s * period_s / 60
        if ledger.take("a", [_charge(n, units, period_s)]).refused is None:
            had.append((clock.now_s, n))
    for first in range(len(had)):
        for last in range(first, len(had)):
            total = sum(n for _, n in had[first : last + 1])
            assert total <= units + units / period_s * (had[last][0] - had[first][0]) + 1


@settings(max_examples=100, deadline=None)
@given(_STEPS)
def test_G7_who_is_refused_is_let_in_after_the_time_that_was_told(steps: list[tuple[float, int]]) -> None:
    """Not before, and a moment after; being refused costs nothing."""
    ledger, clock = _ledger()
    for pause_s, n in steps:
        clock.now_s += pause_s
        refused = ledger.take("a", [_charge(n, units=5)]).refused
        if refused is None:
            continue
        clock.now_s += refused.wait_s - 0.01
        assert ledger.take("a", [_charge(n, units=5)]).refused is not None
        clock.now_s += 0.02
        assert ledger.take("a", [_charge(n, units=5)]).refused is None


def test_G7_all_is_taken_or_nothing() -> None:
    """A refusal by one rate leaves the others as they were, and the one to wait longest for is named."""
    ledger, _ = _ledger()
    both = [_charge(1), _charge(60, units=60, name="audio-minute"), _charge(60, units=60, period_s=86_400, name="day")]
    assert ledger.take("a", both).refused is None
    again = ledger.take("a", both)
    assert again.refused is not None
    assert again.refused.name == "day"
    assert [reading.remaining for reading in again.readings] == [9, 0, 0]


def test_G7_debts_are_worked_off_and_what_is_given_back_counts() -> None:
    """More than a burst may be charged afterwards: nothing more fits until the rate has made up for it."""
    ledger, clock = _ledger()
    ledger.settle("a", [_charge(25)])  # Two and a half minutes' worth.
    refused = ledger.take("a", [_charge(1)]).refused
    assert refused is not None
    assert refused.wait_s == pytest.approx(96.0)
    clock.now_s += 97
    assert ledger.take("a", [_charge(1)]).refused is None
    ledger.settle("a", [_charge(-100)])  # Nobody gets more than a whole burst by that.
    assert [ledger.take("a", [_charge(5)]).refused is None for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("step_s", [-86_400.0, -3600.0, -30.0, 30.0, 3600.0, 86_400.0])
def test_P6_a_clock_that_is_set_locks_nobody_out_and_gives_one_burst_at_most(step_s: float) -> None:
    """Whoever had used everything waits for no more than a minute, and gets no more than one burst anew."""
    ledger, clock = _ledger()
    while ledger.take("a", [_charge()]).refused is None:
        pass
    clock.now_s += step_s
    refused = ledger.take("a", [_charge(10)]).refused
    assert (refused.wait_s if refused else 0.0) <= 60.0
    extra = sum(ledger.take("a", [_charge()]).refused is None for _ in range(40))
    assert extra <= 10


def test_P6_a_lead_outlasts_a_clock_that_stands() -> None:
    """Time that went back has passed for nobody; it goes on from there."""
    lead = Lead(40.0, 1000.0)
    assert [lead.at(now_s) for now_s in (1000.0, 900.0, 1010.0, 1100.0)] == [40.0, 40.0, 30.0, 0.0]


def test_S2_what_is_remembered_of_ten_thousand_tenants_is_bounded() -> None:
    """Those who have been idle longest are forgotten first, which gives them a burst and nobody else anything."""
    ledger, clock = _ledger(max_keys=100)
    for number in range(10_000):
        ledger.take(f"tenant-{number}", [_charge(10)])
        clock.now_s += 0.001
    assert len(ledger) == 100
    assert ledger.take("tenant-9999", [_charge()]).refused is not None
    assert ledger.take("tenant-0", [_charge()]).refused is None


def test_who_has_nothing_to_make_up_for_is_not_remembered() -> None:
    """Asking how one stands, and giving back what was taken, leave nothing behind."""
    ledger, _ = _ledger()
    ledger.take("a", [_charge(0)])
    ledger.settle("b", [_charge(3)])
    ledger.settle("b", [_charge(-3)])
    assert len(ledger) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4), st.floats(0, 20)), max_size=80))
def test_K3_what_one_tenant_does_never_shows_in_another(steps: list[tuple[str, int, float]]) -> None:
    """In any order of requests each tenant is answered as if it were alone."""
    together, clock = _ledger()
    alone = {name: _ledger() for name in "abc"}
    for name, n, pause_s in steps:
        clock.now_s += pause_s
        ledger, own_clock = alone[name]
        own_clock.now_s = clock.now_s
        assert together.take(name, [_charge(n)]) == ledger.take(name, [_charge(n)])


def test_K3_names_that_look_alike_are_not_one() -> None:
    """A tenant whose name ends as a rate's does is another tenant."""
    ledger, _ = _ledger()
    ledger.take("a", [_charge(10, name="b")])
    for tenant, name in (("a:b", ""), ("a:", "b"), ("", "a:b")):
        assert ledger.take(tenant, [_charge(10, name=name)]).refused is None


def test_a_part_of_a_rate_lets_one_through_at_least() -> None:
    """Of ten a minute each of four processes gives out two or three; of one a minute, one."""
    ledger, _ = _ledger()
    taken = [ledger.take("a", [_charge()], n_parts=4).refused is None for _ in range(4)]
    assert taken == [True, True, False, False]
    assert ledger.take("b", [_charge(units=1)], n_parts=4).refused is None
    assert ledger.take("b", [_charge(units=1)], n_parts=4).refused is not None


def test_no_more_are_held_than_there_may_be() -> None:
    """Fifty threads want one of three places at the same moment; a place given back twice is one place."""
    ledger, start, tokens = LocalLedger(), threading.Barrier(50), list[str | None]()

    def want() -> None:
        start.wait()
        tokens.append(ledger.hold("a", "sync", 3))

    threads = [threading.Thread(target=want) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    got = [token for token in tokens if token is not None]
    assert len(got) == 3
    assert ledger.hold("b", "sync", 3) is not None
    for _ in range(2):
        ledger.release("a", "sync", got[0])
    assert [ledger.hold("a", "sync", 3) is not None for _ in range(2)] == [True, False]


def test_remaining_and_waiting_agree() -> None:
    """As many fit as are said to remain, and no more."""
    for ahead_s in (0.0, 5.9, 6.0, 59.9, 60.0, 90.0):
        reading = Reading(_charge(), ahead_s)
        fits = [_charge(n).fits(ahead_s) for n in range(1, 12)]
        assert sum(fits) == reading.remaining
        assert all(one or not other for one, other in pairwise(fits))
