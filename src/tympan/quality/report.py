"""What a run tells a reader: the whole, its parts by language, speaker or tag, and the worst utterances."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from tympan.quality import scores
from tympan.quality.golden import RunDetails
from tympan.quality.scoring import Chunk, Counts, align, rate_interval
from tympan.quality.verdict import ItemScore, Totals, total
from tympan.storage.golden import GoldenClip

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


def worst(details: RunDetails, most: int) -> list[Utterance]:
    """Return the clips with most errors, those first that failed and those with text where nothing was said."""
    clips = {clip.idx: clip for clip in details.clips}
    found = []
    for result in details.results:
        clip = clips[result.idx]
        if result.score is None:
            if result.error is not None:
                found.append((float("inf"), Utterance(clip, "", Counts(), (), result.error)))
            continue
        score, text = scores.from_json(result.score), result.text or ""
        errors = score.words.errors if score.is_speech else len(text.split()) * score.has_text
        if errors:
            pair = scores.pair_of(clip, text, result.language)
            found.append((errors, Utterance(clip, text, score.words, tuple(align(pair)))))
    found.sort(key=lambda each: -each[0])
    return [each for _, each in found[:most]]


def as_dict(details: RunDetails) -> dict[str, Any]:
    """Return what is known of a run as a whole as a JSON object."""
    run = asdict(details.run)
    return {**run, "version": details.version, "all": summary(details).as_dict()}


def _group(name: str, found: Mapping[int, ItemScore]) -> Group:
    counts = [each.words for each in found.values() if each.is_speech]
    low, high = rate_interval(counts) if sum(each.units for each in counts) else (None, None)
    return Group(name, total(found), low, high)
