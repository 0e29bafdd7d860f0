"""What is asked of machines: how many requests, how long, at once or as jobs, how soon answers are due. Pure."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random

from tympan.errors import InvalidRequest

MAX_LENGTHS = 2_000
"""More lengths are thinned out: the distribution stays."""

MAX_CALLERS = 100_000
MAX_LENGTH_S = 604_800.0


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long recordings are, in seconds, and how often each length comes."""

    values_s: tuple[float, ...]
    weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Give all lengths one weight where none are given; raise ``InvalidRequest`` for impossible ones."""
        object.__setattr__(self, "weights", self.weights or (1.0,) * len(self.values_s))
        fine = all(0.0 < value <= MAX_LENGTH_S for value in self.values_s) and all(w >= 0.0 for w in self.weights)
        if not self.values_s or not fine or not 0.0 < sum(self.weights) < math.inf:
            raise InvalidRequest(
                "Lengths of recordings are seconds above 0, up to a week, with weights of 0 and more.",
                remedy="Give for example --mean-length 30s, or a file with one length a line.",
            )

    @property
    def mean_s(self) -> float:
        """The mean length."""
        return sum(v * w for v, w in zip(self.values_s, self.weights, strict=True)) / sum(self.weights)

    def draw(self, rng: Random) -> float:
        """Return the length of the next recording."""
        return self.values_s[0] if len(self.values_s) == 1 else rng.choices(self.values_s, self.weights)[0]


@dataclass(frozen=True, slots=True)
class Demand:
    """A demand: ``callers`` who each send the next request ``think_s`` after an answer, or requests at random moments.

    ``per_hour`` are those of the busiest hour, ``by_hour`` of every hour of a day. ``job_share`` of the requests are
    jobs, in the batch lane; ``job_lengths`` are theirs, if they have other ones.
    """

    lengths: Lengths
    callers: int | None = None
    think_s: float = 0.0
    per_hour: float | None = None
    by_hour: tuple[float, ...] = ()
    job_share: float = 0.0
    job_lengths: Lengths | None = None

    def __post_init__(self) -> None:
        """Raise ``InvalidRequest`` when this is no demand, or two."""
        if (self.callers is None) == (self.per_hour is None):
            raise InvalidRequest(
                "A demand is either callers at once or requests by the hour.",
                remedy="Give one of --peak-concurrent, --per-hour, --arrivals and --from-database.",
            )
        if self.callers is not None and not 1 <= self.callers <= MAX_CALLERS:
            raise InvalidRequest(f"Callers at once are 1 to {MAX_CALLERS}.")
        if self.per_hour is not None and not 0.0 < self.per_hour < math.inf:
            raise InvalidRequest("Requests an hour are more than 0.")
        if not 0.0 <= self.job_share <= 1.0:
            raise InvalidRequest("The share of jobs is 0 to 1.")

    @property
    def is_open(self) -> bool:
        """Whether requests come whether or not earlier ones are answered."""
        return self.per_hour is not None

    @property
    def mean_s(self) -> float:
        """The mean length of all recordings."""
        jobs = self.job_lengths or self.lengths
        return self.job_share * jobs.mean_s + (1.0 - self.job_share) * self.lengths.mean_s

    @property
    def audio_s_per_s(self) -> float | None:
        """Seconds of audio a second in the busiest hour; ``None`` where callers wait: it depends on the answers."""
        return None if self.per_hour is None else self.per_hour * self.mean_s / 3600.0

    def times(self, factor: float) -> "Demand":
        """Return ``factor`` times this demand."""
        if self.callers is not None:
            return replace(self, callers=max(1, round(self.callers * factor)))
        hours = tuple(requests * factor for requests in self.by_hour)
        return replace(self, per_hour=(self.per_hour or 0.0) * factor, by_hour=hours)

    def draw(self, rng: Random) -> tuple[bool, float]:
        """Return whether the next request is a job, and its length in seconds."""
        is_job = rng.random() < self.job_share
        return is_job, (self.job_lengths or self.lengths if is_job else self.lengths).draw(rng)


@dataclass(frozen=True, slots=True)
class Goal:
    """What has to hold: 95 of 100 synchronous requests wait, and are answered, within these seconds; jobs likewise.

    ``headroom`` is the share of the machines' capacity that stays free in the busiest hour.
    """

    wait_p95_s: float | None = None
    turnaround_p95_s: float | None = None
    job_p95_s: float | None = None
    headroom: float = 0.2

    @property
    def has_limit(self) -> bool:
        """Whether any time is asked for."""
        return any(limit is not None for limit in (self.wait_p95_s, self.turnaround_p95_s, self.job_p95_s))


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in a file or a database: requests of each hour of a day, and lengths, as far as they are known."""

    by_hour: tuple[float, ...] = ()
    lengths: Lengths | None = None
    job_share: float = 0.0
    job_lengths: Lengths | None = None
    notes: tuple[str, ...] = field(default_factory=tuple)


def seconds(text: str) -> float:
    """Return the seconds of ``30``, ``30s``, ``500ms``, ``2m`` or ``1.5h``; raises ``InvalidRequest``."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
    number = text.strip().lower().rstrip("mshin")
    unit = text.strip().lower()[len(number) :]
    try:
        value = float(number) * units[unit or "s"]
    except (ValueError, KeyError):
        value = math.nan
    if not 0.0 <= value < math.inf:
        raise InvalidRequest(f"{text!r} is not a length of time.", remedy="Write 30, 30s, 2m, 1.5h or 500ms.")
    return value


def lengths_in(text: str) -> Lengths:
    """Return the lengths in a CSV: seconds in the first column, how often in the second, if there is one.

    A first line without numbers is a heading. Raises ``InvalidRequest`` for other lines.
    """
    rows = _rows(text, "length")
    try:
        values = [(float(row[0]), float(row[1]) if len(row) > 1 else 1.0) for row in rows]
    except ValueError as error:
        raise InvalidRequest(
            f"A length cannot be read: {error}.", remedy="Write seconds in the first column, a count in the second."
        ) from error
    return thinned(values)


def thinned(pairs: Sequence[tuple[float, float]]) -> Lengths:
    """Return lengths with their weights, every n-th in order of size where there are too many."""
    ordered = sorted(pairs)
    step = max(1, -(-len(ordered) // MAX_LENGTHS))
    groups = [ordered[n : n + step] for n in range(0, len(ordered), step)]
    total = [sum(weight for _, weight in group) for group in groups]
    middle = [
        sum(v * w for v, w in group) / weight if weight else group[0][0]
        for group, weight in zip(groups, total, strict=True)
    ]
    return Lengths(tuple(middle), tuple(total))


def arrivals_in(text: str) -> Seen:
    """Return the requests of each hour of a day in a CSV.

    Either each line is an hour (0 to 23) and its requests, or each is the moment of one request, as in
    ``2026-01-31T09:30:00``, with its length in seconds beside it if you like; then days are averaged. Raises
    ``InvalidRequest`` for other lines.
    """
    rows = _rows(text, "arrival")
    if all("-" not in row[0] for row in rows):
        return _hours(rows)
    by_hour, days, lengths = [0.0] * 24, set[str](), list[tuple[float, float]]()
    try:
        for row in rows:
            moment = datetime.fromisoformat(row[0])
            by_hour[moment.hour] += 1.0
            days.add(moment.date().isoformat())
            if len(row) > 1 and row[1]:
                lengths.append((float(row[1]), 1.0))
    except ValueError as error:
        raise InvalidRequest(
            f"An arrival cannot be read: {error}.", remedy="Write moments as 2026-01-31T09:30:00."
        ) from error
    found = tuple(count / len(days) for count in by_hour)
    return Seen(found, thinned(lengths) if lengths else None)


def _hours(rows: Sequence[Sequence[str]]) -> Seen:
    by_hour = [0.0] * 24
    try:
        found = [(int(row[0].partition(":")[0]), float(row[1])) for row in rows]
    except (ValueError, IndexError) as error:
        raise _no_hour(str(error)) from error
    for hour, requests in found:
        if hour not in range(24) or not 0.0 <= requests < math.inf:
            raise _no_hour(f"hour {hour}, {requests:g} requests")
        by_hour[hour] += requests
    return Seen(tuple(by_hour))


def _no_hour(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"An hour cannot be read: {what}.", remedy="Write an hour from 0 to 23, a comma, its requests."
    )


def _rows(text: str, what: str) -> list[list[str]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(text)) if any(row)]
    if rows and not any(character.isdigit() for character in rows[0][0]):
        rows = rows[1:]
    if not rows:
        raise InvalidRequest(f"There is no {what} in the file.", remedy="Write one a line.")
    return rows
