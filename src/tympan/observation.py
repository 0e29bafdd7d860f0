"""What is noted of one finished transcription, for telling whether traffic changes: figures, and nothing of the text.

Pure. Whoever finishes a transcription hands an ``Observation`` to an ``Observer``; ``tympan.quality`` counts them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from tympan.domain import Segment, Transcript

MIN_SPEECH_S = 0.2
"""With less speech than this there is no pace."""


@dataclass(frozen=True, slots=True)
class MediaFacts:
    """What a file is: the family of its codec, its own sample rate and channels; ``None`` where that is not known."""

    codec: str | None = None
    sample_rate_hz: int | None = None
    channels: int | None = None


@dataclass(frozen=True, slots=True)
class Condition:
    """How speech came in; a figure is ``None`` where there was too little to tell.

    ``snr_db`` is estimated. ``clipped`` is the share of samples at the loudest level there is. ``bandwidth_hz`` is the
    highest frequency that holds sound, 8,000 at most: more is not heard.
    """

    snr_db: float | None = None
    clipped: float | None = None
    bandwidth_hz: float | None = None
    media: MediaFacts = field(default_factory=MediaFacts)


@dataclass(frozen=True, slots=True)
class Observation:
    """One finished transcription. Shares are from 0 to 1; what does not apply is ``None``.

    ``kind`` is ``call``, ``live`` or ``job``. ``hallucination`` and ``logprob`` are means over the text, ``coverage``
    is the share of speech, ``dropped`` that of audio that no model heard, ``pace`` letters per second of speech.
    """

    kind: str
    model: str
    language: str | None
    language_probability: float | None
    is_empty: bool
    hallucination: float | None
    logprob: float | None
    coverage: float | None
    dropped: float | None
    pace: float | None
    audio_s: float
    condition: Condition = field(default_factory=Condition)


Observer: TypeAlias = Callable[[Observation], object]
"""Takes what was observed; takes no time and raises nothing."""


def unobserved(_observation: Observation) -> None:
    """Forget what was observed."""


def observed(kind: str, transcript: Transcript, condition: Condition | None = None) -> Observation:
    """Return what is noted of ``transcript``."""
    where, segments = transcript.accounting, transcript.segments
    letters = sum(map(str.isalnum, transcript.text))
    speaks = letters and where.speech_s >= MIN_SPEECH_S
    return Observation(
        kind=kind,
        model=transcript.model,
        language=transcript.language,
        language_probability=transcript.language_probability if transcript.language else None,
        is_empty=not transcript.text.strip(),
        hallucination=_mean([(each.hallucination_score, _weight(each)) for each in segments]),
        logprob=_mean([(each.avg_logprob, _weight(each)) for each in segments if each.confidence is not None]),
        coverage=_share(where.speech_s, where.audio_s),
        dropped=_share(where.dropped_s, where.audio_s),
        pace=letters / where.speech_s if speaks else None,
        audio_s=where.audio_s,
        condition=condition or Condition(),
    )


def _weight(segment: Segment) -> float:
    return max(0.01, segment.end_s - segment.start_s)


def _mean(values: list[tuple[float | None, float]]) -> float | None:
    """Return the mean of what is known and finite, by weight."""
    known = [(value, weight) for value, weight in values if value is not None and math.isfinite(value)]
    total = sum(weight for _, weight in known)
    return sum(value * weight for value, weight in known) / total if total else None


def _share(part: float, whole: float) -> float | None:
    return min(1.0, max(0.0, part / whole)) if whole > 0 else None
