"""Simulated weeks of traffic: what was observed of real clips is drawn again and again, day by day, and watched.

Time is a number. A day's clips come in bursts: one source after the other, as one caller's files do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tympan.observation import Observation
from tympan.quality.drift import DriftWatch, Periods
from tympan.quality.traffic import TrafficMeter
from tympan.storage import migrate
from tympan.storage.database import Database, sqlite_url
from tympan.storage.traffic import TrafficStore

DAY_S = 86_400.0
START_S = datetime(2026, 1, 5, 12, tzinfo=UTC).timestamp()
"""Noon of a Monday."""

BASELINE_WEEKS = 4
Week: TypeAlias = Sequence[Sequence[Observation]]
Pool: TypeAlias = Mapping[str, Sequence[Observation]]
"""What was observed of clips, by the source they come from."""


@dataclass
class NotedAlarms:
    """Takes alarms as the product keeps them: open until they end."""

    open: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def mark(self, kind: str, subject: str, detail: Mapping[str, Any] | None) -> None:
        """Open or end an alarm."""
        del subject
        if detail is None:
            self.open.pop(kind, None)
        else:
            self.open[kind] = detail


@dataclass
class Watched:
    """Traffic that is counted and watched as a server does, on a clock of its own."""

    folder: Path
    days: int = 0
    alarms: NotedAlarms = field(default_factory=NotedAlarms)

    def __post_init__(self) -> None:
        """Start with an empty database."""
        self.database = Database(sqlite_url(self.folder / "traffic.db"))
        migrate.upgrade(self.database)
        store = TrafficStore(self.database)
        self.meter = TrafficMeter(store, clock=self.now)
        self.watch = DriftWatch(store, self.alarms, Periods(), self.now)

    def now(self) -> float:
        """Return the simulated time."""
        return START_S + self.days * DAY_S

    def live_through(self, week: Week) -> list[set[str]]:
        """Take a week's traffic; return which alarms were open at the end of each day."""
        opened = []
        for seen in week:
            for each in seen:
                self.meter.add(each)
            self.meter.flush()
            self.watch.look()
            opened.append(set(self.alarms.open))
            self.days += 1
        return opened

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def drawn_week(rng: np.random.Generator, pool: Pool, clips_a_day: int) -> list[list[Observation]]:
    """Return a week that draws its clips anew: each day some, of a few sources one after the other."""
    return [_drawn_day(rng, pool, int(rng.poisson(clips_a_day))) for _ in range(7)]


def _drawn_day(rng: np.random.Generator, pool: Pool, count: int) -> list[Observation]:
    sizes = np.array([len(clips) for clips in pool.values()], dtype=float)
    clips_of = list(pool.values())
    found: list[Observation] = []
    while len(found) < count:
        clips = clips_of[int(rng.choice(len(clips_of), p=sizes / sizes.sum()))]
        burst = min(len(clips), int(rng.integers(1, 5)), count - len(found))
        found += [clips[int(at)] for at in rng.choice(len(clips), burst, replace=False)]
    return found


def mixed(first: Pool, second: Pool) -> dict[str, Sequence[Observation]]:
    """Return both pools as one."""
    return {**{f"1 {name}": clips for name, clips in first.items()},
            **{f"2 {name}": clips for name, clips in second.items()}}  # fmt: skip
