"""When callers who poll are asked to come back."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tympan.api.jobs.appointments import LONGEST_S, PER_S, Appointments


def test_few_callers_come_back_when_they_would() -> None:
    """While there is room they wait as long as was meant, a second at least and a minute at most."""
    calendar = Appointments()
    assert [calendar.book(100.7, wait_s) for wait_s in (2, 5, 0, -3, 60, 900)] == [2, 5, 1, 1, 60, 60]


def test_a_herd_is_spread() -> None:
    """Who comes at once gets the first second, the next, and so on; beyond a minute all get the last."""
    calendar = Appointments()
    given_s = [calendar.book(5.0, 2) for _ in range(PER_S * LONGEST_S + 5)]
    assert given_s[: PER_S + 1] == [2] * PER_S + [3]
    assert Counter(given_s) == {**dict.fromkeys(range(2, LONGEST_S), PER_S), LONGEST_S: 2 * PER_S + 5}


def test_seconds_that_are_over_make_room() -> None:
    """A calendar that was full a second ago has one free second; after a while all of it is free."""
    calendar = Appointments()
    for _ in range(PER_S * LONGEST_S):
        calendar.book(5.0, 1)
    assert calendar.book(5.9, 1) == LONGEST_S
    assert {calendar.book(6.0, 1) for _ in range(PER_S)} == {LONGEST_S}
    assert calendar.book(500.0, 1) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-2, 90)), max_size=400))
def test_nobody_comes_too_early_and_no_second_is_too_full(asked: list[tuple[int, int]]) -> None:
    """Whatever comes when: only the last second of a minute takes more than it should."""
    calendar, now_s, expected = Appointments(), 0, Counter[int]()
    for passed_s, wait_s in asked * 3:
        now_s += passed_s
        after_s = calendar.book(float(now_s), wait_s)
        assert min(max(1, wait_s), LONGEST_S) <= after_s <= LONGEST_S
        expected[now_s + after_s] += after_s < LONGEST_S
    assert all(count <= PER_S for count in expected.values())
