"""Which voices are of one person: agglomerative clustering that finds its own threshold. Pure.

Average linkage over cosine similarity: two groups are as alike as their members are on average, which is the product of
the groups' mean vectors, so that no matrix of all pairs is kept. Groups are joined along nearest-neighbour chains
(Murtagh 1983), which takes time in the square of the number of voices and gives the tree that joining the closest two
each time gives.

How alike voices are depends on the channel: of telephone speech different people are as alike as one person in another
recording. Windows tell what to expect here. Two local speakers of one window are different people, and one who is
heard in two windows at the same moments is one person; the threshold lies between.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tympan.diarize.base import FRAME_S, STEP_FRAMES, Track
from tympan.errors import Cancelled

ALIKE, UNLIKE = 0.90, 0.08
"""How alike one person's voice and two people's are in wide-band recordings, by these networks: medians."""

PRIOR_PAIRS = 4
"""How many pairs of a recording weigh as much as these medians."""

LEAST_S = 2.0
"""Who speaks for less in all of a recording is no speaker of their own."""

_PAIR_S = 1.0
_SHARE = 0.7

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many people speak: at least, and at most."""

    least: int = 1
    most: int = 20

    @classmethod
    def of(cls, n: int) -> "Crowd":
        """Return that it is exactly so many."""
        return cls(n, n)


def grouped(
    tracks: Sequence[Track], crowd: Crowd, cancelled: Callable[[], bool] = lambda: False, least_s: float = LEAST_S
) -> list[int]:
    """Return the number of each track's group, from 0; never more groups than tracks.

    Who speaks for less than ``least_s`` in all is taken for one of the others, unless the number of speakers is given.
    Raises ``Cancelled`` once that is told.
    """
    if not tracks:
        return []
    voices = np.stack([track.voice for track in tracks])
    seconds = np.array([track.active.sum() * FRAME_S for track in tracks])
    tree = _tree(voices, cancelled)
    alike = threshold(tracks)
    n_groups = len(tracks) - sum(join.similarity >= alike for join in tree)
    labels = _cut(tree, len(tracks), min(max(n_groups, crowd.least), crowd.most))
    if crowd.least < crowd.most:
        labels = _without_the_short(labels, voices, seconds, crowd.least, least_s)
    return [int(label) for label in labels]


def threshold(tracks: Sequence[Track]) -> float:
    """Return how alike voices have to be to be one person's in this recording."""
    same, different = _pairs(tracks)
    return 0.5 * (_typical(same, ALIKE) + _typical(different, UNLIKE))


def _typical(found: Sequence[float], expected: float) -> float:
    """Return the median, drawn towards what is expected as far as little was found."""
    median = float(np.median(found)) if found else expected
    return (len(found) * median + PRIOR_PAIRS * expected) / (len(found) + PRIOR_PAIRS)


def _pairs(tracks: Sequence[Track]) -> tuple[list[float], list[float]]:
    """Return how alike voices are that are one person's for certain, and that are two people's."""
    same, different = [], []
    for n, track in enumerate(tracks):
        for other in islice(tracks, n + 1, None):
            if other.window > track.window + 1:
                break
            if other.window == track.window:
                if other.local != track.local and min(track.alone_s, other.alone_s) >= _PAIR_S:
                    different.append(float(track.voice @ other.voice))
            elif _is_same(track, other):
                same.append(float(track.voice @ other.voice))
    return same, different


def _is_same(track: Track, following: Track) -> bool:
    """Return whether both speak at the same moments of the time that their windows share."""
    before = track.active[STEP_FRAMES:]
    after = following.active[: len(before)]
    together_s = float((before & after).sum()) * FRAME_S
    return together_s >= _PAIR_S and together_s >= _SHARE * min(before.sum(), after.sum()) * FRAME_S


@dataclass(frozen=True, slots=True)
class _Join:
    """Two groups become one; a group is named by one of its members."""

    first: int
    second: int
    similarity: float


def _tree(voices: Vectors, cancelled: Callable[[], bool] = lambda: False) -> list[_Join]:
    """Return all joins, the most alike first. Raises ``Cancelled``."""
    groups = _Groups(voices)
    joins: list[_Join] = []
    chain: list[int] = []
    while len(joins) < len(voices) - 1:
        if cancelled():
            raise Cancelled
        if not chain:
            chain.append(groups.any())
        nearest, similarity, backward = groups.nearest(chain[-1], chain[-2] if len(chain) > 1 else None)
        # On a tie the one it came from, or the chain would run in circles.
        if backward is not None and backward >= similarity:
            last, nearest = chain.pop(), chain.pop()
            joins.append(groups.join(nearest, last, backward))
            chain = groups.compacted(chain)
        else:
            chain.append(nearest)
    return sorted(joins, key=lambda join: -join.similarity)


class _Groups:
    """The groups that there still are, by row; rows of those that were joined go when they are half of all."""

    def __init__(self, voices: Vectors) -> None:
        self._names = np.arange(len(voices))
        self._means = voices.astype(np.float64)
        self._sizes = np.ones(len(voices))
        self._is_open = np.ones(len(voices), np.bool_)

    def any(self) -> int:
        return int(self._is_open.argmax())

    def nearest(self, row: int, before: int | None) -> tuple[int, float, float | None]:
        """Return the group most alike, how much so, and how much ``before`` is."""
        alike = np.where(self._is_open, self._means @ self._means[row], -np.inf)
        alike[row] = -np.inf
        nearest = int(alike.argmax())
        return nearest, float(alike[nearest]), None if before is None else float(alike[before])

    def join(self, row: int, other: int, similarity: float) -> _Join:
        n, n_other = self._sizes[row], self._sizes[other]
        self._means[row] = (n * self._means[row] + n_other * self._means[other]) / (n + n_other)
        self._sizes[row] += n_other
        self._is_open[other] = False
        return _Join(int(self._names[row]), int(self._names[other]), similarity)

    def compacted(self, rows: list[int]) -> list[int]:
        """Return where these rows are once there are no more than twice as many as groups."""
        if 2 * self._is_open.sum() > len(self._is_open):
            return rows
        places = np.cumsum(self._is_open) - 1
        kept = self._is_open
        self._names, self._means, self._sizes = self._names[kept], self._means[kept], self._sizes[kept]
        self._is_open = kept[kept]
        return [int(places[row]) for row in rows]


def _cut(tree: Sequence[_Join], n: int, n_groups: int) -> NDArray[np.int64]:
    """Return the labels after so many joins that ``n_groups`` are left."""
    parents = np.arange(n)

    def root(member: int) -> int:
        while parents[member] != member:
            member = int(parents[member])
        return member

    for join in tree[: max(0, n - n_groups)]:
        parents[root(join.second)] = root(join.first)
    _, labels = np.unique([root(member) for member in range(n)], return_inverse=True)
    return labels


def _without_the_short(
    labels: NDArray[np.int64], voices: Vectors, seconds: NDArray[np.float64], least: int, least_s: float
) -> NDArray[np.int64]:
    """Return labels in which groups of little speech are part of the group most alike; ``least`` groups stay."""
    totals = np.bincount(labels, seconds)
    ranked = np.argsort(-totals, kind="stable")
    kept = [group for place, group in enumerate(ranked) if place < least or totals[group] >= least_s]
    means = np.stack([np.average(voices[labels == group], axis=0, weights=seconds[labels == group]) for group in kept])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    nearest = np.array(kept)[(voices @ means.T).argmax(axis=1)]
    _, found = np.unique(np.where(np.isin(labels, kept), labels, nearest), return_inverse=True)
    return found
