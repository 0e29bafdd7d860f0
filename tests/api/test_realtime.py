"""`/v1/realtime` over a real socket: OpenAI's events, in OpenAI's order."""

import base64
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from tests.api.live_sites import Message, append, at_24k, dialled, said, tell
from tests.api.support import Site
from tests.live_support import joined, quiet, spoken

PATH = "/v1/realtime?intent=transcription"
ITEM = "conversation.item.input_audio_transcription"
COMPLETED = f"{ITEM}.completed"
ONE = joined(quiet(0.5), spoken(1, 2, 3, 4, 5), quiet(1.2))
TWO = joined(ONE, spoken(6, 7), quiet(1.2))


def of(messages: list[Message], kind: str) -> list[Message]:
    """Return the messages of one type."""
    return [message for message in messages if message["type"] == kind]


def configure(socket: ClientConnection, *, audio: dict[str, Any] | None = None, **session: Any) -> list[Message]:
    """Send a ``session.update`` at 16 kHz, where a test's samples arrive as they are; return what comes."""
    given = {"format": {"type": "audio/pcm", "rate": 16_000}, **(audio or {})}
    tell(socket, "session.update", session={"type": "transcription", "audio": {"input": given}, **session})
    return said(socket, "session.updated")


def test_the_session_is_described_in_OpenAIs_shape(live_site: Site) -> None:
    """First thing: defaults, ids, and when it ends."""
    with dialled(live_site, PATH) as socket:
        created = said(socket, "session.created")[0]
    session = created["session"]
    assert created["event_id"].startswith("event_")
    assert session["id"].startswith("sess_")
    assert session["type"] == "transcription"
    assert session["object"] == "realtime.transcription_session"
    assert session["audio"]["input"] == {
        "format": {"type": "audio/pcm", "rate": 24_000},
        "transcription": {"model": "base", "language": None, "prompt": ""},
        "noise_reduction": None,
        "turn_detection": {
            "type": "server_vad",
            "threshold": 0.5,
            "prefix_padding_ms": 300,
            "silence_duration_ms": 800,
        },
    }


def test_an_utterance_is_an_item(live_site: Site) -> None:
    """Started, stopped, committed, added, transcribed; the next names the one before."""
    with dialled(live_site, PATH) as socket:
        configure(socket)
        append(socket, TWO)
        messages = said(socket, COMPLETED) + said(socket, COMPLETED)
    first = messages[0]["item_id"]
    kinds = [message["type"] for message in messages if message.get("item_id", first) == first][:7]
    assert [kind for kind in kinds if kind != f"{ITEM}.delta"][:3] == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
    ]
    committed = of(messages, "input_audio_buffer.committed")
    assert [each["previous_item_id"] for each in committed] == [None, first]
    added = of(messages, "conversation.item.added")[0]
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]
    assert len(of(messages, "conversation.item.done")) == 2
    completed = of(messages, COMPLETED)
    assert [each["transcript"] for each in completed] == ["w1 w2 w3 w4 w5", "w6 w7"]
    assert completed[0]["usage"] == {"type": "duration", "seconds": pytest.approx(2.8, abs=0.1)}
    assert completed[0]["languages"] == [{"code": "en"}]
    started = of(messages, "input_audio_buffer.speech_started")[0]
    assert started["audio_start_ms"] == pytest.approx(100, abs=40)
    assert len({message["event_id"] for message in messages}) == len(messages)


def test_deltas_add_up_to_the_transcript(live_site: Site) -> None:
    """Where the final text is what the partials said, nothing is missing and nothing said twice."""
    with dialled(live_site, PATH) as socket:
        configure(socket)
        append(socket, joined(spoken(*range(1, 21)), quiet(1.2)), block=1600)
        messages = said(socket, COMPLETED)
    deltas = [message["delta"] for message in of(messages, f"{ITEM}.delta")]
    assert all(deltas)
    assert "".join(deltas) == messages[-1]["transcript"] == " ".join(f"w{n}" for n in range(1, 21))


@pytest.mark.parametrize(("kind", "silent"), [("audio/pcmu", b"\xff"), ("audio/pcma", b"\xd5")])
def test_telephone_audio_is_taken(live_site: Site, kind: str, silent: bytes) -> None:
    """Eight bits at 8 kHz: a loud stretch between silence is one item with the right times."""
    with dialled(live_site, PATH) as socket:
        configure(socket, audio={"format": {"type": kind}})
        data = silent * 4000 + b"\x90" * 16_000 + silent * 12_000
        for at in range(0, len(data), 400):
            tell(socket, "input_audio_buffer.append", audio=base64.b64encode(data[at : at + 400]).decode())
        messages = said(socket, COMPLETED)
    started = of(messages, "input_audio_buffer.speech_started")
    stopped = of(messages, "input_audio_buffer.speech_stopped")
    assert started[0]["audio_start_ms"] == pytest.approx(500 - 400, abs=40)
    assert stopped[0]["audio_end_ms"] == pytest.approx(2500 + 400, abs=60)


def test_OpenAIs_own_rate_is_resampled(live_site: Site) -> None:
    """24 kHz is what is meant when nothing is said; times are those of the audio as it was sent."""
    with dialled(live_site, PATH) as socket:
        said(socket, "session.created")
        append(socket, at_24k(TWO))
        messages = said(socket, COMPLETED) + said(socket, COMPLETED)
    starts = [each["audio_start_ms"] for each in of(messages, "input_audio_buffer.speech_started")]
    assert starts == [pytest.approx(100, abs=64), pytest.approx(3300, abs=64)]


def test_without_turn_detection_the_client_says_what_an_item_is(live_site: Site) -> None:
    """However many pauses there are in it; nothing is told of starts and stops."""
    with dialled(live_site, PATH) as socket:
        configure(socket, audio={"turn_detection": None})
        append(socket, TWO)
        tell(socket, "input_audio_buffer.commit")
        messages = said(socket, COMPLETED)
        assert of(messages, "input_audio_buffer.speech_started") == []
        assert len(of(messages, "input_audio_buffer.committed")) == 1
        assert messages[-1]["transcript"] == "w1 w2 w3 w4 w5 w6 w7"
        assert messages[-1]["usage"]["seconds"] == pytest.approx(len(TWO) / 16_000)
        append(socket, quiet(0.5))
        tell(socket, "input_audio_buffer.commit")
        assert said(socket, COMPLETED)[-1]["transcript"] == ""
        append(socket, spoken(8, 9))
        tell(socket, "input_audio_buffer.commit")
        assert said(socket, COMPLETED)[-1]["transcript"] == "w8 w9"


@pytest.mark.parametrize("turn_detection", [None, {"type": "server_vad"}])
def test_cleared_audio_is_forgotten(live_site: Site, turn_detection: dict[str, str] | None) -> None:
    """What was said before is in no item, and what comes after it is."""
    with dialled(live_site, PATH) as socket:
        configure(socket, audio={"turn_detection": turn_detection})
        tell(socket, "input_audio_buffer.clear")
        said(socket, "input_audio_buffer.cleared")
        append(socket, spoken(1, 2, 3))
        tell(socket, "input_audio_buffer.clear")
        said(socket, "input_audio_buffer.cleared")
        append(socket, spoken(4, 5))
        tell(socket, "input_audio_buffer.commit")
        messages = said(socket, COMPLETED)
    assert messages[-1]["transcript"] == "w4 w5"
    assert of(messages, COMPLETED) == [messages[-1]]


def test_a_commit_of_nothing_is_an_error_that_names_its_event(live_site: Site) -> None:
    """As OpenAI has it; with turn detection also when there was no speech."""
    with dialled(live_site, PATH) as socket:
        configure(socket)
        tell(socket, "input_audio_buffer.commit", event_id="mine")
        error = said(socket, "error")[-1]["error"]
        assert error["code"] == "input_audio_buffer_commit_empty"
        assert error["type"] == "invalid_request_error"
        assert error["event_id"] == "mine"
        append(socket, quiet(1.0))
        tell(socket, "input_audio_buffer.commit", event_id="other")
        assert said(socket, "error")[-1]["error"]["event_id"] == "other"
        append(socket, ONE)
        assert said(socket, COMPLETED)[-1]["transcript"] == "w1 w2 w3 w4 w5"


def test_tokens_come_with_how_likely_they_are(live_site: Site) -> None:
    """Where the client asks: those of the item alone, although it was decoded behind the one before."""
    with dialled(live_site, PATH) as socket:
        session = configure(socket, include=["item.input_audio_transcription.logprobs"])[-1]["session"]
        assert session["include"] == ["item.input_audio_transcription.logprobs"]
        append(socket, TWO)
        first, second = said(socket, COMPLETED)[-1], said(socket, COMPLETED)[-1]
        assert configure(socket, include=[])[-1]["session"]["include"] is None
    assert "".join(one["token"] for one in first["logprobs"]) == first["transcript"]
    assert [one["token"] for one in second["logprobs"]] == ["w6", " w7"]
    assert second["logprobs"][0] == {"token": "w6", "bytes": [119, 54], "logprob": -0.1}


def test_settings_may_change_amid_the_audio(live_site: Site) -> None:
    """What was heard before is told by the old ones; times go on."""
    with dialled(live_site, PATH) as socket:
        configure(socket)
        append(socket, joined(quiet(0.5), spoken(1, 2)))
        before = configure(socket, audio={"transcription": {"language": "de", "keywords": ["Tympan", "ear"]}})
        assert of(before, COMPLETED)[0]["transcript"] == "w1 w2"
        assert before[-1]["session"]["audio"]["input"]["transcription"]["keywords"] == ["Tympan", "ear"]
        append(socket, joined(quiet(0.5), spoken(3, 4), quiet(1.2)))
        after = said(socket, COMPLETED)
    assert after[-1]["languages"] == [{"code": "de"}]
    assert after[0]["audio_start_ms"] == pytest.approx(1300 + 100, abs=40)


def test_settings_that_are_the_same_change_nothing(live_site: Site) -> None:
    """Clients that take a connection from a pool send theirs again: the utterance goes on."""
    with dialled(live_site, PATH) as socket:
        configure(socket)
        append(socket, joined(quiet(0.5), spoken(1, 2)))
        configure(socket)
        append(socket, joined(spoken(3), quiet(1.2)))
        assert said(socket, COMPLETED)[-1]["transcript"] == "w1 w2 w3"


def test_the_protocol_as_it_was_in_its_beta_is_understood(live_site: Site) -> None:
    """Older clients ask for it with a header, name settings otherwise, and expect other names of events."""
    with dialled(live_site, PATH, additional_headers={"OpenAI-Beta": "realtime=v1"}) as socket:
        session = said(socket, "transcription_session.created")[0]["session"]
        assert session["input_audio_format"] == "pcm16"
        settings = {
            "input_audio_format": "pcm16",
            "input_audio_transcription": {"model": "whisper-1", "language": "en", "prompt": "numbers"},
            "turn_detection": {"type": "server_vad", "threshold": 0.4, "silence_duration_ms": 600},
            "input_audio_noise_reduction": None,
        }
        tell(socket, "transcription_session.update", session=settings)
        session = said(socket, "transcription_session.updated")[-1]["session"]
        assert session["turn_detection"]["silence_duration_ms"] == 600
        assert session["input_audio_transcription"]["prompt"] == "numbers"
        append(socket, at_24k(ONE))
        messages = said(socket, COMPLETED)
    assert len(of(messages, "conversation.item.created")) == 1
    assert of(messages, "conversation.item.added") == []


@pytest.mark.parametrize(
    ("session", "code", "param"),
    [
        ({"type": "realtime"}, "unsupported_option", "session.type"),
        ({"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}, "unsupported_option", "type"),
        ({"audio": {"input": {"turn_detection": {"create_response": True}}}}, "unsupported_option", "create_response"),
        ({"audio": {"input": {"turn_detection": {"idle_timeout_ms": 9}}}}, "unsupported_option", "idle_timeout_ms"),
        ({"audio": {"input": {"turn_detection": {"threshold": 2}}}}, "invalid_request", "turn_detection.threshold"),
        (
            {"audio": {"input": {"turn_detection": {"silence_duration_ms": 5}}}},
            "invalid_request",
            "turn_detection.silence_duration_ms",
        ),
        ({"audio": {"input": {"noise_reduction": {"type": "any"}}}}, "invalid_request", "noise_reduction"),
        ({"audio": {"input": {"noise_reduction": "near_field"}}}, "invalid_request", "noise_reduction"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "invalid_request", "format.type"),
        ({"audio": {"input": {"format": {"type": [1]}}}}, "invalid_request", "format.type"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 44_101}}}}, "invalid_request", "format.rate"),
        ({"audio": {"input": {"format": {"type": "audio/pcmu", "rate": 16_000}}}}, "invalid_request", "format.rate"),
        ({"audio": {"input": {"transcription": {"model": "parrot"}}}}, "model_not_found", "model"),
        ({"audio": {"input": {"transcription": {"language": "tlh"}}}}, "unsupported_language", "language"),
        ({"audio": {"input": {"transcription": {"delay": "low"}}}}, "unsupported_option", "delay"),
        ({"audio": {"input": {"transcription": {"prompt": "x" * 10_001}}}}, "invalid_request", "prompt"),
        ({"audio": {"input": {"transcription": None}}}, "invalid_request", "session.audio.input.transcription"),
        ({"audio": {"output": {"voice": "alloy"}}}, "unsupported_option", "session.audio.output"),
        ({"audio": {"input": {"gain": 3}}}, "invalid_request", "session.audio.input.gain"),
        ({"audio": []}, "invalid_request", "session.audio"),
        ("transcription", "invalid_request", "session"),
        ({"include": ["item.input_audio_transcription.magic"]}, "unsupported_option", "session.include"),
    ],
)
def test_what_a_setting_cannot_be_is_said_by_name(live_site: Site, session: Any, code: str, param: str) -> None:
    """And nothing changes."""
    with dialled(live_site, PATH) as socket:
        tell(socket, "session.update", session=session, event_id="mine")
        error = said(socket, "error")[-1]["error"]
        assert error["code"] == code
        assert error["param"].endswith(param)
        assert error["event_id"] == "mine"
        assert of(configure(socket), "session.updated")


@pytest.mark.parametrize("wish", ["near_field", "far_field"])
def test_noise_reduction_is_taken_and_the_session_says_that_there_is_none(live_site: Site, wish: str) -> None:
    """Clients send it unasked, and end on any error."""
    with dialled(live_site, PATH) as socket:
        tell(socket, "session.update", session={"audio": {"input": {"noise_reduction": {"type": wish}}}})
        updated = said(socket, "session.updated")[-1]["session"]
    assert updated["audio"]["input"]["noise_reduction"] is None


@pytest.mark.parametrize("value", [[], {}, 5, "mp3"])
def test_what_a_format_of_the_beta_cannot_be_is_said_by_name(live_site: Site, value: object) -> None:
    """Whatever JSON can hold in its place; the session goes on."""
    with dialled(live_site, PATH) as socket:
        tell(socket, "transcription_session.update", session={"input_audio_format": value})
        error = said(socket, "error")[-1]["error"]
        assert (error["code"], error["param"]) == ("invalid_request", "session.input_audio_format")
        tell(socket, "transcription_session.update", session={})
        assert said(socket, "transcription_session.updated")


@pytest.mark.parametrize(
    "message",
    [
        "",
        "{}",
        "[]",
        '{"type": "response.create"}',
        '{"type": "conversation.item.create", "item": {}}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.append", "audio": "no base64"}',
        '{"type": "input_audio_buffer.append", "audio": ["AAAA"]}',
        '{"type": ["session.update"]}',
        '{"type": "session.update", "event_id": 5}',
        b"\x00\x01",
    ],
)
def test_a_message_that_makes_no_sense_is_answered(live_site: Site, message: str | bytes) -> None:
    """By an ``error`` event, and the session goes on."""
    with dialled(live_site, PATH) as socket:
        socket.send(message)
        assert said(socket, "error")[-1]["error"]["type"] == "invalid_request_error"
        configure(socket)


@pytest.mark.parametrize(("query", "param"), [("intent=conversation", "intent"), ("model=parrot", "model")])
def test_what_the_address_cannot_be_is_answered_as_HTTP_does(live_site: Site, query: str, param: str) -> None:
    """Before anything is accepted."""
    with pytest.raises(InvalidStatus) as caught, dialled(live_site, f"/v1/realtime?{query}"):
        pass
    assert json.loads(caught.value.response.body or b"")["error"]["param"] == param


def test_the_model_may_be_named_in_the_address(live_site: Site) -> None:
    """As gateways expect it."""
    with dialled(live_site, "/v1/realtime?model=Systran/faster-whisper-base") as socket:
        session = said(socket, "session.created")[0]["session"]
    assert session["audio"]["input"]["transcription"]["model"] == "base"
