"""``/asr`` and ``/detect-language``: what clients of whisper-asr-webservice send and read."""

import json
import wave
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import srt
import webvtt

from tests.api.support import CLIP, ScriptedTranscriber, Site
from tympan.domain import Options, Progress, Task, Timestamps, Transcript, VadOptions
from tympan.errors import NotStereo
from tympan.pipeline import RequestContext

FILES = {"audio_file": ("talk one.wav", CLIP)}


class TwoVoices(ScriptedTranscriber):
    """The first segment is spoken by one, the second by the other."""

    def transcribe(
        self,
        source: Path,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> Transcript:
        """Answer with speakers."""
        found = super().transcribe(source, options, context, on_progress)
        named = (replace(one, speaker=name) for one, name in zip(found.segments, "AB", strict=True))
        return replace(found, segments=tuple(named))


def ask(site: Site, path: str = "/asr", **query: Any) -> httpx.Response:
    """Send the clip."""
    return site.post(path, params=query, files=FILES)


def test_the_text_is_lines_of_segments(server: Site) -> None:
    """As text/plain, with the engine and a file name in the headers."""
    answer = ask(server)
    assert answer.status_code == 200, answer.text
    assert answer.text == "Hello there.\nA < B & C --> D.\n"
    assert answer.headers["content-type"].split(";")[0] == "text/plain"
    assert answer.headers["asr-engine"] == "tympan"
    assert answer.headers["content-disposition"] == 'attachment; filename="talk%20one.wav.txt"'
    assert not server.staged


def test_subtitles_are_read_by_other_parsers(server: Site) -> None:
    """Two cues each."""
    cues = list(srt.parse(ask(server, output="srt").text))
    assert [cue.content for cue in cues] == ["Hello there.", "A < B & C -> D."]
    answer = ask(server, output="vtt")
    assert [cue.start for cue in webvtt.from_buffer(BytesIO(answer.content)).captions] == [
        "00:00:00.500",
        "00:00:02.000",
    ]
    assert answer.headers["content-type"].split(";")[0] == "text/plain"
    assert answer.headers["content-disposition"].endswith('.wav.vtt"')
    assert ask(server, output="tsv").text.splitlines()[:2] == ["start\tend\ttext", "500\t1400\tHello there."]


def test_json_is_whispers_own(server: Site) -> None:
    """Text, segments and the language's code; words when they are asked for."""
    found = json.loads(ask(server, output="json").text)
    assert set(found) == {"text", "segments", "language"}
    assert (found["text"], found["language"]) == (" Hello there. A < B & C --> D.", "en")
    first = found["segments"][0]
    assert (first["start"], first["end"], first["text"], first["tokens"]) == (0.5, 1.4, " Hello there.", [1, 2])
    assert "words" not in first
    words = json.loads(ask(server, output="json", word_timestamps="true").text)["segments"][0]["words"]
    assert words[0] == {"word": " Hello", "start": 0.5, "end": 0.9, "probability": 0.98}


def test_the_query_is_honoured(make_site: Callable[..., Site]) -> None:
    """Task, language, prompt and speech detection under their names there."""
    site = make_site()
    asked = {"task": "translate", "language": "de", "initial_prompt": "Names.", "vad_filter": "false"}
    assert ask(site, **asked, video_file="a.mkv").status_code == 200
    assert ask(site).status_code == 200
    first, second = (options for _, options in site.transcriber.calls)
    assert (first.task, first.language, first.prompt, first.vad) == (Task.TRANSLATE, "de", "Names.", None)
    assert first.timestamps is Timestamps.NONE
    assert (second.task, second.language, second.vad) == (Task.TRANSCRIBE, None, VadOptions())


def test_bare_samples_are_stored_with_a_head(make_site: Callable[..., Site]) -> None:
    """What is sent with encode=false, as Bazarr sends it, reaches the decoder as a WAV file of one channel."""
    site = make_site()
    samples = bytes(range(200))
    assert site.post("/asr", params={"encode": "false"}, files={"audio_file": samples}).status_code == 200
    assert site.post("/detect-language", params={"encode": "false"}, files={"audio_file": samples}).status_code == 200
    for data, _ in site.transcriber.calls:
        assert data[44:] == samples
        with wave.open(BytesIO(data)) as file:
            assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)


def test_speakers_have_labels(make_site: Callable[..., Site]) -> None:
    """In the text of every format but json, which has them in a field."""
    site = make_site(TwoVoices())
    assert ask(site, diarize="true").text.splitlines()[0] == "[SPEAKER_00]: Hello there."
    assert next(srt.parse(ask(site, diarize="true", output="srt").text)).content == "[SPEAKER_00]: Hello there."
    ask(site, diarize="true", min_speakers=3)
    assert site.transcriber.calls[-1][1].diarize_by == "voices"
    found = json.loads(ask(site, diarize="true", min_speakers=2, max_speakers=2, output="json").text)
    assert [segment["speaker"] for segment in found["segments"]] == ["SPEAKER_00", "SPEAKER_01"]
    assert all(options.diarize for _, options in site.transcriber.calls)


def test_the_language_of_a_file(server: Site) -> None:
    """Name, code and confidence."""
    answer = ask(server, "/detect-language")
    assert answer.json() == {"detected_language": "english", "language_code": "en", "confidence": 0.93}


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"output": "docx"}, "invalid_request"),
        ({"task": "sing"}, "invalid_request"),
        ({"language": "xx"}, "unsupported_language"),
        ({"vad_filter": "perhaps"}, "invalid_request"),
        ({"min_speakers": "2"}, "invalid_request"),
        ({"diarize": "true", "max_speakers": "2", "min_speakers": "3"}, "invalid_request"),
        ({"diarize": "true", "max_speakers": "21"}, "invalid_request"),
        ({"temperature": "1"}, "invalid_request"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_named(server: Site, query: dict[str, str], code: str) -> None:
    """In a detail, as the framework of that server has it, and with our code."""
    answer = ask(server, **query)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert set(answer.json()) == {"detail", "code"}
    assert list(query)[-1].split("_")[0] in answer.json()["detail"].lower()


def test_errors_of_the_work_and_of_the_form_have_the_same_shape(make_site: Callable[..., Site]) -> None:
    """A file without two channels, no file, a field beside it, too large a file."""
    site = make_site(ScriptedTranscriber(error=NotStereo()), max_upload_bytes=100_000)
    refused = [
        ask(site, diarize="true"),
        site.post("/asr", files={"file": CLIP}),
        site.post("/asr", files=FILES, data={"language": "en"}),
        site.post("/detect-language", files={"audio_file": bytes(2_000_000)}),
        httpx.get(f"{site.url}/asr"),
    ]
    assert [answer.status_code for answer in refused] == [400, 400, 400, 413, 405]
    assert [set(answer.json()) for answer in refused] == [{"detail", "code"}] * 5
