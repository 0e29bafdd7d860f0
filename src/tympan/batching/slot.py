"""One model's slot in a server: empty, or with an engine in a process of its own, which comes and goes on demand.

Whoever uses the model holds the slot meanwhile; a slot that is held is not emptied.
"""

import copy
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from tympan.batching.group import AnyBatcher
from tympan.batching.loader import ModelLoader
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.queue import Origin
from tympan.batching.served import ModelPlan, ModelState, ModelStatus, SlotOptions
from tympan.batching.slot_state import SlotState
from tympan.batching.stats import BatcherStats
from tympan.domain import WindowResult, WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import ModelInUse, Unavailable

_POLL_S = 0.1
_EMPTY_S = 20.0


class _LoadFailed(Unavailable):
    """The model cannot be loaded at the moment."""


class ModelSlot:
    """One model. Windows go to its engine while it is held."""

    def __init__(
        self,
        plan: ModelPlan,
        budget: MemoryBudget,
        make_batcher: Callable[[EngineSpec], AnyBatcher],
        options: SlotOptions | None = None,
    ) -> None:
        """Prepare an empty slot; nothing is loaded before somebody asks for it."""
        self._budget, self._lock = budget, budget.lock
        self._record = SlotState(plan, budget, options or SlotOptions())
        self._stand_in: ModelSlot | None = None
        self._loader = ModelLoader(self._record, make_batcher)
        budget.add(self._record)
        self._loader.start()

    # What the pipeline sees.

    @property
    def name(self) -> str:
        """The model's name."""
        return self._record.name

    @property
    def info(self) -> EngineInfo | None:
        """What the engine runs, or ran when it was last loaded; ``None`` before the first time."""
        return self._record.info

    @property
    def ready(self) -> bool:
        """Whether the model takes work: its engine does, or it is not loaded and nothing speaks against doing so."""
        with self._lock:
            record = self._record
            if self._budget.closing:
                return False
            if record.state is ModelState.LOADED and record.batcher is not None:
                return record.batcher.ready
            return record.failure is None

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Hand a window to the engine. Raises ``Overloaded``, and ``Unavailable`` while there is none."""
        batcher = self._record.batcher
        if batcher is None:
            raise self._unavailable()
        return batcher.submit(task, origin)

    def stats(self) -> BatcherStats:
        """Return what waits and runs; nothing while the model is not loaded."""
        batcher = self._record.batcher
        return batcher.stats() if batcher is not None else BatcherStats()

    @contextmanager
    def hold(self, check: Callable[[], None] = lambda: None) -> Iterator["ModelSlot"]:
        """Yield the slot with its model loaded, or the stand-in's if it cannot be; it stays until the block ends.

        ``check`` is called while waiting and raises when the caller should not wait on. Raises ``Unavailable`` when the
        model cannot be loaded, or not within the time that callers wait. A holder must not hold the slot again.
        """
        try:
            ticket = self._sit(check)
        except _LoadFailed:
            if self._stand_in is None:
                raise
            with self._stand_in.hold(check) as slot:
                yield slot
            return
        try:
            yield self
        finally:
            with self._lock:
                self._record.rise(ticket)

    # What operators ask for.

    def let_stand_in(self, other: "ModelSlot") -> None:
        """Let ``other`` answer when this model cannot be loaded."""
        self._stand_in = other

    def ask(self) -> ModelStatus:
        """Begin to load the model, at once even if it failed a moment ago; return how it stands."""
        with self._lock:
            if self._record.state is not ModelState.LOADED:
                self._record.asked, self._record.retry_at_s = True, 0.0
                self._lock.notify_all()
            return self._record.status()

    def unload(self) -> ModelStatus:
        """End the model's process; return how it stands when that is done. It is loaded again when asked for.

        Raises ``ModelInUse`` while somebody uses it or waits for it, and when it is pinned.
        """
        with self._lock:
            self._check_free()
            self._record.move_out("asked")
            self._lock.wait_for(lambda: self._record.state is not ModelState.UNLOADING, _EMPTY_S)
            return self._record.status()

    def wait_loaded(self) -> EngineInfo:
        """Return what the engine is, once a load that was asked for has ended.

        Fetching its files may take long; starting the process has its own limit. Raises why it failed, or
        ``Unavailable``.
        """
        record = self._record
        with self._lock:
            self._lock.wait_for(
                lambda: record.failure is not None or record.state is ModelState.LOADED or self._budget.closing
            )
            if record.failure is not None:
                raise copy.copy(record.failure)
            if record.info is None:
                raise self._unavailable()
            return record.info

    def status(self) -> ModelStatus:
        """Return how the model stands."""
        with self._lock:
            return self._record.status()

    def close(self) -> None:
        """End the process and the thread; the budget has been closed before."""
        self._loader.close()

    def _sit(self, check: Callable[[], None]) -> int:
        with self._lock:
            if not self._record.is_open:
                self._await_open(check)
            return self._record.sit()

    def _await_open(self, check: Callable[[], None]) -> None:
        until_s = self._budget.clock() + self._record.options.wait_s
        self._record.waiting += 1
        self._lock.notify_all()
        try:
            while not self._record.is_open:
                check()
                self._check_hope(until_s)
                self._lock.wait(_POLL_S)
        finally:
            self._record.waiting -= 1
            self._record.owed = max(0, self._record.owed - 1)

    def _check_hope(self, until_s: float) -> None:
        """Raise when it makes no sense to wait for the model any longer."""
        record, now_s = self._record, self._budget.clock()
        if self._budget.closing:
            raise Unavailable("The server is shutting down.", retry_after_s=5.0)
        if record.state is ModelState.FAILED and now_s < record.retry_at_s:
            cause = record.failure.message if record.failure else ""
            remedy = record.failure.remedy if record.failure else None
            raise _LoadFailed(
                f"The model {self.name!r} cannot be loaded at the moment: {cause.rstrip('.')}.",
                remedy=remedy or "Try again later, or use another model.",
                retry_after_s=max(1.0, record.retry_at_s - now_s),
            )
        if now_s >= until_s:
            raise self._unavailable()

    def _unavailable(self) -> Unavailable:
        record = self._record
        waits = record.state is ModelState.LOADING and record.found is not None and record.resident is None
        why = "it is waiting for other models to free memory" if waits else f"it is {record.state.value}"
        return Unavailable(
            f"The model {self.name!r} is not loaded: {why}.",
            remedy="Try again after the time in Retry-After, or use another model.",
            retry_after_s=max(5.0, self._budget.rules(record.device).dwell_s / 2),
        )

    def _check_free(self) -> None:
        record = self._record
        if record.plan.pinned:
            raise ModelInUse(f"The model {self.name!r} is pinned.", remedy="Take `pinned` out of its settings first.")
        if record.uses or record.waiting or record.state is ModelState.LOADING:
            raise ModelInUse(f"The model {self.name!r} is in use.", remedy="Try again when nobody uses it.")
