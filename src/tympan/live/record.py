"""What a session has said so far: its text and its counts, and nothing of its audio."""

from collections.abc import Sequence
from dataclasses import replace

from tympan.domain import (
    SAMPLE_RATE_HZ,
    Accounting,
    DecodeStats,
    Options,
    Provenance,
    Ranking,
    Segment,
    Span,
    Transcript,
    Window,
    WindowResult,
    Word,
)
from tympan.live.events import Final
from tympan.transcript import Totals, assemble


class Record:
    """The finals of one session, put together."""

    def __init__(self, options: Options, model: str, provenance: Provenance) -> None:
        """Start empty."""
        self._options = options
        self._model, self._provenance = model, provenance
        self._segments: list[Segment] = []
        self._languages: Ranking = ((options.language, 1.0),) if options.language else ()
        self._stats = DecodeStats()
        self._used_samples = 0

    def add(
        self,
        number: int,
        span: Span,
        parts: Sequence[tuple[Window, WindowResult]],
        languages: Ranking,
        stats: DecodeStats,
    ) -> Final:
        """Take utterance ``number`` as it was decoded, and return its final."""
        said = assemble(parts, languages, self._options, Totals(0, 0, self._model, stats))
        first = len(self._segments)
        segments = tuple(replace(segment, id=first + at) for at, segment in enumerate(said.segments))
        # Token numbers would be half of what a long session keeps, and no format shows them.
        self._segments += [replace(segment, tokens=(), token_chances=(), words=_bare(segment)) for segment in segments]
        self._languages = self._languages or languages
        self._count(stats)
        self._used_samples += span.end_sample - span.start_sample
        start_s, end_s = span.start_sample / SAMPLE_RATE_HZ, span.end_sample / SAMPLE_RATE_HZ
        return Final(number, start_s, end_s, said.text, segments, said.language)

    def transcript(self, audio_samples: int, speech_samples: int) -> Transcript:
        """Return the whole."""
        return Transcript(
            text="".join(segment.text for segment in self._segments).strip(),
            segments=tuple(self._segments),
            task=self._options.task,
            language=self._languages[0][0] if self._languages else self._options.language,
            language_probability=self._languages[0][1] if self._languages else 0.0,
            languages=self._languages,
            accounting=Accounting(
                audio_s=audio_samples / SAMPLE_RATE_HZ,
                speech_s=speech_samples / SAMPLE_RATE_HZ,
                dropped_s=max(0, audio_samples - self._used_samples) / SAMPLE_RATE_HZ,
                covered_s=sum(segment.end_s - segment.start_s for segment in self._segments),
            ),
            model=self._model,
            stats=self._stats,
            provenance=self._provenance,
        )

    def _count(self, stats: DecodeStats) -> None:
        mine = self._stats
        self._stats = DecodeStats(
            windows=mine.windows + stats.windows,
            fallbacks=mine.fallbacks + stats.fallbacks,
            full_context=mine.full_context + stats.full_context,
            rejected=mine.rejected + stats.rejected,
        )


def _bare(segment: Segment) -> tuple[Word, ...]:
    return tuple(replace(word, tokens=()) for word in segment.words)
