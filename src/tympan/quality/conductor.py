"""Brings runs of golden sets to their end: clips become jobs, jobs become scores, scores a verdict.

One process at a time does it, by a turn in the database; and every step is a change of state that happens once, so a
process may die anywhere and two may be at it: a clip is scored once, a run ends once, and always.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tympan import telemetry
from tympan.background import Background, attempt
from tympan.domain import Job, JobState, Lane, NewJob, Options, Source, SourceKind
from tympan.errors import InsufficientStorage, MediaMissing, NotFound, Overloaded, StorageUnavailable
from tympan.jobs.media import job_prefix, media_key
from tympan.jobs.service import JobService
from tympan.quality import TOLERANCE_POINTS, scores
from tympan.quality.alarms import RUN_FAILED, RUN_OVERDUE, TEXT_FROM_NOTHING, WORSE_WORDS, AlarmBook
from tympan.quality.golden import GoldenDesk
from tympan.quality.starter import NAME as STARTER
from tympan.quality.verdict import Comparison, compare, interval_of, total
from tympan.storage.blobs import BlobStore
from tympan.storage.chores import Chores
from tympan.storage.golden import GoldenClip, GoldenSet, audio_key, audio_prefix
from tympan.storage.golden_runs import GoldenResult, GoldenRun, Transaction, Verdict
from tympan.storage.ids import MEASURING_TENANT, new_id
from tympan.storage.tenants import TenantStore

_LOG = telemetry.get_logger(__name__)
_CHORE = "golden"
_TURN_S = 60.0
_TICK_S = 5.0
_JOIN_S = 10.0
_AT_ONCE = 8
_MOST_FAILED = 0.05
_WEIGHT = 0.1
_AUDIO_DAYS, _TEXT_DAYS = 1.0, 8.0
_RUNS_KEPT = 60
_ALARM_DAYS = 730.0
_ORPHAN_AGE_S = 3_600.0
_TIDY_TICKS, _FIRST_TIDY = 720, 12
"""Every hour or so, for the first time after a minute."""
_NOT_IN_TIME = "not_in_time"
_JOB_LOST = "job_lost"


class _Taken(Exception):
    """Somebody else has handed in this clip."""


@dataclass(frozen=True, slots=True)
class ConductorRules:
    """How much worse is too much, in points; how often to look, in seconds; whether the starter set is measured."""

    tolerance_points: float = TOLERANCE_POINTS
    tick_s: float = _TICK_S
    starter: bool = True


class Conductor:
    """Looks after golden sets in a thread of its own; any number of processes may have one."""

    def __init__(
        self, desk: GoldenDesk, blobs: BlobStore, jobs: JobService, chores: Chores, rules: ConductorRules
    ) -> None:
        """Hand in ``jobs`` for the sets of ``desk``."""
        self._desk, self._blobs, self._jobs, self._chores, self._rules = desk, blobs, jobs, chores, rules
        self._settled = self._has_tenant = False
        self._background = Background("golden", self._run, _JOIN_S)

    def start(self) -> None:
        """Begin."""
        self._background.start()

    def stop(self) -> None:
        """Stop; waits for the step in hand."""
        self._background.stop()

    def tick(self) -> None:
        """Do what there is to do. Raises ``StorageUnavailable``, after which the next tick goes on."""
        if not self._settled:
            self._settle()
        due = [found for found in self._desk.store.due() if self._rules.starter or found.name != STARTER]
        if not due and not self._desk.runs.running():
            return
        if self._chores.take(_CHORE, _TURN_S):
            for found in due:
                if (run_id := self._desk.begin_due(found)) is not None:
                    _LOG.info("golden_run_begun", golden_set=found.name, run=run_id)
            self._have_tenant()
            for run in self._desk.runs.running():
                self._advance(run)

    def tidy(self) -> None:
        """Remove audio of versions that nobody needs any more, old results clip by clip, and old alarms."""
        if not self._chores.take("golden-tidy", _TURN_S):
            return
        store = self._desk.store
        for version_id in store.without_use():
            self._blobs.delete_prefix(audio_prefix(version_id))
            store.audio_gone(version_id)
        oldest = store.now_s() - _ORPHAN_AGE_S
        stored = {blob.key.split("/")[1] for blob in self._blobs.list("golden/") if blob.modified_s < oldest}
        for version_id in stored - store.with_audio(stored):
            self._blobs.delete_prefix(audio_prefix(version_id))
        self._desk.runs.thin(_RUNS_KEPT)
        self._desk.alarms.forget(_ALARM_DAYS)

    def _settle(self) -> None:
        """Have the starter set, if it is wanted."""
        if self._rules.starter and self._chores.take(_CHORE, _TURN_S):
            self._desk.add_starter()
            self._settled = True

    def _have_tenant(self) -> None:
        """Have a small share beside others' work for what is measured, and keep results until they are collected."""
        if not self._has_tenant:
            tenants = TenantStore(self._desk.store.database, audio_days=_AUDIO_DAYS, text_days=_TEXT_DAYS)
            tenants.retain(MEASURING_TENANT, _AUDIO_DAYS, _TEXT_DAYS)
            tenants.limit(MEASURING_TENANT, {}, _WEIGHT)
            self._has_tenant = True

    def _advance(self, run: GoldenRun) -> None:
        with suppress(NotFound):  # The set has been removed meanwhile.
            found = self._desk.store.get(run.set_name)
            self._collect(run)
            if self._desk.store.now_s() < run.deadline:
                self._hand_in(run, found)
            self._drop_jobs(run)
            self._finish(run, found)

    def _collect(self, run: GoldenRun) -> None:
        """Score the clips whose jobs have ended."""
        handed = self._desk.runs.results(run.id, "handed")
        clips = self._clips(run, handed)
        for result in handed:
            try:
                job = self._jobs.get(MEASURING_TENANT, result.job_id or "")
            except NotFound:
                self._desk.runs.record(run.id, _failed(result, _JOB_LOST))
                continue
            if job.state.is_terminal:
                self._desk.runs.record(run.id, self._outcome(result, clips[result.idx], job))

    def _outcome(self, result: GoldenResult, clip: GoldenClip, job: Job) -> GoldenResult:
        if job.state is not JobState.SUCCEEDED:
            return _failed(result, job.error.code if job.error else job.state.value)
        _, transcript = self._jobs.transcript(MEASURING_TENANT, job.id)
        kept = scores.to_json(scores.score(clip, transcript.text, transcript.language), transcript.model)
        return GoldenResult(result.idx, "done", None, transcript.text, transcript.language, kept)

    def _hand_in(self, run: GoldenRun, found: GoldenSet) -> None:
        """Let a few clips be jobs at a time: a large set does not stand in the queue as a whole."""
        room = _AT_ONCE - len(self._desk.runs.results(run.id, "handed", limit=_AT_ONCE))
        waiting = self._desk.runs.results(run.id, "waiting", limit=room) if room > 0 else []
        clips = self._clips(run, waiting)
        for result in waiting:
            try:
                self._submit(run, clips[result.idx], detects=found.plan.detects)
            except _Taken:
                continue
            except MediaMissing as error:
                self._desk.runs.record(run.id, _failed(result, error.code))
            except (Overloaded, StorageUnavailable, InsufficientStorage) as error:
                _LOG.info("golden_run_waits", run=run.id, code=error.code)
                return

    def _submit(self, run: GoldenRun, clip: GoldenClip, *, detects: bool) -> None:
        job_id = new_id("job")
        self._blobs.copy(audio_key(run.version_id, clip.idx), media_key(job_id))
        new = NewJob(
            job_id,
            Source(SourceKind.STORED, "", clip.n_bytes, clip.sha256),
            Options(language=None if detects else clip.language),
            tenant=MEASURING_TENANT,
            lane=Lane.BATCH,
            deadline=run.deadline,
            model=run.asked_model or None,
        )

        def note(tx: Transaction) -> None:
            if not self._desk.runs.hand_in(tx, run.id, clip.idx, job_id):
                raise _Taken

        try:
            self._jobs.submit(new, beside=note)
        except _Taken:
            self._blobs.delete_prefix(job_prefix(job_id))
            raise

    def _drop_jobs(self, run: GoldenRun) -> None:
        """Remove the jobs of clips whose result is known."""
        for result in self._desk.runs.spent(run.id):
            self._desk.discard(result)
            self._desk.runs.job_gone(run.id, result.idx)

    def _finish(self, run: GoldenRun, found: GoldenSet) -> None:
        """End a run of which nothing is open, or whose time is over."""
        runs = self._desk.runs
        left = runs.results(run.id, "waiting", "handed")
        if left and self._desk.store.now_s() < run.deadline:
            return
        for result in left:
            runs.record(run.id, _failed(result, _NOT_IN_TIME))
        self._drop_jobs(run)
        results = runs.results(run.id)
        verdict, comparison = self._verdict(run, found, results)
        if runs.finish(run, verdict, lambda tx: _mark(tx, self._desk.alarms, run, verdict, comparison)):
            _LOG.info(
                "golden_run_ended", golden_set=run.set_name, run=run.id, state=verdict.state, failed=verdict.n_failed
            )

    def _verdict(
        self, run: GoldenRun, found: GoldenSet, results: Iterable[GoldenResult]
    ) -> tuple[Verdict, Comparison | None]:
        results = list(results)
        now = scores.by_clip(results)
        n_failed = len(results) - len(now)
        good = bool(now) and n_failed <= _MOST_FAILED * len(results)
        baseline = self._desk.runs.baseline(run.version_id, run.asked_model)
        comparison = None
        if baseline is not None and good:
            then = scores.by_clip(self._desk.runs.results(baseline))
            comparison = compare(now, then, baseline, self._rules.tolerance_points)
        return Verdict(
            "succeeded" if good else "failed",
            scores.model_of(results),
            n_failed,
            {**total(now).as_dict(), "words_interval_percent": interval_of(now)},
            None if comparison is None else comparison.as_dict(),
            becomes_baseline=good and baseline is None and run.n_items == found.n_items,
        ), comparison

    def _clips(self, run: GoldenRun, results: list[GoldenResult]) -> Mapping[int, GoldenClip]:
        if not results:
            return {}
        return {clip.idx: clip for clip in self._desk.store.clips(run.version_id, [each.idx for each in results])}

    def _run(self) -> None:
        ticks = 0
        while not self._background.over.wait(self._rules.tick_s):
            attempt("golden_sets", self.tick)
            if ticks % _TIDY_TICKS == _FIRST_TIDY:
                attempt("golden_sets_tidied", self.tidy)
            ticks += 1


def _failed(result: GoldenResult, code: str) -> GoldenResult:
    return GoldenResult(result.idx, "failed", error=code)


def _mark(tx: Transaction, alarms: AlarmBook, run: GoldenRun, verdict: Verdict, comparison: Comparison | None) -> None:
    """Open and end alarms as a run's end has it."""
    alarms.mark_in(tx, RUN_OVERDUE, run.set_name, None)
    failed = {"run": run.id, "failed": verdict.n_failed, "clips": run.n_items}
    alarms.mark_in(tx, RUN_FAILED, run.subject, None if verdict.state == "succeeded" else failed)
    if comparison is None:
        return
    about = {"run": run.id, "baseline": comparison.baseline, "model": verdict.model}
    alarms.mark_in(tx, WORSE_WORDS, run.subject, {**about, **_words(comparison)} if comparison.worse_words else None)
    silence = {**about, "newly": comparison.newly, "cured": comparison.cured, "clips": comparison.silent}
    alarms.mark_in(tx, TEXT_FROM_NOTHING, run.subject, silence if comparison.worse_silence else None)


def _words(found: Comparison) -> dict[str, Any]:
    points = {"points": found.difference_points, "low": found.low_points, "high": found.high_points}
    return {name: None if value is None else round(value, 2) for name, value in points.items()} | {"clips": found.clips}
