"""What may be asked of golden sets: add, list, remove, schedule, run, look at, and say what is compared with what."""

import random
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from tympan.errors import InvalidRequest, NotFound
from tympan.jobs.media import sha256_of
from tympan.jobs.service import JobService
from tympan.quality import cron
from tympan.quality.alarms import TEXT_FROM_NOTHING, WORSE_WORDS, AlarmBook
from tympan.quality.manifest import SPEECH, Item, digest_of
from tympan.quality.starter import FIRST_RUN_AFTER_S, NAME, SCHEDULE, starter_items
from tympan.storage.audit import AuditEntry
from tympan.storage.blobs import BlobStore
from tympan.storage.golden import GoldenClip, GoldenSet, GoldenStore, NewVersion, SetPlan, audio_key, audio_prefix
from tympan.storage.golden_runs import GoldenResult, GoldenRun, GoldenRuns, Transaction
from tympan.storage.ids import MEASURING_TENANT, new_id

_SET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RunDetails:
    """A run with the clips of its version and what became of each, and of each in the run it was compared with."""

    run: GoldenRun
    version: int
    clips: Sequence[GoldenClip]
    results: Sequence[GoldenResult]


class GoldenDesk:
    """Golden sets of one installation. All methods raise ``StorageUnavailable`` when it does not answer.

    Methods that change something take an ``entry`` for the audit log, which is written with the change or not at all.
    """

    def __init__(self, store: GoldenStore, blobs: BlobStore, jobs: JobService, *, run_limit_s: float) -> None:
        """Keep sets in ``store`` and their audio in ``blobs``; a run may take ``run_limit_s``."""
        self.store, self._blobs, self._jobs, self._run_limit_s = store, blobs, jobs, run_limit_s
        self.runs = GoldenRuns(store.database)
        self.alarms = AlarmBook(store.database)

    def add(
        self,
        name: str,
        items: Sequence[Item],
        plan: SetPlan,
        first_at: float | None = None,
        entry: AuditEntry | None = None,
    ) -> GoldenSet:
        """Store a set, or a new version of it when anything in it is another; its plan is the new one in any case.

        It is run first at ``first_at`` where that is earlier than its schedule has it. Raises ``InvalidRequest``.
        """
        if not _SET_NAME.fullmatch(name):
            raise InvalidRequest(
                f"{name[:80]!r} is not a valid name for a set.",
                remedy="Use letters, digits, '.', '_', '-'; 64 at most.",
            )
        next_at = self._next(plan.schedule)
        if first_at is not None and next_at is not None:
            next_at = min(next_at, first_at)
        digest = digest_of(items)
        if self.store.same_version(name, digest):
            return self.store.put(name, plan, next_at, entry=entry)
        version_id = new_id("gsv")
        with TemporaryDirectory(prefix="tympan-golden-") as folder:
            for idx, item in enumerate(items):
                self._keep(version_id, idx, item, Path(folder))
        clips = [_clip(idx, item) for idx, item in enumerate(items)]
        return self.store.put(name, plan, next_at, NewVersion(version_id, digest, clips), entry)

    def add_starter(self) -> None:
        """Store the set that comes with the program, unless it has ever been there."""
        if self.store.find(NAME) is None:
            with starter_items() as items:
                self.add(NAME, items, SetPlan(SCHEDULE), self.store.now_s() + FIRST_RUN_AFTER_S)

    def remove(self, name: str, entry: AuditEntry | None = None) -> None:
        """Remove a set with its history and its audio. Raises ``NotFound``."""
        self.store.get(name)
        for run in self.runs.running():
            if run.set_name == name:
                for result in self.runs.results(run.id, "handed"):
                    self.discard(result)
        for version_id in self.store.remove(name, remember=name == NAME, entry=entry):
            self._blobs.delete_prefix(audio_prefix(version_id))
        self.store.database.write(lambda tx: self.alarms.end_all_in(tx, lambda it: it.split("/")[0] == name))

    def schedule(self, name: str, schedule: str | None, entry: AuditEntry | None = None) -> GoldenSet:
        """Run a set at these times from now on, ``None`` for never. Raises ``NotFound``, ``InvalidRequest``."""
        self.store.get(name)
        self.store.reschedule(name, schedule, self._next(schedule), entry)
        return self.store.get(name)

    def run(self, name: str, model: str = "", entry: AuditEntry | None = None) -> GoldenRun:
        """Begin a run of all clips; the server that looks after the jobs does the work. Raises ``NotFound``."""
        found = self.store.get(name)
        indices = [clip.idx for clip in self.store.clips(found.version_id or "")]
        return self.runs.begin(found, model or found.plan.model, indices, self._run_limit_s, entry)

    def begin_due(self, found: GoldenSet) -> str | None:
        """Begin the run of a set whose time has come; ``None`` when somebody else did, or one goes on."""
        clips = self.store.clips(found.version_id or "")
        has_baseline = self.runs.baseline(found.version_id or "", found.plan.model) is not None
        sample = found.plan.sample if has_baseline else None  # The first one is what all others are compared with.
        indices = drawn(clips, sample, found.name, self.store.now_s())
        return self.runs.begin_due(found, self._next(found.plan.schedule), indices, self._run_limit_s)

    def details(self, run_id: str) -> RunDetails:
        """Return a run with everything that is known of its clips. Raises ``NotFound``."""
        run = self.runs.get(run_id)
        results = self.runs.results(run_id)
        wanted = {result.idx for result in results}
        clips = [clip for clip in self.store.clips(run.version_id) if clip.idx in wanted]
        return RunDetails(run, self.store.version_of(run.version_id), clips, results)

    def make_baseline(self, run_id: str, entry: AuditEntry | None = None) -> GoldenRun:
        """Compare with this run from now on; alarms that compared with another end. Raises ``NotFound``.

        Raises ``InvalidRequest`` for a run that did not succeed, or whose results are no longer kept.
        """
        run = self.runs.get(run_id)
        if run.state != "succeeded" or not self.runs.results(run_id, limit=1):
            raise InvalidRequest(
                f"The run {run_id} cannot be a baseline: it did not succeed, or its results are no longer kept.",
                remedy="Choose another; `tympan quality runs` lists them.",
            )

        def end_alarms(tx: Transaction) -> None:
            for kind in (WORSE_WORDS, TEXT_FROM_NOTHING):
                self.alarms.mark_in(tx, kind, run.subject, None)

        self.runs.make_baseline(run, end_alarms, entry)
        return run

    def discard(self, result: GoldenResult) -> None:
        """Remove the job of a clip, whatever it is at."""
        if result.job_id is not None:
            with suppress(NotFound):
                self._jobs.discard(MEASURING_TENANT, result.job_id)

    def _next(self, schedule: str | None) -> float | None:
        return None if schedule is None else cron.parse(schedule).after(self.store.now_s())

    def _keep(self, version_id: str, idx: int, item: Item, folder: Path) -> None:
        copied = folder / "clip"
        shutil.copyfile(item.path, copied)
        if sha256_of(copied) != item.sha256:
            raise InvalidRequest(f"{item.path} changed while it was read.", remedy="Add the set again.")
        self._blobs.adopt(audio_key(version_id, idx), copied)


def drawn(clips: Sequence[GoldenClip], sample: int | None, name: str, at_s: float) -> list[int]:
    """Return which clips a scheduled run takes: all, or ``sample`` of those with speech and all others.

    The draw is the same all week and another the next week.
    """
    said = [clip.idx for clip in clips if clip.kind == SPEECH]
    if sample is not None and sample < len(said):
        week = datetime.fromtimestamp(at_s, UTC).strftime("%G-%V")
        said = random.Random(f"{name} {week}").sample(said, sample)  # noqa: S311 (no secret)
    return sorted([*said, *(clip.idx for clip in clips if clip.kind != SPEECH)])


def _clip(idx: int, item: Item) -> GoldenClip:
    return GoldenClip(
        idx, item.id, item.kind, item.language, item.reference, item.speaker, item.tags, item.sha256, item.n_bytes
    )
