"""Window results to one transcript: pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from tympan.confidence import Evidence, confidence, hallucination_score
from tympan.domain import (
    SAMPLE_RATE_HZ,
    SPEAKER_TURN,
    Accounting,
    DecodeStats,
    Options,
    Provenance,
    Segment,
    Transcript,
    Turn,
    Window,
    WindowResult,
    Word,
)
from tympan.labelling import Labeller

_SENTENCE_ENDS = frozenset(".?!。？！…।؟")
_MAX_GAP_S = 1.0
_MAX_SEGMENT_S = 15.0
_COMFORTABLE_SEGMENT_S = 7.0
_CLAUSE_ENDS = frozenset(",;:，、；：")


@dataclass(frozen=True, slots=True)
class Totals:
    """What the pipeline counted on the way, in samples."""

    audio_samples: int
    speech_samples: int
    model: str
    stats: DecodeStats = field(default_factory=DecodeStats)
    provenance: Provenance = field(default_factory=Provenance)


def assemble(
    parts: Sequence[tuple[Window, WindowResult]],
    languages: Sequence[tuple[str, float]],
    options: Options,
    totals: Totals,
    turns: Sequence[Turn] | None = None,
) -> Transcript:
    """Return the transcript of a request from its windows' results, in order.

    Segments follow sentences and pauses where word times exist, windows otherwise. ``languages`` starts with the one
    used, then the runner-ups, each with its probability. ``turns``, where voices tell them, say who speaks which word;
    else the results do.
    """
    segments: list[Segment] = []
    labeller = None if turns is None else Labeller(turns)
    for window, result in parts:
        segments += segments_of(window, result, options, len(segments), labeller)
    numbered = tuple(segments)
    used = sum(piece.n_samples for window, _ in parts for piece in window.pieces)
    return Transcript(
        text="".join(segment.text for segment in numbered).strip(),
        segments=numbered,
        task=options.task,
        language=languages[0][0] if languages else options.language,
        language_probability=languages[0][1] if languages else 0.0,
        languages=tuple(languages),
        accounting=Accounting(
            audio_s=totals.audio_samples / SAMPLE_RATE_HZ,
            speech_s=totals.speech_samples / SAMPLE_RATE_HZ,
            dropped_s=max(0, totals.audio_samples - used) / SAMPLE_RATE_HZ,
            covered_s=sum(segment.end_s - segment.start_s for segment in numbered),
        ),
        model=totals.model,
        stats=totals.stats,
        provenance=replace(totals.provenance, speakers=_told_by(options, turns)),
        turns=tuple(turns or ()),
    )


def _told_by(options: Options, turns: Sequence[Turn] | None) -> str:
    if not options.diarize:
        return ""
    return "channels" if turns is None else "voices"


def segments_of(
    window: Window, result: WindowResult, options: Options, first_id: int = 0, labeller: Labeller | None = None
) -> list[Segment]:
    """Return what ``assemble`` makes of one window, numbered from ``first_id`` on.

    A ``labeller``, who has the windows before, says who speaks, instead of ``result``.
    """
    found = _segments(window, result, labeller, keep_words=options.timestamps == "word")
    language = result.language if options.multilingual else None
    return [replace(segment, id=first_id + i, language=language) for i, segment in enumerate(found)]


def source_time_s(window: Window, time_s: float, *, is_end: bool = False) -> float:
    """Return where a moment of the window lies in the source, in seconds.

    At the seam of two pieces an end belongs to the earlier piece and a start to the later one.
    """
    sample = round(time_s * SAMPLE_RATE_HZ)
    chosen = window.pieces[0]
    for piece in window.pieces[1:]:
        if sample < piece.window_sample or (is_end and sample == piece.window_sample):
            break
        chosen = piece
    offset = min(max(0, sample - chosen.window_sample), chosen.n_samples)
    return (chosen.source_sample + offset) / SAMPLE_RATE_HZ


def _segments(window: Window, result: WindowResult, labeller: Labeller | None, *, keep_words: bool) -> list[Segment]:
    if not result.text.strip():
        return []
    evidence = Evidence.of(window, result)
    if not result.words:
        start_s = window.pieces[0].source_sample / SAMPLE_RATE_HZ
        end_s = window.end_sample / SAMPLE_RATE_HZ
        whole = _segment(result, evidence, start_s, end_s, result.tokens)
        told = next(iter(result.speakers), None) if labeller is None else labeller.name(start_s, end_s)
        return [replace(whole, speaker=told, token_chances=result.token_chances)]
    words = [_placed(window, word) for word in result.words]
    told_apart = result.speakers if labeller is None else labeller.names(words)
    names = told_apart or (None,) * len(words)
    chances = iter(result.token_chances)
    return [
        replace(
            _spoken(result, evidence, tuple(group), keep_words=keep_words),
            speaker=name,
            token_chances=tuple(islice(chances, sum(len(word.tokens) for word in group))),
        )
        for group, name in _sentences(words, names)
    ]


def _spoken(result: WindowResult, evidence: Evidence, group: tuple[Word, ...], *, keep_words: bool) -> Segment:
    own = evidence.part("".join(word.text for word in group), group)
    tokens = tuple(token for word in group for token in word.tokens)
    segment = _segment(result, own, group[0].start_s, group[-1].end_s, tokens)
    return replace(segment, words=group) if keep_words else segment


def _placed(window: Window, word: Word) -> Word:
    start_s = source_time_s(window, word.start_s)
    end_s = max(start_s, _end_in_piece(window, word))
    return replace(word, start_s=round(start_s, 3), end_s=round(end_s, 3))


def _end_in_piece(window: Window, word: Word) -> float:
    """Return the word's end, kept inside the piece that it starts in: nobody speaks through a cut silence."""
    sample = round(word.start_s * SAMPLE_RATE_HZ)
    end_s = word.end_s
    for piece in window.pieces:
        if piece.window_sample <= sample < piece.window_sample + piece.n_samples:
            end_s = min(end_s, (piece.window_sample + piece.n_samples) / SAMPLE_RATE_HZ)
    return source_time_s(window, end_s, is_end=True)


def _sentences(words: Sequence[Word], names: Sequence[str | None]) -> list[tuple[list[Word], str | None]]:
    """Return words that belong together, with the name of their one speaker."""
    groups = [([words[0]], names[0])]
    for word, name in zip(words[1:], names[1:], strict=True):
        group, speaker = groups[-1]
        if name != speaker or _breaks(group, word):
            groups.append(([word], name))
        else:
            group.append(word)
    return groups


def _breaks(group: Sequence[Word], following: Word) -> bool:
    last, length_s = group[-1], following.end_s - group[0].start_s
    mark = last.text.rstrip()[-1:]
    return (
        mark in _SENTENCE_ENDS
        or last.text.endswith(SPEAKER_TURN)
        or following.start_s - last.end_s > _MAX_GAP_S
        or length_s > _MAX_SEGMENT_S
        or (mark in _CLAUSE_ENDS and length_s > _COMFORTABLE_SEGMENT_S)
    )


def _segment(
    result: WindowResult, evidence: Evidence, start_s: float, end_s: float, tokens: tuple[int, ...]
) -> Segment:
    return Segment(
        id=0,
        start_s=round(start_s, 3),
        end_s=round(max(start_s, end_s), 3),
        text=evidence.text,
        tokens=tokens,
        temperature=result.temperature,
        avg_logprob=result.avg_logprob,
        compression_ratio=result.compression_ratio,
        no_speech_prob=result.no_speech_prob,
        confidence=round(confidence(evidence), 4) if result.is_rated else None,
        hallucination_score=round(hallucination_score(evidence), 4),
    )
