"""What is known about one model at this moment: its engine, who uses it, and the memory it takes.

Everything here is read and changed under the lock of the budget, by whoever calls.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from tympan.batching import eviction
from tympan.batching.eviction import Resident
from tympan.batching.group import AnyBatcher
from tympan.batching.memory_budget import MemoryBudget
from tympan.batching.served import Found, ModelPlan, ModelState, ModelStatus, SlotOptions
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import ConfigError, ModelError, TympanError


@dataclass(slots=True)
class SlotState:
    """One model as it stands. ``asked``: to be loaded although nobody waits; ``on_spare``: with its spare.

    ``owed``: how many of those who wait were there when it was loaded. They get in even if it has to yield again.
    """

    plan: ModelPlan
    budget: MemoryBudget
    options: SlotOptions
    state: ModelState = ModelState.UNLOADED
    found: Found | None = None
    batcher: AnyBatcher | None = None
    info: EngineInfo | None = None
    failure: TympanError | None = None
    on_spare: bool = False
    asked: bool = False
    waiting: int = 0
    owed: int = 0
    loads: int = 0
    retry_at_s: float = 0.0
    leaves_for: str | None = None
    yields_to: set[str] = field(default_factory=set)
    _failures: int = 0
    _holds: dict[int, float] = field(default_factory=dict)
    _tickets: Iterator[int] = field(default_factory=count)
    _in_memory_since_s: float | None = None
    _used_s: float = 0.0
    _peak_bytes: int = 0
    _batches: int = 0

    @property
    def name(self) -> str:
        """The model's name."""
        return self.plan.name

    @property
    def uses(self) -> int:
        """How many hold it."""
        return len(self._holds)

    @property
    def is_open(self) -> bool:
        """Whether whoever comes may use it."""
        return self.state is ModelState.LOADED and (self.owed > 0 or not self.yields_to)

    @property
    def is_idle(self) -> bool:
        """Whether nobody has used it for so long that it should go."""
        idle_s = self.options.idle_s
        if idle_s is None or self.plan.pinned or self._holds or self.waiting:
            return False
        return self.budget.clock() - self._used_s >= idle_s

    @property
    def spec(self) -> EngineSpec:
        """What to run; its files have been found."""
        if self.found is None:
            raise LookupError(self.name)
        return self.found.spare if self.on_spare and self.found.spare else self.found.spec

    # As the memory budget sees it.

    @property
    def device(self) -> str:
        """Whose memory it takes."""
        return self.spec.device if self.found else "cpu"

    @property
    def need_bytes(self) -> int:
        """What it counts for."""
        estimate_bytes = self.found.memory_bytes if self.found else 0
        return eviction.need_bytes(estimate_bytes, self._peak_bytes, self._batches)

    @property
    def wanted(self) -> bool:
        """Whether somebody wants it to be loaded."""
        return self.asked or self.waiting > 0

    @property
    def resident(self) -> Resident | None:
        """What it takes; ``None`` while it takes nothing. One that is still being loaded has just come."""
        if self._in_memory_since_s is None:
            return None
        now_s = self.budget.clock()
        held_since_s = min(self._holds.values(), default=None)
        if held_since_s is None and (self.owed or (self.waiting and not self.yields_to)):
            held_since_s = now_s
        return Resident(
            name=self.name,
            memory_bytes=self.need_bytes,
            since_s=now_s if self.state is ModelState.LOADING else self._in_memory_since_s,
            used_s=self._used_s,
            held_since_s=held_since_s,
            pinned=self.plan.pinned,
            leaving=self.leaves_for is not None,
        )

    def move_in(self) -> None:
        """Count as taking memory."""
        self._in_memory_since_s = self._used_s = self.budget.clock()

    def move_out(self, reason: str) -> None:
        """Have the process ended; nobody may use it any more. Nothing happens unless it is loaded."""
        if self.state is ModelState.LOADED and self.leaves_for is None:
            self.leaves_for, self.state = reason, ModelState.UNLOADING
            self.budget.lock.notify_all()

    # What happens to it.

    def sit(self) -> int:
        """Count one more user and return their ticket."""
        ticket = next(self._tickets)
        self._holds[ticket] = self.budget.clock()
        return ticket

    def rise(self, ticket: int) -> None:
        """Count one user less."""
        del self._holds[ticket]
        self._used_s = self.budget.clock()
        if self.budget.crowded:
            self.budget.lock.notify_all()

    def loaded(self, info: EngineInfo) -> None:
        """Take note that the engine answers. Its time begins when it can be used, not when its load began."""
        self.info, self.failure, self.asked, self._failures = info, None, False, 0
        self.state, self.loads, self.owed = ModelState.LOADED, self.loads + 1, self.waiting
        self.move_in()
        self.budget.lock.notify_all()

    def measured(self, memory_bytes: int, batches: int) -> None:
        """Take note of what the process takes after ``batches``. What it takes on a GPU cannot be seen from outside."""
        if self.device == "cpu":
            self._peak_bytes, self._batches = max(self._peak_bytes, memory_bytes), batches

    def failed(self, error: TympanError) -> None:
        """Take note that it cannot be loaded; its spare is tried at once, all else after a pause."""
        if self.may_use_spare(error):
            self.on_spare = self.asked = True
            self.emptied(ModelState.LOADING)
            return
        self._failures += 1
        options = self.options
        pause_s = eviction.pause_s(self._failures, options.first_pause_s, options.longest_pause_s)
        self.on_spare, self.failure, self.asked = False, error, self.plan.kept
        self.retry_at_s = self.budget.clock() + pause_s
        self.emptied(ModelState.FAILED)

    def may_use_spare(self, error: TympanError | None) -> bool:
        """Return whether there is a spare that could help against ``error``."""
        has_spare = self.found is not None and self.found.spare is not None and not self.on_spare
        return has_spare and not isinstance(error, ModelError | ConfigError)

    def emptied(self, state: ModelState) -> None:
        """Take note that there is no process."""
        self.batcher, self._in_memory_since_s, self.leaves_for, self.state = None, None, None, state
        self.owed = 0
        self.budget.lock.notify_all()

    def status(self) -> ModelStatus:
        """Return how it stands; one that is about to be loaded is loading."""
        state = ModelState.LOADING if self.state is ModelState.UNLOADED and self.wanted else self.state
        memory_bytes = (self.batcher.memory_bytes or 0) if self.batcher is not None else 0
        failure = self.failure
        if failure is None and self.batcher is not None:
            failure = self.batcher.failure
        return ModelStatus(self.name, state, self.info, self.plan.pinned, self.uses, memory_bytes, self.loads, failure)
