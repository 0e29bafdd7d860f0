"""The values that travel through Tympan: frozen, ours, and few.

Positions in audio are sample counts at 16 kHz (``*_sample``) until a reader sees them; then they are seconds (``*_s``).
"""

from dataclasses import dataclass, field, replace
from enum import IntEnum, StrEnum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tympan.options import Abilities, DiarizeBy, LanguageUse, Options, Shape, Suppression, Task, Timestamps, VadOptions
from tympan.provenance import Provenance
from tympan.turns import Turn

__all__ = (
    "Abilities", "DiarizeBy", "LanguageUse", "Options", "Provenance", "Shape", "Suppression", "Task", "Timestamps",
    "Turn", "VadOptions",
)  # fmt: skip  # Beside what is defined here.

SAMPLE_RATE_HZ = 16_000
"""Whisper's input rate; every sample position in the program counts at this rate."""

MAX_WINDOW_S = 30.0
"""What one pass of the Whisper encoder can see."""

MAX_WINDOW_SAMPLES = int(MAX_WINDOW_S * SAMPLE_RATE_HZ)

Samples: TypeAlias = NDArray[np.int16]
"""Mono 16 kHz signed 16-bit PCM, shape ``[n_samples]``."""

SPEAKER_TURN = " [SPEAKER_TURN]"
"""Mark in a text where the speaker changes, as whisper.cpp's own programs spell it."""

Levels: TypeAlias = NDArray[np.float16]
"""Mean size of the samples of the left and the right channel, shape ``[n_steps, 2]``, a step being 16 ms."""

Ranking: TypeAlias = tuple[tuple[str, float], ...]
"""Language codes with probabilities, likeliest first."""


class Lane(IntEnum):
    """Class of service; a lower value goes first."""

    LIVE = 0
    INTERACTIVE = 1
    BATCH = 2


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of speech, ``[start_sample, end_sample)`` of the source; ``peak`` is the highest VAD score in it."""

    start_sample: int
    end_sample: int
    peak: float = 1.0


@dataclass(frozen=True, slots=True)
class Piece:
    """Where a run of a window's samples came from in the source."""

    window_sample: int
    source_sample: int
    n_samples: int


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What the engine gets: at most 30 s of one request's speech, in one or more pieces.

    ``speech_peak`` is the highest VAD score in it: low only where VAD was off and nobody seems to speak. ``levels``
    are those of both channels, where speakers are to be told apart by them.
    """

    index: int
    samples: Samples
    pieces: tuple[Piece, ...]
    speech_peak: float = 1.0
    levels: Levels | None = None

    @property
    def duration_s(self) -> float:
        """Length of the window in seconds."""
        return len(self.samples) / SAMPLE_RATE_HZ

    @property
    def covered_s(self) -> float:
        """Seconds of audio in it, also once the samples are gone."""
        return self.duration_s or sum(piece.n_samples for piece in self.pieces) / SAMPLE_RATE_HZ

    @property
    def end_sample(self) -> int:
        """Where the window ends in the source."""
        last = self.pieces[-1]
        return last.source_sample + last.n_samples

    def without_samples(self) -> "Window":
        """Return the window with its place in the source, but no audio."""
        return replace(self, samples=np.zeros(0, dtype=np.int16), levels=None)


@dataclass(frozen=True, slots=True)
class DecodeParams:
    """One attempt at one window.

    ``language`` is ``None`` to detect it in the same pass. ``full_context`` asks for the plain 30-s encoder input.
    ``prompt`` and ``hotwords`` are text before the window. ``temperature`` 0 means beam search of ``beam_size``, above
    it ``best_of`` samples are drawn. ``speaker_turns`` asks for marks where the speaker changes. ``languages`` are
    those that may be detected; all without any. ``token_chances`` asks how likely each token is. ``language_only``
    wants the language and no text: one token is enough.
    """

    task: Task = Task.TRANSCRIBE
    language: str | None = None
    prompt: str | None = None
    hotwords: str | None = None
    beam_size: int = 5
    best_of: int = 5
    temperature: float = 0.0
    full_context: bool = False
    align: bool = False
    speaker_turns: bool = False
    languages: tuple[str, ...] = ()
    suppression: Suppression = field(default_factory=Suppression)
    token_chances: bool = False
    language_only: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class WindowTask:
    """One window and how to decode it: the unit of batching."""

    window: Window
    params: DecodeParams


@dataclass(frozen=True, slots=True)
class Word:
    """A word with its times in seconds, the model's probability for it, and the tokens that spell it."""

    text: str
    start_s: float
    end_s: float
    probability: float
    tokens: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenChance:
    """A token of a text: its bytes, and its log-probability after those before it. It may end inside a character."""

    octets: tuple[int, ...]
    logprob: float


@dataclass(frozen=True, slots=True)
class WindowResult:
    """What an engine says about one window; word times are relative to the window's start.

    ``language`` is empty where the model does not say. ``is_rated`` is whether it gives probabilities; where it does
    not, ``avg_logprob`` is 0 and means nothing. ``speakers`` are filled in behind the engine where channels tell them:
    one a word, or a single one for a text without words.
    """

    text: str
    tokens: tuple[int, ...]
    language: str
    language_probabilities: Ranking
    avg_logprob: float
    no_speech_prob: float
    compression_ratio: float
    temperature: float
    full_context: bool
    hit_token_cap: bool = False
    words: tuple[Word, ...] = ()
    is_rated: bool = True
    speakers: tuple[str | None, ...] = ()
    token_chances: tuple[TokenChance, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """What the reader sees: text with times in the source, words if asked for, and how far it can be trusted.

    ``confidence`` and ``hallucination_score`` are those of ``tympan.confidence``; ``None`` in what was stored before
    there were any, as is the confidence of a model that gives no probabilities. ``speaker`` is ``None`` where speakers
    are not told apart, or nothing tells who it is.
    """

    id: int
    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 0.0
    no_speech_prob: float = 0.0
    words: tuple[Word, ...] = ()
    confidence: float | None = None
    hallucination_score: float | None = None
    language: str | None = None
    speaker: str | None = None
    token_chances: tuple[TokenChance, ...] = ()


@dataclass(frozen=True, slots=True)
class Accounting:
    """Where the seconds went: all audio, what VAD called speech, what was dropped, what the text covers."""

    audio_s: float
    speech_s: float
    dropped_s: float
    covered_s: float


@dataclass(frozen=True, slots=True)
class DecodeStats:
    """How hard the text was to get: windows decoded, and how many needed another attempt."""

    windows: int = 0
    fallbacks: int = 0
    full_context: int = 0
    rejected: int = 0


@dataclass(frozen=True, slots=True)
class Transcript:
    """The result of a request, independent of any output format; ``is_cached`` when it was made for an equal one.

    ``turns`` are there where voices tell speakers apart.
    """

    text: str
    segments: tuple[Segment, ...]
    task: Task
    language: str | None
    language_probability: float
    languages: Ranking
    accounting: Accounting
    model: str
    stats: DecodeStats = field(default_factory=DecodeStats)
    processing_s: float = 0.0
    is_cached: bool = False
    provenance: Provenance = field(default_factory=Provenance)
    turns: tuple[Turn, ...] = ()

    @property
    def duration_s(self) -> float:
        """Length of the source audio in seconds."""
        return self.accounting.audio_s

    @property
    def words(self) -> tuple[Word, ...]:
        """All words, in order; empty unless word times were asked for."""
        return tuple(word for segment in self.segments for word in segment.words)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a request has come, in seconds of source audio; ``total_s`` is ``None`` until it is known."""

    done_s: float
    total_s: float | None


ResponseFormat: TypeAlias = Literal["json", "text", "srt", "verbose_json", "vtt", "tsv", "diarized_json", "rttm"]
"""Names of the output formats, as OpenAI spells them, and ``tsv``."""


class JobState(StrEnum):
    """Where a job stands; the last four absorb: nothing follows them."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing can follow."""
        return self not in (JobState.QUEUED, JobState.RUNNING)


class StepKind(StrEnum):
    """The steps of a job, in order."""

    PREPARE = "prepare"
    SECTION = "section"
    FINISH = "finish"


class SourceKind(StrEnum):
    """Where a job's audio comes from: stored by us, fetched from a web address, or from object storage."""

    STORED = "stored"
    URL = "url"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Source:
    """A job's audio. ``location`` is empty for stored audio, whose key follows from the job's id."""

    kind: SourceKind
    location: str = ""
    n_bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """How the result is rendered when the reader does not say; without a ``shape`` a segment is a subtitle.

    ``speakers`` are names to write instead of ``A``, ``B`` and so on, in this order. ``token_chances`` adds those of
    tokens to ``json``.
    """

    response_format: ResponseFormat = "json"
    words: bool = False
    segments: bool = True
    shape: Shape | None = None
    speakers: tuple[str, ...] = ()
    token_chances: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a job failed: our error code, the cause, and what can be done."""

    code: str
    message: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class JobProgress:
    """How far a job has come; totals are ``None`` until its audio has been read to the end."""

    sections_done: int = 0
    sections_total: int | None = None
    audio_s_done: float = 0.0
    audio_s_total: float | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """What is asked for. ``deadline`` is in Unix seconds; a higher ``priority`` goes first within the lane."""

    id: str
    source: Source
    options: Options
    output: Output = field(default_factory=Output)
    tenant: str = "default"
    lane: Lane = Lane.BATCH
    priority: int = 0
    deadline: float | None = None
    model: str | None = None
    metadata: str = "{}"
    webhook_endpoint: str | None = None
    batch_id: str | None = None
    retry_of: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is stored. Times are Unix seconds by the database's clock; ``metadata`` is the caller's JSON.

    ``weights`` is a digest of the model that its sections come from, ``restarts`` how often that has changed.
    ``trace`` is where what is done for it is recorded, as a ``traceparent``.
    """

    id: str
    tenant: str
    state: JobState
    source: Source
    options: Options
    output: Output
    lane: Lane
    priority: int
    created_at: float
    progress: JobProgress = field(default_factory=JobProgress)
    started_at: float | None = None
    finished_at: float | None = None
    deadline: float | None = None
    attempts: int = 0
    error: Fault | None = None
    model: str | None = None
    metadata: str = "{}"
    webhook_endpoint: str | None = None
    batch_id: str | None = None
    retry_of: str | None = None
    language: str | None = None
    weights: str | None = None
    restarts: int = 0
    trace: str = ""
