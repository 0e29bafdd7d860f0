"""How many live sessions there may be, and how all of them are asked to end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tympan import telemetry
from tympan.errors import Overloaded

_RETRY_S = 5.0

HangUp = Callable[[], None]


@dataclass(slots=True)
class LivePlaces:
    """The live sessions of a server; everything happens on the event loop."""

    limit: int
    _taken: dict[int, HangUp] = field(default_factory=dict)
    _number: int = 0

    @property
    def count(self) -> int:
        """Sessions that go on."""
        return len(self._taken)

    @contextmanager
    def taken(self, hang_up: HangUp) -> Iterator[None]:
        """Hold a place inside the block; ``hang_up`` asks its session to end. Raises ``Overloaded`` without one."""
        if len(self._taken) >= self.limit:
            raise Overloaded(
                f"There are {self.limit} live sessions, the most this server takes at a time.",
                remedy="Try again later.",
                retry_after_s=_RETRY_S,
            )
        self._number += 1
        number = self._number
        self._taken[number] = hang_up
        telemetry.LIVE_SESSIONS.set(len(self._taken))
        try:
            yield
        finally:
            del self._taken[number]
            telemetry.LIVE_SESSIONS.set(len(self._taken))

    def drain(self) -> None:
        """Ask every session to tell what it has heard, and to end."""
        for hang_up in list(self._taken.values()):
            hang_up()
