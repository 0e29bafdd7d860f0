"""What every process tells about quality: figures from the database as metrics, and whether a set is overdue.

The tables are all it looks at, so each process of a cluster tells the same, and also says when the one that should
measure is gone.
"""

import math
from collections.abc import Sequence

from tympan import telemetry
from tympan.background import Background, attempt
from tympan.quality.alarms import KINDS, RUN_OVERDUE, AlarmBook
from tympan.quality.drift import KINDS_OF_ALARMS
from tympan.quality.starter import NAME as STARTER
from tympan.quality.verdict import Totals
from tympan.storage.golden import GoldenSet, GoldenStore
from tympan.storage.golden_runs import GoldenRun, GoldenRuns

_FIRST_S, _LOOK_S = 2.0, 60.0
_JOIN_S = 5.0
_GRACE_S = 3_600.0


class QualityWatch:
    """Looks at the tables every minute in a thread of its own."""

    def __init__(self, store: GoldenStore, *, starter: bool = True) -> None:
        """Look at ``store``; the ``starter`` set may be left out."""
        self._store, self._runs, self._alarms = store, GoldenRuns(store.database), AlarmBook(store.database)
        self._starter = starter
        self._background = Background("quality-watch", self._run, _JOIN_S)

    def start(self) -> None:
        """Begin."""
        self._background.start()

    def stop(self) -> None:
        """Stop."""
        self._background.stop()

    def look(self) -> None:
        """Bring metrics up to date, and alarms about what is overdue. Raises ``StorageUnavailable``."""
        sets, latest, now_s = self._store.all(), self._runs.latest(), self._store.now_s()
        running = self._runs.running()
        told = {each.subject for each in self._alarms.open() if each.kind == RUN_OVERDUE}
        for found in sets:
            if found.name != STARTER or self._starter:
                late_s = now_s - _GRACE_S - expected_s(found, running)
                if late_s > 0 or found.name in told:
                    hours = {"hours": round(late_s / 3600, 1)} if late_s > 0 else None
                    self._alarms.mark(RUN_OVERDUE, found.name, hours)
        last = {found.name: _last_s(found, latest) for found in sets}
        telemetry.QUALITY_RUN_AGE.clear()
        for name, at_s in last.items():
            telemetry.QUALITY_RUN_AGE.labels(name).set(max(0.0, now_s - at_s))
        _show(latest)
        counts = self._alarms.counts()
        for kind in {*KINDS, *KINDS_OF_ALARMS, *counts}:
            telemetry.QUALITY_ALARMS.labels(kind).set(counts.get(kind, 0))

    def _run(self) -> None:
        wait_s = _FIRST_S
        while not self._background.over.wait(wait_s):
            attempt("quality_watch", self.look)
            wait_s = _LOOK_S


def expected_s(found: GoldenSet, running: Sequence[GoldenRun]) -> float:
    """Return the earliest time at which something about a set should have happened: a run begun, or one ended."""
    deadlines = (run.deadline for run in running if run.set_name == found.name)
    return min([math.inf if found.next_at is None else found.next_at, *deadlines])


def _last_s(found: GoldenSet, latest: Sequence[GoldenRun]) -> float:
    ended = [run.finished_at for run in latest if run.set_name == found.name and run.finished_at is not None]
    return max([found.created_at, *ended])


def _show(latest: Sequence[GoldenRun]) -> None:
    silent: dict[str, list[Totals]] = {}
    telemetry.WER.clear()
    telemetry.CER.clear()
    telemetry.HALLUCINATIONS.clear()
    for run in latest:
        model, found = run.model or telemetry.UNKNOWN, Totals.from_dict(run.totals or {})
        if found.words.units:
            telemetry.WER.labels(run.set_name, model).set(found.words.rate / 100)
            telemetry.CER.labels(run.set_name, model).set(found.characters.rate / 100)
        silent.setdefault(model, []).append(found)
    for model, found_all in silent.items():
        if clips := sum(found.silent for found in found_all):
            telemetry.HALLUCINATIONS.labels(model).set(sum(found.hallucinated for found in found_all) / clips)
