"""Times of words put right by what can be heard in the samples: pure.

Attention turns to a word somewhat before or after it begins, by the model, and where a pause comes first somewhere in
the pause. So a boundary between words that lies at a pause is moved to its edges: the word before ends where the pause
begins, the next one starts where it ends. Quiet that is shorter may be a pause, or the closure of a plosive, which
belongs to the word: the boundary goes to its middle, at most half its length off. Figures: ``docs/decisions/``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tympan.domain import SAMPLE_RATE_HZ, Samples, Word

Heads = tuple[tuple[int, int], ...]
"""Layer and number of each attention head that times are taken from."""

BASE_HEADS = ((3, 1), (4, 2), (4, 3), (4, 7), (5, 1), (5, 2), (5, 4), (5, 6))
TINY_EN_HEADS = ((1, 0), (2, 0), (2, 5), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4))

_LEADS_S: Mapping[Heads, float] = MappingProxyType({BASE_HEADS: 0.05, TINY_EN_HEADS: -0.10})
"""By how many seconds heads turn to a word before it begins; those of ``tiny.en`` come late.

Each is the median over speech other than the published figures are measured with. Other models are taken as they are.
"""

DIP_S = 0.05
"""Quiet of less tells nothing."""

PAUSE_S = 0.15
"""From here on quiet is a pause. Four in five boundaries near it are better at its edges, near 50 to 110 ms two."""

NEAR_S = 0.05
BEFORE_S = 0.15
"""A boundary belongs to quiet that it lies in or near: at most 50 ms off, or up to 150 ms before a pause."""

CROWD_S = 0.3
"""By how much other boundaries may have to make way, all together: quiet in which several words are heard is none."""

_FRAME = SAMPLE_RATE_HZ // 100
_FRAME_S = _FRAME / SAMPLE_RATE_HZ
_LOUD_SHARE, _FLOOR_SHARE = 0.95, 0.05
_QUIET_DB = 35.0
_OVER_FLOOR_DB = 10.0
_AUDIBLE_DB = 15.0

Times = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Quiet:
    """A stretch of samples without speech, in seconds."""

    start_s: float
    end_s: float

    @property
    def is_pause(self) -> bool:
        """Whether it is too long for the closure of a plosive."""
        return self.end_s - self.start_s >= PAUSE_S - _FRAME_S / 2

    @property
    def edges_s(self) -> tuple[float, float]:
        """Where the word before ends and the next one starts: the edges of a pause, the middle of a dip."""
        if self.is_pause:
            return self.start_s, self.end_s
        middle_s = (self.start_s + self.end_s) / 2
        return middle_s, middle_s


def quiets(samples: Samples) -> list[Quiet]:
    """Return the stretches of at least ``DIP_S`` that are 35 dB below the loud parts, or near the noise.

    Where noise leaves less than 15 dB to speech there are none.
    """
    frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME).astype(np.float32)
    if not len(frames):
        return []
    level_db = 10.0 * np.log10((frames**2).mean(axis=1) + 1.0)
    floor_db, loud_db = np.quantile(level_db, (_FLOOR_SHARE, _LOUD_SHARE))
    limit_db = max(loud_db - _QUIET_DB, min(floor_db + _OVER_FLOOR_DB, loud_db - _AUDIBLE_DB))
    changes = np.flatnonzero(np.diff(np.concatenate([[False], level_db < limit_db, [False]]).astype(np.int8)))
    found = (Quiet(*edges) for edges in (changes.reshape(-1, 2) * _FRAME / SAMPLE_RATE_HZ).tolist())
    return [one for one in found if one.end_s - one.start_s >= DIP_S - _FRAME_S / 2]


def lead_s(heads: Heads) -> float:
    """Return by how many seconds ``heads`` turn to a word before it begins; 0 for those that nobody measured."""
    return _LEADS_S.get(heads, 0.0)


def settled(words: Sequence[Word], samples: Samples, lead_s: float) -> tuple[Word, ...]:
    """Return ``words`` of a window, each from the end of the one before, with times put right by its ``samples``.

    They were found ``lead_s`` too early. Their order stays, and no word starts before its predecessor.
    """
    if not words:
        return ()
    limit_s = len(samples) / SAMPLE_RATE_HZ
    given = np.array([words[0].start_s, *(word.end_s for word in words)])
    begins = np.clip(np.where(given > 0.0, given + lead_s, 0.0), 0.0, limit_s)
    ends = begins.copy()
    for quiet in quiets(samples):
        place = _place(begins, quiet)
        if place is not None:
            _part(begins, ends, place, quiet.edges_s)
    return tuple(
        replace(word, start_s=float(start_s), end_s=float(max(start_s, end_s)))
        for word, start_s, end_s in zip(words, begins[:-1], ends[1:], strict=True)
    )


def _place(bounds: Times, quiet: Quiet) -> int | None:
    """Return which of ``bounds`` belongs to ``quiet``: the one for which all have to move least; ``None`` for none."""
    left_s, right_s = quiet.edges_s
    before_s = BEFORE_S if quiet.is_pause else NEAR_S
    near = (bounds >= quiet.start_s - before_s) & (bounds <= quiet.end_s + NEAR_S)
    late, early = np.maximum(0.0, bounds - left_s), np.maximum(0.0, right_s - bounds)
    crowd = np.concatenate([[0.0], np.cumsum(late)[:-1]]) + np.concatenate([np.cumsum(early[::-1])[-2::-1], [0.0]])
    own = np.maximum(0.0, np.maximum(quiet.start_s - bounds, bounds - quiet.end_s))
    cost = np.where(near & (crowd <= CROWD_S), crowd + own, np.inf)
    best = int(cost.argmin())
    return best if np.isfinite(cost[best]) else None


def _part(begins: Times, ends: Times, place: int, edges_s: tuple[float, float]) -> None:
    """Part the words at ``place``: those before it end by the first edge, those from it on start at the second."""
    left_s, right_s = edges_s
    for times in (begins, ends):
        np.minimum(times[:place], left_s, out=times[:place])
        np.maximum(times[place + 1 :], right_s, out=times[place + 1 :])
    begins[place], ends[place] = right_s, left_s
