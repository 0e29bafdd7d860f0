"""What may be done about models on trial: begin, judge, promote, take back; and the alarm while one is worse."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from tympan.errors import Conflict
from tympan.quality import TOLERANCE_POINTS, scores
from tympan.quality.alarms import CANDIDATE_WORSE, AlarmBook
from tympan.quality.golden import GoldenDesk
from tympan.quality.rollout import Judgement, SetContrast, first_day, judge
from tympan.quality.starter import NAME as STARTER
from tympan.quality.traffic import today
from tympan.quality.verdict import compare
from tympan.storage.audit import AuditEntry
from tympan.storage.golden import GoldenSet
from tympan.storage.golden_runs import GoldenRun
from tympan.storage.rollouts import Rollout, RolloutStore
from tympan.storage.traffic import TrafficStore

_EVERY_S = 600.0


@dataclass(frozen=True, slots=True)
class TrialRules:
    """By how many points of word errors a candidate may seem worse; whether the starter set is measured."""

    tolerance_points: float = TOLERANCE_POINTS
    starter: bool = True


class TrialDesk:
    """Rollouts of one installation. All methods raise ``StorageUnavailable`` when it does not answer."""

    def __init__(self, golden: GoldenDesk, rules: TrialRules, clock: Callable[[], float] = time.monotonic) -> None:
        """Judge by the sets of ``golden`` and the traffic beside them."""
        database = golden.store.database
        self.store = RolloutStore(database)
        self._golden, self._rules, self._clock = golden, rules, clock
        self._traffic, self._alarms = TrafficStore(database), AlarmBook(database)
        self._looked_at: float | None = None

    def start(self, candidate: str, incumbent: str, share: float, entry: AuditEntry) -> tuple[Rollout, list[str]]:
        """Begin a rollout, and have golden sets measured for it; return it with their names.

        The incumbent is measured too where that has not been done. Raises ``Conflict`` while another rollout runs.
        """
        rollout, sets, runs = self.store.start(candidate, incumbent, share, entry), self._sets(), self._runs()
        for each in sets:
            self._golden.run(each.name, candidate)
            if (each.version_id, incumbent) not in runs:
                self._golden.run(each.name, incumbent)
        return rollout, [each.name for each in sets]

    def promote(self, entry: AuditEntry, *, anyway: bool) -> Rollout:
        """Let the candidate be the default. Raises ``NotFound``; ``Conflict`` unless it is no worse, or ``anyway``."""
        found = self.current()
        if found.verdict != "no worse" and not anyway:
            candidate = found.rollout.candidate
            cause = f"{candidate!r} is worse: {'; '.join(found.reasons)}."
            if found.verdict != "worse":
                cause = f"It is not known whether {candidate!r} is worse. Missing: {'; '.join(found.missing)}."
            raise Conflict(cause, remedy="Promote it with --anyway if you know better.")
        return self.store.promote(found.rollout.id, entry)

    def current(self) -> Judgement:
        """Return how the model on trial stands. Raises ``NotFound`` when there is none."""
        return self.judgement(self.store.running())

    def judgement(self, rollout: Rollout) -> Judgement:
        """Return how a rollout's candidate stands to its incumbent."""
        began = first_day(rollout)
        rows = self._traffic.between(began, today(time.time()))
        # On the first day the incumbent has answered others before; later days count alone as soon as there are some.
        later = [row for row in rows if row.day > began.isoformat()]
        if any(row.model == rollout.candidate for row in later):
            rows = later
        runs = self._runs()
        sets = [self._contrast(each, rollout, runs) for each in self._sets()]
        return judge(rollout, rows, sets, self._rules.tolerance_points)

    def tend(self) -> None:
        """Look how the candidate stands, if it is time; a chore that may be called as often as one likes."""
        now_s = self._clock()
        if self._looked_at is None or now_s - self._looked_at >= _EVERY_S:
            self.look()
            self._looked_at = now_s

    def look(self) -> None:
        """Raise an alarm while a candidate is worse; end it when it is not, or no longer on trial."""
        running = self.store.standing().running
        for alarm in self._alarms.open():
            if alarm.kind == CANDIDATE_WORSE and (running is None or alarm.subject != running.candidate):
                self._alarms.mark(CANDIDATE_WORSE, alarm.subject, None)
        if running is not None:
            reasons = self.judgement(running).reasons
            detail = {"rollout": running.id, "because": reasons} if reasons else None
            self._alarms.mark(CANDIDATE_WORSE, running.candidate, detail)

    def _sets(self) -> list[GoldenSet]:
        return [each for each in self._golden.store.all() if self._rules.starter or each.name != STARTER]

    def _contrast(self, of: GoldenSet, rollout: Rollout, runs: "_Runs") -> SetContrast:
        mine, theirs = (runs.get((of.version_id, model)) for model in (rollout.candidate, rollout.incumbent))
        if mine is None or theirs is None:
            return SetContrast(of.name, None)
        now, then = (scores.by_clip(self._golden.runs.results(run.id)) for run in (mine, theirs))
        comparison = compare(now, then, theirs.id, self._rules.tolerance_points) if now and then else None
        return SetContrast(of.name, comparison)

    def _runs(self) -> "_Runs":
        """Return the last good run of each version with each model, asked for by name or as the default."""
        return {(run.version_id, run.asked_model or run.model): run for run in self._golden.runs.latest()}


_Runs: TypeAlias = Mapping[tuple[str | None, str | None], GoldenRun]
