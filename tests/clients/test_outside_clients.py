"""Clients and parsers written by others against a real server with a real model.

``make test-clients`` makes an environment for the clients (Python 3.12 or later) and runs these.
"""

import csv
import functools
import io
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import numpy as np
import openai
import pytest
import soundfile
import srt
import webvtt

from tests.acceptance.test_serve import serving, wait_ready
from tests.conftest import REPOSITORY, SpokenClip
from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine.models import ResolvedModel

PYTHON = Path(os.environ.get("CLIENTS_VENV") or REPOSITORY / ".venv-clients") / "bin" / "python"
SCRIPTS = sorted((Path(__file__).parent / "outside").glob("*.py"))
MODELS = ("whisper-1", "gpt-4o-mini-transcribe")
NUMBERS = ("1|one", "5|five", "10|ten")
LIMIT_S = 100.0
PAUSE = np.zeros(int(1.5 * SAMPLE_RATE_HZ), np.float32)

Cue: TypeAlias = tuple[float, float, str]

pytestmark = [pytest.mark.long, pytest.mark.model]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory, base: ResolvedModel, model_data_dir: Path) -> Iterator[str]:
    """Return the address of a server with the model `base`."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models").symlink_to(model_data_dir / "models")
    with serving(folder, ENGINE="auto", MODEL="base") as process:
        wait_ready(process, 100.0)
        yield process.url


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory, spoken_clips: tuple[SpokenClip, ...]) -> Path:
    """Return somebody counting, as 16-bit samples, which is what the clients' own code reads."""
    clip = next(clip for clip in spoken_clips if clip.path.stem == "counting" and clip.language == "en")
    samples, rate = soundfile.read(clip.path, dtype="float32")
    path: Path = tmp_path_factory.mktemp("audio") / "counting.wav"
    soundfile.write(path, (np.asarray(samples) * 32_000).astype(np.int16), rate)
    return path


@pytest.mark.skipif(not PYTHON.exists(), reason="make test-clients installs the clients")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_outside_clients_hear_what_is_said(script: Path, model: str, url: str, wav: Path) -> None:
    """Each with the model's name that it sends by itself, and with OpenAI's oldest."""
    done = subprocess.run(
        [PYTHON, script, url, wav, model],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert done.stdout.strip()
    for text in done.stdout.splitlines():
        assert all(re.search(rf"\b({number})\b", text.lower()) for number in NUMBERS), done.stdout


@pytest.fixture(scope="module")
def take(tmp_path_factory: pytest.TempPathFactory, spoken_clips: tuple[SpokenClip, ...]) -> Path:
    """Return somebody who says several sentences, with pauses between them."""
    clips = [clip for clip in spoken_clips if clip.language == "en"]
    pieces = [np.asarray(soundfile.read(clip.path, dtype="float32")[0]) for clip in clips]
    path: Path = tmp_path_factory.mktemp("take") / "take.wav"
    soundfile.write(path, np.concatenate([part for piece in pieces for part in (piece, PAUSE)]), SAMPLE_RATE_HZ)
    return path


def _srt(text: str) -> list[Cue]:
    return [(cue.start.total_seconds(), cue.end.total_seconds(), cue.content) for cue in srt.parse(text)]


def _vtt(text: str) -> list[Cue]:
    found = webvtt.from_string(text).captions
    return [(_seconds(cue.start), _seconds(cue.end), cue.text) for cue in found]


def _seconds(clock: str) -> float:
    hours, minutes, seconds = clock.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _tsv(text: str) -> list[Cue]:
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [(int(row["start"]) / 1000, int(row["end"]) / 1000, row["text"]) for row in rows]


@pytest.mark.parametrize(
    ("route", "field", "asks"),
    [
        ("/v1/audio/transcriptions", "file", "response_format"),
        ("/inference", "file", "response_format"),
        ("/asr", "audio_file", "output"),
    ],
)
def test_subtitles_of_real_speech_are_read_by_the_parsers_of_others(
    url: str, take: Path, route: str, field: str, asks: str
) -> None:
    """In every format the same cues, in order and with times inside the recording; on every route."""

    def asked(fmt: str) -> str:
        given = {"params" if route == "/asr" else "data": {asks: fmt, "language": "en"}}
        answer = httpx.post(url + route, files={field: ("a.wav", take.read_bytes())}, timeout=LIMIT_S, **given)  # type: ignore[arg-type]
        assert answer.status_code == 200, answer.text
        return answer.text

    cues = _srt(asked("srt"))
    assert len(cues) > 1
    assert _vtt(asked("vtt")) == cues
    if route != "/inference":
        assert [(start, end, " ".join(text.split())) for start, end, text in _tsv(asked("tsv"))] == [
            (start, end, " ".join(text.split())) for start, end, text in cues
        ]
    bounds = [time_s for start, end, _ in cues for time_s in (start, end)]
    assert bounds == sorted(bounds)
    assert 0.0 <= bounds[0] < bounds[-1] <= soundfile.info(take).duration
    assert "quick brown fox" in " ".join(text for _, _, text in cues).lower()


def test_OpenAIs_own_client_takes_every_answer_on_real_speech(url: str, take: Path) -> None:
    """In its strict mode, with words and segments, tokens, and events; all say the same."""
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, _strict_response_validation=True) as client,
        take.open("rb") as file,
    ):
        ask: Any = functools.partial(client.audio.transcriptions.create, file=file, model="whisper-1", language="en")
        verbose = ask(response_format="verbose_json", timestamp_granularities=["word", "segment"])
        assert verbose.segments
        assert verbose.words
        plain = ask(include=["logprobs"])
        assert "".join(token.token or "" for token in plain.logprobs or ()) == plain.text
        *deltas, done = ask(stream=True)
        assert "".join(delta.delta for delta in deltas) == done.text
    assert [plain.text.split(), done.text.split()] == [verbose.text.split()] * 2
    assert [word.word for word in verbose.words] == verbose.text.split()
