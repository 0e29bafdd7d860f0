"""Is this week's traffic like that of the weeks before? Every feature is asked, for every way of asking; alarms say no.

An alarm is raised where a change is both larger than chance and large enough to matter, and ends when it is neither.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol

from tympan import telemetry
from tympan.quality.drift_test import Drift, compare
from tympan.quality.traffic import last_days, today
from tympan.quality.traffic_features import FEATURES, KINDS, Feature
from tympan.storage.traffic import TrafficRow

CERTAIN, DOUBTFUL = 1e-5, 1e-2
"""Chance has to be less likely for an alarm; it ends once chance is more likely than the second.

Some ten features are asked about again every hour, for months.
"""

_EVERY_S = 3600.0

KINDS_OF_ALARMS: Mapping[str, str] = {
    each.alarm: f"Another distribution than before: {each.title}." for each in FEATURES if each.alarm
}
"""Every kind of alarm about traffic, and what it says."""


class Traffic(Protocol):
    """Where counts of traffic are kept."""

    def between(self, first: date, last: date) -> list[TrafficRow]:
        """Return the counts of these days, both included. Raises ``TympanError``."""

    def baseline(self) -> tuple[date, date] | None:
        """Return the days to compare with, if some are kept. Raises ``TympanError``."""

    def forget(self, before: date) -> int:
        """Remove what is older. Raises ``TympanError``."""


class Alarms(Protocol):
    """Where alarms are kept."""

    def mark(self, kind: str, subject: str, detail: Mapping[str, Any] | None) -> None:
        """Open an alarm or bring it up to date; end it with ``None``. Raises ``TympanError``."""


@dataclass(frozen=True, slots=True)
class Periods:
    """How many days are compared with how many before them, and how many are kept."""

    window_days: int = 7
    baseline_days: int = 28
    kept_days: int = 400


@dataclass(frozen=True, slots=True)
class Finding:
    """One feature of one way of asking: its distributions by bin, and how they differ."""

    kind: str
    feature: Feature
    window: Mapping[str, int]
    baseline: Mapping[str, int]
    drift: Drift

    @property
    def is_drift(self) -> bool:
        """Whether an alarm is due."""
        return self._matters and self.drift.p < CERTAIN and self.drift.size >= self.feature.least_psi

    @property
    def is_over(self) -> bool:
        """Whether an alarm that there is should end."""
        if self.drift.reason:
            return not self.drift.n_window  # Little is no news; nothing at all is nothing to warn of.
        return not self._matters or self.drift.p > DOUBTFUL or self.drift.size < self.feature.least_psi / 2

    @property
    def _matters(self) -> bool:
        return bool(self.feature.alarm) and self.feature.is_worse(self.drift.shift)


@dataclass(frozen=True, slots=True)
class Report:
    """What was compared (first and last day of each), and what was found."""

    window: tuple[date, date]
    baseline: tuple[date, date]
    is_kept: bool
    findings: tuple[Finding, ...]


def examine(traffic: Traffic, periods: Periods, at: date) -> Report:
    """Return how the days up to ``at`` differ from their baseline. Raises ``TympanError``."""
    window, baseline, is_kept = compared_days(traffic, periods, at)
    new, old = _by_feature(traffic.between(*window)), _by_feature(traffic.between(*baseline))
    found = [
        _finding(kind, feature, new.get((kind, feature.name), {}), old.get((kind, feature.name), {}))
        for kind in KINDS
        for feature in FEATURES
        if (kind, feature.name) in new or (kind, feature.name) in old
    ]
    return Report(window, baseline, is_kept, tuple(found))


def compared_days(traffic: Traffic, periods: Periods, at: date) -> tuple[tuple[date, date], tuple[date, date], bool]:
    """Return the days up to ``at``, those to compare them with, and whether these are kept. Raises ``TympanError``."""
    window = last_days(at, periods.window_days)
    kept = traffic.baseline()
    return window, kept or last_days(window[0] - timedelta(days=1), periods.baseline_days), kept is not None


class DriftWatch:
    """Looks once an hour, shows what it finds as metrics, raises and ends alarms. Several of them do no harm."""

    def __init__(
        self,
        traffic: Traffic,
        alarms: Alarms,
        periods: Periods,
        clock: Callable[[], float] = time.time,
        every_s: float = _EVERY_S,
    ) -> None:
        """Compare what is in ``traffic``; ``clock`` tells the day, in Unix seconds."""
        self._traffic, self._alarms, self._periods = traffic, alarms, periods
        self._clock, self._every_s = clock, every_s
        self._looked_at: float | None = None

    def tend(self) -> None:
        """Look, if it is time; a chore that may be called as often as one likes. Raises ``TympanError``."""
        now = self._clock()
        # A clock that was set back is no reason to wait for it.
        if self._looked_at is not None and 0 <= now - self._looked_at < self._every_s:
            return
        self.look()
        self._looked_at = now

    def look(self) -> Report:
        """Compare, and raise and end alarms. Raises ``TympanError``."""
        at = today(self._clock())
        report = examine(self._traffic, self._periods, at)
        for each in report.findings:
            telemetry.DRIFT_PSI.labels(each.feature.name, each.kind).set(each.drift.psi)
            if each.is_drift:
                self._alarms.mark(each.feature.alarm, subject_of(each.kind), figures(each))
            elif each.feature.alarm and each.is_over:
                self._alarms.mark(each.feature.alarm, subject_of(each.kind), None)
        self._traffic.forget(at - timedelta(days=self._periods.kept_days))
        return report


def subject_of(kind: str) -> str:
    """Return what an alarm about one way of asking is about."""
    return f"traffic/{kind}"


def figures(found: Finding) -> dict[str, Any]:
    """Return the figures of an alarm: sizes, and the bin that gained and the one that lost most."""
    changes = sorted(_changes(found).items(), key=lambda item: item[1])
    return {
        "psi": round(found.drift.psi, 3),
        "chance_psi": round(found.drift.chance_psi, 3),
        "p": float(f"{found.drift.p:.1e}"),
        found.feature.counted: found.drift.n_window,
        "more": _change(changes[-1]),
        "less": _change(changes[0]),
    }


def shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return the share of each bin."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total else {}


def _changes(found: Finding) -> dict[str, float]:
    new, old = shares(found.window), shares(found.baseline)
    return {name: new.get(name, 0.0) - old.get(name, 0.0) for name in {**old, **new}}


def _change(item: tuple[str, float]) -> str:
    return f"{item[0]} {100 * item[1]:+.1f} %"


def _finding(kind: str, feature: Feature, new: "_Days", old: "_Days") -> Finding:
    drift = compare(new, old, feature.bins, ordered=not feature.names)
    return Finding(kind, feature, _sum(new.values(), feature), _sum(old.values(), feature), drift)


_Days = Mapping[int, Mapping[str, int]]


def _by_feature(rows: Sequence[TrafficRow]) -> dict[tuple[str, str], dict[int, dict[str, int]]]:
    """Return counts by feature, day and bin; models are taken together, so that a worse one shows."""
    found: dict[tuple[str, str], dict[int, dict[str, int]]] = {}
    for row in rows:
        days = found.setdefault((row.kind, row.feature), {})
        bins = days.setdefault(date.fromisoformat(row.day).toordinal(), {})
        bins[row.bin] = bins.get(row.bin, 0) + row.count
    return found


def _sum(days: Collection[Mapping[str, int]], feature: Feature) -> dict[str, int]:
    total = {name: sum(day.get(name, 0) for day in days) for name in feature.bins}
    return {name: count for name, count in total.items() if count}
