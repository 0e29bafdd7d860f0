"""Every event of `/v1/realtime` against OpenAI's own types, taken strictly, with no member that those do not know."""

from collections.abc import Iterator
from typing import Any

import pytest
from openai import BaseModel
from openai.types import realtime as types
from pydantic import TypeAdapter

from tests.api.live_sites import Message, append, at_24k, dialled, said, tell
from tests.api.support import Site
from tests.live_support import joined, quiet, spoken
from tympan.api.live.realtime_items import Items
from tympan.errors import EngineError
from tympan.live import Lost, SpeechStarted, SpeechStopped
from tympan.live.events import Cause

PATH = "/v1/realtime?intent=transcription"
ITEM = "conversation.item.input_audio_transcription"
TYPES: dict[str, type[BaseModel]] = {
    "session.created": types.SessionCreatedEvent,
    "session.updated": types.SessionUpdatedEvent,
    "input_audio_buffer.speech_started": types.InputAudioBufferSpeechStartedEvent,
    "input_audio_buffer.speech_stopped": types.InputAudioBufferSpeechStoppedEvent,
    "input_audio_buffer.committed": types.InputAudioBufferCommittedEvent,
    "input_audio_buffer.cleared": types.InputAudioBufferClearedEvent,
    "conversation.item.added": types.ConversationItemAdded,
    "conversation.item.done": types.ConversationItemDone,
    "conversation.item.created": types.ConversationItemCreatedEvent,
    f"{ITEM}.delta": types.ConversationItemInputAudioTranscriptionDeltaEvent,
    f"{ITEM}.completed": types.ConversationItemInputAudioTranscriptionCompletedEvent,
    f"{ITEM}.failed": types.ConversationItemInputAudioTranscriptionFailedEvent,
    "error": types.RealtimeErrorEvent,
}
"""What OpenAI calls the events of a transcription session."""

BETA = ("transcription_session.created", "transcription_session.updated")
"""Events of the older protocol, whose types the client has no more."""


def unknown(value: object, path: str) -> Iterator[str]:
    """Yield the members of a value that its type does not know."""
    if isinstance(value, BaseModel):
        yield from (f"{path}.{name}" for name in value.model_extra or ())
        for name in type(value).model_fields:
            yield from unknown(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, list):
        for one in value:
            yield from unknown(one, f"{path}[]")


def check(message: Message) -> None:
    """Assert that an event is what OpenAI's types say, to the last member."""
    kind = message["type"]
    if kind.startswith("session."):  # The events' own type is that of a request, which lacks what a session is told.
        check_as(types.RealtimeTranscriptionSessionCreateResponse, message["session"])
        message = {**message, "session": {"type": "transcription"}}
    check_as(TYPES[kind], message)


def check_as(kind: type[BaseModel], given: object) -> None:
    """Assert that ``given`` is of this type."""
    value = TypeAdapter(kind).validate_python(given, strict=True)
    assert list(unknown(value, kind.__name__)) == []


def session(*, logprobs: bool, **given: Any) -> dict[str, Any]:
    """Return settings at the one rate that OpenAI has."""
    include = ["item.input_audio_transcription.logprobs"] if logprobs else []
    audio = {"format": {"type": "audio/pcm", "rate": 24_000}, **given}
    return {"type": "transcription", "audio": {"input": audio}, "include": include}


@pytest.mark.parametrize("turn_detection", [None, {"type": "server_vad"}])
@pytest.mark.parametrize("logprobs", [False, True])
def test_every_event_of_a_session_is_OpenAIs(
    live_site: Site, turn_detection: dict[str, str] | None, *, logprobs: bool
) -> None:
    """From the greeting over settings, speech, items and texts to an error."""
    with dialled(live_site, PATH) as socket:
        tell(socket, "session.update", session=session(logprobs=logprobs, turn_detection=turn_detection))
        append(socket, at_24k(joined(quiet(0.5), spoken(*range(1, 13)), quiet(1.2))), block=2400)
        if turn_detection is None:
            tell(socket, "input_audio_buffer.commit")
        messages = said(socket, f"{ITEM}.completed")
        tell(socket, "input_audio_buffer.clear")
        messages += said(socket, "input_audio_buffer.cleared")
        tell(socket, "input_audio_buffer.commit", event_id="mine")
        messages += said(socket, "error")
    for message in messages:
        check(message)
    wanted = set(TYPES) - {f"{ITEM}.failed", "conversation.item.created"}
    if turn_detection is None:
        wanted -= {"input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"}
    assert {message["type"] for message in messages} == wanted


def test_every_event_of_the_beta_is_OpenAIs(live_site: Site) -> None:
    """Beyond those of the session, which have a shape of their own."""
    with dialled(live_site, PATH, additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        tell(socket, "transcription_session.update", session={"input_audio_format": "g711_ulaw"})
        tell(socket, "transcription_session.update", session={"input_audio_format": "g711_foo"})
        messages = said(socket, "error")
    assert [message["type"] for message in messages] == [*BETA, "error"]
    check(messages[-1])
    for message in messages[:-1]:
        assert set(message) == {"event_id", "type", "session"}
        assert set(message["session"]) == {
            *("id", "object", "expires_at", "input_audio_format", "input_audio_transcription"),
            *("input_audio_noise_reduction", "turn_detection", "include"),
        }


@pytest.mark.parametrize("old", [False, True])
def test_a_failure_is_OpenAIs_event(*, old: bool) -> None:
    """Told of the item that it is about, with the names of either protocol."""
    items = Items(lambda kind: f"{kind}_1", manual=False, old=old)
    events = (SpeechStarted(0, 0.5), SpeechStopped(0, 1.5, Cause.SILENCE), Lost(0, 0.5, 1.5, EngineError("It broke.")))
    told = [{"event_id": "event_1", **message} for event in events for message in items.tell(event)]
    for message in told:
        check(message)
    assert told[-1]["type"] == f"{ITEM}.failed"
    assert told[-1]["error"]["code"] == "engine_failed"
    names = {message["type"] for message in told}
    assert ("conversation.item.created" in names, "conversation.item.added" in names) == (old, not old)


@pytest.mark.parametrize("change", [{"item_id": 5}, {"surplus": 1}, {"item_id": None}])
def test_the_check_itself_fails_on_another_shape(change: dict[str, object]) -> None:
    """A member of another type, one that is not known, or one that is missing."""
    good = {"type": "input_audio_buffer.speech_started", "event_id": "e", "item_id": "i", "audio_start_ms": 5}
    check(good)
    with pytest.raises((ValueError, AssertionError)):
        check({**good, **change})
