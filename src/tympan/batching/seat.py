"""One model's place in a server: empty, or with an engine in a process of its own, which comes and goes on demand.

Whoever uses the model holds the seat meanwhile; a seat that is held is not emptied.
"""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from tympan.batching.batcher import Batcher
from tympan.batching.keeper import Keeper
from tympan.batching.occupancy import Occupancy
from tympan.batching.quarters import Quarters
from tympan.batching.queue import Origin
from tympan.batching.served import ModelPlan, ModelState, ModelStatus, SeatOptions
from tympan.batching.stats import BatcherStats
from tympan.domain import WindowResult, WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import ModelInUse, Unavailable

_POLL_S = 0.1
_EMPTY_S = 20.0


class _LoadFailed(Unavailable):
    """The model cannot be loaded at the moment."""


class Seat:
    """One model. Windows go to its engine while it is held."""

    def __init__(
        self,
        plan: ModelPlan,
        quarters: Quarters,
        make_batcher: Callable[[EngineSpec], Batcher],
        options: SeatOptions | None = None,
    ) -> None:
        """Prepare an empty seat; nothing is loaded before somebody asks for it."""
        self._quarters, self._lock = quarters, quarters.lock
        self._place = Occupancy(plan, quarters, options or SeatOptions())
        self._stand_in: Seat | None = None
        self._keeper = Keeper(self._place, make_batcher)
        quarters.add(self._place)
        self._keeper.start()

    # What the pipeline sees.

    @property
    def name(self) -> str:
        """The model's name."""
        return self._place.name

    @property
    def info(self) -> EngineInfo | None:
        """What the engine runs, or ran when it was last loaded; ``None`` before the first time."""
        return self._place.info

    @property
    def ready(self) -> bool:
        """Whether the model takes work: its engine does, or it is not loaded and nothing speaks against doing so."""
        with self._lock:
            place = self._place
            if self._quarters.closing:
                return False
            if place.state is ModelState.LOADED and place.batcher is not None:
                return place.batcher.ready
            return place.failure is None

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Hand a window to the engine. Raises ``Overloaded``, and ``Unavailable`` while there is none."""
        batcher = self._place.batcher
        if batcher is None:
            raise self._unavailable()
        return batcher.submit(task, origin)

    def stats(self) -> BatcherStats:
        """Return what waits and runs; nothing while the model is not loaded."""
        batcher = self._place.batcher
        return batcher.stats() if batcher is not None else BatcherStats()

    @contextmanager
    def hold(self, check: Callable[[], None] = lambda: None) -> Iterator["Seat"]:
        """Yield the seat with its model loaded, or the stand-in's if it cannot be; it stays until the block ends.

        ``check`` is called while waiting and raises when the caller should not wait on. Raises ``Unavailable`` when the
        model cannot be loaded, or not within the time that callers wait. A holder must not hold the seat again.
        """
        try:
            ticket = self._sit(check)
        except _LoadFailed:
            if self._stand_in is None:
                raise
            with self._stand_in.hold(check) as seat:
                yield seat
            return
        try:
            yield self
        finally:
            with self._lock:
                self._place.rise(ticket)

    # What operators ask for.

    def let_stand_in(self, other: "Seat") -> None:
        """Let ``other`` answer when this model cannot be loaded."""
        self._stand_in = other

    def ask(self) -> ModelStatus:
        """Begin to load the model, at once even if it failed a moment ago; return how it stands."""
        with self._lock:
            if self._place.state is not ModelState.LOADED:
                self._place.asked, self._place.retry_at_s = True, 0.0
                self._lock.notify_all()
            return self._place.status()

    def unload(self) -> ModelStatus:
        """End the model's process; return how it stands when that is done. It is loaded again when asked for.

        Raises ``ModelInUse`` while somebody uses it or waits for it, and when it is pinned.
        """
        with self._lock:
            self._check_free()
            self._place.move_out("asked")
            self._lock.wait_for(lambda: self._place.state is not ModelState.UNLOADING, _EMPTY_S)
            return self._place.status()

    def wait_loaded(self) -> EngineInfo:
        """Return what the engine is, once a load that was asked for has ended.

        Fetching its files may take long; starting the process has its own limit. Raises why it failed, or
        ``Unavailable``.
        """
        place = self._place
        with self._lock:
            self._lock.wait_for(
                lambda: place.failure is not None or place.state is ModelState.LOADED or self._quarters.closing
            )
            if place.failure is not None:
                raise copy.copy(place.failure)
            if place.info is None:
                raise self._unavailable()
            return place.info

    def status(self) -> ModelStatus:
        """Return how the model stands."""
        with self._lock:
            return self._place.status()

    def close(self) -> None:
        """End the process and the thread; the quarters have been closed before."""
        self._keeper.close()

    def _sit(self, check: Callable[[], None]) -> int:
        with self._lock:
            if not self._place.is_open:
                self._await_open(check)
            return self._place.sit()

    def _await_open(self, check: Callable[[], None]) -> None:
        until_s = self._quarters.clock() + self._place.options.wait_s
        self._place.waiting += 1
        self._lock.notify_all()
        try:
            while not self._place.is_open:
                check()
                self._check_hope(until_s)
                self._lock.wait(_POLL_S)
        finally:
            self._place.waiting -= 1
            self._place.owed = max(0, self._place.owed - 1)

    def _check_hope(self, until_s: float) -> None:
        """Raise when it makes no sense to wait for the model any longer."""
        place, now_s = self._place, self._quarters.clock()
        if self._quarters.closing:
            raise Unavailable("The server is shutting down.", retry_after_s=5.0)
        if place.state is ModelState.FAILED and now_s < place.retry_at_s:
            cause = place.failure.message if place.failure else ""
            remedy = place.failure.remedy if place.failure else None
            raise _LoadFailed(
                f"The model {self.name!r} cannot be loaded at the moment: {cause.rstrip('.')}.",
                remedy=remedy or "Try again later, or use another model.",
                retry_after_s=max(1.0, place.retry_at_s - now_s),
            )
        if now_s >= until_s:
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        place = self._place
        waits = place.state is ModelState.LOADING and place.found is not None and place.resident is None
        why = "it waits for others to make room" if waits else f"it is {place.state.value}"
        return Unavailable(
            f"The model {self.name!r} is not loaded: {why}.",
            remedy="Try again after the time in Retry-After, or use another model.",
            retry_after_s=max(5.0, self._quarters.rules(place.device).dwell_s / 2),
        )

    def _check_free(self) -> None:
        place = self._place
        if place.plan.pinned:
            raise ModelInUse(f"The model {self.name!r} is pinned.", remedy="Take `pinned` out of its settings first.")
        if place.uses or place.waiting or place.state is ModelState.LOADING:
            raise ModelInUse(f"The model {self.name!r} is in use.", remedy="Try again when nobody uses it.")
