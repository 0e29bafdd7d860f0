"""When callers who poll are asked to come back: not more of them in one second than the server can well answer. Pure.

A herd of clients that come every two seconds takes all that a process has, although nothing has changed for any of
them. Each caller is therefore given a second in which there is still room. Few callers notice nothing; the more there
are, the longer they wait, and they come evenly, not all at once.
"""

PER_S = 50
"""How many callers are expected in one second."""

LONGEST_S = 60
"""Nobody is asked to wait longer than this many seconds: there may be more of them, then, than are wanted."""


class Appointments:
    """A calendar of the next minute. Used from the event loop alone."""

    def __init__(self) -> None:
        """Begin with an empty one."""
        self._expected = [0] * (LONGEST_S + 1)
        self._today = 0

    def book(self, now_s: float, wait_s: int) -> int:
        """Return after how many seconds to come back: ``wait_s``, or more when there is no room then.

        ``now_s`` is a clock that only goes forward.
        """
        self._turn(int(now_s))
        first = min(max(1, wait_s), LONGEST_S)
        seconds = range(first, LONGEST_S + 1)
        found = next((after for after in seconds if self._expected[after] < PER_S), LONGEST_S)
        self._expected[found] += 1
        return found

    def _turn(self, today: int) -> None:
        """Let the seconds that are over make room for those to come."""
        gone = min(today - self._today, len(self._expected))
        if gone > 0:
            self._expected = self._expected[gone:] + [0] * gone
            self._today = today
