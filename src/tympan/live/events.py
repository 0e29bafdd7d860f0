"""What a live session tells its reader.

Every utterance has a number, from 0, and is told of in this order: one ``SpeechStarted``, any number of ``Partial``,
one ``SpeechStopped``, then one ``Final`` or one ``Lost``. Finals come in the order of their utterances; the next
utterance may start before the final of the last one is there. Every ``commit`` is answered by one ``Committed``.
``Ended`` is the last event of a session that ended well.
Times are seconds from the first sample of the session.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from tympan.domain import Segment, Transcript, Word
from tympan.errors import TympanError


class Cause(StrEnum):
    """Why an utterance ended: a pause, its greatest length, the caller's word, or the end of the audio."""

    SILENCE = "silence"
    LENGTH = "length"
    COMMIT = "commit"
    END = "end"


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak at ``at_s``, the padding before the first sound included."""

    utterance: int
    at_s: float


@dataclass(frozen=True, slots=True)
class Partial:
    """What an utterance that goes on seems to say.

    The first ``n_stable`` of ``words`` are stable: every later partial of the utterance begins with them. The rest may
    change. Only the final, which is decoded with more care and from the whole utterance, may differ from stable words.
    """

    utterance: int
    words: tuple[Word, ...]
    n_stable: int

    @property
    def stable(self) -> str:
        """The text that no later partial changes."""
        return "".join(word.text for word in self.words[: self.n_stable]).strip()

    @property
    def tail(self) -> str:
        """The text after it, which may change."""
        return "".join(word.text for word in self.words[self.n_stable :]).strip()

    @property
    def text(self) -> str:
        """Both."""
        return "".join(word.text for word in self.words).strip()


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The utterance is over; its last sound, padding included, was at ``at_s``."""

    utterance: int
    at_s: float
    cause: Cause


@dataclass(frozen=True, slots=True)
class Committed:
    """The caller's ``commit`` took effect at ``at_s``, and ended an ``utterance`` or, with ``None``, nothing."""

    at_s: float
    utterance: int | None


@dataclass(frozen=True, slots=True)
class Final:
    """The settled text of an utterance; empty when it was noise. Its segments have words where they were asked for."""

    utterance: int
    start_s: float
    end_s: float
    text: str
    segments: tuple[Segment, ...]
    language: str | None


@dataclass(frozen=True, slots=True)
class Lost:
    """The engine failed on an utterance for good; the session goes on."""

    utterance: int
    start_s: float
    end_s: float
    error: TympanError


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over, and this is its whole text."""

    transcript: Transcript


Event: TypeAlias = SpeechStarted | Partial | SpeechStopped | Committed | Final | Lost | Ended
