"""What quality looks like on the wire: golden sets with their runs. Rates are in percent, times RFC 3339 in UTC."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from tympan.api.jobs.views import rfc3339
from tympan.quality.board import GoldenRun, Group, RunLine, SetHistory, Utterance

Outcome = Literal["running", "failed", "not_compared", "no_worse", "worse"]
_OPERATIONS = ("substitutions", "deletions", "insertions")


class ComparisonView(BaseModel):
    """A run against its baseline, clip by clip; points are percentage points of word errors, the interval holds 99 %.

    ``newly`` clips without speech have text now and had none then, ``cured`` the other way round.
    """

    baseline: str
    clips: int
    difference_points: float | None
    low_points: float | None
    high_points: float | None
    silent: int
    newly: int
    cured: int
    chance: float
    worse_words: bool
    worse_silence: bool


class RunView(BaseModel):
    """A run of a golden set. Figures are null until it has ended, and where there is nothing to count.

    The interval of the word error rate holds 95 %; it is null for runs of versions before it was kept.
    """

    object: Literal["quality_run"] = "quality_run"
    id: str
    golden_set: str
    version: int = Field(description="Of the set; each has a baseline of its own.")
    model: str | None = Field(description="The model that was measured, once that is known.")
    asked_model: str | None = Field(description="The model that was asked for by name; null for the default.")
    state: Literal["running", "succeeded", "failed"]
    cause: str = Field(description="`schedule`, or `request` for one that somebody began.")
    created_at: str
    finished_at: str | None
    clips: int
    failed: int
    words: int | None = Field(description="Words that were said (characters in zh and ja).")
    wer_percent: float | None
    wer_interval_percent: tuple[float, float] | None
    cer_percent: float | None
    silent_clips: int | None = Field(description="Clips without speech: canaries, in which any text is made up.")
    hallucinated_clips: int | None
    hallucination_percent: float | None
    is_baseline: bool = Field(description="Whether later runs are compared with it.")
    verdict: Outcome
    comparison: ComparisonView | None


class SetView(BaseModel):
    """A golden set and its runs in the days that were asked for, newest first."""

    object: Literal["golden_set"] = "golden_set"
    name: str
    version: int
    clips: int
    bytes: int
    schedule: str | None = Field(description="When it runs by itself, as cron has it, in UTC.")
    sample: int | None = Field(description="Clips of speech in a scheduled run; null for all.")
    model: str | None = Field(description="The model it measures; null for the default.")
    next_run_at: str | None
    runs: list[RunView]
    has_more: bool = Field(description="Whether older runs of these days were left out.")


class PartView(BaseModel):
    """Some clips of a run: all, or those of a language, speaker, tag or kind."""

    name: str
    clips: int
    words: int
    substitutions: int
    deletions: int
    insertions: int
    wer_percent: float
    wer_interval_percent: tuple[float, float] | None
    cer_percent: float
    silent_clips: int
    hallucinated_clips: int


class ChunkView(BaseModel):
    """A stretch of both texts, normalised as for counting."""

    kind: Literal["equal", "substitute", "delete", "insert"]
    reference: list[str]
    heard: list[str]


class UtteranceView(BaseModel):
    """A clip that went wrong: what was said, what was heard, and how the two lie together."""

    item: str
    kind: str
    language: str | None
    speaker: str | None
    tags: list[str]
    reference: str = Field(description="What was said; empty where nothing was.")
    text: str
    errors: int
    words: int
    alignment: list[ChunkView]
    error: str | None = Field(description="The code of what kept the clip from being transcribed.")


def set_view(found: SetHistory) -> SetView:
    """Return a set as it is shown."""
    each = found.golden_set
    return SetView(
        name=each.name,
        version=each.version,
        clips=each.n_items,
        bytes=each.n_bytes,
        schedule=each.plan.schedule,
        sample=each.plan.sample,
        model=each.plan.model or None,
        next_run_at=rfc3339(each.next_at),
        runs=[run_view(line) for line in found.runs],
        has_more=found.has_more,
    )


def run_view(line: RunLine) -> RunView:
    """Return a run as it is shown."""
    run = line.run
    return RunView.model_validate(
        {
            "id": run.id,
            "golden_set": run.set_name,
            "version": line.version,
            "model": run.model,
            "asked_model": run.asked_model or None,
            "state": run.state,
            "cause": run.cause,
            "created_at": rfc3339(run.created_at),
            "finished_at": rfc3339(run.finished_at),
            "clips": run.n_items,
            "failed": run.n_failed,
            **_figures(run.totals),
            "is_baseline": line.is_baseline,
            "verdict": _verdict(run),
            "comparison": run.comparison,
        }
    )


def part_view(found: Group) -> PartView:
    """Return a part of a run as it is shown."""
    words, totals = found.totals.words, found.totals
    return PartView(
        name=found.name,
        clips=words.clips + totals.silent,
        words=words.units,
        substitutions=words.substitutions,
        deletions=words.deletions,
        insertions=words.insertions,
        wer_percent=round(words.rate, 3),
        wer_interval_percent=None if found.low is None or found.high is None else _interval((found.low, found.high)),
        cer_percent=round(totals.characters.rate, 3),
        silent_clips=totals.silent,
        hallucinated_clips=totals.hallucinated,
    )


def utterance_view(found: Utterance) -> UtteranceView:
    """Return a clip that went wrong as it is shown."""
    clip = found.clip
    chunks = [{"kind": kind, "reference": list(said), "heard": list(heard)} for kind, said, heard in found.chunks]
    return UtteranceView.model_validate(
        {
            "item": clip.item,
            "kind": clip.kind,
            "language": clip.language,
            "speaker": clip.speaker,
            "tags": list(clip.tags),
            "reference": clip.reference,
            "text": found.text,
            "errors": found.words.errors,
            "words": found.words.units,
            "alignment": chunks,
            "error": found.error,
        }
    )


def _figures(totals: Mapping[str, Any] | None) -> dict[str, Any]:
    if not totals:
        names = ("words", "wer_percent", "wer_interval_percent", "cer_percent", "silent_clips", "hallucinated_clips")
        return dict.fromkeys((*names, "hallucination_percent"))
    silent, made_up = totals["silent"], totals["hallucinated"]
    return {
        "words": totals["words"]["units"],
        "wer_percent": _percent(totals["words"]),
        "wer_interval_percent": _interval(totals.get("words_interval_percent")),
        "cer_percent": _percent(totals["characters"]),
        "silent_clips": silent,
        "hallucinated_clips": made_up,
        "hallucination_percent": round(100 * made_up / silent, 3) if silent else None,
    }


def _interval(bounds: Sequence[float] | None) -> tuple[float, float] | None:
    return None if bounds is None else (round(bounds[0], 3), round(bounds[1], 3))


def _percent(counts: Mapping[str, int]) -> float | None:
    errors = sum(counts[name] for name in _OPERATIONS)
    return round(100 * errors / counts["units"], 3) if counts["units"] else None


def _verdict(run: GoldenRun) -> Outcome:
    if run.state != "succeeded":
        return "running" if run.state == "running" else "failed"
    if run.comparison is None:
        return "not_compared"
    return "worse" if run.comparison["worse_words"] or run.comparison["worse_silence"] else "no_worse"
