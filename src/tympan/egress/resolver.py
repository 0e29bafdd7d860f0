"""Names to addresses: one lookup per hop, in a thread of its own because the system's cannot be given a time limit."""

import ipaddress
import socket
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from tympan.egress.urls import Address

_MAX_LOOKUPS = 32


class LookupFailed(Exception):
    """A name has no address, or none in time; the text is for the operator."""


class Resolver(Protocol):
    """Knows the addresses of names."""

    def resolve(self, host: str, timeout_s: float) -> Sequence[Address]:
        """Return every address of ``host``, the best first. Raises ``LookupFailed``."""


class SystemResolver:
    """Asks the operating system, hosts file included."""

    def __init__(self, max_lookups: int = _MAX_LOOKUPS) -> None:
        """Run at most ``max_lookups`` at a time; one that hangs holds its place until the system gives up."""
        self._places = threading.BoundedSemaphore(max_lookups)

    def resolve(self, host: str, timeout_s: float) -> Sequence[Address]:
        """Return every address of ``host``. Raises ``LookupFailed``."""
        deadline = time.monotonic() + timeout_s
        if not self._places.acquire(timeout=timeout_s):
            raise LookupFailed("too many lookups are waiting")
        lookup = _Lookup(host, self._places)
        try:
            threading.Thread(target=lookup.run, name="lookup", daemon=True).start()
        except RuntimeError as error:
            self._places.release()
            raise LookupFailed("no thread can be started") from error
        return lookup.result(max(0.0, deadline - time.monotonic()))


class _Lookup:
    """One question and, at some time, its answer."""

    def __init__(self, host: str, places: threading.BoundedSemaphore) -> None:
        self._host = host
        self._places = places
        self._done = threading.Event()
        self._addresses: list[Address] = []
        self._failure = ""

    def run(self) -> None:
        try:
            found = socket.getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
            self._addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
        except (OSError, ValueError) as error:
            self._failure = type(error).__name__
        finally:
            self._done.set()
            self._places.release()

    def result(self, timeout_s: float) -> Sequence[Address]:
        if not self._done.wait(timeout_s):
            raise LookupFailed("no answer in time")
        if not self._addresses:
            raise LookupFailed(self._failure or "no address")
        return list(dict.fromkeys(self._addresses))
