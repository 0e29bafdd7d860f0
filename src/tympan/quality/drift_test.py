"""Whether traffic of one week is another than that of the weeks before: one feature, counted by day and bin. Pure.

How far apart two distributions are is told by the population stability index. Whether that is more than chance is told
by a test that knows that requests come in bursts: a caller sends a thousand files with one microphone on one day. So
days, and whole weeks, are what is drawn, not requests. The covariance of the shares is that of independent draws plus
what the baseline's days (or weeks, if they differ more) show beyond it; the squared distance of the square roots of
the shares is compared with an F distribution of the same mean and variance (Rao and Scott, Annals of Statistics 12,
1984; Satterthwaite). Square roots keep small counts from looking extreme.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Days: TypeAlias = Mapping[int, Mapping[str, int]]
"""Counts by bin, by day; a day is a number."""

_Array: TypeAlias = NDArray[np.float64]

MIN_WINDOW, MIN_BASELINE, MIN_BASELINE_DAYS = 30, 60, 3
"""Observations, and days that have some, without which nothing is said."""

_MIN_EXPECTED = 5.0
_WEEK = 7
_MIN_WEEKS = 3
_TINY = 1e-12


@dataclass(frozen=True, slots=True)
class Drift:
    """How two distributions differ. ``chance_psi`` is the index that chance alone would give.

    ``p`` is how often chance gives as much or more; ``shift`` is positive when values went up (to later bins).
    ``reason`` says why nothing could be told, if so.
    """

    psi: float = 0.0
    chance_psi: float = 0.0
    p: float = 1.0
    shift: float = 0.0
    n_window: int = 0
    n_baseline: int = 0
    reason: str = ""

    @property
    def size(self) -> float:
        """The index beyond what chance alone would give."""
        return self.psi - self.chance_psi


def compare(window: Days, baseline: Days, bins: Sequence[str], *, ordered: bool) -> Drift:
    """Return how ``window`` differs from ``baseline``; bins that are not among ``bins`` are left out.

    Rare bins are joined to their neighbours, or among each other where there is no order.
    """
    new, old = _table(window, bins), _table(baseline, bins)
    n_new, n_old = int(new.sum()), int(old.sum())
    if n_new < MIN_WINDOW:
        return Drift(n_window=n_new, n_baseline=n_old, reason="too little traffic")
    if n_old < MIN_BASELINE or len(old) < MIN_BASELINE_DAYS:
        return Drift(n_window=n_new, n_baseline=n_old, reason="no baseline yet")
    groups = _groups(new.sum(axis=0), old.sum(axis=0), ordered=ordered)
    if len(groups) == 1:
        return Drift(n_window=n_new, n_baseline=n_old)
    new, old = _joined(new, groups), _joined(old, groups)
    weeks = _by_week(baseline, bins, groups)
    spread = max(
        _covariance(new.sum(axis=0), old.sum(axis=0), old, new.sum(axis=1)),
        _covariance(new.sum(axis=0), old.sum(axis=0), weeks, np.array([n_new])),
        key=lambda each: float(np.trace(each)),
    )
    return _drift(new, old, spread, len(old) - 1)


def compare_halves(new: Mapping[str, int], old: Mapping[str, int], bins: Sequence[str], *, ordered: bool) -> Drift:
    """Return how two parts of the same traffic differ, which were divided by lot, so that bursts are in both."""
    now, then = (_table({0: counts}, bins).sum(axis=0) for counts in (new, old))
    n_new, n_old = int(now.sum()), int(then.sum())
    if min(n_new, n_old) < MIN_WINDOW:
        return Drift(n_window=n_new, n_baseline=n_old, reason="too little traffic")
    groups = _groups(now, then, ordered=ordered)
    if len(groups) == 1:
        return Drift(n_window=n_new, n_baseline=n_old)
    first, second = (_joined(row[np.newaxis], groups) for row in (now, then))
    spread = _covariance(first[0], second[0], np.zeros((0, len(groups))), np.array([n_new]))
    return _drift(first, second, spread, n_old - 1)


def _drift(new: _Array, old: _Array, spread: _Array, blocks: int) -> Drift:
    """Return how two tables of counts differ; ``spread`` is the covariance that chance gives, from so many blocks."""
    n_new, n_old = int(new.sum()), int(old.sum())
    now, then = new.sum(axis=0) / n_new, old.sum(axis=0) / n_old
    p = _p_value(4 * float(np.sum((np.sqrt(now) - np.sqrt(then)) ** 2)), spread, blocks)
    shift = float((now - then) @ np.arange(len(now)))
    return Drift(_psi(new, old), float(np.trace(spread)), p, shift, n_new, n_old)


def _table(days: Days, bins: Sequence[str]) -> _Array:
    """Return counts, a row for each day that has any."""
    rows = [[max(0, counts.get(name, 0)) for name in bins] for _, counts in sorted(days.items())]
    table: _Array = np.array(rows, dtype=np.float64).reshape(-1, len(bins))
    some: _Array = table[table.sum(axis=1) > 0]
    return some


def _by_week(days: Days, bins: Sequence[str], groups: Sequence[Sequence[int]]) -> _Array:
    """Return counts, a row for each seven days up to the last; none where there are too few weeks."""
    last = max(days)
    found: dict[int, _Array] = {}
    for day, counts in days.items():
        row = _table({day: counts}, bins).sum(axis=0)
        found[(last - day) // _WEEK] = found.get((last - day) // _WEEK, np.zeros(len(bins))) + row
    rows = np.array([row for row in found.values() if row.sum()])
    return _joined(rows, groups) if len(rows) >= _MIN_WEEKS else np.zeros((0, len(groups)))


def _groups(new: _Array, old: _Array, *, ordered: bool) -> list[list[int]]:
    """Return which bins are taken together, so that a window has some of each, or could be expected to."""
    usual = (new + old) * new.sum() / (new.sum() + old.sum())

    def is_enough(group: list[int]) -> bool:
        return max(float(usual[group].sum()), float(new[group].sum())) >= _MIN_EXPECTED

    order = range(len(new)) if ordered else np.argsort(-np.maximum(new, usual), kind="stable")
    groups: list[list[int]] = [[]]
    for at in order:
        if is_enough(groups[-1]):
            groups.append([])
        groups[-1].append(int(at))
    if len(groups) > 1 and not is_enough(groups[-1]):
        last = groups.pop()
        groups[-1] += last
    return groups


def _joined(table: _Array, groups: Sequence[Sequence[int]]) -> _Array:
    joined: _Array = np.stack([table[:, list(group)].sum(axis=1) for group in groups], axis=1)
    return joined


def _covariance(new: _Array, old: _Array, blocks: _Array, sizes: _Array) -> _Array:
    """Return the covariance of twice the difference of the roots of the shares, if nothing has changed.

    ``blocks`` of the baseline show by how much observations that belong together resemble each other; ``sizes`` are
    those of the window's blocks.
    """
    p = np.maximum((new / new.sum() + old / old.sum()) / 2, _TINY)
    alone = np.eye(len(p)) - np.outer(np.sqrt(p), np.sqrt(p))
    independent: _Array = alone * (1 / new.sum() + 1 / old.sum())
    if not len(blocks):
        return independent
    bursts = sum(float(np.sum(each**2) / each.sum() ** 2) for each in (sizes, blocks.sum(axis=1)))
    independent += bursts * _resemblance(blocks, np.sqrt(p), alone)
    return independent


def _resemblance(blocks: _Array, roots: _Array, alone: _Array) -> _Array:
    """Return the covariance of the shares of two observations of one block."""
    sizes = blocks.sum(axis=1)
    shares = blocks.sum(axis=0) / sizes.sum()
    residuals = (blocks - np.outer(sizes, shares)) / roots
    scatter = residuals.T @ residuals * len(blocks) / (len(blocks) - 1)
    own = (np.diag(shares) - np.outer(shares, shares)) / np.outer(roots, roots)
    values, vectors = np.linalg.eigh((scatter - own * sizes.sum()) / np.sum(sizes**2))
    # Bins that the baseline does not have may come in bursts as the others do.
    usual = max(0.0, float(values.sum())) / (len(roots) - 1)
    found: _Array = (vectors * np.maximum(values, 0)) @ vectors.T + usual * alone
    return found


def _psi(new: _Array, old: _Array) -> float:
    """Return the population stability index; half an observation in every bin keeps it finite."""
    now, then = (table.sum(axis=0) + 0.5 for table in (new, old))
    now, then = now / now.sum(), then / then.sum()
    return float(np.sum((now - then) * np.log(now / then)))


def _p_value(distance: float, spread: _Array, blocks: int) -> float:
    mean, square = float(np.trace(spread)), float(np.sum(spread * spread))
    if mean <= _TINY:
        return 1.0
    freedom = mean * mean / square
    return f_tail(distance / mean, freedom, freedom * blocks)


def f_tail(value: float, over: float, under: float) -> float:
    """Return how often an F variable of ``over`` and ``under`` degrees of freedom exceeds ``value``."""
    return 1.0 if value <= 0 else incomplete_beta(under / 2, over / 2, under / (under + over * value))


def incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularized incomplete beta function, by its continued fraction (Lentz's way)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - incomplete_beta(b, a, 1 - x)
    log = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    c, d = 1.0, 1 / _away(1 - (a + b) * x / (a + 1))
    total = d
    for m in range(1, 10_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d, c = 1 / _away(1 + term * d), _away(1 + term / c)
            total *= c * d
        if abs(c * d - 1) < _TINY:
            break
    return math.exp(log) * total / a


def _away(value: float) -> float:
    return value if abs(value) > 1e-300 else 1e-300
