"""OpenAI's own client against `/v1/realtime`, with nothing changed but its address."""

import asyncio
import base64
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.realtime import (
    ConversationItemAdded,
    ConversationItemInputAudioTranscriptionCompletedEvent,
    InputAudioBufferCommittedEvent,
    InputAudioBufferSpeechStartedEvent,
    RealtimeErrorEvent,
    RealtimeTranscriptionSessionCreateRequest,
    SessionCreatedEvent,
    SessionUpdatedEvent,
)

from tests.api.live_sites import at_24k
from tests.api.support import Site
from tests.live_support import joined, quiet, spoken

# The client opens its connection in a way that the library under it is about to give up.
pytestmark = pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")

SESSION: Any = {
    "type": "transcription",
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24_000},
            "transcription": {"model": "whisper-1", "language": "en", "prompt": "numbers"},
            "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": 600},
        }
    },
}
QUERY = {"intent": "transcription"}
SPEECH = at_24k(joined(quiet(0.5), spoken(1, 2, 3, 4, 5), quiet(1.2)))


def blocks() -> Iterator[str]:
    """Yield the audio in blocks as the client sends them."""
    data = SPEECH.astype("<i2").tobytes()
    for at in range(0, len(data), 4800):
        yield base64.b64encode(data[at : at + 4800]).decode()


def words(completed: ConversationItemInputAudioTranscriptionCompletedEvent) -> list[str]:
    """Return the words of a transcript, without the edges that resampling gives this sort of speech."""
    return [word for word in completed.transcript.split() if word != "hm"]


def check(events: list[Any]) -> None:
    """Assert what came, in the client's own types, each valid by its schema."""
    kinds = {type(event): event for event in events}
    for event in events:
        type(event).model_validate(event.model_dump())
    created = kinds[SessionCreatedEvent].session
    assert isinstance(created, RealtimeTranscriptionSessionCreateRequest)
    transcription = kinds[SessionUpdatedEvent].session.audio.input.transcription
    assert (transcription.model, transcription.language, transcription.prompt) == ("base", "en", "numbers")
    item = kinds[InputAudioBufferSpeechStartedEvent].item_id
    assert kinds[InputAudioBufferCommittedEvent].item_id == item
    assert kinds[ConversationItemAdded].item.id == item
    completed = kinds[ConversationItemInputAudioTranscriptionCompletedEvent]
    assert completed.item_id == item
    assert words(completed) == ["w1", "w2", "w3", "w4", "w5"]
    assert completed.usage.type == "duration"


def test_the_client_transcribes_speech(live_site: Site) -> None:
    """Settings, audio, events: all in its own words."""
    events: list[Any] = []
    with (
        OpenAI(api_key="none", base_url=f"{live_site.url}/v1") as client,
        client.realtime.connect(extra_query=QUERY) as talk,
    ):
        events.append(talk.recv())
        talk.session.update(session=SESSION)
        for audio in blocks():
            talk.input_audio_buffer.append(audio=audio)
        for event in talk:
            events.append(event)
            if event.type.endswith(".completed"):
                break
    check(events)


def test_the_asynchronous_client_does_the_same(live_site: Site) -> None:
    """While it sends, it listens."""

    async def talked() -> list[Any]:
        events: list[Any] = []
        async with (
            AsyncOpenAI(api_key="none", base_url=f"{live_site.url}/v1") as client,
            client.realtime.connect(extra_query=QUERY, model="whisper-1") as talk,
        ):
            await talk.session.update(session=SESSION)

            async def speak() -> None:
                for audio in blocks():
                    await talk.input_audio_buffer.append(audio=audio)

            speaking = asyncio.create_task(speak())
            async for event in talk:
                events.append(event)
                if event.type.endswith(".completed"):
                    break
            await speaking
        return events

    check(asyncio.run(talked()))


@contextmanager
def manual(site: Site) -> Iterator[Any]:
    """Yield a connection of the client without turn detection."""
    with (
        OpenAI(api_key="none", base_url=f"{site.url}/v1") as client,
        client.realtime.connect(extra_query=QUERY) as talk,
    ):
        session: Any = {
            "type": "transcription",
            "audio": {"input": {**SESSION["audio"]["input"], "turn_detection": None}},
        }
        talk.session.update(session=session)
        yield talk


def test_the_client_may_commit_by_itself(live_site: Site) -> None:
    """And hear of a commit that has nothing to commit, in its type of errors."""
    with manual(live_site) as talk:
        for audio in blocks():
            talk.input_audio_buffer.append(audio=audio)
        talk.input_audio_buffer.commit()
        completed = next(event for event in talk if event.type.endswith(".completed"))
        assert words(completed) == ["w1", "w2", "w3", "w4", "w5"]
        assert completed.usage.seconds == pytest.approx(len(SPEECH) / 24_000, abs=0.01)
        talk.input_audio_buffer.clear()
        talk.input_audio_buffer.commit(event_id="mine")
        error = next(event for event in talk if event.type == "error")
    assert isinstance(error, RealtimeErrorEvent)
    assert (error.error.code, error.error.event_id) == ("input_audio_buffer_commit_empty", "mine")
