"""What a run tells a reader: the whole, its parts by language, speaker or tag, and the worst utterances."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from tympan.quality import scores
from tympan.quality.golden import RunDetails
from tympan.quality.scoring import Chunk, Counts, align
from tympan.quality.verdict import ItemScore, Totals, interval_of, total
from tympan.storage.golden import GoldenClip
from tympan.storage.golden_runs import GoldenResult

_NONE = "-"
_MOST_GROUPS = 1_000


@dataclass(frozen=True, slots=True)
class Group:
    """Some clips of a run: their totals, and between which percentages their word error rate lies (95 %)."""

    name: str
    totals: Totals
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as a JSON object."""
        found = self.totals
        return {
            "name": self.name,
            "clips": found.words.clips,
            "words": found.words.as_dict(),
            "words_interval_percent": None if self.low is None else [self.low, self.high],
            "characters": found.characters.as_dict(),
            "without_speech": found.silent,
            "hallucinated": found.hallucinated,
            "hallucination_rate": found.hallucination_rate,
        }


@dataclass(frozen=True, slots=True)
class Utterance:
    """One clip that went wrong: its errors (for one without speech, its text), and how the two texts lie together."""

    clip: GoldenClip
    text: str
    words: Counts
    chunks: tuple[Chunk, ...]
    error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        clip = {name: getattr(self.clip, name) for name in ("item", "kind", "language", "speaker", "tags", "reference")}
        chunks = [chunk._asdict() for chunk in self.chunks]
        return {**clip, "text": self.text, "words": self.words.as_dict(), "alignment": chunks, "error": self.error}


Keys = Callable[[GoldenClip], Iterable[str]]

BY: Mapping[str, Keys] = MappingProxyType(
    {
        "language": lambda clip: [clip.language or _NONE],
        "speaker": lambda clip: [clip.speaker or _NONE],
        "tag": lambda clip: clip.tags or [_NONE],
        "kind": lambda clip: [clip.kind],
    }
)
"""What a run can be parted by; a clip with several tags counts for each of them."""


def summary(details: RunDetails) -> Group:
    """Return the run as a whole."""
    return _group("all", scores.by_clip(details.results))


def groups(details: RunDetails, by: str) -> list[Group]:
    """Return the run in parts, by name; ``by`` is a key of ``BY``."""
    found, parts = scores.by_clip(details.results), dict[str, dict[int, ItemScore]]()
    for clip in details.clips:
        if clip.idx in found:
            for name in BY[by](clip):
                parts.setdefault(name, {})[clip.idx] = found[clip.idx]
    return [_group(name, parts[name]) for name in sorted(parts)[:_MOST_GROUPS]]


def worst(details: RunDetails, most: int, skipped: int = 0) -> list[Utterance]:
    """Return the clips with most errors, those first that failed and those with text where nothing was said.

    The first ``skipped`` of them are left out. Only what is returned is aligned, which takes its time.
    """
    clips = {clip.idx: clip for clip in details.clips}
    ranked = sorted(_with_errors(details.results), key=lambda each: -each[0])
    return [_utterance(clips[result.idx], result) for _, result in ranked[skipped : skipped + most]]


def _with_errors(results: Iterable[GoldenResult]) -> Iterator[tuple[float, GoldenResult]]:
    """Yield results that went wrong, each with how much."""
    for result in results:
        if result.score is None:
            if result.error is not None:
                yield math.inf, result
            continue
        score = scores.from_json(result.score)
        errors = score.words.errors if score.is_speech else len((result.text or "").split()) * score.has_text
        if errors:
            yield errors, result


def _utterance(clip: GoldenClip, result: GoldenResult) -> Utterance:
    if result.score is None:
        return Utterance(clip, "", Counts(), (), result.error)
    text = result.text or ""
    pair = scores.pair_of(clip, text, result.language)
    return Utterance(clip, text, scores.from_json(result.score).words, tuple(align(pair)))


def as_dict(details: RunDetails) -> dict[str, Any]:
    """Return what is known of a run as a whole as a JSON object."""
    run = asdict(details.run)
    return {**run, "version": details.version, "all": summary(details).as_dict()}


def _group(name: str, found: Mapping[int, ItemScore]) -> Group:
    low, high = interval_of(found) or (None, None)
    return Group(name, total(found), low, high)
