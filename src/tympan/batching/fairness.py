"""Who has had how much: weighted fair queueing by audio-seconds. Pure: no clock but its own, no thread, no I/O."""

from collections.abc import Hashable
from typing import TypeAlias

Share: TypeAlias = tuple[float, float]
"""What a tenant has had, and what its request has had; less goes first. In seconds on the books' own clocks."""

LEAST_WEIGHT = 0.01
"""A smaller weight counts as this one: who is let in at all gets on."""


class _Book:
    """What each member of one circle has had. Only members with work waiting are active.

    A member of weight 2 is booked half of what it is given, so it gets twice as much. The clock runs as fast as a
    member's fair share grows (Demers, Keshav and Shenker, 1989). A member that comes (back) starts where the clock
    stood before the last window at the earliest: so it has no credit for having been away, and newcomers, however many,
    do not hold up the others for ever. But whoever had that window, and wants more, never goes before it: one who was
    owed much, as a long file is beside which many short ones went first, would make every newcomer wait twice.
    """

    def __init__(self) -> None:
        self.served_s: dict[Hashable, float] = {}
        self.active: dict[Hashable, float] = {}
        self._weight = 0.0
        self._clock_s = 0.0
        self._start_s = 0.0
        self._last: tuple[Hashable, float] | None = None

    def join(self, member: Hashable, weight: float = 1.0) -> None:
        self.leave(member)
        self.active[member] = max(LEAST_WEIGHT, weight)
        self._weight += self.active[member]
        start_s = self._start_s
        if self._last is not None and self._last[0] in self.active and self._last[0] != member:
            start_s = min(start_s, self._last[1])
        self.served_s[member] = max(self.served_s.get(member, 0.0), start_s)

    def leave(self, member: Hashable) -> None:
        self._weight -= self.active.pop(member, 0.0)
        if len(self.served_s) > 64 + 2 * len(self.active):
            self.served_s = {m: s for m, s in self.served_s.items() if m in self.active or s > self._start_s}

    def charge(self, member: Hashable, audio_s: float) -> None:
        self._last = member, self.served_s[member]
        self.served_s[member] += audio_s / self.active[member]
        self._start_s = self._clock_s
        self._clock_s += audio_s / self._weight


class FairShares:
    """The books of every lane: tenants among themselves, and each tenant's requests among themselves."""

    def __init__(self) -> None:
        """Start with empty books."""
        self._tenants: dict[int, _Book] = {}
        self._requests: dict[tuple[int, str], _Book] = {}

    def __len__(self) -> int:
        """Return the number of entries kept."""
        return sum(len(book.served_s) for book in (*self._tenants.values(), *self._requests.values()))

    def join(self, lane: int, tenant: str, request: Hashable, weight: float = 1.0) -> None:
        """A request has work waiting from now on; its tenant, unless it had some already, has this ``weight``."""
        tenants = self._tenants.setdefault(lane, _Book())
        if tenant not in tenants.active:
            tenants.join(tenant, weight)
        self._requests.setdefault((lane, tenant), _Book()).join(request)

    def leave(self, lane: int, tenant: str, request: Hashable) -> None:
        """A request has nothing waiting any more; books in which nobody waits are closed."""
        requests = self._requests[(lane, tenant)]
        requests.leave(request)
        if requests.active:
            return
        del self._requests[(lane, tenant)]
        tenants = self._tenants[lane]
        tenants.leave(tenant)
        if not tenants.active:
            del self._tenants[lane]

    def share(self, lane: int, tenant: str, request: Hashable) -> Share:
        """Return what this active request's tenant and the request itself have had."""
        return (self._tenants[lane].served_s[tenant], self._requests[(lane, tenant)].served_s[request])

    def charge(self, lane: int, tenant: str, request: Hashable, audio_s: float) -> None:
        """An active request was given ``audio_s`` seconds."""
        self._tenants[lane].charge(tenant, audio_s)
        self._requests[(lane, tenant)].charge(request, audio_s)
