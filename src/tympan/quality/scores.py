"""What a clip came to, between its text, the score of it, and the JSON that is kept of that."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tympan.quality import scoring
from tympan.quality.manifest import SPEECH
from tympan.quality.scoring import Counts, Pair
from tympan.quality.verdict import ItemScore
from tympan.storage.golden import GoldenClip
from tympan.storage.golden_runs import GoldenResult

_PLAIN = "en"


def pair_of(clip: GoldenClip, text: str, detected: str | None) -> Pair:
    """Return what was said and what was heard, in the clip's language or, where it names none, the detected one."""
    return Pair(clip.reference, text, clip.language or detected or _PLAIN)


def score(clip: GoldenClip, text: str, detected: str | None) -> ItemScore:
    """Return what a clip's transcript comes to. The first call in a process takes a second: it loads what counts."""
    pair = pair_of(clip, text, detected)
    if clip.kind == SPEECH:
        return ItemScore(is_speech=True, words=scoring.count(pair), characters=scoring.count_characters(pair))
    words = scoring.units(text, pair.language)  # Without what stands in brackets; signs alone are no text.
    return ItemScore(is_speech=False, has_text=any(letter.isalnum() for word in words for letter in word))


def to_json(found: ItemScore, model: str) -> dict[str, Any]:
    """Return what is kept of a score, and of which model it tells."""
    if not found.is_speech:
        return {"model": model, "text": found.has_text}
    return {"model": model, "words": _edits(found.words), "characters": _edits(found.characters)}


def from_json(kept: Mapping[str, Any]) -> ItemScore:
    """Return the score that ``to_json`` made an object of."""
    if "text" in kept:
        return ItemScore(is_speech=False, has_text=kept["text"])
    return ItemScore(is_speech=True, words=_counts(kept["words"]), characters=_counts(kept["characters"]))


def by_clip(results: Iterable[GoldenResult]) -> dict[int, ItemScore]:
    """Return the scores of those results that have one, by number of clip."""
    return {each.idx: from_json(each.score) for each in results if each.score is not None}


def model_of(results: Iterable[GoldenResult]) -> str | None:
    """Return the model that made most of these results."""
    named = Counter(each.score["model"] for each in results if each.score is not None)
    return named.most_common(1)[0][0] if named else None


def _edits(counts: Counts) -> list[int]:
    return [counts.units, counts.substitutions, counts.deletions, counts.insertions]


def _counts(edits: list[int]) -> Counts:
    units, substitutions, deletions, insertions = edits
    return Counts(units, substitutions, deletions, insertions, clips=1)
