"""``tympan live``: files and standard input, with the fake engine in its process."""

import io
import os
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.live_support import desk, opened, spoken
from tests.real_model import clip
from tympan.cli import app
from tympan.cli import live as live_command
from tympan.domain import Samples, Word
from tympan.errors import EngineError, UnsupportedMedia
from tympan.live import Event, Final, Lost, Partial, SpeechStarted

ENVIRONMENT = {"TYMPAN_ENGINE": "fake", "PYTHONUNBUFFERED": "1"}


def _tympan(*words: str, given: bytes = b"", folder: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **ENVIRONMENT, "TYMPAN_DATA_DIR": str(folder)}
    command = [sys.executable, "-m", "tympan", "live", *words]
    return subprocess.run(command, input=given, capture_output=True, env=environment, timeout=60, check=False)


def test_samples_on_standard_input_become_lines(tmp_path: Path) -> None:
    """One line for each utterance, on stdout; an odd byte at the end does no harm."""
    quiet = np.zeros(20_000, dtype=np.int16)
    audio = np.concatenate([clip("hello_world"), quiet, clip("hello_world"), quiet])
    done = _tympan("-", "-l", "en", given=audio.tobytes() + b"x", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 2
    assert all(line.strip() for line in lines)


def test_a_file_is_played(tmp_path: Path) -> None:
    """With --fast nobody waits for the pace of speech."""
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(clip("hello_world").tobytes())
    done = _tympan(str(path), "--fast", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_what_is_no_audio_is_told() -> None:
    """The decoder's own error is kept, not that the session was closed."""

    def broken() -> Iterator[Samples]:
        yield spoken(1)
        raise UnsupportedMedia

    with opened(desk()) as session:
        feeder = live_command._Feeder(session, broken(), at_pace=True)
        feeder.start()
        assert not [event for event in session.events() if isinstance(event, Final)]
        feeder.join(5.0)
    assert isinstance(feeder.failure, UnsupportedMedia)


def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    """Before any model is loaded."""
    result = CliRunner().invoke(app, ["live", str(tmp_path / "none.wav")])
    assert result.exit_code != 0
    assert "There is no file" in str(result.exception)


def test_what_was_lost_is_counted_and_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Finals go to stdout, partials nowhere without a terminal, and a loss to stderr with its place."""
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out, flush=out.flush))
    events: list[Event] = [
        SpeechStarted(0, 0.0),
        Partial(0, (Word(" so", 0.0, 0.5, 0.9),), 0),
        Final(0, 0.0, 1.0, "so far", (), "en"),
        Final(1, 1.0, 2.0, "", (), "en"),
        Lost(2, 2.0, 3.5, EngineError()),
    ]
    assert live_command._show(events) == 1
    assert out.getvalue() == b"so far\n"
    shown = live_command._text(Partial(0, (Word(" so", 0.0, 0.5, 0.9), Word(" far", 0.5, 1.0, 0.9)), 1))
    assert shown.plain == "so far"
