"""A thread per model: it finds the files, waits for room, starts the engine's process, watches it, and ends it."""

import logging
import threading
from collections.abc import Callable

from tympan.batching.group import AnyBatcher
from tympan.batching.served import ModelObserver, ModelState
from tympan.batching.slot_state import SlotState
from tympan.batching.stats import BatcherState
from tympan.engine.base import EngineSpec
from tympan.errors import EngineError, TympanError

_log = logging.getLogger(__name__)

_TICK_S = 1.0
_JOIN_S = 20.0


class ModelLoader:
    """Loads and unloads one model as its state says. A model is never unloaded inside a process: that ends."""

    def __init__(self, record: SlotState, make_batcher: Callable[[EngineSpec], AnyBatcher]) -> None:
        """Prepare a loader of ``record``; ``make_batcher`` prepares what runs the model in a process."""
        self._record, self._make_batcher = record, make_batcher
        self._budget, self._lock = record.budget, record.budget.lock
        self._thread = threading.Thread(target=self._run, name=f"model-{record.name}", daemon=True)

    def start(self) -> None:
        """Begin; nothing is loaded before somebody wants it."""
        self._thread.start()

    def close(self) -> None:
        """End the process and the thread, after the budget was closed."""
        with self._lock:
            self._lock.notify_all()
            batcher = self._record.batcher
        if batcher is not None:
            batcher.close(0.0)
        self._thread.join(_JOIN_S)

    def _run(self) -> None:
        while self._await_wish():
            try:
                batcher = self._load()
            except Exception as error:  # noqa: BLE001 (whatever keeps a model from loading must not end its thread)
                self._give_up(_typed(error))
                continue
            if batcher is not None:
                self._stay(batcher)
        self._empty()

    def _await_wish(self) -> bool:
        """Wait until the model is wanted and may be tried; return False at the end."""
        record = self._record
        with self._lock:
            while not self._budget.closing:
                left_s = record.retry_at_s - self._budget.clock()
                if record.wanted and left_s <= 0:
                    record.state = ModelState.LOADING
                    return True
                self._lock.wait(min(left_s, _TICK_S) if record.wanted else None)
            return False

    def _load(self) -> AnyBatcher | None:
        """Start the process; return ``None`` when the wish has gone meanwhile. Raises why it cannot be."""
        record = self._record
        if not record.on_spare:
            record.found = record.plan.find()  # Each time, because its files may be others than before.
        if not self._budget.take(record):
            self._empty()
            return None
        batcher = self._make_batcher(record.spec)
        batcher.start()
        with self._lock:
            record.batcher = batcher
        try:
            if self._budget.closing:
                batcher.close(0.0)
            info = batcher.wait_ready(record.options.load_s)
        except TympanError:
            batcher.close(0.0)
            raise
        with self._lock:
            record.loaded(info)
        _log.info("model %s is loaded (%s, %s, %s)", record.name, info.engine, info.device, info.compute_type)
        self._tell(lambda observer: observer.on_load(record.name, "loaded"))
        return batcher

    def _stay(self, batcher: AnyBatcher) -> None:
        """Watch the engine until it has to go, then end its process."""
        reason = self._watch(batcher)
        with self._lock:
            self._record.state = ModelState.UNLOADING
        failure = batcher.failure
        batcher.close(0.0)
        self._tell(lambda observer: observer.on_unload(self._record.name, reason))
        _log.info("model %s is unloaded: %s", self._record.name, reason)
        if reason == "lost":
            self._give_up(failure or EngineError())
        else:
            self._empty()

    def _watch(self, batcher: AnyBatcher) -> str:
        """Return why the process has to end, when it has to."""
        record = self._record
        while True:
            with self._lock:
                if record.leaves_for is None and not self._budget.closing:
                    self._lock.wait(_TICK_S)
                if record.is_idle:
                    record.move_out("idle")
                if record.leaves_for is not None or self._budget.closing:
                    return record.leaves_for or "end"
            if self._is_lost(batcher):
                return "lost"
            with self._lock:
                record.measured(batcher.memory_bytes or 0, batcher.stats().batches)
            self._budget.relieve(record.device)

    def _is_lost(self, batcher: AnyBatcher) -> bool:
        """Whether the engine will not come back, or not as soon as the spare."""
        state = batcher.stats().state
        if state is BatcherState.DOWN:
            return self._record.may_use_spare(batcher.failure)
        return state is BatcherState.FAILED

    def _give_up(self, error: TympanError) -> None:
        if self._budget.closing:
            self._empty()
            return
        _log.error("model %s cannot be loaded: %s", self._record.name, str(error))
        with self._lock:
            self._record.failed(error)
        self._tell(lambda observer: observer.on_load(self._record.name, error.code))

    def _empty(self) -> None:
        with self._lock:
            self._record.on_spare = False
            self._record.emptied(ModelState.UNLOADED)

    def _tell(self, news: Callable[[ModelObserver], None]) -> None:
        if self._record.options.observer is not None:
            news(self._record.options.observer)


def _typed(error: Exception) -> TympanError:
    return error if isinstance(error, TympanError) else EngineError(f"Unexpected {type(error).__name__}: {error}")
