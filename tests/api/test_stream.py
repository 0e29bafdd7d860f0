"""`/v1/stream` over a real socket: samples in, JSON out."""

import json
from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import InvalidStatus

from tests.api.live_sites import Message, dialled, said, tell
from tests.api.support import Site
from tests.live_support import joined, quiet, spoken
from tympan.domain import Samples

TWO = joined(quiet(0.5), spoken(1, 2, 3, 4, 5), quiet(1.2), spoken(6, 7), quiet(1.0))


def streamed(live_site: Site, audio: Samples, path: str = "/v1/stream", block: int = 1600) -> list[Message]:
    """Send everything, finish, and return every message."""
    with dialled(live_site, path) as socket:
        for at in range(0, len(audio), block):
            socket.send(audio[at : at + block].astype("<i2").tobytes())
        tell(socket, "finish")
        return said(socket, "ended")


def of(messages: list[Message], kind: str) -> list[Message]:
    """Return the messages of one type."""
    return [message for message in messages if message["type"] == kind]


def test_what_is_said_comes_as_events_in_order(live_site: Site) -> None:
    """Two utterances: each starts, stops and has a final text; then the whole, and a normal end."""
    messages = streamed(live_site, TWO)
    kinds = [message["type"] for message in messages if message["type"] != "partial"]
    once = ["speech_started", "speech_stopped", "final"]
    assert kinds == ["ready", *once, *once, "ended"]
    assert messages[0]["sample_rate"] == 16_000
    assert messages[0]["model"] == "base"
    first, second = of(messages, "final")
    assert (first["text"], second["text"]) == ("w1 w2 w3 w4 w5", "w6 w7")
    assert first["segments"][0]["start"] == 0.5
    assert "words" not in first["segments"][0]
    assert messages[-1]["text"] == "w1 w2 w3 w4 w5 w6 w7"
    assert messages[-1]["audio_duration"] == 5.5


def test_partials_tell_what_stays(live_site: Site) -> None:
    """What one calls stable is how every later one of the utterance begins; switched off, none come."""
    audio, messages = spoken(*range(1, 60)), list[Message]()
    with dialled(live_site, "/v1/stream") as socket:
        for at in range(0, len(audio), 1600):
            socket.send(audio[at : at + 1600].tobytes())
            with suppress(TimeoutError):
                messages.append(json.loads(socket.recv(timeout=0.05)))
            if any(message["stable"] for message in of(messages, "partial")):
                break
        tell(socket, "commit")
        stable = [message["stable"] for message in of([*messages, *said(socket, "final")], "partial")]
    assert any(stable)
    assert all(after.startswith(before) for before, after in pairwise(stable))
    assert of(streamed(live_site, TWO, "/v1/stream?partials=false"), "partial") == []


def test_words_are_listed_where_they_are_asked_for(live_site: Site) -> None:
    """With their times in the session."""
    final = of(streamed(live_site, TWO, "/v1/stream?words=true"), "final")[1]
    words = final["segments"][0]["words"]
    assert [word["word"] for word in words] == ["w6", "w7"]
    assert (words[0]["start"], words[0]["end"]) == (3.7, 4.1)


@pytest.mark.parametrize("rate_hz", [8000, 48_000])
def test_audio_at_other_rates_is_resampled(live_site: Site, rate_hz: int) -> None:
    """Times are those of the audio as it was sent."""
    audio = np.repeat(TWO, 3) if rate_hz > 16_000 else TWO[::2]
    messages = streamed(live_site, audio, f"/v1/stream?sample_rate={rate_hz}")
    assert len(of(messages, "final")) == 2
    assert messages[-1]["audio_duration"] == pytest.approx(5.5, abs=0.001)


def test_a_commit_ends_an_utterance(live_site: Site) -> None:
    """And is answered, also when there was nothing to end."""
    with dialled(live_site, "/v1/stream?turn_detection=false") as socket:
        socket.send(spoken(1, 2).tobytes())
        tell(socket, "commit")
        messages = said(socket, "final")
        assert of(messages, "committed") == [{"type": "committed", "utterance": 0, "at": 0.8}]
        assert messages[-1]["text"] == "w1 w2"
        tell(socket, "commit")
        assert said(socket, "committed")[-1]["utterance"] is None


def test_options_may_come_in_a_first_message(live_site: Site) -> None:
    """They replace those of the address, and are answered; after audio it is too late."""
    with dialled(live_site, "/v1/stream?sample_rate=8000") as socket:
        tell(socket, "start", language="German", words=True, sample_rate=16_000, model="whisper-1")
        first, second = said(socket, "ready") + said(socket, "ready")
        assert (first["sample_rate"], second["sample_rate"]) == (8000, 16_000)
        assert (second["language"], second["model"]) == ("de", "base")
        socket.send(TWO.tobytes())
        tell(socket, "start", language="en")
        error = said(socket, "error")[-1]["error"]
        assert error["code"] == "conflict"
        tell(socket, "finish")
        assert of(said(socket, "ended"), "final")[0]["segments"][0]["words"]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("sample_rate=44101", "sample_rate"),
        ("sample_rate=high", "sample_rate"),
        ("encoding=mp3", "encoding"),
        ("language=klingon", "language"),
        ("silence_ms=5", "silence_ms"),
        ("turn_detection=false&silence_ms=500", "silence_ms"),
        ("colour=red", "colour"),
        ("words=true&words=false", "words"),
    ],
)
def test_a_bad_option_in_the_address_is_answered_as_HTTP_does(live_site: Site, query: str, param: str) -> None:
    """With OpenAI's envelope and the name of the option."""
    with pytest.raises(InvalidStatus) as caught, dialled(live_site, f"/v1/stream?{query}"):
        pass
    assert caught.value.response.status_code == 400
    assert json.loads(caught.value.response.body or b"")["error"]["param"] == param
    assert caught.value.response.headers["x-request-id"].startswith("req_")


def test_an_unknown_model_is_404(live_site: Site) -> None:
    """Before anything is accepted."""
    with pytest.raises(InvalidStatus) as caught, dialled(live_site, "/v1/stream?model=parrot"):
        pass
    assert caught.value.response.status_code == 404


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "[" * 100_000,
        '{"type": "start", "colour": "red"}',
        '{"type": "start", "language": ["en"]}',
        '{"type": "commit", "now": true}',
        '{"type": 7}',
        '{"type": "\\ud800"}',
        "{}",
    ],
)
def test_a_message_that_makes_no_sense_is_answered_and_changes_nothing(live_site: Site, text: str) -> None:
    """The session goes on."""
    with dialled(live_site, "/v1/stream") as socket:
        socket.send(text)
        assert said(socket, "error")[-1]["error"]["code"] == "invalid_request"
        socket.send(TWO.tobytes())
        tell(socket, "finish")
        assert len(of(said(socket, "ended"), "final")) == 2


def test_nothing_is_taken_after_the_end(live_site: Site) -> None:
    """It is said so, and the rest of the text still comes."""
    with dialled(live_site, "/v1/stream") as socket:
        socket.send(TWO.tobytes())
        tell(socket, "finish")
        socket.send(TWO.tobytes())
        messages = said(socket, "ended")
        later: list[Any] = of(messages, "error")
        assert not later or later[0]["error"]["code"] == "conflict"
        assert messages[-1]["audio_duration"] == 5.5


def test_a_session_without_audio_ends_well(live_site: Site) -> None:
    """Its text is empty."""
    messages = streamed(live_site, quiet(0.0))
    assert [message["type"] for message in messages] == ["ready", "ended"]
    assert messages[-1]["text"] == ""


def test_half_a_sample_waits_for_its_other_half(live_site: Site) -> None:
    """Messages may end anywhere."""
    data = TWO.astype("<i2").tobytes()
    with dialled(live_site, "/v1/stream") as socket:
        for at in range(0, len(data), 3333):
            socket.send(data[at : at + 3333])
        tell(socket, "finish")
        assert said(socket, "ended")[-1]["text"] == "w1 w2 w3 w4 w5 w6 w7"
