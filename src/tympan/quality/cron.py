"""Times in cron's syntax: minute, hour, day of the month, month, day of the week; in UTC. Pure.

A field is ``*`` or a list of numbers and ranges (``1,3-5``), each with a step if wanted (``*/15``, ``8-18/2``). Months
and days of the week may be named by three letters; Sunday is 0 and 7. When both days are restricted, either will do, as
in cron.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from types import MappingProxyType

from tympan.errors import InvalidRequest

SHORTHANDS = MappingProxyType(
    {"@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *"}
)
"""Words that stand for five fields."""

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_NAMES: tuple[dict[str, int], ...] = (
    {}, {}, {}, {name: number for number, name in enumerate(_MONTHS, 1)}, {name: n for n, name in enumerate(_DAYS)},
)  # fmt: skip
_FARTHEST_DAYS = 366 * 8 + 1
"""Longest time between two 29ths of February."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Minutes, hours, days of the month, months and days of the week (Monday is 0) that are meant."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool

    def after(self, at_s: float) -> float:
        """Return the first time after ``at_s``; both in Unix seconds. Raises ``InvalidRequest`` when there is none."""
        start = datetime.fromtimestamp(at_s, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
        for ahead in range(_FARTHEST_DAYS):
            day = start.date() + timedelta(days=ahead)
            if self._means(day):
                for hour in self.hours:
                    for minute in self.minutes:
                        found = datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC)
                        if found >= start:
                            return found.timestamp()
        raise InvalidRequest("The schedule names a day that never comes.", remedy="Look at its days and months.")

    def _means(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        of_month, of_week = day.day in self.days, day.weekday() in self.weekdays
        return of_month or of_week if self.either_day else of_month and of_week


def parse(text: str) -> Schedule:
    """Return the schedule that ``text`` says. Raises ``InvalidRequest`` which names the field, also for no day ever."""
    fields = SHORTHANDS.get(text.strip().lower(), text).split()
    if len(fields) != len(_BOUNDS):
        raise _refusal(text, "it does not have five fields")
    minutes, hours, days, months, weekdays = (
        _numbers(text, field, *bounds, names) for field, bounds, names in zip(fields, _BOUNDS, _NAMES, strict=True)
    )
    schedule = Schedule(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        frozenset(days),
        frozenset(months),
        frozenset((number - 1) % 7 for number in weekdays),  # Sunday is 0 there and 6 here.
        either_day=not fields[2].startswith("*") and not fields[4].startswith("*"),
    )
    schedule.after(0.0)
    return schedule


def _numbers(text: str, field: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in field.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            if span == "*":
                begin, end = low, high
            else:
                begin = _number(first, names)
                end = _number(last, names) if dash else (high if slash else begin)
            every = int(step) if slash else 1
        except ValueError:
            raise _refusal(text, f"{part!r} is not a number, range or step") from None
        if not low <= begin <= end <= high or every < 1:
            raise _refusal(text, f"{part!r} is not within {low}-{high}")
        found.update(range(begin, end + 1, every))
    return found


def _number(word: str, names: dict[str, int]) -> int:
    if word in names:
        return names[word]
    if not (word.isascii() and word.isdigit()):
        raise ValueError(word)
    return int(word)


def _refusal(text: str, why: str) -> InvalidRequest:
    words: Iterable[str] = SHORTHANDS
    return InvalidRequest(
        f"{text!r} is not a schedule: {why}.",
        remedy=f"Give minute, hour, day, month and weekday in UTC, as '0 3 * * 1', or {', '.join(words)}.",
    )
