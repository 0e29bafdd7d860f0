"""How often a partial is worth asking for: pure.

A session asks for the next one only when the last has come back, and when twice as much new audio is there as the last
ones took to come back. So a faster engine, or fewer sessions, give more partials; and however many sessions there are,
they do not fill the queue with partials that finals would have to wait for.
"""

_STEP = 0.3
_TIMES = 2.0
_SLOWEST_S = 3.0


class Pace:
    """The rhythm of one session's partials."""

    def __init__(self, at_least_s: float) -> None:
        """Start at the fastest rhythm, ``at_least_s`` seconds of new audio."""
        self._at_least_s = at_least_s
        self._turnaround_s = 0.0

    @property
    def every_s(self) -> float:
        """Seconds of new audio before the next partial."""
        return min(max(self._at_least_s, _TIMES * self._turnaround_s), max(self._at_least_s, _SLOWEST_S))

    def answered(self, took_s: float) -> None:
        """Take note that a partial came back ``took_s`` seconds after it was asked for."""
        self._turnaround_s += _STEP * (took_s - self._turnaround_s)
