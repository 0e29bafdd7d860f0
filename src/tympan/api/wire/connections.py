"""How many connections there are and whose, and who gives way when there is no room for another.

A bound that refused newcomers would let anybody with a few hundred idle sockets shut everybody out. So idle connections
are ended first: of the address that holds most of them, those that have been idle for longest. An address that is a
proxy with many callers behind it loses nothing but connections that nobody uses.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tympan import telemetry

_EVICTED_SHARE = 20
"""One in so many places is cleared at a time, so that finding whom to end costs little for each newcomer."""


class Guest(Protocol):
    """A connection, as far as room for others is concerned."""

    @property
    def address(self) -> str:
        """Who is at the other end."""
        ...

    @property
    def idle_since(self) -> float | None:
        """Since when nothing is asked or answered on it; ``None`` while something is."""
        ...

    def end(self, reason: str | None) -> None:
        """Close it at once, and count why if there is a reason."""
        ...

    def check(self, now: float) -> None:
        """End it if it has used up its patience by ``now`` (the event loop's clock)."""
        ...


@dataclass(slots=True)
class Crowd:
    """The HTTP connections of one server, at most ``limit`` of them."""

    limit: int
    guests: set[Guest] = field(default_factory=set)

    def enter(self, guest: Guest) -> bool:
        """Add a connection; return whether there is room for it, which is made if need be."""
        if len(self.guests) >= self.limit:
            for idle in whom_to_end(self.guests, max(1, self.limit // _EVICTED_SHARE)):
                self.leave(idle)
                idle.end("crowded")
        if len(self.guests) >= self.limit:
            return False
        self.guests.add(guest)
        return True

    def leave(self, guest: Guest) -> None:
        """Forget a connection; one that is not known is ignored."""
        self.guests.discard(guest)

    def sweep(self, now: float) -> None:
        """End the connections that have used up their patience."""
        telemetry.CONNECTIONS.set(len(self.guests))
        for guest in tuple(self.guests):
            guest.check(now)


def whom_to_end(guests: Iterable[Guest], most: int) -> Sequence[Guest]:
    """Return up to ``most`` idle connections of the address that has most of those, the longest idle first."""
    idle = [(since, guest) for guest in guests if (since := guest.idle_since) is not None]
    if not idle:
        return ()
    (fullest, _), *_ = Counter(guest.address for _, guest in idle).most_common(1)
    theirs = sorted(((since, guest) for since, guest in idle if guest.address == fullest), key=lambda pair: pair[0])
    return [guest for _, guest in theirs[:most]]
