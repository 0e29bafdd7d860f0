"""The memory that models share: who may move in, who is asked to move out, and in which order they wait.

One lock serves everything that is decided about models; nobody holds it while a process starts or ends.
"""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from tympan.batching.eviction import Resident, Rules, fits_beside, make_room, overdue
from tympan.errors import Unavailable

_LOOK_S = 1.0
NO_RULES = Rules()


class MemoryUser(Protocol):
    """A model, as far as memory is concerned. All of it is read and called under the lock."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def device(self) -> str:
        """Whose memory it takes."""

    @property
    def need_bytes(self) -> int:
        """What it counts for."""

    @property
    def wanted(self) -> bool:
        """Whether anybody still wants it to be loaded."""

    @property
    def resident(self) -> Resident | None:
        """Its entry among those that take memory; ``None`` while it takes none."""

    @property
    def yields_to(self) -> set[str]:
        """Names of models that wait for it to be free; while there are any, nobody new may use it."""

    def move_in(self) -> None:
        """Count as taking memory from now on."""

    def move_out(self, reason: str) -> None:
        """End the process as soon as possible."""


class MemoryBudget:
    """Shared by all models of a fleet; ``lock`` guards their state, and is notified when it changes."""

    def __init__(self, rules: Mapping[str, Rules] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Share memory by device (``cpu``, ``cuda``); a device without rules has no limit."""
        self.lock = threading.Condition()
        self.clock = clock
        self.closing = False
        self._rules = dict(rules or {})
        self._users: list[MemoryUser] = []
        self._line: list[MemoryUser] = []

    @property
    def crowded(self) -> bool:
        """Whether somebody waits for room."""
        return bool(self._line)

    def rules(self, device: str) -> Rules:
        """Return how the memory of ``device`` is shared."""
        return self._rules.get(device, NO_RULES)

    def add(self, user: MemoryUser) -> None:
        """Let ``user`` share the memory."""
        with self.lock:
            self._users.append(user)

    def take(self, user: MemoryUser) -> bool:
        """Wait for room and move ``user`` in; return False when nobody wants it any more, or at the end.

        Whoever came first has the first claim; others may only take what that leaves. Raises ``Unavailable`` when
        there can never be room.
        """
        with self.lock:
            self._line.append(user)
            try:
                while user.wanted and not self.closing:
                    if self._try(user):
                        user.move_in()
                        return True
                return False
            finally:
                self._line.remove(user)
                for other in self._users:
                    other.yields_to.discard(user.name)
                self.lock.notify_all()

    def relieve(self, device: str) -> None:
        """Ask a model to move out when those on ``device`` have outgrown their memory."""
        with self.lock:
            name = overdue(self._residents(device), self.rules(device), self.clock())
            for user in self._users:
                if user.name == name:
                    user.move_out("room")

    def _try(self, user: MemoryUser) -> bool:
        """Return whether there is room; if not, do something about it and wait a moment."""
        rules, residents = self.rules(user.device), self._residents(user.device)
        ahead = self._ahead_of(user)
        move = make_room(user.need_bytes, residents, rules, self.clock())
        if move.fits and (not ahead or fits_beside(ahead, user.need_bytes, residents, rules)):
            return True
        if move.hopeless:
            raise Unavailable(
                f"The model {user.name!r} needs {user.need_bytes / 1e6:,.0f} MB; with the pinned models that is "
                f"more than the {(rules.budget_bytes or 0) / 1e6:,.0f} MB that models may take.",
                remedy="Use another model. The operator can raise MODEL_MEMORY_MB or pin fewer models.",
                retry_after_s=60.0,
            )
        if not ahead:
            self._clear(user, move.evict, move.yielding)
        self.lock.wait(_LOOK_S if ahead else move.wait_s)
        return False

    def _ahead_of(self, user: MemoryUser) -> list[int]:
        """Return what those need who came first and want the same memory."""
        line = [each for each in self._line if each.device == user.device]
        return [each.need_bytes for each in line[: line.index(user)]]

    def _clear(self, user: MemoryUser, evict: tuple[str, ...], yielding: tuple[str, ...]) -> None:
        for other in self._users:
            if other.name in evict:
                other.move_out("room")
            if other.name in yielding:
                other.yields_to.add(user.name)
            else:
                other.yields_to.discard(user.name)
        self.lock.notify_all()

    def _residents(self, device: str) -> list[Resident]:
        found = [user.resident for user in self._users if user.device == device]
        return [resident for resident in found if resident is not None]
