"""OpenAI's client against a server of its own process, from sound to answer; with the fake engine."""

import io
import wave
from collections.abc import Iterator

import numpy as np
import openai
import pytest

from tests.acceptance.test_serve import serving, wait_ready

RATE_HZ = 16_000


def recording(*channels: float, seconds: float = 2.0) -> bytes:
    """Return a WAV file with a hum on each channel, as loud as given."""
    hum = np.sin(np.arange(round(seconds * RATE_HZ)) * 0.2)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(len(channels))
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(np.stack([hum * 8_000 * one for one in channels], axis=1).astype("<i2").tobytes())
    return file.getvalue()


LEFT = ("call.wav", recording(1.0, 0.1))
RIGHT = ("call.wav", recording(0.1, 1.0))
MONO = ("talk.wav", recording(1.0))
LONG = ("long.wav", recording(1.0, seconds=100.0))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[openai.OpenAI]:
    """Return a strict client of a running server, which hears everything as speech."""
    with serving(tmp_path_factory.mktemp("openai")) as process:
        wait_ready(process)
        with openai.OpenAI(
            base_url=f"{process.url}/v1", api_key="none", max_retries=0, _strict_response_validation=True
        ) as made:
            yield made


HEAR_ALL = {"vad": "false"}


def test_whoever_has_the_louder_channel_speaks(client: openai.OpenAI) -> None:
    """The same words on the left and on the right are those of two speakers."""
    asked = {**HEAR_ALL, "diarize_by": "channels"}
    heard = [
        client.audio.transcriptions.create(
            file=file, model="whisper-1", response_format="diarized_json", extra_body=asked
        )
        for file in (LEFT, RIGHT)
    ]
    assert [{segment.speaker for segment in one.segments} for one in heard] == [{"A"}, {"B"}]
    assert all(one.text for one in heard)


def test_one_channel_has_no_left_and_right(client: openai.OpenAI) -> None:
    """The refusal says what to send."""
    with pytest.raises(openai.BadRequestError, match="one speaker on each channel") as caught:
        client.audio.transcriptions.create(
            file=MONO, model="whisper-1", response_format="diarized_json", extra_body={"diarize_by": "channels"}
        )
    assert caught.value.code == "not_stereo"


@pytest.mark.parametrize("fmt", ["json", "diarized_json"])
def test_a_stream_is_the_call_without_one_told_bit_by_bit(client: openai.OpenAI, fmt: str) -> None:
    """Of a recording of several windows: more than one delta, and together the whole text."""
    asked = {"file": LEFT if fmt == "diarized_json" else LONG, "model": "whisper-1", "extra_body": HEAR_ALL}
    whole = client.audio.transcriptions.create(**asked, response_format=fmt)  # type: ignore[call-overload]
    events = list(client.audio.transcriptions.create(**asked, response_format=fmt, stream=True))  # type: ignore[call-overload]
    deltas = [event.delta for event in events if event.type == "transcript.text.delta"]
    assert "".join(deltas) == events[-1].text == whole.text
    if fmt == "json":
        assert len(deltas) >= 2
        return
    told = [event.to_dict() for event in events if event.type == "transcript.text.segment"]
    assert told == [segment.to_dict() for segment in whole.segments]


def test_chances_of_tokens_come_all_the_way_from_the_engine(client: openai.OpenAI) -> None:
    """Streamed and not, over windows and processes."""
    asked = {"file": LONG, "model": "whisper-1", "include": ["logprobs"], "extra_body": HEAR_ALL}
    whole = client.audio.transcriptions.create(**asked)  # type: ignore[call-overload]
    *_, done = client.audio.transcriptions.create(**asked, stream=True)  # type: ignore[call-overload]
    assert "".join(one.token for one in whole.logprobs) == whole.text
    assert [one.to_dict() for one in done.logprobs] == [one.to_dict() for one in whole.logprobs]
    assert {one.logprob for one in whole.logprobs} == {-0.2}
