"""What live traffic and a model on trial look like on the wire. Shares are 0 to 1, rates in percent."""

from collections.abc import Mapping
from datetime import date
from typing import Literal

from pydantic import BaseModel, Field

from tympan.api.jobs.views import rfc3339
from tympan.quality.board import Comparison, Finding, Judgement, Opinion, Report, SecondOpinions, shares

_LANGUAGE = "language"


class DaysView(BaseModel):
    """The first and the last day, both included, in UTC."""

    first: str
    last: str


class BinView(BaseModel):
    """One bin of a feature: its share of what was counted lately, and before. Named by its lower edge, or itself."""

    bin: str
    now: float
    before: float


class FeatureView(BaseModel):
    """One feature of one way of asking, lately beside the days before.

    ``psi`` is how far the two lie apart, ``chance_psi`` what chance alone would give, ``p`` how often chance gives as
    much or more; ``reason`` says why nothing could be told, if so.
    """

    kind: Literal["call", "live", "job"]
    feature: str
    title: str
    ordered: bool = Field(description="Whether bins are lower edges of numbers, not names.")
    n_now: int
    n_before: int
    psi: float
    chance_psi: float
    p: float
    shift: float = Field(description="Above 0 where values went up.")
    is_drift: bool
    reason: str | None
    bins: list[BinView]


class LanguageView(BaseModel):
    """A language and its share of all transcripts, lately and before."""

    language: str
    count: int
    share: float
    share_before: float


class TrafficView(BaseModel):
    """Live traffic of the last days beside the days before; a minute may pass until a transcript is counted."""

    window: DaysView
    baseline: DaysView
    baseline_is_kept: bool
    languages: list[LanguageView] = Field(description="Of all ways of asking together, the most frequent first.")
    features: list[FeatureView]


class OpinionView(BaseModel):
    """How far texts lay from the shadow model's; the interval holds 95 % of what whole days, drawn by chance, give."""

    windows: int
    days: int
    words: int
    wer_percent: float | None
    wer_interval_percent: tuple[float, float] | None


class DisagreementView(BaseModel):
    """One model and way of asking, with the shadow model's text as the reference."""

    model: str
    kind: str
    now: OpinionView
    before: OpinionView


class ShadowView(BaseModel):
    """What a second model makes of a share of the windows; ``model`` is null while none is set."""

    model: str | None
    disagreement: list[DisagreementView]


class TrialSetView(BaseModel):
    """The model on trial against the default on one golden set; null while one of them has not been measured."""

    golden_set: str
    difference_points: float | None
    low_points: float | None
    high_points: float | None
    worse: bool | None


class RolloutView(BaseModel):
    """A model on trial, and how it stands to the one it would replace."""

    id: str
    candidate: str
    incumbent: str
    share: float
    began_at: str
    transcripts_candidate: int
    transcripts_incumbent: int
    verdict: Literal["worse", "no_worse", "not_known"]
    reasons: list[str] = Field(description="What makes it worse.")
    missing: list[str] = Field(description="What has to be known before it can be called no worse.")
    golden_sets: list[TrialSetView]


def traffic_view(found: Report) -> TrafficView:
    """Return traffic as it is shown."""
    return TrafficView(
        window=_days(found.window),
        baseline=_days(found.baseline),
        baseline_is_kept=found.is_kept,
        languages=_languages(found),
        features=[_feature(each) for each in found.findings],
    )


def shadow_view(model: str | None, found: SecondOpinions) -> ShadowView:
    """Return what the shadow model made of it as it is shown."""
    return ShadowView(model=model, disagreement=[_disagreement(each) for each in found.comparisons])


def rollout_view(found: Judgement) -> RolloutView:
    """Return a model on trial as it is shown."""
    return RolloutView.model_validate(
        {
            "id": found.rollout.id,
            "candidate": found.rollout.candidate,
            "incumbent": found.rollout.incumbent,
            "share": found.rollout.share,
            "began_at": rfc3339(found.rollout.began_at),
            "transcripts_candidate": found.candidates,
            "transcripts_incumbent": found.incumbents,
            "verdict": found.verdict.replace(" ", "_"),
            "reasons": found.reasons,
            "missing": found.missing,
            "golden_sets": [
                {
                    "golden_set": each.set_name,
                    "difference_points": each.comparison and each.comparison.difference_points,
                    "low_points": each.comparison and each.comparison.low_points,
                    "high_points": each.comparison and each.comparison.high_points,
                    "worse": each.comparison and (each.comparison.worse_words or each.comparison.worse_silence),
                }
                for each in found.sets
            ],
        }
    )


def _feature(each: Finding) -> FeatureView:
    drift, new, old = each.drift, shares(each.window), shares(each.baseline)
    bins = [(name, new.get(name, 0.0), old.get(name, 0.0)) for name in each.feature.bins if name in new or name in old]
    return FeatureView.model_validate(
        {
            "kind": each.kind,
            "feature": each.feature.name,
            "title": each.feature.title,
            "ordered": not each.feature.names,
            "n_now": drift.n_window,
            "n_before": drift.n_baseline,
            "psi": round(drift.psi, 4),
            "chance_psi": round(drift.chance_psi, 4),
            "p": drift.p,
            "shift": round(drift.shift, 4),
            "is_drift": each.is_drift,
            "reason": drift.reason or None,
            "bins": [{"bin": name, "now": round(now, 4), "before": round(was, 4)} for name, now, was in bins],
        }
    )


def _languages(found: Report) -> list[LanguageView]:
    new, old = dict[str, int](), dict[str, int]()
    for each in found.findings:
        if each.feature.name == _LANGUAGE:
            _add(new, each.window)
            _add(old, each.baseline)
    now, before = shares(new), shares(old)
    names = sorted({**new, **old}, key=lambda name: (-new.get(name, 0), -old.get(name, 0), name))
    return [
        LanguageView(
            language=name,
            count=new.get(name, 0),
            share=round(now.get(name, 0.0), 4),
            share_before=round(before.get(name, 0.0), 4),
        )
        for name in names
    ]


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _disagreement(each: Comparison) -> DisagreementView:
    return DisagreementView(model=each.model, kind=each.kind, now=_opinion(each.window), before=_opinion(each.baseline))


def _opinion(found: Opinion) -> OpinionView:
    counts, bounds = found.counts, found.interval_percent
    return OpinionView(
        windows=counts.clips,
        days=found.days,
        words=counts.units,
        wer_percent=round(counts.rate, 3) if counts.clips else None,
        wer_interval_percent=None if bounds is None else (round(bounds[0], 3), round(bounds[1], 3)),
    )


def _days(found: tuple[date, date]) -> DaysView:
    return DaysView(first=found[0].isoformat(), last=found[1].isoformat())
