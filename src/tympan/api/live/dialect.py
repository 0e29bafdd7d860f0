"""What a protocol of live speech is to the line that carries it: messages become acts, events become messages."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

from tympan.domain import Options
from tympan.errors import InvalidRequest, TympanError
from tympan.live import Encoding, Event, LiveOptions

JsonObject: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What a caller wants to be heard: by which model and how, and in which encoding and at which rate it arrives."""

    model: str | None = None
    options: Options = field(default_factory=Options)
    live: LiveOptions = field(default_factory=LiveOptions)
    encoding: Encoding = Encoding.PCM_S16LE
    rate_hz: int = 16_000

    def seconds_of(self, n_bytes: int) -> float:
        """Return how many seconds so many bytes of this audio last."""
        return n_bytes / (self.rate_hz * self.encoding.width_bytes)


@dataclass(frozen=True, slots=True)
class Say:
    """Send a message."""

    message: JsonObject


@dataclass(frozen=True, slots=True)
class Hear:
    """Take audio, in the encoding of the wish."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """End the utterance that goes on."""


@dataclass(frozen=True, slots=True)
class Finish:
    """All audio was sent: tell what is left, and hang up."""


@dataclass(frozen=True, slots=True)
class Reopen:
    """The wish has changed: tell what is left of what was heard, and hear the rest anew."""


Act: TypeAlias = Say | Hear | Commit | Finish | Reopen


class Dialect(Protocol):
    """One caller's conversation in one protocol, with its state and without any input or output.

    What is wrong with a message is told in an answer; only what ends the conversation is raised, as ``TympanError``.
    """

    model: str
    """The id of the model that hears."""

    @property
    def wish(self) -> Wish:
        """What the caller wants now."""

    def greet(self) -> Sequence[JsonObject]:
        """Return what is said first."""

    def take_text(self, text: str) -> Sequence[Act]:
        """Return what a text message asks for."""

    def take_bytes(self, data: bytes) -> Sequence[Act]:
        """Return what a binary message asks for."""

    def tell(self, event: Event) -> Sequence[JsonObject]:
        """Return how an event of the session is told."""

    def tell_error(self, error: TympanError) -> JsonObject:
        """Return how it is told that the conversation ends."""

    def reopened(self, after_s: float) -> None:
        """Take note that a new session begins with the wish as it is, after ``after_s`` seconds in the last one."""


def parsed(text: str) -> Mapping[str, Any]:
    """Return the JSON object in a message. Raises ``InvalidRequest``."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest("The message is not a JSON object.", remedy='Send an object with a "type".')
    return value
