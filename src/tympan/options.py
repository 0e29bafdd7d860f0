"""What a caller may ask for, and what a model can be asked for: frozen values. Read them from ``tympan.domain``."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Task(StrEnum):
    """What the text should be: in the language spoken, or in English."""

    TRANSCRIBE = "transcribe"
    TRANSLATE = "translate"


class Timestamps(StrEnum):
    """The finest times the caller wants; finer costs an alignment pass."""

    NONE = "none"
    SEGMENT = "segment"
    WORD = "word"


class LanguageUse(StrEnum):
    """What a model does with the language of speech.

    It ``detects`` it and may be told, ``hears`` it without saying which and cannot be told, or ``needs`` to be told.
    """

    DETECTS = "detects"
    HEARS = "hears"
    NEEDS = "needs"


class DiarizeBy(StrEnum):
    """What tells speakers apart: the channels of a stereo recording, their voices, or whichever fits the recording."""

    AUTO = "auto"
    CHANNELS = "channels"
    VOICES = "voices"


@dataclass(frozen=True, slots=True)
class KnownVoice:
    """A speaker who is known by a sample: a name, the SHA-256 of the sample, and its voice, as text.

    ``voice`` is empty until the sample was heard. Whoever prints this prints no voice.
    """

    name: str
    sample: str
    voice: str = field(default="", repr=False)


CHANNELS = 2
"""So many people are told apart by channels."""

MOST_SPEAKERS = 20
"""So many people are told apart by their voices, at most."""

MOST_KNOWN = 10
"""So many of them may be known by a sample."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """What a model can be asked for; Whisper's are the defaults.

    ``prompts`` covers hot words too, ``temperatures`` sampling above 0, ``speaker_turns`` writing down where the
    speaker changes, ``narrowing`` choosing among some languages only, ``suppression`` leaving out tokens,
    ``token_chances`` telling how likely each token is.
    """

    language: LanguageUse = LanguageUse.DETECTS
    translation: bool = True
    prompts: bool = True
    temperatures: bool = True
    word_times: bool = True
    speaker_turns: bool = False
    narrowing: bool = True
    suppression: bool = True
    token_chances: bool = True


@dataclass(frozen=True, slots=True)
class Suppression:
    """Tokens that may not be written, beside those that the model's makers left out.

    ``blank`` keeps the text from beginning with a space or nothing; ``numerals`` leaves out whatever holds a digit.
    """

    tokens: tuple[int, ...] = ()
    blank: bool = True
    numerals: bool = False


@dataclass(frozen=True, slots=True)
class VadOptions:
    """How speech is told from the rest; fields and meaning follow Silero VAD's."""

    threshold: float = 0.5
    min_speech_ms: int = 100
    min_silence_ms: int = 2000
    speech_pad_ms: int = 400


@dataclass(frozen=True, slots=True)
class Options:
    """What the caller asked for. Defaults are the product's defaults.

    ``languages`` are those that may be detected, all without any; with ``multilingual`` every window has its own.
    ``diarize`` tells speakers apart, ``diarize_by`` what; ``min_speakers`` to ``max_speakers`` are expected,
    and whoever has one of the ``known_voices`` bears its name. With ``speaker_turns`` a model that is made for it marks
    where the speaker changes. Audio before ``start_s`` is passed over, and what comes ``length_s`` later; times are
    still those of the whole. ``token_chances`` asks how likely each token is. ``language_only`` wants to know the
    language and no text.
    """

    task: Task = Task.TRANSCRIBE
    language: str | None = None
    prompt: str | None = None
    hotwords: str | None = None
    beam_size: int = 5
    best_of: int = 5
    temperature: float = 0.0
    temperature_fallback: bool = True
    timestamps: Timestamps = Timestamps.SEGMENT
    vad: VadOptions | None = field(default_factory=VadOptions)
    compression_ratio_threshold: float = 2.4
    logprob_threshold: float = -1.0
    no_speech_threshold: float = 0.6
    speaker_turns: bool = False
    diarize: bool = False
    diarize_by: DiarizeBy = DiarizeBy.AUTO
    min_speakers: int = 1
    max_speakers: int = MOST_SPEAKERS
    known_voices: tuple[KnownVoice, ...] = ()
    multilingual: bool = False
    languages: tuple[str, ...] = ()
    suppression: Suppression = field(default_factory=Suppression)
    start_s: float = 0.0
    length_s: float | None = None
    token_chances: bool = False
    language_only: bool = False

    @property
    def may_hear_voices(self) -> bool:
        """Whether voices may tell speakers apart, so that nobody knows who speaks before the audio has ended."""
        return self.diarize and self.diarize_by is not DiarizeBy.CHANNELS

    def with_voices(self, heard: Mapping[str, str]) -> "Options":
        """Return the options with voices as they were ``heard``, by the SHA-256 of their samples."""
        known = tuple(replace(each, voice=heard.get(each.sample, each.voice)) for each in self.known_voices)
        return replace(self, known_voices=known)

    def without_voices(self) -> "Options":
        """Return the options as they were before anything was heard: equal ones ask for the same."""
        return replace(self, known_voices=tuple(replace(each, voice="") for each in self.known_voices))


@dataclass(frozen=True, slots=True)
class Shape:
    """How subtitles are cut: columns of a line, lines and seconds of a cue, and how fast one can read.

    ``max_words_per_line`` limits lines by words as well.
    """

    max_line_width: int = 42
    max_line_count: int = 2
    max_words_per_line: int | None = None
    min_cue_s: float = 1.0
    max_cue_s: float = 7.0
    max_chars_per_s: float = 20.0
