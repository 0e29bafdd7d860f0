"""Who said which word, where turns tell who spoke when. Pure.

Turns and words are found by different networks, which agree on the moment to about a tenth of a second.
"""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Sequence
from itertools import accumulate

from tympan.domain import Turn, Word
from tympan.turns import names

NEAR_S = 0.5
"""A word in no turn belongs to the nearest one, up to this far away: beyond it, to whoever spoke before."""


class Labeller:
    """Names the speakers of words, which come in order: what nobody is heard to say is said by the last speaker."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        """Take ``turns`` in any order; they may overlap."""
        self._turns = sorted(turns, key=lambda turn: (turn.start_s, turn.end_s))
        self._starts = [turn.start_s for turn in self._turns]
        # Turns end in another order than they begin; up to here all before have ended.
        self._ended = list(accumulate((turn.end_s for turn in self._turns), max))
        self._names = names(self._turns)
        self._last: int | None = None

    def names(self, words: Sequence[Word]) -> tuple[str | None, ...]:
        """Return who says each of these words, whose times are those of the recording."""
        return tuple(self.name(word.start_s, word.end_s) for word in words)

    def name(self, start_s: float, end_s: float) -> str | None:
        """Return who speaks most of the time between these; ``None`` where there are no turns at all.

        Where two do all the time it is the one whose turn is longer: that is whom a recogniser writes down, as the
        other one falls in with a word or two.
        """
        if not self._turns:
            return None
        found = self._speaking(start_s, end_s)
        if found is None:
            found = self._nearest(start_s, end_s) if self._last is None else self._last
        self._last = found
        return self._names[found]

    def _speaking(self, start_s: float, end_s: float) -> int | None:
        """Return who speaks, or is about to or has just done so."""
        near = self._turns[bisect_left(self._ended, start_s - NEAR_S) : bisect_right(self._starts, end_s + NEAR_S)]
        together, longest = defaultdict[int, float](float), defaultdict[int, float](float)
        for turn in near:
            overlap_s = min(turn.end_s, end_s) - max(turn.start_s, start_s)
            if overlap_s > 0:
                together[turn.speaker] += overlap_s
                longest[turn.speaker] = max(longest[turn.speaker], turn.end_s - turn.start_s)
        if together:
            return max(together, key=lambda speaker: (round(together[speaker], 3), longest[speaker], -speaker))
        close = [turn for turn in near if _apart(turn, start_s, end_s) <= NEAR_S]
        return min(close, key=lambda turn: _apart(turn, start_s, end_s)).speaker if close else None

    def _nearest(self, start_s: float, end_s: float) -> int:
        """Return who speaks next or spoke last, however long that is away: nobody has said a word before."""
        return min(self._turns, key=lambda turn: _apart(turn, start_s, end_s)).speaker


def _apart(turn: Turn, start_s: float, end_s: float) -> float:
    return max(turn.start_s - end_s, start_s - turn.end_s)
