"""Times in cron's syntax, in UTC."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.errors import InvalidRequest
from tympan.quality.cron import SHORTHANDS, parse


def _s(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0 3 * * 1", "2026-11-22 10:00", "2026-11-23 03:00"),  # A Sunday, and the Monday that follows.
        ("0 3 * * 1", "2026-11-23 03:00", "2026-11-30 03:00"),  # The time itself is over.
        ("0 3 * * mon", "2026-11-23 02:59:59", "2026-11-23 03:00"),
        ("*/15 * * * *", "2026-01-01 00:14:30", "2026-01-01 00:15"),
        ("5,50-52 22-23/1 * * *", "2026-01-01 23:51", "2026-01-01 23:52"),
        ("10/20 4 * * *", "2026-01-01 04:11", "2026-01-01 04:30"),
        ("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00"),
        ("0 0 1 jan *", "2026-01-01 00:00", "2027-01-01 00:00"),
        ("0 0 13 * 5", "2026-11-01 00:00", "2026-11-06 00:00"),  # Either day will do when both are restricted.
        ("0 0 13 * *", "2026-11-01 00:00", "2026-11-13 00:00"),
        ("0 0 * * 7", "2026-11-20 00:00", "2026-11-22 00:00"),
        ("0 0 * * 0", "2026-11-20 00:00", "2026-11-22 00:00"),
        ("@weekly", "2026-11-20 00:00", "2026-11-22 00:00"),
        ("@hourly", "2026-11-20 00:00", "2026-11-20 01:00"),
    ],
)
def test_the_next_time_is_the_first_that_fits(schedule: str, after: str, expected: str) -> None:
    """Strictly later, to the minute."""
    assert parse(schedule).after(_s(after)) == _s(expected)


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        ("", "five fields"),
        ("0 3 * *", "five fields"),
        ("60 3 * * 1", "'60' is not within 0-59"),
        ("0 24 * * *", "'24'"),
        ("0 0 0 * *", "'0' is not within 1-31"),
        ("0 0 * 13 *", "'13'"),
        ("0 0 * * 8", "'8'"),
        ("5-3 * * * *", "'5-3'"),
        ("*/0 * * * *", "'\\*/0'"),
        ("a * * * *", "'a'"),
        ("-1 * * * *", "'-1'"),
        ("\u0663 * * * *", "is not a number"),
        ("0 0 30 2 *", "never comes"),
        ("@yearly-ish", "five fields"),
    ],
)
def test_what_is_no_schedule_is_refused_by_name(schedule: str, why: str) -> None:
    """The field that is wrong is said."""
    with pytest.raises(InvalidRequest, match=why):
        parse(schedule)


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 6), st.integers(0, 2_000_000_000))
def test_a_weekly_time_comes_within_a_week_and_is_itself(minute: int, hour: int, day: int, at_s: int) -> None:
    """Whenever one asks."""
    found = parse(f"{minute} {hour} * * {day}").after(at_s)
    moment = datetime.fromtimestamp(found, UTC)
    assert 0 < found - at_s <= 7 * 86_400
    assert (moment.minute, moment.hour, moment.isoweekday() % 7) == (minute, hour, day)


def test_every_shorthand_is_a_schedule() -> None:
    """And says when it is next."""
    assert all(parse(word).after(0.0) > 0 for word in SHORTHANDS)
