"""Who is expected, from who came."""

import pytest

from tympan.batching.newcomers import NOBODY, Newcomers
from tympan.domain import Lane

LANE = Lane.INTERACTIVE


def came(*times_s: float, lane: Lane = LANE) -> Newcomers:
    """Return what is known after requests of 5 s came at these times."""
    newcomers = Newcomers()
    for number, at_s in enumerate(times_s):
        newcomers.came(lane, f"r{number}", 5.0, at_s)
    return newcomers


def test_nobody_is_expected_before_two_have_come() -> None:
    """A single clip beside a file tells nothing of others."""
    assert Newcomers().beside(LANE, 0.0) == NOBODY
    assert came(10.0).beside(LANE, 10.0).ms == float("inf")


@pytest.mark.parametrize(("now_s", "allowed_ms"), [(12.0, 200.0), (13.0, 200.0), (15.0, 300.0), (22.0, 1000.0)])
def test_a_tenth_of_the_gap_or_of_the_quiet_since_is_allowed(now_s: float, allowed_ms: float) -> None:
    """Two came 2 s apart: so long another one is expected, and less so the longer nobody comes."""
    assert came(10.0, 12.0).beside(LANE, now_s).ms == pytest.approx(allowed_ms)


def test_the_last_gap_counts_whatever_was_before() -> None:
    """A stream after a long quiet is known from its second request on, and forgotten with the next quiet."""
    assert came(0.0, 100.0, 101.0).beside(LANE, 101.0).ms == pytest.approx(100.0)
    assert came(0.0, 1.0, 101.0).beside(LANE, 101.0).ms == pytest.approx(10_000.0)


def test_a_request_that_comes_twice_is_one() -> None:
    """Its first window decoded again is no newcomer."""
    newcomers = came(10.0)
    newcomers.came(LANE, "r0", 5.0, 10.5)
    assert newcomers.beside(LANE, 11.0).ms == float("inf")


def test_less_urgent_newcomers_do_not_count() -> None:
    """A request waits for nobody who would go behind it."""
    newcomers = came(10.0, 11.0, lane=Lane.BATCH)
    assert newcomers.beside(Lane.INTERACTIVE, 11.0) == NOBODY
    assert newcomers.beside(Lane.BATCH, 11.0).ms == pytest.approx(100.0)
    assert came(10.0, 11.0).beside(Lane.BATCH, 11.0).ms == pytest.approx(100.0)
    assert newcomers.live(11.0) == came(10.0, 11.0).beside(Lane.LIVE, 11.0) == NOBODY


def test_whoever_speaks_is_expected_from_the_first_window_on() -> None:
    """Every live window counts, although it is of the same session."""
    newcomers = Newcomers()
    for at_s in (10.0, 19.0):
        newcomers.came(Lane.LIVE, "session", 3.0, at_s)
        assert newcomers.live(at_s).ms == 0.0
        assert newcomers.live(at_s + 3.0).ms == pytest.approx(300.0)
    assert newcomers.beside(Lane.BATCH, 19.0) == NOBODY
