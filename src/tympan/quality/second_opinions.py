"""How far the text of one model lies from that of another, as counts by day: what is kept of it, and read again.

The second model's text is the reference: a word that only it has is a deletion. Nothing says who is right.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tympan.quality.scoring import Counts, rate_interval
from tympan.quality.traffic_features import BY_NAME, DISAGREEMENT, KINDS
from tympan.storage.traffic import TrafficRow

FEATURE = "shadow"
"""What the exact counts are kept under; the drift test does not look at it."""

MIN_DAYS = 3
"""Days without which no interval is told."""

_AMOUNTS = {"windows": "clips", "words": "units"} | {n: n for n in ("substitutions", "deletions", "insertions")}


def amounts_of(counts: Counts) -> dict[tuple[str, str], int]:
    """Return what one window adds to the counts of a day, by feature and bin.

    Texts that are both empty agree; where the second model heard nothing, any text of the first is all wrong.
    """
    place = BY_NAME[DISAGREEMENT].place(counts.rate / 100)
    exact = {(FEATURE, name): int(getattr(counts, field)) for name, field in _AMOUNTS.items()}
    return {(DISAGREEMENT, place or "0"): 1, **{key: amount for key, amount in exact.items() if amount}}


@dataclass(frozen=True, slots=True)
class Opinion:
    """What two models made of the windows of some days: pooled counts (``clips`` are windows).

    ``interval_percent`` holds 95 % of the rates that whole days, drawn with replacement, give; ``None`` with less than
    ``MIN_DAYS``. Days are what is drawn because the windows of one day are alike: they come in bursts.
    """

    counts: Counts
    days: int
    interval_percent: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """One model and way of asking: the last days, and those before."""

    model: str
    kind: str
    window: Opinion
    baseline: Opinion


def comparisons(window: Sequence[TrafficRow], baseline: Sequence[TrafficRow]) -> list[Comparison]:
    """Return what the counts of the last days and of those before say, by model and way of asking."""
    new, old = _by_day(window), _by_day(baseline)
    keys = sorted({*new, *old}, key=lambda key: (key[0], KINDS.index(key[1]) if key[1] in KINDS else len(KINDS)))
    return [
        Comparison(model, kind, _pooled(new.get((model, kind), {})), _pooled(old.get((model, kind), {})))
        for model, kind in keys
    ]


def _by_day(rows: Sequence[TrafficRow]) -> dict[tuple[str, str], dict[str, Counts]]:
    found: dict[tuple[str, str], dict[str, Counts]] = {}
    for row in rows:
        if row.feature == FEATURE and row.bin in _AMOUNTS:
            days = found.setdefault((row.model, row.kind), {})
            days[row.day] = days.get(row.day, Counts()) + Counts(**{_AMOUNTS[row.bin]: row.count})
    return found


def _pooled(days: Mapping[str, Counts]) -> Opinion:
    counts = sum(days.values(), Counts())
    interval = rate_interval(list(days.values())) if len(days) >= MIN_DAYS and counts.units else None
    return Opinion(counts, len(days), interval)
