"""All models of a server: each has a slot, all share the memory, every one answers to its name."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tympan.batching.group import AnyBatcher
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.served import ModelPlan, ModelStatus, SlotOptions
from tympan.batching.slot import ModelSlot
from tympan.batching.stats import BatcherStats, together
from tympan.engine.base import EngineSpec
from tympan.errors import ModelNotFound

MAX_MODELS = 64
"""Most models that one server knows; each has a thread that waits for work."""

_CLOSE_S = 30.0


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """How the models of a fleet are treated. ``stand_in`` names the one that answers for those that cannot load."""

    slots: SlotOptions = field(default_factory=SlotOptions)
    stand_in: str | None = None


class Fleet:
    """Models by name. The first plan is the default's."""

    def __init__(
        self,
        plans: Iterable[ModelPlan],
        budget: MemoryBudget,
        make_batcher: Callable[[EngineSpec], AnyBatcher],
        options: FleetOptions | None = None,
    ) -> None:
        """Give each of ``plans`` a slot; nothing is loaded yet. Raises ``ValueError`` for more than ``MAX_MODELS``."""
        options = options or FleetOptions()
        known = {plan.name: plan for plan in plans}
        if not 0 < len(known) <= MAX_MODELS:
            raise ValueError(f"A server has 1 to {MAX_MODELS} models, not {len(known)}.")
        self._budget = budget
        self._slots = {name: ModelSlot(plan, budget, make_batcher, options.slots) for name, plan in known.items()}
        if options.stand_in is not None:
            for slot in self._slots.values():
                if slot.name != options.stand_in:
                    slot.let_stand_in(self.slot(options.stand_in))

    @property
    def default(self) -> ModelSlot:
        """The model for requests that name none."""
        return next(iter(self._slots.values()))

    @property
    def ready(self) -> bool:
        """Whether at least one model takes work."""
        return any(slot.ready for slot in self._slots.values())

    def slot(self, name: str) -> ModelSlot:
        """Return a model's slot. Raises ``ModelNotFound``."""
        try:
            return self._slots[name]
        except KeyError:
            raise ModelNotFound(f"There is no model {name!r} here.", param="model") from None

    def statuses(self) -> list[ModelStatus]:
        """Return how every model stands, the default first."""
        return [slot.status() for slot in self._slots.values()]

    def stats(self) -> BatcherStats:
        """Return what waits and runs, all models together."""
        return together([slot.stats() for slot in self._slots.values()])

    def close(self) -> None:
        """End every process, side by side; nobody may use a model any more."""
        with self._budget.lock:
            self._budget.closing = True
            self._budget.lock.notify_all()
        closers = [
            threading.Thread(target=slot.close, name="close-model", daemon=True) for slot in self._slots.values()
        ]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(_CLOSE_S)
