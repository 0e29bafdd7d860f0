"""A thread per model: it finds the files, waits for room, starts the engine's process, watches it, and ends it."""

import logging
import threading
from collections.abc import Callable

from tympan.batching.batcher import Batcher
from tympan.batching.occupancy import Occupancy
from tympan.batching.served import ModelObserver, ModelState
from tympan.batching.stats import BatcherState
from tympan.engine.base import EngineSpec
from tympan.errors import EngineError, TympanError

_log = logging.getLogger(__name__)

_TICK_S = 1.0
_JOIN_S = 20.0


class Keeper:
    """Loads and unloads one model as its occupancy says. A model is never unloaded inside a process: that ends."""

    def __init__(self, place: Occupancy, make_batcher: Callable[[EngineSpec], Batcher]) -> None:
        """Prepare a keeper of ``place``; ``make_batcher`` prepares what runs the model in a process."""
        self._place, self._make_batcher = place, make_batcher
        self._quarters, self._lock = place.quarters, place.quarters.lock
        self._thread = threading.Thread(target=self._run, name=f"model-{place.name}", daemon=True)

    def start(self) -> None:
        """Begin; nothing is loaded before somebody wants it."""
        self._thread.start()

    def close(self) -> None:
        """End the process and the thread, after the quarters were closed."""
        with self._lock:
            self._lock.notify_all()
            batcher = self._place.batcher
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
        place = self._place
        with self._lock:
            while not self._quarters.closing:
                left_s = place.retry_at_s - self._quarters.clock()
                if place.wanted and left_s <= 0:
                    place.state = ModelState.LOADING
                    return True
                self._lock.wait(min(left_s, _TICK_S) if place.wanted else None)
            return False

    def _load(self) -> Batcher | None:
        """Start the process; return ``None`` when the wish has gone meanwhile. Raises why it cannot be."""
        place = self._place
        if not place.on_spare:
            place.found = place.plan.find()  # Each time, because its files may be others than before.
        if not self._quarters.take(place):
            self._empty()
            return None
        batcher = self._make_batcher(place.spec)
        batcher.start()
        with self._lock:
            place.batcher = batcher
        try:
            if self._quarters.closing:
                batcher.close(0.0)
            info = batcher.wait_ready(place.options.load_s)
        except TympanError:
            batcher.close(0.0)
            raise
        with self._lock:
            place.loaded(info)
        _log.info("model %s is loaded (%s, %s, %s)", place.name, info.engine, info.device, info.compute_type)
        self._tell(lambda observer: observer.on_load(place.name, "loaded"))
        return batcher

    def _stay(self, batcher: Batcher) -> None:
        """Watch the engine until it has to go, then end its process."""
        reason = self._watch(batcher)
        with self._lock:
            self._place.state = ModelState.UNLOADING
        failure = batcher.failure
        batcher.close(0.0)
        self._tell(lambda observer: observer.on_unload(self._place.name, reason))
        _log.info("model %s is unloaded: %s", self._place.name, reason)
        if reason == "lost":
            self._give_up(failure or EngineError())
        else:
            self._empty()

    def _watch(self, batcher: Batcher) -> str:
        """Return why the process has to end, when it has to."""
        place = self._place
        while True:
            with self._lock:
                if place.leaves_for is None and not self._quarters.closing:
                    self._lock.wait(_TICK_S)
                if place.is_idle:
                    place.move_out("idle")
                if place.leaves_for is not None or self._quarters.closing:
                    return place.leaves_for or "end"
            if self._is_lost(batcher):
                return "lost"
            with self._lock:
                place.measured(batcher.memory_bytes or 0, batcher.stats().batches)
            self._quarters.relieve(place.device)

    def _is_lost(self, batcher: Batcher) -> bool:
        """Whether the engine will not come back, or not as soon as the spare."""
        state = batcher.stats().state
        if state is BatcherState.DOWN:
            return self._place.may_use_spare(batcher.failure)
        return state is BatcherState.FAILED

    def _give_up(self, error: TympanError) -> None:
        if self._quarters.closing:
            self._empty()
            return
        _log.error("model %s cannot be loaded: %s", self._place.name, error)
        with self._lock:
            self._place.failed(error)
        self._tell(lambda observer: observer.on_load(self._place.name, error.code))

    def _empty(self) -> None:
        with self._lock:
            self._place.on_spare = False
            self._place.emptied(ModelState.UNLOADED)

    def _tell(self, news: Callable[[ModelObserver], None]) -> None:
        if self._place.options.observer is not None:
            news(self._place.options.observer)


def _typed(error: Exception) -> TympanError:
    return error if isinstance(error, TympanError) else EngineError(f"Unexpected {type(error).__name__}: {error}")
