"""One worker's claims: take a step, do it, say how it ended; keep the leases alive meanwhile.

Two threads look after what runs. One extends the leases. The other asks more often whether they are still ours: a
step whose job was cancelled, or that was given to somebody else, is told to stop, which it does within a window.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from tympan import telemetry, tracing
from tympan.background import attempt
from tympan.domain import SAMPLE_RATE_HZ, Lane, StepKind
from tympan.errors import Cancelled, InsufficientStorage, StorageUnavailable, TympanError
from tympan.jobs.patience import patiently
from tympan.jobs.retrying import MAX_ASKED_S, MAX_DELAY_S, Follow, delay_s, follow, rest_s
from tympan.retry_budget import RetryBudget
from tympan.storage.anew import BegunAnew, LeftToOthers
from tympan.storage.upkeep import Upkeep, Worker
from tympan.storage.work import Claim, LeaseLost, WorkStore

_LOG = telemetry.get_logger(__name__)
_SMOOTHING = 0.2
_STEP_ERRORS_WAIT_S = 5.0
_JOIN_S = 5.0
_CANCEL_S = 2.0


class StepRunner(Protocol):
    """What does the work of a claim: ``jobs.steps.Steps``."""

    def run(
        self, claim: Claim, cancel: threading.Event, scratch: Path, on_progress: Callable[[int], None] = ...
    ) -> None:
        """Do the step and hand it in, saying how many samples are done.

        Raises ``LeaseLost``, ``Cancelled`` or the error that the step failed with.
        """
        ...


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Who works, how much at a time, and how often leases are extended and checked, in seconds.

    ``models`` are the names of the models that this worker serves; jobs for others are left to other workers. ``None``:
    there are no others, so a job for a model that is not served fails.
    """

    owner: str
    slots: int = 4
    heartbeat_s: float = 5.0
    lease_s: float = 30.0
    watch_s: float = 1.0
    models: tuple[str, ...] | None = None


@dataclass(slots=True)
class _Running:
    claim: Claim
    cancel: threading.Event = field(default_factory=threading.Event)
    started: float = field(default_factory=time.monotonic)
    done_samples: int = 0
    noted_samples: int = 0

    def advance(self, done_samples: int) -> None:
        """Take note of progress; repeated windows may set it back."""
        self.done_samples = max(self.done_samples, done_samples)


class Workbench:
    """Runs steps, several at a time if several threads call ``work_once``."""

    def __init__(
        self, steps: StepRunner, work: WorkStore, upkeep: Upkeep, scratch: Path, options: BenchOptions
    ) -> None:
        """Join the parts; ``scratch`` is a folder for files in transit."""
        self._steps, self._work, self._upkeep, self._scratch = steps, work, upkeep, scratch
        self._options = options
        self._lock = threading.Lock()
        self._running: dict[int, _Running] = {}
        self._budget = RetryBudget()
        self._rate: float | None = None
        self._tell: Callable[[str], object] = lambda _: None
        self._troubles = 0
        self._draining = threading.Event()
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._every, args=(period_s, name, action), name=name, daemon=True)
            for name, period_s, action in (
                ("heartbeat", options.heartbeat_s, self._beat),
                ("lease-watch", options.watch_s, self._watch),
            )
        ]

    @property
    def busy(self) -> int:
        """How many steps run."""
        return len(self._running)

    @property
    def rate(self) -> float | None:
        """Audio-seconds transcribed per second, as measured; ``None`` before the first section."""
        return self._rate

    def tell(self, listener: Callable[[str], object]) -> None:
        """Call ``listener`` with the job's id whenever a step of it has ended."""
        self._tell = listener

    def start(self) -> None:
        """Begin to look after leases."""
        for thread in self._threads:
            thread.start()

    def stop_taking(self) -> None:
        """Take no more steps."""
        self._draining.set()

    def drain(self, grace_s: float) -> None:
        """Take no more steps, wait ``grace_s`` for those that run, then stop them and give them back to others.

        One that is still at a long window then goes on for nobody: what it hands in is refused.
        """
        self.stop_taking()
        self._wait_idle(grace_s)
        self._cancel(list(self._running.values()))
        self._wait_idle(_CANCEL_S)
        with self._lock:
            left = list(self._running.values())
        for running in left:
            attempt("release", partial(self._let_go, running.claim))

    def _let_go(self, claim: Claim) -> None:
        with suppress(LeaseLost):
            self._work.release(claim)

    def _wait_idle(self, for_s: float) -> None:
        deadline = time.monotonic() + for_s
        while self._running and time.monotonic() < deadline:
            time.sleep(0.02)

    def close(self) -> None:
        """Stop looking after leases, and forget this worker."""
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_JOIN_S)
        attempt("farewell", lambda: self._upkeep.gone(self._options.owner))

    def work_once(self, lanes: Sequence[Lane]) -> bool:
        """Do the step whose turn it is; return whether there was one. Raises ``StorageUnavailable``.

        After a step that the storage kept from its end this returns a little later: the next would fail as well.
        """
        if self._draining.is_set():
            return False
        claim = self._work.claim(self._options.owner, lanes, self._long_ones(), self._options.models)
        if claim is None:
            return False
        running = _Running(claim)
        with self._lock:
            self._running[claim.step_id] = running
        if not claim.retries:
            self._budget.started()
        try:
            batch = {"batch_id": claim.job.batch_id} if claim.job.batch_id else {}
            with (
                telemetry.about(job_id=claim.job.id, tenant=claim.job.tenant, **batch),
                tracing.span(f"step {claim.kind.value}", parent=claim.job.trace, kind="CONSUMER") as span,
            ):
                span.note({"tympan.job_id": claim.job.id, "tympan.section": claim.index, "tympan.try": claim.retries})
                self._run(running, span)
        finally:
            with self._lock:
                del self._running[claim.step_id]
        self._tell(claim.job.id)
        self._draining.wait(rest_s(self._troubles))
        return True

    def _long_ones(self) -> set[str]:
        """Return the jobs that have enough of this process: those with a section in hand when one slot is free.

        Else the sections of one long job take every slot, and whoever comes has to wait for the end of one of them.
        """
        with self._lock:
            if self._options.slots == 1 or len(self._running) < self._options.slots - 1:
                return set()
            claims = [running.claim for running in self._running.values()]
        return {claim.job.id for claim in claims if claim.kind is StepKind.SECTION}

    def _run(self, running: _Running, span: tracing.Span) -> None:
        claim = running.claim
        try:
            self._steps.run(claim, running.cancel, self._scratch, running.advance)
        except BegunAnew:
            _LOG.warning(
                "job_starts_over", index=claim.index, reason="The model's weights are not those it began with."
            )
        except LeftToOthers:
            _LOG.info(
                "step_left_to_others", index=claim.index, reason="Another worker has the model that the job began with."
            )
        except LeaseLost:
            _LOG.warning("fence_rejected", step=claim.kind.value, index=claim.index)
        except Cancelled:
            self._end(claim, lambda: self._work.release(claim))
        except TympanError as error:
            span.fail(error.code)
            self._failed(claim, error)
        except Exception as error:  # noqa: BLE001 (a step must end in the database, whatever went wrong)
            span.fail(type(error).__name__)
            _LOG.error("step_broke", step=claim.kind.value, index=claim.index, **telemetry.crash_report(error))
            self._failed(claim, TympanError(remedy=f"Report it with the job's id, {claim.job.id}."))
        else:
            self._measure(running)

    def _failed(self, claim: Claim, error: TympanError) -> None:
        """Write down what follows."""
        what = follow(error, claim.retries)
        _LOG.warning("step_failed", step=claim.kind.value, index=claim.index, code=error.code, follows=what.value)
        telemetry.STEP_FAILURES.labels(error.code).inc()
        self._troubles = self._troubles + 1 if isinstance(error, StorageUnavailable) else 0
        if what is Follow.FAIL:
            self._end(claim, lambda: self._work.fail(claim, error))
        elif what is Follow.WAIT:
            self._end(claim, lambda: self._work.release(claim, error.retry_after_s or _STEP_ERRORS_WAIT_S))
        elif what is Follow.CUT_AGAIN:
            self._end(claim, lambda: self._work.cut_again(claim))
        else:
            prompt = self._budget.allows_retry()
            telemetry.RETRIES.labels("step" if prompt else "step_later").inc()
            wait_s = delay_s(claim.retries, random.random()) if prompt else MAX_DELAY_S  # noqa: S311 (no secret)
            asked_s = min(error.retry_after_s or 0.0, MAX_ASKED_S)
            self._end(claim, lambda: self._work.retry(claim, asked_s + wait_s))

    def _end(self, claim: Claim, write: Callable[[], None]) -> None:
        """Write a step's end. A database that is away for shorter than the lease is waited for."""
        try:
            patiently(write, self._options.lease_s)
        except LeaseLost:
            _LOG.info("step_was_taken", step=claim.kind.value, index=claim.index)
        except (StorageUnavailable, InsufficientStorage):
            _LOG.error("step_end_not_written", step=claim.kind.value, index=claim.index)

    def _measure(self, running: _Running) -> None:
        self._troubles = 0
        claim, elapsed_s = running.claim, time.monotonic() - running.started
        telemetry.STEP_SECONDS.labels(claim.kind.value).observe(elapsed_s)
        _LOG.debug("step_done", step=claim.kind.value, index=claim.index, duration_ms=round(elapsed_s * 1000, 1))
        if claim.kind is not StepKind.SECTION or elapsed_s <= 0:
            return
        audio_s = (claim.end_sample - claim.start_sample) / SAMPLE_RATE_HZ
        telemetry.JOB_AUDIO.inc(audio_s)
        with self._lock:
            sample = audio_s / elapsed_s * len(self._running)
            self._rate = sample if self._rate is None else self._rate + _SMOOTHING * (sample - self._rate)

    def _beat(self) -> None:
        options = self._options
        self._upkeep.seen(Worker(options.owner, options.slots, self.busy, self._rate, self._work.weights))
        self._look(self._work.extend)
        self._tell_progress()

    def _tell_progress(self) -> None:
        with self._lock:
            moved = [running for running in self._running.values() if running.done_samples > running.noted_samples]
        if moved:
            done = {running.claim.step_id: running.done_samples for running in moved}
            self._work.note_progress(self._options.owner, done)
            for running in moved:
                running.noted_samples = done[running.claim.step_id]

    def _watch(self) -> None:
        self._look(lambda owner, _: self._work.held(owner))

    def _look(self, ask: Callable[[str, list[int]], set[int]]) -> None:
        """Stop what is no longer ours; ``ask`` says which steps are."""
        with self._lock:
            before = list(self._running.values())
        if before:
            held = ask(self._options.owner, [running.claim.step_id for running in before])
            self._cancel([running for running in before if running.claim.step_id not in held])

    def _cancel(self, running: list[_Running]) -> None:
        for each in running:
            each.cancel.set()

    def _every(self, period_s: float, chore: str, action: Callable[[], None]) -> None:
        while not self._over.wait(period_s):
            attempt(chore, action)
