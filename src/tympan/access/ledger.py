"""Who has taken how much, within one process. Everything is answered at once, and nothing is written down."""

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from tympan.access.gcra import Charge, Lead, Reading, moved

MAX_KEYS = 65_536
"""Tenants times rates that are remembered; who was forgotten begins with a whole burst, and that is all it costs."""

Key: TypeAlias = tuple[str, str]
"""A tenant, and a rate or a kind of work."""


@dataclass(frozen=True, slots=True)
class Taken:
    """How a tenant stands with every rate after asking; nothing was taken when one of them refused."""

    readings: tuple[Reading, ...] = ()

    @property
    def refused(self) -> Reading | None:
        """The rate that has to be waited for longest, if any refused."""
        refused = [reading for reading in self.readings if reading.refused]
        return max(refused, key=lambda reading: reading.wait_s, default=None)


class Ledger(Protocol):
    """What is taken and held by tenants; safe to share between threads. No call takes more than about 50 ms."""

    def take(self, tenant: str, charges: Sequence[Charge]) -> Taken:
        """Take all of ``charges``, or nothing when one of them does not fit."""

    def settle(self, tenant: str, charges: Sequence[Charge]) -> None:
        """Take, or give back, whether it fits or not."""

    def hold(self, tenant: str, kind: str, most: int) -> str | None:
        """Return a token for one more of ``kind``, ``None`` when the tenant has ``most``."""

    def release(self, tenant: str, kind: str, token: str) -> None:
        """Give a token back; a second call does nothing."""

    @property
    def blocks(self) -> bool:
        """Whether calls may take longer than a moment."""

    def start(self) -> None:
        """Begin to keep what is held, if that takes anything."""

    def stop(self) -> None:
        """Stop; what is held is free soon after."""


@dataclass(slots=True)
class LocalLedger:
    """A ledger in memory. ``clock`` counts seconds and never stops; time that passed asleep may be missing."""

    clock: Callable[[], float] = time.monotonic
    max_keys: int = MAX_KEYS
    blocks: bool = False
    _leads: OrderedDict[Key, Lead] = field(default_factory=OrderedDict)
    _held: dict[Key, set[str]] = field(default_factory=dict)
    _issued: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, tenant: str, charges: Sequence[Charge], n_parts: int = 1) -> Taken:
        """Take all of ``charges``, or nothing; ``n_parts`` processes give out one part of each rate each."""
        now_s = self.clock()
        parts = [charge.shared(n_parts) for charge in charges]
        with self._lock:
            before = [self._ahead_s(tenant, charge.name, now_s) for charge in charges]
            refused = [not part.fits(ahead_s) for part, ahead_s in zip(parts, before, strict=True)]
            after = before if any(refused) else list(map(moved, before, parts))
            for charge, ahead_s in zip(charges, after, strict=True):
                self._note(tenant, charge.name, Lead(ahead_s, now_s))
        return Taken(tuple(map(Reading, parts, after, refused)))

    def settle(self, tenant: str, charges: Sequence[Charge], n_parts: int = 1) -> None:
        """Take, or give back, whether it fits or not."""
        now_s = self.clock()
        with self._lock:
            for charge in charges:
                ahead_s = moved(self._ahead_s(tenant, charge.name, now_s), charge.shared(n_parts))
                self._note(tenant, charge.name, Lead(ahead_s, now_s))

    def leads(self, tenant: str, charges: Sequence[Charge]) -> list[float]:
        """Return by how many seconds the tenant is ahead in each rate."""
        now_s = self.clock()
        with self._lock:
            return [self._ahead_s(tenant, charge.name, now_s) for charge in charges]

    def learn(self, tenant: str, readings: Sequence[Reading]) -> None:
        """Note what others have found out about a tenant."""
        now_s = self.clock()
        with self._lock:
            for reading in readings:
                self._note(tenant, reading.name, Lead(reading.ahead_s, now_s))

    def hold(self, tenant: str, kind: str, most: int, n_parts: int = 1) -> str | None:
        """Return a token for one more of ``kind``; of ``n_parts`` processes each gives out its part, one at least."""
        with self._lock:
            tokens = self._held.get((tenant, kind), set())
            if len(tokens) >= max(1, math.floor(most / n_parts)):
                return None
            self._issued += 1
            token = str(self._issued)
            self._held.setdefault((tenant, kind), tokens).add(token)
            return token

    def release(self, tenant: str, kind: str, token: str) -> None:
        """Give a token back; a second call does nothing."""
        with self._lock:
            tokens = self._held.get((tenant, kind), set())
            tokens.discard(token)
            if not tokens:
                self._held.pop((tenant, kind), None)

    def start(self) -> None:
        """Do nothing: there is nothing to keep up."""

    def stop(self) -> None:
        """Do nothing."""

    def tokens(self) -> list[tuple[Key, str]]:
        """Return everything that is held."""
        with self._lock:
            return [(key, token) for key, tokens in self._held.items() for token in tokens]

    def __len__(self) -> int:
        """Return how much is remembered."""
        return len(self._leads) + len(self._held)

    def _ahead_s(self, tenant: str, name: str, now_s: float) -> float:
        lead = self._leads.get((tenant, name))
        return lead.at(now_s) if lead else 0.0

    def _note(self, tenant: str, name: str, lead: Lead) -> None:
        if lead.ahead_s:
            self._leads[tenant, name] = lead
            self._leads.move_to_end((tenant, name))
        else:
            self._leads.pop((tenant, name), None)
        if len(self._leads) > self.max_keys:
            self._leads.popitem(last=False)
