"""A new model on trial: what holds now, told to whoever picks models; and whether the new one is worse."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

from tympan.background import Background, attempt
from tympan.quality.drift_test import Drift, compare_halves
from tympan.quality.traffic import today
from tympan.quality.traffic_features import FEATURES, KINDS, Feature
from tympan.quality.verdict import Comparison
from tympan.storage.rollouts import Rollout, Standing
from tympan.storage.traffic import TrafficRow

LEVEL = 1e-4
"""Chance has to be less likely for a difference of the traffic to count; some thirty features are asked about."""

_JUDGED = frozenset({"hallucination", "empty"})
"""What means the same whichever model says it. How sure a model is of itself does not."""

_OF_THE_MODEL = frozenset({"language", "language_probability", "confidence", "pace", "disagreement", *_JUDGED})
"""What a model has a hand in; all else is of the audio, and tells whether lots were drawn fairly."""

_EVERY_S = 2.0
_JOIN_S = 5.0


class Rollouts(Protocol):
    """Where rollouts are kept."""

    def standing(self) -> Standing:
        """Return what holds now. Raises ``TympanError``."""


class RolloutWatch:
    """Tells ``follow`` what holds, again and again, in a thread of its own.

    While the database is away, what held last holds on.
    """

    def __init__(self, rollouts: Rollouts, follow: Callable[[Standing], None], every_s: float = _EVERY_S) -> None:
        """Look every ``every_s``."""
        self._rollouts, self._follow, self._every_s = rollouts, follow, every_s
        self._background = Background("rollouts", self._run, _JOIN_S)

    def start(self) -> None:
        """Begin to look."""
        self._background.start()

    def stop(self) -> None:
        """Look no more."""
        self._background.stop()

    def look(self) -> None:
        """Look once. Raises ``TympanError``."""
        self._follow(self._rollouts.standing())

    def _run(self) -> None:
        while True:
            attempt("rollouts", self.look)
            if self._background.over.wait(self._every_s):
                return


@dataclass(frozen=True, slots=True)
class Contrast:
    """One feature of one way of asking, with the candidate and with the incumbent: counts by bin, how they differ."""

    kind: str
    feature: Feature
    candidate: Mapping[str, int]
    incumbent: Mapping[str, int]
    drift: Drift

    @property
    def differs(self) -> bool:
        """Whether that is more than chance, and large enough to matter."""
        return self.drift.p < LEVEL and self.drift.size >= self.feature.least_psi

    @property
    def is_worse(self) -> bool:
        """Whether the candidate is worse by it, whatever models they are: more made up, or another share of nothing."""
        return self.differs and self.feature.name in _JUDGED and self.feature.is_worse(self.drift.shift)

    @property
    def is_unfair(self) -> bool:
        """Whether the audio differs, which it should not: lots decide who gets which model."""
        return self.differs and self.feature.name not in _OF_THE_MODEL


@dataclass(frozen=True, slots=True)
class SetContrast:
    """The candidate against the incumbent on one version of a golden set; ``None`` while one of them was not run."""

    set_name: str
    comparison: Comparison | None


@dataclass(frozen=True, slots=True)
class Judgement:
    """How a candidate stands to the incumbent: transcripts of each, what traffic and golden sets say."""

    rollout: Rollout
    candidates: int
    incumbents: int
    contrasts: Sequence[Contrast]
    sets: Sequence[SetContrast]
    tolerance_points: float

    @property
    def reasons(self) -> list[str]:
        """What makes the candidate worse, if anything does."""
        worse = [
            f"{each.set_name}: {each.comparison.difference_points:+.1f} points of word errors"
            for each in self.sets
            if each.comparison is not None and each.comparison.worse_words
        ]
        worse += [
            f"{each.set_name}: text for {each.comparison.newly} more clips without speech"
            for each in self.sets
            if each.comparison is not None and each.comparison.worse_silence
        ]
        return worse + [f"{each.kind}: {each.feature.title}" for each in self.contrasts if each.is_worse]

    @property
    def missing(self) -> list[str]:
        """What has to be known before the candidate can be called no worse, and is not."""
        wanted = []
        if not any(_is_close(each, self.tolerance_points) for each in self.sets):
            wanted.append(
                f"a golden set on which it is surely no more than {self.tolerance_points:g} points of word errors worse"
            )
        if not any(each.feature.name in _JUDGED and not each.drift.reason for each in self.contrasts):
            wanted.append("enough transcripts of both to compare")
        return wanted

    @property
    def verdict(self) -> Literal["worse", "no worse", "not known"]:
        """``worse``, ``no worse``, or ``not known`` yet."""
        if self.reasons:
            return "worse"
        return "not known" if self.missing else "no worse"


def judge(
    rollout: Rollout, rows: Sequence[TrafficRow], sets: Sequence[SetContrast], tolerance_points: float
) -> Judgement:
    """Return how a rollout's candidate stands to its incumbent, by traffic since its first day and by golden sets."""
    new, old = (_by_feature(rows, model) for model in (rollout.candidate, rollout.incumbent))
    contrasts = [
        Contrast(kind, feature, mine, theirs, compare_halves(mine, theirs, feature.bins, ordered=not feature.names))
        for kind in KINDS
        for feature in FEATURES
        if (mine := new.get((kind, feature.name), {})) and (theirs := old.get((kind, feature.name), {}))
    ]
    return Judgement(rollout, _count(new), _count(old), contrasts, sets, tolerance_points)


def first_day(rollout: Rollout) -> date:
    """Return the day (UTC) on which it began."""
    return today(rollout.began_at)


def _is_close(found: SetContrast, tolerance_points: float) -> bool:
    high = found.comparison.high_points if found.comparison is not None else None
    return high is not None and high <= tolerance_points


def _by_feature(rows: Sequence[TrafficRow], model: str) -> dict[tuple[str, str], dict[str, int]]:
    found: dict[tuple[str, str], dict[str, int]] = {}
    for row in rows:
        if row.model == model:
            bins = found.setdefault((row.kind, row.feature), {})
            bins[row.bin] = bins.get(row.bin, 0) + row.count
    return found


def _count(features: Mapping[tuple[str, str], Mapping[str, int]]) -> int:
    """Return how many transcripts there were: each is in one bin of this feature."""
    return sum(sum(bins.values()) for (_, feature), bins in features.items() if feature == "empty")
