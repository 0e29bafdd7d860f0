"""Requests that programs really send, header by header and field by field, and what they read of the answer."""

import io
import json
import wave
from collections.abc import Callable
from http.client import HTTPConnection

import httpx
from openai import OpenAI

from tests.api.support import CLIP, ScriptedTranscriber, Site
from tympan.errors import CorruptMedia


def test_open_webui(server: Site) -> None:
    """Its audio router posts a file and a model, with a key that may be empty, and reads ``text``."""
    form = httpx.Request("POST", server.url, files={"file": ("9f2c.mp3", CLIP)}, data={"model": "whisper-1"})
    for key in ("sk-something", ""):
        line = HTTPConnection(httpx.URL(server.url).host, httpx.URL(server.url).port, timeout=20)
        headers = {"Authorization": f"Bearer {key}", "Content-Type": form.headers["content-type"]}
        line.request("POST", "/v1/audio/transcriptions", form.read(), headers)
        answer = line.getresponse()
        assert answer.status == 200
        assert json.loads(answer.read())["text"]
        line.close()


def test_open_webui_shows_what_went_wrong(make_site: Callable[..., Site]) -> None:
    """It looks for a message in the error."""
    site = make_site(ScriptedTranscriber(error=CorruptMedia(remedy="Record it anew.")))
    answer = site.post(data={"model": "whisper-1"})
    assert answer.json()["error"]["message"].endswith("Record it anew.")


def test_home_assistants_openai_integration(server: Site) -> None:
    """Its speech-to-text entity sends WAV or Ogg with a language and a prompt through OpenAI's client."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(bytes(3_200))
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    for name in ("a.wav", "a.ogg"):
        answer = client.audio.transcriptions.create(
            model="gpt-4o-mini-transcribe",
            file=(name, file.getvalue()),
            response_format="json",
            language="en",
            prompt="Lights, heating, doors.",
        )
        assert answer.text


def test_bazarrs_whisper_provider(server: Site) -> None:
    """Bare samples without a name, the queries it sends, subtitles as bytes, and the language by code and name."""
    samples = {"audio_file": bytes(64_000)}
    detected = httpx.post(f"{server.url}/detect-language", params={"encode": "false"}, files=samples).json()
    assert (detected["language_code"], detected["detected_language"]) == ("en", "english")
    asked = {"task": "transcribe", "language": "en", "output": "srt", "encode": "false", "video_file": "/films/a b.mkv"}
    answer = httpx.post(f"{server.url}/asr", params=asked, files=samples)
    assert answer.content.startswith(b"1\n00:00:00,500 --> ")


def test_a_wyoming_bridge_to_whisper_cpp(server: Site) -> None:
    """The three fields that such bridges copy from the README, and ``text`` out of the answer."""
    answer = httpx.post(
        f"{server.url}/inference",
        files={"file": ("audio.wav", CLIP, "audio/wav")},
        data={"temperature": "0.0", "temperature_inc": "0.2", "response_format": "json"},
    )
    assert answer.json()["text"].strip()
