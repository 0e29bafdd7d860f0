"""The one who tidies up: lost leases and passed deadlines often, old data and orphaned audio now and then."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from tympan import telemetry
from tympan.background import Background, attempt
from tympan.errors import NotFound, TympanError
from tympan.jobs.media import job_prefix
from tympan.jobs.service import JobService
from tympan.storage.blobs import BlobStore
from tympan.storage.upkeep import Upkeep

_LOG = telemetry.get_logger(__name__)
_BLOBS_AT_A_TIME = 500
_LONGEST_UPLOAD_S = 24 * 3600.0
_JOIN_S = 10.0


@dataclass(frozen=True, slots=True)
class JanitorOptions:
    """How often to look, in seconds, and how old a blob without a job has to be before it is an orphan."""

    sweep_s: float = 5.0
    measure_s: float = 10.0
    retention_s: float = 60.0
    orphans_s: float = 3600.0
    orphan_age_s: float = 3600.0
    rings: bool = False


class Janitor:
    """Sweeps in a thread of its own; several janitors on one database do no harm."""

    def __init__(
        self,
        upkeep: Upkeep,
        jobs: JobService,
        blobs: BlobStore,
        options: JanitorOptions,
        on_released: Callable[[], None] = lambda: None,
    ) -> None:
        """Look after ``upkeep``'s tables; ``on_released`` is told when steps became claimable again."""
        self._upkeep, self._jobs, self._blobs, self._options, self._on_released = (
            upkeep, jobs, blobs, options, on_released,
        )  # fmt: skip
        self._background = Background("janitor", self._run, _JOIN_S)
        self._extra: list[Callable[[], object]] = []
        self._figures: list[Callable[[], object]] = []

    def also(self, chore: Callable[[], object]) -> None:
        """Do ``chore`` with the retention of data, every minute unless said otherwise."""
        self._extra.append(chore)

    def measuring(self, figure: Callable[[], object]) -> None:
        """Show ``figure`` with the number of jobs, every ten seconds unless said otherwise."""
        self._figures.append(figure)

    def start(self) -> None:
        """Begin to sweep."""
        self._background.start()

    def stop(self) -> None:
        """Stop; waits for the sweep in progress."""
        self._background.stop()

    def sweep(self) -> None:
        """Take work from workers that fell silent, end what is too late, ring again for what was not heard."""
        if step_s := self._upkeep.mend_clock():
            _LOG.warning("clock_was_set", by_s=round(step_s, 1))
        released = self._upkeep.release_expired()
        telemetry.LEASES_EXPIRED.inc(released)
        self._upkeep.expire_deadlines()
        self._jobs.calls.drop_abandoned()
        rung = self._upkeep.ring_idle() if self._options.rings else 0
        if released or rung:
            # A slot that is kept free is rung for as well; that is no trouble.
            tell = _LOG.warning if released else _LOG.info
            tell("lost_work_found", released=released, rung=rung)
            self._on_released()

    def measure(self) -> None:
        """Show operators and autoscalers how many jobs there are, and how much audio waits."""
        try:
            for state, count in self._jobs.counts().items():
                telemetry.JOBS.labels(state.value).set(count)
            telemetry.JOB_BACKLOG.set(self._jobs.backlog_s())
            for figure in self._figures:
                figure()
        except TympanError:
            telemetry.forget_database()  # Old figures would look like new ones.
            raise

    def retain(self) -> None:
        """Remove audio and text that have been kept long enough."""
        due = self._upkeep.audio_due()
        for job_id in due:
            self._blobs.delete_prefix(job_prefix(job_id))
        if due:
            self._upkeep.audio_gone(due)
        for job in self._upkeep.text_due():
            try:
                self._jobs.erase(job.tenant, job.id)
            except NotFound:
                continue  # Somebody else erased it meanwhile.
        self._upkeep.forget_keys()
        for chore in self._extra:
            chore()
        self._upkeep.scrub()

    def remove_orphans(self) -> int:
        """Remove blobs of jobs that are not there, or whose audio should be gone; return how many."""
        oldest = time.time() - self._options.orphan_age_s
        found = (blob.key for blob in self._blobs.list("jobs/") if blob.modified_s < oldest)
        removed = self._blobs.abort_stale_uploads(_LONGEST_UPLOAD_S)
        while keys := list(islice(found, _BLOBS_AT_A_TIME)):
            owners = {key.split("/")[1] for key in keys}
            for job_id in owners - self._upkeep.with_audio(owners):
                removed += self._blobs.delete_prefix(job_prefix(job_id))
        if removed:
            _LOG.info("orphaned_audio_removed", blobs=removed)
        return removed

    def _run(self) -> None:
        options = self._options
        chores: list[tuple[float, Callable[[], object]]] = [
            (options.sweep_s, self.sweep),
            (options.retention_s, self.retain),
            (options.measure_s, self.measure),
            (options.orphans_s, self.remove_orphans),
        ]
        due = [0.0] * len(chores)
        while not self._background.over.wait(min(options.sweep_s, 1.0)):
            for number, (period_s, chore) in enumerate(chores):
                if time.monotonic() >= due[number]:
                    attempt(chore.__name__, chore)
                    due[number] = time.monotonic() + period_s
