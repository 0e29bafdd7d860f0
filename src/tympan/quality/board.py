"""Everything that is known about quality in one place: golden sets and their runs, traffic, the model on trial, alarms.

Nothing is changed here. All methods of ``Board`` wait for the database and raise ``StorageUnavailable``.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date

from tympan.quality.alarms import KINDS, RUN_FAILED, RUN_OVERDUE, Alarm, AlarmBook
from tympan.quality.drift import KINDS_OF_ALARMS, Finding, Periods, Report, compared_days, examine, shares
from tympan.quality.golden import GoldenDesk, RunDetails
from tympan.quality.report import BY, Group, Utterance, groups, summary, worst
from tympan.quality.rollout import Judgement
from tympan.quality.second_opinions import Comparison, Opinion, comparisons
from tympan.quality.traffic import today
from tympan.quality.trial import TrialDesk
from tympan.storage.golden import GoldenSet
from tympan.storage.golden_runs import GoldenRun
from tympan.storage.traffic import TrafficStore

__all__ = [
    "BY", "MEANINGS", "UNKNOWN", "Alarm", "Board", "Comparison", "Finding", "GoldenRun", "GoldenSet", "Group",
    "Judgement", "Opinion", "Report", "RunDetails", "RunLine", "SecondOpinions", "SetHistory", "TrafficBoard",
    "Utterance", "groups", "second_opinions", "shares", "summary", "worst",
]  # fmt: skip

MEANINGS = {**KINDS, **KINDS_OF_ALARMS}
"""Every kind of alarm about quality, and what it says."""

UNKNOWN = frozenset({RUN_FAILED, RUN_OVERDUE})
"""Kinds of alarms that say that nothing is known, not that something is worse."""


@dataclass(frozen=True, slots=True)
class RunLine:
    """A run in a set's history: of which version, and whether later ones are compared with it."""

    run: GoldenRun
    version: int
    is_baseline: bool


@dataclass(frozen=True, slots=True)
class SetHistory:
    """A golden set with its runs, newest first; ``has_more`` when there were more than were asked for."""

    golden_set: GoldenSet
    runs: Sequence[RunLine]
    has_more: bool


@dataclass(frozen=True, slots=True)
class SecondOpinions:
    """What the shadow model made of two stretches of days (first and last day of each)."""

    window: tuple[date, date]
    baseline: tuple[date, date]
    comparisons: list[Comparison]


def second_opinions(traffic: TrafficStore, periods: Periods, at: date) -> SecondOpinions:
    """Return how far models lay from the shadow model up to ``at``, and before. Raises ``StorageUnavailable``."""
    window, baseline, _ = compared_days(traffic, periods, at)
    found = comparisons(traffic.between(*window), traffic.between(*baseline))
    return SecondOpinions(window, baseline, found)


@dataclass(frozen=True, slots=True)
class TrafficBoard:
    """Where traffic is counted: its counts, which days are compared, and the model that hears some of it again."""

    store: TrafficStore
    periods: Periods
    shadow_model: str | None = None


class Board:
    """What may be read about quality."""

    def __init__(
        self,
        desk: GoldenDesk,
        trials: TrialDesk,
        traffic: TrafficBoard | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Read golden sets, rollouts and, where it is counted, traffic; ``clock`` tells the day in Unix seconds."""
        self._desk, self._trials, self._traffic, self._clock = desk, trials, traffic, clock
        self._alarms = AlarmBook(desk.store.database)

    @property
    def shadow_model(self) -> str | None:
        """The model that hears some windows again, by the name in the settings; ``None`` where none does."""
        return self._traffic.shadow_model if self._traffic is not None else None

    def history(self, name: str | None, days: float, most: int) -> list[SetHistory]:
        """Return golden sets, or the one with this name, with up to ``most`` runs each that began in these days.

        Raises ``NotFound``.
        """
        sets = self._desk.store.all() if name is None else [self._desk.store.get(name)]
        baselines, versions = self._desk.runs.baselines(), dict[str, int]()
        found = []
        for each in sets:
            runs = self._desk.runs.page(each.name, most + 1, days)
            for run in runs:
                if run.version_id not in versions:
                    versions[run.version_id] = self._desk.store.version_of(run.version_id)
            lines = [RunLine(run, versions[run.version_id], run.id in baselines) for run in runs[:most]]
            found.append(SetHistory(each, lines, len(runs) > most))
        return found

    def traffic(self) -> tuple[Report, SecondOpinions] | None:
        """Return how traffic and the shadow's opinion stand to the days before; ``None`` where it is not counted."""
        if self._traffic is None:
            return None
        at, store, periods = today(self._clock()), self._traffic.store, self._traffic.periods
        return examine(store, periods, at), second_opinions(store, periods, at)

    def rollout(self) -> Judgement | None:
        """Return how the model on trial stands; ``None`` when none is."""
        running = self._trials.store.standing().running
        return None if running is None else self._trials.judgement(running)

    def alarms(self) -> list[Alarm]:
        """Return what is wrong now, oldest first."""
        return self._alarms.open()

    def run(self, run_id: str) -> RunDetails:
        """Return a run with everything that is known of its clips. Raises ``NotFound``."""
        return self._desk.details(run_id)

    def line(self, details: RunDetails) -> RunLine:
        """Return a run as it stands in its set's history."""
        return RunLine(details.run, details.version, details.run.id in self._desk.runs.baselines())
