"""How a live session listens, and what it may cost."""

from dataclasses import dataclass, field

from tympan.domain import VadOptions
from tympan.errors import InvalidRequest

_FRAME_MS = 32


@dataclass(frozen=True, slots=True)
class Turns:
    """When an utterance starts and ends: the knobs, and their meanings, of the server VAD in OpenAI's realtime API.

    ``silence_ms`` of silence end an utterance; with less than 0.8 s, sentences fall apart and words suffer, see
    ``docs/decisions/``. ``prefix_padding_ms`` of what was heard before the first sound belong to
    it, unless they belong to the utterance before.
    """

    threshold: float = 0.5
    prefix_padding_ms: int = 300
    silence_ms: int = 800
    min_speech_ms: int = 100

    def __post_init__(self) -> None:
        """Raise ``InvalidRequest`` for a value that makes no sense."""
        _within("threshold", self.threshold, 0.05, 0.95)
        _within("prefix_padding_ms", self.prefix_padding_ms, 0, 2000)
        _within("silence_ms", self.silence_ms, 100, 10_000)
        _within("min_speech_ms", self.min_speech_ms, 0, 2000)

    @property
    def vad(self) -> VadOptions:
        """The same as options of speech detection.

        Half of the pause is padding after the speech, as in a file, where a gap is shared between its two sides: so
        what will be decoded is settled half-way through the pause.
        """
        padding_ms = min(VadOptions().speech_pad_ms, self.silence_ms // 2)
        return VadOptions(
            threshold=self.threshold,
            min_speech_ms=self.min_speech_ms,
            min_silence_ms=self.silence_ms,
            speech_pad_ms=padding_ms - padding_ms % _FRAME_MS,
        )


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How a session listens.

    ``turns`` is ``None`` when the caller alone says where utterances end, with ``commit``; then all audio is decoded.
    ``max_utterance_s``: a longer one is cut where it is quietest in its later half. A partial is asked for after
    ``partial_every_s`` of new audio at the earliest; ``partials`` switches them off. A final is decoded together with
    up to ``context_s`` of what was said before it.
    """

    turns: Turns | None = field(default_factory=Turns)
    partials: bool = True
    partial_every_s: float = 0.3
    max_utterance_s: float = 20.0
    context_s: float = 14.0

    def __post_init__(self) -> None:
        """Raise ``InvalidRequest`` for a value that makes no sense."""
        _within("partial_every_s", self.partial_every_s, 0.1, 10.0)
        _within("max_utterance_s", self.max_utterance_s, 2.0, 28.0)
        _within("context_s", self.context_s, 0.0, 28.0)


@dataclass(frozen=True, slots=True)
class LiveLimits:
    """What a session may hold and how long it may wait, in seconds of audio and of its clock.

    ``max_held_s`` of audio that still waits for its final text: beyond it, ``feed`` refuses more. ``idle_s`` without
    audio, ``reader_s`` without anybody reading a full list of ``max_events``, or ``engine_s`` without an engine that
    takes windows end the session.
    """

    max_held_s: float = 30.0
    max_events: int = 64
    idle_s: float = 60.0
    reader_s: float = 30.0
    engine_s: float = 30.0


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidRequest(f"{name} is {value:g}; it has to be between {low:g} and {high:g}.", param=name)
