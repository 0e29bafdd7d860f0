"""Who is likely to come next, learned from who came. Pure: no clock, no thread, no I/O; the time is an argument.

A long batch makes the engine faster, and whoever comes while it runs pays for that. So a batch may take a tenth of the
time for which nobody is expected: the time between the last two who came while others were at work, or the time since
the last one, if that is longer. A file alone on the engine has full batches; so has one beside which a clip comes every
now and then; one beside a stream of clips has short ones, and full ones again some while after the stream has ended.
"""

from dataclasses import dataclass
from typing import NamedTuple

from tympan.domain import Lane

QUIET_SHARE = 0.1
"""How much of the time for which nobody is expected a batch may take."""


class Expected(NamedTuple):
    """What those who are likely to come allow: batches of ``ms``, made of windows as short as their ``audio_s``."""

    ms: float
    audio_s: float


NOBODY = Expected(float("inf"), float("inf"))


@dataclass(frozen=True, slots=True)
class _Last:
    """The last one who came in a lane, how long after the one before, and how long its first window was."""

    request_id: str
    came_s: float
    gap_s: float
    audio_s: float

    def expected(self, now_s: float) -> Expected:
        quiet_s = max(self.gap_s, now_s - self.came_s)
        return Expected(1000.0 * QUIET_SHARE * quiet_s, self.audio_s)


class Newcomers:
    """The last newcomer of each lane."""

    def __init__(self) -> None:
        """Expect nobody."""
        self._last: dict[Lane, _Last] = {}

    def came(self, lane: Lane, request_id: str, audio_s: float, now_s: float) -> None:
        """Take note of a request whose first window, of ``audio_s`` seconds, came while others were at work.

        In the live lane every window is one: as long as somebody speaks, the next is never far.
        """
        last = self._last.get(lane)
        if lane is Lane.LIVE:
            gap_s = 0.0
        elif last is None:
            gap_s = float("inf")
        elif last.request_id == request_id:
            return
        else:
            gap_s = now_s - last.came_s
        self._last[lane] = _Last(request_id, now_s, gap_s, audio_s)

    def live(self, now_s: float) -> Expected:
        """Return what those who speak allow to other lanes."""
        return self._expected(Lane.LIVE, now_s)

    def beside(self, lane: Lane, now_s: float) -> Expected:
        """Return what those allow who may come and are at least as urgent as a request of ``lane``."""
        lanes = [each for each in (Lane.INTERACTIVE, Lane.BATCH) if each <= lane]
        return min((self._expected(each, now_s) for each in lanes), default=NOBODY)

    def _expected(self, lane: Lane, now_s: float) -> Expected:
        last = self._last.get(lane)
        return NOBODY if last is None else last.expected(now_s)
