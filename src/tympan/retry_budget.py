"""How much a process tries again by itself: a general failure must not become a storm of its own retries.

Tries that fail are worth repeating while most things go well. When everything fails, repeating everything multiplies
the load on whatever is in trouble, and callers repeat their calls anyway. So the first tries earn the retries.
"""

import threading

SHARE = 0.08
"""Retries for each first try, in the long run."""

STOCK = 100.0
"""Retries that may come at once after a time without any. With the share, 5,000 first tries have 500 at most."""


class RetryBudget:
    """What may be tried again by everybody who shares it; safe to share between threads."""

    def __init__(self) -> None:
        """Begin with a full stock."""
        self._lock = threading.Lock()
        self._left = STOCK

    def started(self) -> None:
        """Count a first try."""
        with self._lock:
            self._left = min(STOCK, self._left + SHARE)

    def allows_retry(self) -> bool:
        """Return whether something may be tried again now, and count it if so."""
        with self._lock:
            if self._left < 1.0:
                return False
            self._left -= 1.0
            return True
