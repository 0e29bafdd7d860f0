"""Where results are kept for equal calls, as bytes: a shelf in this process's memory.

A shelf may lose whatever is on it. It holds so many bytes and no more; when it is full, what is oldest of the tenant
that has the most goes, so that nobody loses anything to a tenant who keeps less.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

LARGEST_SHARE = 8
"""So small a part of a shelf may be taken by one entry."""

_OVERHEAD_BYTES = 256


class ShelfAway(Exception):
    """The shelf does not answer; never seen by callers of ours."""


class Shelf(Protocol):
    """What is kept by tenant and key. Safe to share between threads; everything may raise ``ShelfAway``."""

    def find(self, tenant: str, key: str) -> bytes | None:
        """Return what was put there, ``None`` when it is not there (any more)."""
        ...

    def put(self, tenant: str, key: str, data: bytes, ttl_s: float) -> int:
        """Keep ``data`` for at most ``ttl_s``; return how many others had to go for it."""
        ...

    def forget(self, tenant: str, keys: Iterable[str]) -> None:
        """Remove what is there."""
        ...

    def forget_tenant(self, tenant: str) -> None:
        """Remove everything of a tenant."""
        ...

    def sweep(self) -> int:
        """Remove what has been kept long enough; return how many bytes are left, of all tenants."""
        ...

    def close(self) -> None:
        """Release what it holds on to."""
        ...


@dataclass(slots=True)
class _Entry:
    """One result, until when it is good (by the shelf's clock), and the room it takes."""

    data: bytes
    until_s: float
    n_bytes: int


@dataclass(slots=True)
class _Section:
    """What is kept of one tenant, oldest first."""

    entries: OrderedDict[str, _Entry] = field(default_factory=OrderedDict)
    n_bytes: int = 0


class MemoryShelf:
    """A shelf in memory: what is on it goes with the process, and is never on a disk."""

    def __init__(self, max_bytes: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Hold ``max_bytes``; ``clock`` tells seconds and is never set."""
        self._max_bytes, self._clock = max_bytes, clock
        self._sections: dict[str, _Section] = {}
        self._n_bytes = 0
        self._lock = threading.Lock()

    def find(self, tenant: str, key: str) -> bytes | None:
        """Return what was put there."""
        with self._lock:
            section = self._sections.get(tenant)
            entry = section.entries.get(key) if section else None
            if entry is None:
                return None
            if entry.until_s <= self._clock():
                self._drop(tenant, key)
                return None
            return entry.data

    def put(self, tenant: str, key: str, data: bytes, ttl_s: float) -> int:
        """Keep ``data``; what is larger than its share of the shelf is not kept."""
        n_bytes = len(data) + len(tenant) + len(key) + _OVERHEAD_BYTES
        if n_bytes > self._max_bytes // LARGEST_SHARE:
            return 0
        with self._lock:
            self._drop(tenant, key)
            section = self._sections.setdefault(tenant, _Section())
            section.entries[key] = _Entry(data, self._clock() + ttl_s, n_bytes)
            section.n_bytes += n_bytes
            self._n_bytes += n_bytes
            return self._make_room()

    def forget(self, tenant: str, keys: Iterable[str]) -> None:
        """Remove what is there."""
        with self._lock:
            for key in keys:
                self._drop(tenant, key)

    def forget_tenant(self, tenant: str) -> None:
        """Remove everything of a tenant."""
        with self._lock:
            for key in list(self._sections[tenant].entries if tenant in self._sections else ()):
                self._drop(tenant, key)

    def sweep(self) -> int:
        """Remove what has been kept long enough; return how many bytes are left."""
        with self._lock:
            now = self._clock()
            for tenant, section in list(self._sections.items()):
                for key in [key for key, entry in section.entries.items() if entry.until_s <= now]:
                    self._drop(tenant, key)
            return self._n_bytes

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._sections.clear()
            self._n_bytes = 0

    def _make_room(self) -> int:
        evicted = 0
        while self._n_bytes > self._max_bytes:
            tenant = max(self._sections, key=lambda name: self._sections[name].n_bytes)
            self._drop(tenant, next(iter(self._sections[tenant].entries)))
            evicted += 1
        return evicted

    def _drop(self, tenant: str, key: str) -> None:
        section = self._sections.get(tenant)
        entry = section.entries.pop(key, None) if section else None
        if section is None or entry is None:
            return
        section.n_bytes -= entry.n_bytes
        self._n_bytes -= entry.n_bytes
        if not section.entries:
            del self._sections[tenant]
