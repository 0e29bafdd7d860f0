"""Edits near seams and elsewhere: pure. What is counted, and why so, stands in ``benchmarks.seams``."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import jiwer

from tympan.domain import SAMPLE_RATE_HZ, Window, WindowResult
from tympan.quality.scoring import units

REACH = 3
"""Reference words on either side of a seam that belong to its zone."""

KINDS = ("cut", "window", "piece")
"""Kinds of seam; a word in the zones of several counts for the first of them."""

ELSEWHERE = "elsewhere"

_LONGEST_REPEAT = 12


@dataclass(frozen=True, slots=True)
class Part:
    """The text of one piece of a window, and the kind of the seam before it; ``start`` for a file's first."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: what, before or at which reference word, and whether it says again what stands beside it."""

    kind: str
    place: int
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Tally:
    """Edits against ``units`` reference words; ``repeats`` are those insertions that say words again."""

    units: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    repeats: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Pool two tallies."""
        mine, theirs = asdict(self), asdict(other)
        return Tally(**{name: mine[name] + theirs[name] for name in mine})

    @property
    def lost_or_added(self) -> int:
        """Deletions and insertions: what a bad seam makes."""
        return self.deletions + self.insertions


class Alignment:
    """A hypothesis against its reference: the edits, and where a place in the one lies in the other."""

    def __init__(self, reference: Sequence[str], hypothesis: Sequence[str]) -> None:
        """Align two lists of words."""
        self.n_units = len(reference)
        self._hypothesis = hypothesis
        found = jiwer.process_words(" ".join(reference), " ".join(hypothesis)) if reference and hypothesis else None
        self._chunks = found.alignments[0] if found else ()

    @property
    def equal_words(self) -> frozenset[int]:
        """Places in the hypothesis of the words that stand in the reference too."""
        equal = (chunk for chunk in self._chunks if chunk.type == "equal")
        return frozenset(place for chunk in equal for place in range(chunk.hyp_start_idx, chunk.hyp_end_idx))

    def edits(self) -> Iterator[Edit]:
        """Yield the edits in order."""
        if not self._chunks:
            yield from (Edit("delete", place) for place in range(self.n_units))
        for chunk in self._chunks:
            if chunk.type == "insert":
                repeats = self._repeats(chunk.hyp_start_idx, chunk.hyp_end_idx)
                yield from (
                    Edit("insert", chunk.ref_start_idx, repeats) for _ in range(chunk.hyp_start_idx, chunk.hyp_end_idx)
                )
            elif chunk.type != "equal":
                yield from (Edit(chunk.type, place) for place in range(chunk.ref_start_idx, chunk.ref_end_idx))

    def place(self, hyp_index: int) -> tuple[int, int]:
        """Return ``[low, high)``: the reference words between those aligned before ``hyp_index`` and from it on."""
        low, high = 0, self.n_units
        for chunk in self._chunks:
            if chunk.type not in ("equal", "substitute"):
                continue
            if chunk.hyp_start_idx < hyp_index:
                low = min(chunk.ref_end_idx, chunk.ref_start_idx + hyp_index - chunk.hyp_start_idx)
            if chunk.hyp_end_idx > hyp_index:
                high = chunk.ref_start_idx + max(0, hyp_index - chunk.hyp_start_idx)
                break
        return low, high

    def _repeats(self, start: int, end: int) -> bool:
        """Tell whether the words ``[start, end)`` of the hypothesis are those right before or right after them."""
        size = min(end - start, _LONGEST_REPEAT)
        said = list(self._hypothesis[start : start + size])
        return said in (list(self._hypothesis[start - size : start]), list(self._hypothesis[end : end + size]))


def parts_of(decoded: Sequence[tuple[Window, WindowResult]]) -> list[Part]:
    """Return the texts of windows, cut at every seam. Windows without text leave none."""
    parts: list[Part] = []
    before: Window | None = None
    for window, result in decoded:
        kind = "start" if before is None else "window"
        if before is not None and window.pieces[0].source_sample == before.end_sample:
            kind = "cut"
        parts += [Part(kind if not n else "piece", text) for n, text in enumerate(_by_piece(window, result))]
        before = window
    return parts


def _by_piece(window: Window, result: WindowResult) -> list[str]:
    """Return the text of each piece that has any; a word belongs to the piece in which its middle lies."""
    if not result.words:
        return [result.text] if result.text.strip() else []
    texts: dict[int, str] = {}
    for word in result.words:
        middle = (word.start_s + word.end_s) / 2 * SAMPLE_RATE_HZ
        place = max(n for n, piece in enumerate(window.pieces) if n == 0 or piece.window_sample <= middle)
        texts[place] = texts.get(place, "") + word.text
    return [texts[place] for place in sorted(texts)]


def zones(alignment: Alignment, parts: Sequence[Part], language: str) -> list[str]:
    """Return for each place between reference words, ``0`` to their number, the kind of the zone it lies in."""
    found = [ELSEWHERE] * (alignment.n_units + 1)
    for kind in reversed(KINDS):
        text = ""
        for part in parts:
            if part.kind == kind:
                low, high = alignment.place(len(units(text, language)))
                first, last = max(0, low - REACH), min(alignment.n_units, high + REACH)
                found[first : last + 1] = [kind] * (last + 1 - first)
            text += part.text
    return found


def tally(alignment: Alignment, zoned: Sequence[str]) -> dict[str, Tally]:
    """Return the edits in the zones of each kind, and elsewhere. A word is in a zone when both its sides are."""
    names = {"substitute": "substitutions", "delete": "deletions", "insert": "insertions"}
    out: dict[str, Tally] = dict.fromkeys((*KINDS, ELSEWHERE), Tally())
    for place in range(alignment.n_units):
        out[_word_zone(zoned, place)] += Tally(units=1)
    for edit in alignment.edits():
        zone = zoned[edit.place] if edit.kind == "insert" else _word_zone(zoned, edit.place)
        out[zone] += Tally(**{names[edit.kind]: 1}, repeats=int(edit.repeats))
    return out


def _word_zone(zoned: Sequence[str], place: int) -> str:
    before, after = zoned[place], zoned[place + 1]
    return before if ELSEWHERE not in (before, after) else ELSEWHERE


def as_dict(one: Tally) -> dict[str, Any]:
    """Return a tally as a JSON object, with what was lost or added for every 1000 words."""
    rate = 1000.0 * one.lost_or_added / one.units if one.units else 0.0
    return {**asdict(one), "lost_or_added_per_1000": round(rate, 2)}
