"""Runs of golden sets: which clips wait, which are jobs, what they came to. Every change of state happens once.

It does not matter how many processes look after a run: what one has done already, another's write leaves alone.
"""

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from tympan.errors import NotFound
from tympan.faultpoints import reach
from tympan.storage.audit import AuditEntry, note
from tympan.storage.database import Database
from tympan.storage.golden import GoldenSet
from tympan.storage.ids import new_id
from tympan.storage.quality_tables import golden_baselines, golden_results, golden_runs, golden_sets

_ROWS = 500
_DAY_S = 86_400.0

Transaction: TypeAlias = Connection
"""A transaction of the database, for who writes something beside."""


@dataclass(frozen=True, slots=True)
class GoldenRun:
    """A run: of which version, with which model (``asked_model`` is empty for the default), and what it came to.

    ``totals`` and ``comparison`` are JSON objects once it has ended, the latter where there was a baseline.
    """

    id: str
    set_name: str
    version_id: str
    asked_model: str
    model: str | None
    state: str
    cause: str
    created_at: float
    finished_at: float | None
    deadline: float
    n_items: int
    n_failed: int = 0
    totals: Mapping[str, Any] | None = None
    comparison: Mapping[str, Any] | None = None

    @property
    def subject(self) -> str:
        """What an alarm about it is about: the set, and the model if one was asked for."""
        return f"{self.set_name}/{self.asked_model}" if self.asked_model else self.set_name


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """What became of one clip in a run: ``waiting``, ``handed`` (a job), ``done`` or ``failed``."""

    idx: int
    state: str
    job_id: str | None = None
    text: str | None = None
    language: str | None = None
    score: Mapping[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ends."""

    state: str
    model: str | None
    n_failed: int
    totals: Mapping[str, Any]
    comparison: Mapping[str, Any] | None
    becomes_baseline: bool


class GoldenRuns:
    """The tables of runs, results and baselines."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def begin(
        self,
        of: GoldenSet,
        asked_model: str,
        indices: Collection[int],
        limit_s: float,
        entry: AuditEntry | None = None,
    ) -> GoldenRun:
        """Begin a run of these clips, which has ``limit_s`` to end, and return it; with ``entry`` in the audit log.

        Raises ``StorageUnavailable``.
        """
        run_id = new_id("run")
        new = _New(run_id, asked_model, "request", limit_s)

        def work(tx: Connection) -> None:
            self._insert(tx, new, of, indices)
            note(tx, self._db, entry, of.name, run=run_id, model=asked_model)

        self._db.write(work)
        return self.get(run_id)

    def begin_due(self, of: GoldenSet, next_at: float | None, indices: Collection[int], limit_s: float) -> str | None:
        """Begin the run whose time has come and say when the next one is; ``None`` when somebody else did.

        While a run of the set goes on there is no other: only the time moves on.
        """
        run_id = new_id("run")
        mine = (golden_sets.c.name == of.name, golden_sets.c.next_at == of.next_at)
        same = (golden_runs.c.set_name == of.name, golden_runs.c.asked_model == of.plan.model)

        def work(tx: Connection) -> str | None:
            if not tx.execute(update(golden_sets).where(*mine).values(next_at=next_at)).rowcount:
                return None
            if tx.scalar(select(golden_runs.c.id).where(*same, golden_runs.c.state == "running").limit(1)):
                return None
            self._insert(tx, _New(run_id, of.plan.model, "schedule", limit_s), of, indices)
            reach("golden.begin")
            return run_id

        return self._db.write(work)

    def get(self, run_id: str) -> GoldenRun:
        """Return a run. Raises ``NotFound``."""
        query = select(golden_runs).where(golden_runs.c.id == run_id)
        row = self._db.read(lambda tx: tx.execute(query).first())
        if row is None:
            raise NotFound(f"There is no run {run_id!r}.", remedy="`tympan quality runs` lists them.")
        return _run(row)

    def page(self, set_name: str | None = None, limit: int = 100, days: float | None = None) -> list[GoldenRun]:
        """Return runs, newest first: all, or those that began in the last ``days``."""
        query = select(golden_runs).order_by(golden_runs.c.id.desc()).limit(limit)
        if days is not None:
            query = query.where(golden_runs.c.created_at > self._db.now() - days * _DAY_S)
        if set_name is not None:
            query = query.where(golden_runs.c.set_name == set_name)
        return self._db.read(lambda tx: [_run(row) for row in tx.execute(query)])

    def running(self) -> list[GoldenRun]:
        """Return the runs that have not ended, oldest first."""
        query = select(golden_runs).where(golden_runs.c.state == "running").order_by(golden_runs.c.id)
        return self._db.read(lambda tx: [_run(row) for row in tx.execute(query)])

    def latest(self) -> list[GoldenRun]:
        """Return the last run of each set and asked model that succeeded."""
        good = golden_runs.c.state == "succeeded"
        last = (
            select(func.max(golden_runs.c.id)).where(good).group_by(golden_runs.c.set_name, golden_runs.c.asked_model)
        )
        query = select(golden_runs).where(golden_runs.c.id.in_(last)).order_by(golden_runs.c.id)
        return self._db.read(lambda tx: [_run(row) for row in tx.execute(query)])

    def results(self, run_id: str, *states: str, limit: int | None = None) -> list[GoldenResult]:
        """Return the results of a run by number of clip: all, or those in these states."""
        query = select(golden_results).where(golden_results.c.run_id == run_id).order_by(golden_results.c.idx)
        if states:
            query = query.where(golden_results.c.state.in_(states))
        query = query if limit is None else query.limit(limit)
        return self._db.read(lambda tx: [_result(row) for row in tx.execute(query)])

    def spent(self, run_id: str) -> list[GoldenResult]:
        """Return results that are known and whose jobs are still there."""
        query = select(golden_results).where(
            golden_results.c.run_id == run_id,
            golden_results.c.state.in_(("done", "failed")),
            golden_results.c.job_id.is_not(None),
        )
        return self._db.read(lambda tx: [_result(row) for row in tx.execute(query)])

    def hand_in(self, tx: Connection, run_id: str, idx: int, job_id: str) -> bool:
        """Note in the caller's transaction that a clip is a job now; ``False`` when it was one already."""
        mine = (golden_results.c.run_id == run_id, golden_results.c.idx == idx, golden_results.c.state == "waiting")
        return bool(tx.execute(update(golden_results).where(*mine).values(state="handed", job_id=job_id)).rowcount)

    def record(self, run_id: str, found: GoldenResult) -> bool:
        """Keep what a clip came to; ``False`` when that is known already."""
        mine = (golden_results.c.run_id == run_id, golden_results.c.idx == found.idx)
        still_open = golden_results.c.state.in_(("waiting", "handed"))
        score = None if found.score is None else json.dumps(found.score)
        values = {
            "state": found.state, "text": found.text, "language": found.language, "score": score, "error": found.error,
        }  # fmt: skip

        def work(tx: Connection) -> bool:
            done = tx.execute(update(golden_results).where(*mine, still_open).values(values)).rowcount == 1
            reach("golden.record")
            return done

        return self._db.write(work)

    def job_gone(self, run_id: str, idx: int) -> None:
        """Note that a clip's job has been removed."""
        mine = (golden_results.c.run_id == run_id, golden_results.c.idx == idx)
        self._db.write(lambda tx: tx.execute(update(golden_results).where(*mine).values(job_id=None)))

    def finish(self, run: GoldenRun, verdict: Verdict, beside: Callable[[Connection], object]) -> bool:
        """End a run, once; write what goes ``beside`` it in the same transaction. ``False`` when it had ended."""
        comparison = None if verdict.comparison is None else json.dumps(verdict.comparison)
        values = {
            "state": verdict.state, "model": verdict.model, "n_failed": verdict.n_failed,
            "totals": json.dumps(verdict.totals), "comparison": comparison, "finished_at": self._db.now(),
        }  # fmt: skip
        mine = (golden_runs.c.id == run.id, golden_runs.c.state == "running")

        def work(tx: Connection) -> bool:
            if not tx.execute(update(golden_runs).where(*mine).values(values)).rowcount:
                return False
            if verdict.becomes_baseline:
                new = self._db.insert(golden_baselines).values(_baseline(run))
                tx.execute(new.on_conflict_do_nothing())
            beside(tx)
            reach("golden.finish")
            return True

        return self._db.write(work)

    def baseline(self, version_id: str, asked_model: str) -> str | None:
        """Return the run that others of this version and model are compared with."""
        mine = (golden_baselines.c.version_id == version_id, golden_baselines.c.asked_model == asked_model)
        return self._db.read(lambda tx: tx.scalar(select(golden_baselines.c.run_id).where(*mine)))

    def baselines(self) -> set[str]:
        """Return every run that others are compared with."""
        return self._db.read(lambda tx: set(tx.scalars(select(golden_baselines.c.run_id))))

    def make_baseline(
        self, run: GoldenRun, beside: Callable[[Connection], object], entry: AuditEntry | None = None
    ) -> None:
        """Compare with this run from now on; write what goes ``beside`` it in the same transaction.

        So is ``entry``, in the audit log.
        """
        new = self._db.insert(golden_baselines).values(_baseline(run))
        keys = [golden_baselines.c.version_id, golden_baselines.c.asked_model]

        def work(tx: Connection) -> None:
            tx.execute(new.on_conflict_do_update(index_elements=keys, set_={"run_id": run.id}))
            beside(tx)
            note(tx, self._db, entry, run.set_name, run=run.id)

        self._db.write(work)

    def thin(self, kept: int) -> int:
        """Remove the results clip by clip of all but the last ``kept`` runs of each set; return how many rows.

        What the runs came to as a whole stays, and everything of baselines.
        """
        newer = golden_runs.alias()
        rank = select(func.count()).where(newer.c.set_name == golden_runs.c.set_name, newer.c.id > golden_runs.c.id)
        of_baseline = select(golden_baselines.c.run_id)
        old = select(golden_runs.c.id).where(rank.scalar_subquery() >= kept, golden_runs.c.id.not_in(of_baseline))
        query = delete(golden_results).where(golden_results.c.run_id.in_(old), golden_results.c.job_id.is_(None))
        return self._db.write(lambda tx: tx.execute(query).rowcount)

    def _insert(self, tx: Connection, new: "_New", of: GoldenSet, indices: Collection[int]) -> None:
        now = float(tx.scalar(select(self._db.now())) or 0.0)
        tx.execute(
            insert(golden_runs).values(
                id=new.run_id,
                set_name=of.name,
                version_id=of.version_id,
                asked_model=new.asked_model,
                state="running",
                cause=new.cause,
                created_at=now,
                deadline=now + new.limit_s,
                n_items=len(indices),
            )
        )
        rows = [{"run_id": new.run_id, "idx": idx, "state": "waiting"} for idx in sorted(indices)]
        for start in range(0, len(rows), _ROWS):
            tx.execute(insert(golden_results), rows[start : start + _ROWS])


@dataclass(frozen=True, slots=True)
class _New:
    """A run to be begun."""

    run_id: str
    asked_model: str
    cause: str
    limit_s: float


def _baseline(run: GoldenRun) -> dict[str, str]:
    return {"version_id": run.version_id, "asked_model": run.asked_model, "run_id": run.id}


def _run(row: Row[Any]) -> GoldenRun:
    values = row._asdict()
    parsed = {name: json.loads(values[name]) if values[name] else None for name in ("totals", "comparison")}
    return GoldenRun(**values | parsed)


def _result(row: Row[Any]) -> GoldenResult:
    values = row._asdict()
    del values["run_id"]
    return GoldenResult(**values | {"score": json.loads(values["score"]) if values["score"] else None})
