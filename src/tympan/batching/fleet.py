"""All models of a server: each has a seat, all share the memory, every one answers to its name."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from tympan.batching.batcher import Batcher
from tympan.batching.quarters import Quarters
from tympan.batching.seat import Seat
from tympan.batching.served import ModelPlan, ModelStatus, SeatOptions
from tympan.batching.stats import BatcherState, BatcherStats
from tympan.domain import Lane
from tympan.engine.base import EngineSpec
from tympan.errors import ModelNotFound

MAX_MODELS = 64
"""Most models that one server knows; each has a thread that waits for work."""

_CLOSE_S = 30.0


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """How the models of a fleet are treated. ``stand_in`` names the one that answers for those that cannot load."""

    seats: SeatOptions = field(default_factory=SeatOptions)
    stand_in: str | None = None


class Fleet:
    """Models by name. The first plan is the default's."""

    def __init__(
        self,
        plans: Iterable[ModelPlan],
        quarters: Quarters,
        make_batcher: Callable[[EngineSpec], Batcher],
        options: FleetOptions | None = None,
    ) -> None:
        """Give each of ``plans`` a seat; nothing is loaded yet. Raises ``ValueError`` for more than ``MAX_MODELS``."""
        options = options or FleetOptions()
        known = {plan.name: plan for plan in plans}
        if not 0 < len(known) <= MAX_MODELS:
            raise ValueError(f"A server has 1 to {MAX_MODELS} models, not {len(known)}.")
        self._quarters = quarters
        self._seats = {name: Seat(plan, quarters, make_batcher, options.seats) for name, plan in known.items()}
        if options.stand_in is not None:
            for seat in self._seats.values():
                if seat.name != options.stand_in:
                    seat.let_stand_in(self.seat(options.stand_in))

    @property
    def default(self) -> Seat:
        """The model for requests that name none."""
        return next(iter(self._seats.values()))

    @property
    def ready(self) -> bool:
        """Whether at least one model takes work."""
        return any(seat.ready for seat in self._seats.values())

    def seat(self, name: str) -> Seat:
        """Return a model's seat. Raises ``ModelNotFound``."""
        try:
            return self._seats[name]
        except KeyError:
            raise ModelNotFound(f"There is no model {name!r} here.", param="model") from None

    def statuses(self) -> list[ModelStatus]:
        """Return how every model stands, the default first."""
        return [seat.status() for seat in self._seats.values()]

    def stats(self) -> BatcherStats:
        """Return what waits and runs, all models together; ``ready`` if any of them is."""
        each = [seat.stats() for seat in self._seats.values()]
        return replace(
            BatcherStats(),
            state=BatcherState.READY if any(one.ready for one in each) else each[0].state,
            queued_windows={lane: sum(one.queued_windows.get(lane, 0) for one in each) for lane in Lane},
            queued_audio_s={lane: sum(one.queued_audio_s.get(lane, 0.0) for one in each) for lane in Lane},
            running_windows=sum(one.running_windows for one in each),
            restarts=sum(one.restarts for one in each),
            batches=sum(one.batches for one in each),
            windows=sum(one.windows for one in each),
            audio_s=sum(one.audio_s for one in each),
            compute_s=sum(one.compute_s for one in each),
        )

    def close(self) -> None:
        """End every process, side by side; nobody may use a model any more."""
        with self._quarters.lock:
            self._quarters.closing = True
            self._quarters.lock.notify_all()
        closers = [
            threading.Thread(target=seat.close, name="close-model", daemon=True) for seat in self._seats.values()
        ]
        for closer in closers:
            closer.start()
        for closer in closers:
            closer.join(_CLOSE_S)
