"""How often partials are asked for."""

from hypothesis import given
from hypothesis import strategies as st

from tympan.live.pace import Pace


def test_a_quick_engine_is_asked_at_the_fastest_rhythm() -> None:
    """Never more often than the options say."""
    pace = Pace(0.3)
    assert pace.every_s == 0.3
    for _ in range(10):
        pace.answered(0.05)
    assert pace.every_s == 0.3


def test_a_slow_engine_is_asked_after_twice_what_it_takes() -> None:
    """And as often as before, once it is quick again."""
    pace = Pace(0.3)
    for _ in range(30):
        pace.answered(0.5)
    assert 0.95 < pace.every_s <= 1.0
    for _ in range(30):
        pace.answered(0.05)
    assert pace.every_s == 0.3


@given(st.lists(st.floats(0.0, 1000.0)), st.floats(0.1, 10.0))
def test_the_rhythm_is_bounded(took_s: list[float], at_least_s: float) -> None:
    """Between what was asked for and a few seconds, whatever happens."""
    pace = Pace(at_least_s)
    for one in took_s:
        pace.answered(one)
        assert at_least_s <= pace.every_s <= max(at_least_s, 3.0)
