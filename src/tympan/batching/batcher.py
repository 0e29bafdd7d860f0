"""One thread that owns the engine's host: it forms batches, sends them, and answers every window exactly once."""

import copy
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from tympan.batching import passes
from tympan.batching.backlog import Backlog, Running, begin
from tympan.batching.host import EngineHost, Host, HostOptions, MakeHost
from tympan.batching.protocol import Done, Event, Exited, Failed
from tympan.batching.queue import BatchLimits, Item, Origin, QueueLimits, total_audio_s
from tympan.batching.recovery import Batch, Recovery, RecoveryPolicy, Verdict
from tympan.batching.stats import BatcherState, BatcherStats, BatchObserver, BatchReport
from tympan.domain import MAX_WINDOW_SAMPLES, WindowResult, WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import ConfigError, EngineDeviceLost, EngineHang, ModelError, TympanError, Unavailable

_log = logging.getLogger(__name__)

_TICK_S = 1.0
_JOIN_S = 15.0
_OPEN = frozenset({BatcherState.READY, BatcherState.RECYCLING})


@dataclass(frozen=True, slots=True)
class BatcherOptions:
    """Everything about a batcher that can be set.

    The next batch is handed over ``prefetch_lead_s`` before the running one should end: early enough to keep the
    engine busy, late enough that a newcomer does not find two batches ahead of it. Where one is expected whom it would
    hold up, it is handed over when the running one has ended.
    """

    queue: QueueLimits = field(default_factory=QueueLimits)
    batch: BatchLimits = field(default_factory=BatchLimits)
    recovery: RecoveryPolicy = field(default_factory=RecoveryPolicy)
    host: HostOptions = field(default_factory=HostOptions)
    prefetch_lead_s: float = 0.1


class Batcher:
    """Windows in, futures out; the engine behind it may crash, hang and come back.

    Every accepted window is answered once: with its result, with a typed error, or by having been cancelled before it
    ran. While the engine is being replaced, windows are still accepted; while it cannot be loaded, they are not.
    """

    def __init__(
        self,
        spec: EngineSpec,
        options: BatcherOptions | None = None,
        observer: BatchObserver | None = None,
        make_host: MakeHost = EngineHost,
    ) -> None:
        """Prepare a batcher for ``spec``; nothing runs before ``start``."""
        self._spec = spec
        self._options = options or BatcherOptions()
        self._observer = observer
        self._make_host = make_host
        self._lock = threading.Condition()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._host: Host | None = None
        self._backlog = Backlog(self._options.queue, self._options.batch)
        self._recovery = Recovery(self._options.recovery, self._options.batch.max_windows)
        self._state = BatcherState.NEW
        self._info: EngineInfo | None = None
        self._failure: TympanError | None = None
        self._load_failures = 0
        self._drain_until_s: float | None = None
        self._retiring = False
        self._totals = BatcherStats()

    @property
    def info(self) -> EngineInfo | None:
        """What the engine runs; ``None`` until it was loaded once."""
        return self._info

    @property
    def ready(self) -> bool:
        """Whether an engine is loaded and new windows are welcome."""
        return self._state is BatcherState.READY and self._drain_until_s is None

    @property
    def failure(self) -> TympanError | None:
        """Why the engine is not there; ``None`` while it is."""
        return self._failure

    @property
    def memory_bytes(self) -> int | None:
        """Resident memory of the engine's process, where the system tells."""
        host = self._host
        return host.memory_bytes if host is not None else None

    def start(self) -> None:
        """Start loading the engine and return at once; see ``wait_ready``."""
        with self._lock:
            if self._thread is not None or self._state is BatcherState.CLOSED:
                raise RuntimeError("A batcher is started once.")
            self._state = BatcherState.LOADING
            # The engine's process dies with the thread that started it, so one thread does both for its whole life.
            self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)
        self._thread.start()

    def wait_ready(self, timeout_s: float) -> EngineInfo:
        """Wait for the engine and return what it is; raise why it failed, or ``Unavailable`` after ``timeout_s``."""
        pending = {BatcherState.LOADING, BatcherState.RECYCLING}
        with self._lock:
            self._lock.wait_for(lambda: self._state not in pending, timeout_s)
            if self._state is BatcherState.READY and self._info is not None:
                return self._info
            raise copy.copy(self._failure) if self._failure is not None else self._unavailable()

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept a window and return the future of its result; cancelling the future withdraws the window.

        Raises ``Overloaded`` when the queue is full and ``Unavailable`` when there is no engine, both with the
        seconds after which a retry is sensible.
        """
        if not 0 < len(task.window.samples) <= MAX_WINDOW_SAMPLES:
            raise ValueError(f"A window has 1 to {MAX_WINDOW_SAMPLES} samples, not {len(task.window.samples)}.")
        item = Item(task, origin, Future(), time.monotonic())
        with self._lock:
            # Under the lock of the state, so that nothing slips in after the last window was refused.
            if self._state not in _OPEN or self._drain_until_s is not None:
                raise self._unavailable()
            self._backlog.put(item)
        self._wake.set()
        return item.reply

    def stats(self) -> BatcherStats:
        """Return a snapshot of queue, work done and prediction."""
        with self._lock:
            engines = int(self._state is BatcherState.READY)
            totals = replace(self._totals, state=self._state, engines=engines, max_batch=self._recovery.max_batch)
        return self._backlog.snapshot(totals)

    def close(self, drain_s: float) -> None:
        """Refuse new windows, finish the accepted ones within ``drain_s`` seconds, refuse the rest, end the engine."""
        with self._lock:
            until_s = time.monotonic() + drain_s
            self._drain_until_s = min(until_s, self._drain_until_s or until_s)
            thread = self._thread
            if thread is None:
                self._state = BatcherState.CLOSED
                return
        self._wake.set()
        thread.join(drain_s)
        if (host := self._host) is not None:
            host.abort()
        thread.join(self._options.host.close_grace_s + _JOIN_S)
        if thread.is_alive():
            _log.critical("the batcher's thread did not end")

    # What follows runs on the batcher's thread.

    def _run(self) -> None:
        try:
            while (host := self._load()) is not None:
                self._serve(host)
                polite = self._over() and self._backlog.empty
                host.close(self._options.host.close_grace_s if polite else 0.0)
        finally:
            # Also when this loop itself failed: then nobody waits for ever, and the server turns unready.
            self._end()

    def _load(self) -> Host | None:
        """Start an engine, with retries, and return its host; ``None`` when it is time to end."""
        while True:
            self._pause(self._recovery.restart_delay_s())
            if self._over():
                return None
            host = self._make_host(self._spec, self._options.host, self._wake.set)
            self._host = host
            try:
                info = host.start()
            except TympanError as error:
                host.close(0.0)
                if not self._keep_trying(error):
                    return None
                continue
            self._load_failures = 0
            self._retiring = False
            self._enter(BatcherState.READY, info=info)
            return host

    def _keep_trying(self, error: TympanError) -> bool:
        """Take note of a failed load; return whether another attempt makes sense."""
        if self._over():
            return False
        self._load_failures += 1
        _log.error("the engine could not be loaded (attempt %d): %s", self._load_failures, str(error))
        policy = self._options.recovery
        hopeless = isinstance(error, ModelError | ConfigError)
        if hopeless or self._load_failures >= policy.max_load_failures:
            self._enter(BatcherState.FAILED, failure=error)
            return False
        self._enter(BatcherState.DOWN, failure=error)
        if self._load_failures >= policy.loads_before_refusal:
            self._refuse_waiting()
        return True

    def _serve(self, host: Host) -> None:
        """Feed the engine until it is lost or it is time to end."""
        while not self._over():
            self._feed(host)
            self._wake.wait(self._nap_s(host))
            self._wake.clear()
            host.enforce()
            for event in host.events():
                if (reason := self._handle(event)) is not None:
                    self._recycle(reason)
                    return
            if self._retiring and not self._backlog.inside:
                self._recycle("memory")
                return

    def _feed(self, host: Host) -> None:
        while not self._retiring and self._room_in_s() <= 0.0:
            running = self._backlog.send_next(self._recovery.max_batch)
            if running is None:
                return
            host.send(running.batch_id, [item.task for item in running.items], running.predicted_s)

    def _room_in_s(self) -> float:
        """Return how long until the engine may have another batch."""
        return self._backlog.room_in_s(self._options.prefetch_lead_s)

    def _nap_s(self, host: Host) -> float:
        """Return how long nothing needs doing, unless somebody wakes the thread."""
        nap_s = _TICK_S
        if (remaining_s := host.remaining_s()) is not None:
            nap_s = min(nap_s, remaining_s)
        if self._backlog.waiting and not self._retiring:
            nap_s = min(nap_s, self._room_in_s())
        if self._drain_until_s is not None:
            nap_s = min(nap_s, self._drain_until_s - time.monotonic())
        return max(0.001, nap_s)

    def _handle(self, event: Event) -> str | None:
        """Deal with one event; return why the engine has to be replaced, if so."""
        if isinstance(event, Exited):
            inside = self._backlog.inside
            items = self._backlog.answered(inside[0].batch_id).items if inside else ()
            self._note_failure(items, event.error, 0.0)
            if inside:
                passes.trace(inside[0], event.error.code)
            # What only waited inside goes before the suspects: it is innocent.
            self._carry_out(self._recovery.lost(items, event.error))
            return event.error.code
        running = self._backlog.answered(event.batch_id)
        if isinstance(event, Done):
            self._finish(running, event)
            passes.trace(running)
            return None
        passes.trace(running, event.error.code)
        return self._fail(running, event)

    def _finish(self, running: Running, done: Done) -> None:
        items = running.items
        self._backlog.learn(running, done.compute_s)
        audio_s = total_audio_s(items)
        with self._lock:
            self._recovery.succeeded()
            totals = self._totals
            self._totals = replace(
                totals,
                batches=totals.batches + 1,
                windows=totals.windows + len(items),
                audio_s=totals.audio_s + audio_s,
                compute_s=totals.compute_s + done.compute_s,
            )
        for item, result in zip(items, done.results, strict=True):
            item.reply.set_result(result)
        report = BatchReport(
            len(items), audio_s, done.compute_s, running.predicted_s, most=max(len(items), self._recovery.max_batch)
        )
        self._tell(lambda observer: observer.on_batch(report))
        limit = self._options.recovery.max_memory_bytes
        self._retiring = limit is not None and (self.memory_bytes or 0) > limit

    def _fail(self, running: Running, failed: Failed) -> str | None:
        error = failed.error
        self._note_failure(running.items, error, failed.compute_s)
        if isinstance(error, EngineDeviceLost | EngineHang):
            verdict = self._recovery.lost(running.items, error)
        else:
            verdict = self._recovery.failed(running.items, error)
        self._carry_out(verdict)
        return error.code if verdict.recycle else None

    def _carry_out(self, verdict: Verdict) -> None:
        self._backlog.retry(verdict.retry)
        for item, error in verdict.answer:
            item.reply.set_exception(copy.copy(error))

    def _recycle(self, reason: str) -> None:
        """Note that the engine has to be replaced, and take back what it still held."""
        _log.warning("replacing the engine process: %s", reason)
        self._backlog.take_back()
        with self._lock:
            self._totals = replace(self._totals, restarts=self._totals.restarts + 1)
        self._enter(BatcherState.RECYCLING)
        self._tell(lambda observer: observer.on_restart(reason))

    def _note_failure(self, items: Batch, error: TympanError, compute_s: float) -> None:
        _log.warning("a batch of %d windows failed: %s", len(items), error)
        if items:
            report = BatchReport(len(items), total_audio_s(items), compute_s, 0.0, error.code)
            self._tell(lambda observer: observer.on_batch(report))

    def _tell(self, news: Callable[[BatchObserver], None]) -> None:
        if self._observer is None:
            return
        try:
            news(self._observer)
        except Exception:  # noqa: BLE001 - whoever only watches must not be able to stop the engine
            _log.exception("the batch observer failed")

    def _pause(self, seconds: float) -> None:
        """Wait before the next load; a close cuts it short."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0.0 and not self._over():
            self._wake.wait(min(left_s, _TICK_S))
            self._wake.clear()

    def _over(self) -> bool:
        """Whether to end: asked to, and out of work or time."""
        until_s = self._drain_until_s
        return until_s is not None and (self._backlog.empty or time.monotonic() >= until_s)

    def _enter(
        self, state: BatcherState, *, info: EngineInfo | None = None, failure: TympanError | None = None
    ) -> None:
        with self._lock:
            self._state = state
            self._info = info or self._info
            self._failure = failure
            self._lock.notify_all()

    def _refuse_waiting(self) -> None:
        with self._lock:
            reason = self._unavailable()
        for item in self._backlog.drain():
            if begin(item):
                item.reply.set_exception(copy.copy(reason))

    def _end(self) -> None:
        if self._host is not None:
            self._host.close(0.0)
        closed = self._drain_until_s is not None
        self._enter(BatcherState.CLOSED if closed else BatcherState.FAILED, failure=self._failure)
        self._refuse_waiting()

    def _unavailable(self) -> Unavailable:
        if self._drain_until_s is not None:
            return Unavailable("The engine is shutting down.", retry_after_s=5.0)
        if self._state is BatcherState.FAILED:
            reason = f" ({self._failure})" if self._failure is not None else ""
            return Unavailable(
                f"The engine cannot run{reason}.", remedy="It is restarted after a while.", retry_after_s=60.0
            )
        if self._state is BatcherState.DOWN:
            return Unavailable(f"The engine cannot be loaded at the moment ({self._failure}).", retry_after_s=10.0)
        return Unavailable("The engine is not loaded yet.", retry_after_s=5.0)
