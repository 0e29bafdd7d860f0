"""``stream=true``: OpenAI's events, told while the work goes on, for callers who listen, fall silent, or leave."""

import asyncio
import json
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

import httpx
import openai
import pytest
from openai.types.audio import TranscriptionTextDeltaEvent, TranscriptionTextDoneEvent

from tests.api.support import CLIP, ScriptedTranscriber, Site, make_transcript, wait_for
from tympan.api.fields.transcription import parse_form
from tympan.api.speech import narration
from tympan.api.speech.narration import MAX_UNREAD, Story
from tympan.api.wire import streaming
from tympan.api.wire.mailbox import Mailbox
from tympan.domain import Options, Segment, Task
from tympan.errors import Cancelled, CorruptMedia, EngineError

FILE = ("clip.wav", CLIP)
TEXT = "Hello there. A < B & C --> D."
ROUTE = "/v1/audio/transcriptions"


def events_of(body: str) -> list[dict[str, object]]:
    """Return the data of each event of a stream, without comments and the end."""
    lines = [line.removeprefix("data: ") for line in body.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


# ---------------------------------------------------------------------------------------------------------- events


@pytest.mark.parametrize("fmt", ["json", "text"])
def test_the_sdk_reads_the_stream_in_strict_mode(server: Site, fmt: str) -> None:
    """Deltas and one last event; together the deltas are its text, which is that of the call without a stream."""
    with openai.OpenAI(
        base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
    ) as client:
        stream = client.audio.transcriptions.create(file=FILE, model="base", stream=True, response_format=fmt)  # type: ignore[call-overload]
        events = list(stream)
        whole = client.audio.transcriptions.create(file=FILE, model="base")
    *deltas, done = events
    assert all(isinstance(event, TranscriptionTextDeltaEvent) for event in deltas)
    assert isinstance(done, TranscriptionTextDoneEvent)
    assert [event.delta for event in deltas] == ["Hello there.", " A < B & C --> D."]
    assert "".join(event.delta for event in deltas) == done.text == whole.text == TEXT
    assert done.usage is not None
    assert (done.usage.output_tokens, done.usage.input_tokens) == (3, 210)


def test_the_async_sdk_reads_it_too(server: Site) -> None:
    """The same events, awaited."""

    async def listen() -> list[str]:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
        ) as client:
            stream = await client.audio.transcriptions.create(file=FILE, model="base", stream=True)
            return [event.type async for event in stream]

    assert asyncio.run(listen()) == ["transcript.text.delta", "transcript.text.delta", "transcript.text.done"]


def test_on_the_wire_events_have_names_and_the_stream_its_end(server: Site) -> None:
    """Every event is named, proxies are told not to collect them, and the last line is the customary one."""
    answer = server.post(data={"stream": "true"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"
    names = [line.removeprefix("event: ") for line in answer.text.splitlines() if line.startswith("event: ")]
    assert names == [event["type"] for event in events_of(answer.text)]
    assert answer.text.endswith("data: [DONE]\n\n")


def test_stream_false_is_no_stream(server: Site) -> None:
    """Clients send it spelled out."""
    assert server.post(data={"stream": "false"}).json()["text"] == TEXT


def test_a_worker_elsewhere_that_tells_nothing_on_the_way_has_it_all_told_at_the_end(
    make_site: Callable[..., Site],
) -> None:
    """One delta with the whole text, then the last event."""
    found = events_of(make_site(ScriptedTranscriber(tells=0)).post(data={"stream": "true"}).text)
    assert [event["type"] for event in found] == ["transcript.text.delta", "transcript.text.done"]
    assert found[0]["delta"] == found[1]["text"] == TEXT


def test_silence_gives_the_last_event_alone(make_site: Callable[..., Site]) -> None:
    """There is nothing to say, and no empty delta says it."""
    nothing = ScriptedTranscriber(script=lambda options: replace(make_transcript(options), text="", segments=()))
    found = events_of(make_site(nothing).post(data={"stream": "true"}).text)
    assert [(event["type"], event.get("text")) for event in found] == [("transcript.text.done", "")]


@pytest.mark.parametrize(
    "texts", [[" One.", " Two. "], [" ", " One.", "  ", " Two"], ["", " "], [" \nOne\n", "\nTwo "], ["One", "Two"]]
)
def test_deltas_together_are_the_text(texts: list[str]) -> None:
    """Wherever the spaces are: a stretch of nothing but spaces is said with what follows, or not at all."""
    segments = tuple(Segment(i, i, i + 1, text) for i, text in enumerate(texts))
    transcript = replace(make_transcript(Options()), segments=segments, text="".join(texts).strip())
    story = Story(parse_form({"stream": ["true"]}, Task.TRANSCRIBE))
    told = b"".join([event for one in segments for event in story.told([one])] + list(story.ended(transcript)))
    *deltas, done = events_of(told.decode())
    assert "".join(str(event["delta"]) for event in deltas) == done["text"] == transcript.text
    assert all(event["delta"] for event in deltas)


# ------------------------------------------------------------------------------------------------------------ times


def test_the_first_delta_comes_before_the_work_is_done(make_site: Callable[..., Site]) -> None:
    """A caller reads the beginning while the rest is still being worked on."""
    busy = make_site(ScriptedTranscriber(pace_s=60.0))
    with httpx.stream("POST", busy.url + ROUTE, files={"file": FILE}, data={"stream": "true"}, timeout=40) as answer:
        first = next(answer.iter_text())
    assert events_of(first)[0]["delta"] == "Hello there."


def test_a_long_silence_is_filled_with_comments(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Proxies would end a connection that says nothing; clients skip comments."""
    monkeypatch.setattr(narration, "KEEP_ALIVE_S", 0.05)
    gate = threading.Event()
    quiet = make_site(ScriptedTranscriber(gate=gate))
    with httpx.stream("POST", quiet.url + ROUTE, files={"file": FILE}, data={"stream": "true"}, timeout=40) as answer:
        parts = answer.iter_text()
        first = next(parts)
        gate.set()
        rest = "".join(parts)
    assert first.startswith(": still here\n\n")
    assert events_of(rest)[-1]["text"] == TEXT


# ----------------------------------------------------------------------------------------------------------- errors


def test_an_error_before_the_first_event_is_an_ordinary_answer(make_site: Callable[..., Site]) -> None:
    """With its status, as without a stream."""
    answer = make_site(ScriptedTranscriber(error=CorruptMedia(), tells=0)).post(data={"stream": "true"})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "corrupt_media"


def test_an_error_on_the_way_is_the_last_event(make_site: Callable[..., Site]) -> None:
    """In OpenAI's envelope, which its client raises; there is no last event with a text, and the place is free."""
    failing = make_site(ScriptedTranscriber(error=EngineError("It broke."), tells=1, pace_s=0.3))
    with openai.OpenAI(base_url=f"{failing.url}/v1", api_key="none", max_retries=0) as client:
        stream = client.audio.transcriptions.create(file=FILE, model="base", stream=True)
        assert next(stream).type == "transcript.text.delta"
        with pytest.raises(openai.APIError, match="It broke") as caught:
            list(stream)
    assert (caught.value.code, caught.value.type) == ("engine_failed", "server_error")
    wait_for(lambda: failing.services.house.count == 0)


def test_an_unexpected_error_on_the_way_is_told_without_its_words(make_site: Callable[..., Site]) -> None:
    """Clients hear that something went wrong, not what: it might be somebody's data."""
    failing = make_site(ScriptedTranscriber(error=ValueError("secret"), tells=1, pace_s=0.3))
    heard: list[str] = []
    with httpx.stream("POST", failing.url + ROUTE, files={"file": FILE}, data={"stream": "true"}, timeout=40) as answer:
        parts = answer.iter_text()
        with pytest.raises(httpx.RemoteProtocolError):
            heard.extend(parts)
    error = events_of("".join(heard))[-1]["error"]
    assert isinstance(error, dict)
    assert error["code"] == "internal_error"
    assert "secret" not in "".join(heard)


@pytest.mark.parametrize("fmt", ["srt", "vtt", "verbose_json", "tsv"])
def test_formats_with_times_cannot_be_streamed(server: Site, fmt: str) -> None:
    """Deltas have no place for them; the format is at fault. Only for whisper-1 the wish is ignored, as at OpenAI."""
    for model in ({}, {"model": "base"}):
        answer = server.post(data={"stream": "true", "response_format": fmt, **model})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "response_format")
    answer = server.post(data={"stream": "true", "response_format": fmt, "model": "whisper-1"})
    assert answer.text == server.post(data={"response_format": fmt}).text


@pytest.mark.parametrize(("path", "remedy"), [("/v1/audio/translations", "transcriptions"), ("/v1/jobs", "events")])
def test_other_routes_have_no_stream(server: Site, path: str, remedy: str) -> None:
    """Translations have none at OpenAI either; jobs have events of their own."""
    error = server.post(path, data={"stream": "true"}).json()["error"]
    assert (error["code"], error["param"]) == ("unsupported_option", "stream")
    assert remedy in error["message"]


# ---------------------------------------------------------------------------------------------------- slow callers


def test_a_caller_who_leaves_ends_the_work(make_site: Callable[..., Site]) -> None:
    """In the middle of the stream: the request is cancelled, nothing of it stays."""
    scripted = ScriptedTranscriber(pace_s=60.0)
    busy = make_site(scripted)
    with httpx.stream("POST", busy.url + ROUTE, files={"file": FILE}, data={"stream": "true"}, timeout=40) as answer:
        next(answer.iter_text())
    wait_for(lambda: busy.services.house.count == 0)
    assert busy.staged == []


def test_F5_a_caller_who_stops_reading_is_given_up(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their work waits, so that no more text than the bound piles up, and ends once the patience for one piece has."""
    monkeypatch.setattr(streaming, "SEND_S", 0.5)
    text = " word" * 40_000
    long = tuple(Segment(i, i, i + 1, text) for i in range(1_000))
    scripted = ScriptedTranscriber(script=lambda options: replace(make_transcript(options), segments=long))
    busy = make_site(scripted)
    request = httpx.Request("POST", busy.url + ROUTE, files={"file": FILE}, data={"stream": "true"})
    with socket.socket() as silent:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        silent.connect(("127.0.0.1", int(busy.url.rsplit(":", 1)[1])))
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        silent.sendall(f"POST {ROUTE} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        wait_for(lambda: scripted.told)
        wait_for(lambda: busy.services.house.count == 0)
    assert scripted.told < 500, "the work went on although nobody read"


def test_a_full_mailbox_stops_who_fills_it_until_there_is_room_or_no_point() -> None:
    """The bound holds, what is taken makes room, and a cancelled request does not wait for ever."""
    cancelled = threading.Event()

    def check() -> None:
        if cancelled.is_set():
            raise Cancelled

    async def scene() -> None:
        mailbox: Mailbox[int] = Mailbox(2, check)
        put: list[int] = []

        def fill() -> None:
            for number in range(9):
                mailbox.put(number)
                put.append(number)

        filling = asyncio.get_running_loop().run_in_executor(None, fill)
        assert await mailbox.wait(30.0)
        await asyncio.to_thread(wait_for, lambda: len(put) == 2)
        assert mailbox.take() == [0, 1]
        await asyncio.to_thread(wait_for, lambda: len(put) == 4)
        cancelled.set()
        with pytest.raises(Cancelled):
            await filling
        assert mailbox.take() == [2, 3]
        assert not await mailbox.wait(0.01)

    asyncio.run(scene())
    assert MAX_UNREAD <= 1_000
