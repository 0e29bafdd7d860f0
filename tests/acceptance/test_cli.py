"""The real command line in processes of its own, with the engine that needs no model."""

import json
import math
import os
import signal
import subprocess
import sys
import time
import wave
from array import array
from pathlib import Path

import pytest

LIMIT_S = 60.0


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder for everything the command line keeps."""
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Return a folder with two tones, one in a folder of its own, and a text that claims to be audio."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    _tone(folder / "a.wav", 1.0, 300)
    _tone(folder / "sub" / "c.wav", 2.0, 500)
    (folder / "b.wav").write_text("this is not audio")
    return folder


def _tone(path: Path, duration_s: float, hertz: int) -> None:
    samples = array("h", (round(9000 * math.sin(math.tau * hertz * n / 16000)) for n in range(int(16000 * duration_s))))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(samples.tobytes())


def _environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
    return kept | {"TYMPAN_ENGINE": "fake", "TYMPAN_DATA_DIR": str(home), "HOME": str(home), **more}


def _tympan(home: Path, *arguments: str | Path, stdin: bytes = b"", **more: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tympan", *map(str, arguments)],
        env=_environment(home, **more),
        cwd=home,
        input=stdin,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_file_becomes_text(home: Path, audio: Path) -> None:
    """The shortest command there is: text on stdout and nothing else."""
    done = _tympan(home, "transcribe", "--no-vad", audio / "a.wav")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "\x1b" not in done.stdout + done.stderr
    assert "1 file transcribed, 1.0 s of audio" in done.stderr


def test_a_folder_with_a_broken_file(home: Path, audio: Path, tmp_path: Path) -> None:
    """Good files are done, the broken one is named, exit code and report say so, a second run does only the rest."""
    command = ["transcribe", "--no-vad", "-r", f"{audio}", "-o", f"{tmp_path}/out", "--report", f"{tmp_path}/r.json"]
    done = _tympan(home, *command, "-f", "txt", "-f", "srt", "-f", "verbose_json")
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert "error [unsupported_media] b.wav:" in done.stderr
    assert "Traceback" not in done.stderr
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("[!.]*.*")}
    assert written == {f"{name}.{end}" for name in ("a", "sub/c") for end in ("txt", "srt", "verbose.json")}
    records = {record["filename"]: record for record in json.loads((tmp_path / "r.json").read_text())}
    assert records["a.wav"]["duration_s"] == pytest.approx(1.0, abs=0.05)
    assert records["a.wav"]["text"] + "\n" == (tmp_path / "out" / "a.txt").read_text()
    assert records["b.wav"]["error"]["code"] == "unsupported_media"
    again = _tympan(home, *command, "-f", "txt", "-f", "srt", "-f", "verbose_json")
    assert "2 skipped, done earlier; 1 failed" in again.stderr


def test_batch_writes_the_report(home: Path, audio: Path, tmp_path: Path) -> None:
    """``batch DIR REPORT``: every file of the folder in one JSON."""
    done = _tympan(home, "batch", audio, tmp_path / "r.json", "--no-vad")
    assert done.returncode == 1
    assert done.stdout == ""
    assert [record["success"] for record in json.loads((tmp_path / "r.json").read_text())] == [True, False, True]


def test_standard_input(home: Path, audio: Path) -> None:
    """``-`` reads audio from a pipe."""
    done = _tympan(home, "transcribe", "--no-vad", "-", stdin=(audio / "a.wav").read_bytes())
    assert done.returncode == 0, done.stderr
    assert done.stdout == _tympan(home, "transcribe", "--no-vad", audio / "a.wav").stdout


def test_ctrl_c_ends_cleanly_and_keeps_finished_files(home: Path, audio: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle: exit 130 within seconds, whole files only, and nothing left running."""
    for number in range(40):
        _tone(audio / f"n{number}.wav", 20.0, 200 + number)
    command = [sys.executable, "-m", "tympan", "transcribe", "--no-vad", "-r", str(audio), "-o", str(tmp_path / "out")]
    with subprocess.Popen(
        [*command, "--workers", "2"],
        env=_environment(home, TYMPAN_ENGINE_OPTIONS='{"ms_per_batch": "1000"}'),
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        deadline = time.monotonic() + LIMIT_S
        while not list((tmp_path / "out").glob("n*.txt")) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, stderr
    assert b"Traceback" not in stderr
    finished = list((tmp_path / "out").glob("n*.txt"))
    assert 0 < len(finished) < 40
    assert all(path.read_text().strip() for path in finished)
    assert not list((tmp_path / "out").rglob("*.tmp"))
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["transcribe", "missing.wav"], 1, "error [not_found] missing.wav"),
        (["transcribe", "."], 2, "--recursive"),
        (["transcribe", "--language", "klingon", "x.wav"], 2, "error [unsupported_language]"),
        (["transcribe", "--no-vad", "--vad-threshold", "0.5", "x.wav"], 2, "contradicts"),
        (["transcribe", "--beam-size", "0", "x.wav"], 2, "--beam-size"),
        (["transcribe"], 2, "PATH"),
        (["transcribe", "--device", "abacus", "x.wav"], 3, "error [config_error]"),
        (["batch", "missing", "r.json"], 2, "missing"),
        (["frobnicate"], 2, "frobnicate"),
    ],
)
def test_mistakes_are_answered_with_code_and_remedy(home: Path, arguments: list[str], code: int, words: str) -> None:
    """Every mistake has its exit code and says what was wrong, without a traceback."""
    done = _tympan(home, *arguments, COLUMNS="200")
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away_is_named(home: Path) -> None:
    """Who types commands can see to the database, unlike a caller of the server."""
    done = _tympan(home, "keys", "list", TYMPAN_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none")
    assert (done.returncode, done.stdout) == (1, "")
    assert "[storage_unavailable]" in done.stderr
    assert "DATABASE_URL" in done.stderr


def test_a_model_that_is_not_there_is_exit_3(home: Path, audio: Path) -> None:
    """Without a usable model nothing runs, and the error says what to do."""
    done = _tympan(home, "transcribe", "--model", "no-such-model", audio / "a.wav", TYMPAN_ENGINE="ct2")
    assert done.returncode == 3
    assert "error [model_not_found]" in done.stderr


def test_debug_shows_the_traceback(home: Path) -> None:
    """``--debug`` is for those who want to know where."""
    assert "Traceback" in _tympan(home, "--debug", "transcribe", ".").stderr
    assert "Traceback" in _tympan(home, "transcribe", ".", TYMPAN_DEBUG="1").stderr


def test_help_and_version_load_nothing_heavy(home: Path) -> None:
    """``--help`` answers at once: no engine, decoder, web framework or settings are imported."""
    code = (
        "import sys, tympan.cli, contextlib\n"
        "with contextlib.suppress(SystemExit): tympan.cli.main()\n"
        "heavy = {'av', 'ctranslate2', 'onnxruntime', 'fastapi', 'uvicorn', 'pydantic', 'faster_whisper'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"],
        env=_environment(home),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    assert "transcribe" in done.stdout
    assert "HEAVY []" in done.stdout
    assert _tympan(home, "--version").stdout == _tympan(home, "version").stdout


def test_doctor_finds_a_healthy_machine(home: Path) -> None:
    """With the fake engine everything is checked down to a transcription, and nothing fails."""
    done = _tympan(home, "doctor", "--json", TYMPAN_PORT="0")
    checks = {check["name"]: check for check in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {"Software", "System", "Disk", "Data folder", "Port", "Setting MODEL"} <= set(checks)
    assert {"Processor", "GPU", "Model", "Sandbox: processes", "Decoder", "Engine", "Transcription"} <= set(checks)
    assert checks["Setting ENGINE"]["detail"] == "fake (environment)"


def test_doctor_names_what_is_wrong(home: Path) -> None:
    """A setting that cannot be is a failed check with exit code 1, not a crash."""
    done = _tympan(home, "doctor", TYMPAN_PORT="99999")
    assert done.returncode == 1
    assert "FAIL" in done.stdout
    assert "PORT" in done.stdout
