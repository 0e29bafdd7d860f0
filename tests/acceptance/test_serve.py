"""``serve`` as a process of its own, with the fake engine: start, work, stop."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
import pytest

_PROGRAM = "from tympan.bootstrap import serve; from tympan.config import load; serve(load())"


def clip(seconds: float = 2.0) -> bytes:
    """Return a WAV file with a tone in it."""
    rate = 16_000
    tone = (8_000 * np.sin(np.arange(int(seconds * rate)) * 0.2)).astype("<i2")
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(rate)
        writer.writeframes(tone.tobytes())
    return file.getvalue()


@dataclass
class Process:
    """A server process and what it has said so far."""

    child: subprocess.Popen[str]
    output: list[str] = field(default_factory=list)
    url: str = ""

    def post(self, **fields: str) -> httpx.Response:
        """Send a clip, without voice detection so that the tone counts."""
        return httpx.post(
            f"{self.url}/v1/audio/transcriptions",
            files={"file": ("clip.wav", clip())},
            data={"vad": "false", **fields},
            timeout=30,
        )


@contextmanager
def serving(folder: Path, **settings: str) -> Iterator[Process]:
    """Start a server on a free port and wait for its line; kill it at the end if it still runs."""
    variables = {"PORT": "0", "ENGINE": "fake", "DATA_DIR": str(folder), "LOG_FORMAT": "json", **settings}
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env={**os.environ, **{f"TYMPAN_{name}": value for name, value in variables.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=folder,
    )
    process = Process(child)
    reader = threading.Thread(target=_collect, args=(process,), daemon=True)
    reader.start()
    try:
        yield process
    finally:
        child.kill()
        child.wait(10)
        reader.join(10)
        assert child.stdout is not None
        child.stdout.close()


def _collect(process: Process) -> None:
    assert process.child.stdout is not None
    for line in process.child.stdout:
        process.output.append(line)
        if line.startswith("Tympan ") and " at http" in line:
            process.url = line.rsplit(" at ", 1)[1].strip()


def wait_ready(process: Process, timeout_s: float = 60.0) -> None:
    """Wait for the line with the address."""
    deadline = time.monotonic() + timeout_s
    while not process.url:
        assert process.child.poll() is None, "".join(process.output)
        assert time.monotonic() < deadline, "".join(process.output)
        time.sleep(0.02)


def wait_until(process: Process, path: str, fits: Callable[[httpx.Response], object]) -> None:
    """Wait until the answer at ``path`` fits."""
    deadline = time.monotonic() + 60
    while not fits(httpx.get(process.url + path, timeout=30)):
        assert time.monotonic() < deadline, "".join(process.output)
        time.sleep(0.02)


def _has_one(answer: httpx.Response) -> bool:
    """Tell if a request is under way, by the answer at `/health`."""
    return bool(answer.json()["queued_requests"] == 1)


def _is_refused(answer: httpx.Response) -> bool:
    """Tell if the server drains, by the answer at `/readyz`."""
    return answer.status_code == 503


def test_a_served_file_comes_back_as_text_and_leaves_nothing(tmp_path: Path) -> None:
    """From the command's start to a transcript; staging is empty while idle and gone after the stop."""
    with serving(tmp_path) as process:
        wait_ready(process)
        answer = process.post(response_format="verbose_json")
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["text"]
        assert found["audio_duration_s"] == pytest.approx(2.0, abs=0.05)
        assert found["speech"]["audio_s"] == pytest.approx(2.0, abs=0.05)
        health = httpx.get(f"{process.url}/health").json()
        assert (health["status"], health["model_loaded"]) == ("healthy", True)
        assert health["memory_used_mb"] > 10
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(30) == 0
    assert not list((tmp_path / "staging").iterdir())


def test_it_answers_while_the_model_is_still_loading(tmp_path: Path) -> None:
    """The process is alive at once; it is ready only when the engine is."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with serving(tmp_path, PORT=str(port), ENGINE_OPTIONS='{"load_delay_s": "5"}') as process:
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{url}/livez").status_code == 200
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        refused = httpx.get(f"{url}/readyz")
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "unavailable"
        assert httpx.get(f"{url}/health").json()["status"] == "loading"
        wait_ready(process)
        assert httpx.get(f"{url}/readyz").status_code == 200


def test_O1_sigterm_finishes_what_runs_and_exits_zero(tmp_path: Path) -> None:
    """The running request gets its answer, a new one is refused, and the process ends within its time."""
    with serving(tmp_path, ENGINE_OPTIONS='{"ms_per_batch": "4000"}', DRAIN_S="100") as process:
        wait_ready(process)
        answers: list[httpx.Response] = []
        client = threading.Thread(target=lambda: answers.append(process.post()))
        client.start()
        wait_until(process, "/health", _has_one)
        process.child.send_signal(signal.SIGTERM)
        wait_until(process, "/readyz", _is_refused)
        assert process.post().status_code == 503
        assert process.child.wait(60) == 0  # The drain might have lasted 100 s.
        client.join(30)
        assert [answer.status_code for answer in answers] == [200]


def test_O1_the_drain_time_is_a_bound(tmp_path: Path) -> None:
    """A request that does not finish in time is told so, and the process ends all the same."""
    with serving(tmp_path, ENGINE_OPTIONS='{"ms_per_batch": "100000"}', DRAIN_S="0.5") as process:
        wait_ready(process)
        answers: list[httpx.Response] = []
        client = threading.Thread(target=lambda: answers.append(process.post()))
        client.start()
        wait_until(process, "/health", _has_one)
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(60) == 0  # The request would have taken 100 s.
        client.join(30)
        assert [answer.status_code for answer in answers] == [503]


def test_O2_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Whoever insists need not wait for the drain, and no child process survives."""
    with serving(tmp_path, ENGINE_OPTIONS='{"ms_per_batch": "100000"}', DRAIN_S="100") as process:
        wait_ready(process)
        client = threading.Thread(target=lambda: _swallow(process))
        client.start()
        wait_until(process, "/health", _has_one)
        children = _descendants(process.child.pid)
        assert children
        process.child.send_signal(signal.SIGTERM)
        wait_until(process, "/readyz", _is_refused)
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(30) == 130
        client.join(30)
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in children):
            assert time.monotonic() < deadline, children
            time.sleep(0.05)


def test_a_model_that_cannot_be_loaded_ends_the_start_with_its_reason(tmp_path: Path) -> None:
    """No server that stays unready for ever: the error is raised, and the exit code says so."""
    with serving(tmp_path, ENGINE_OPTIONS='{"no_such_knob": "1"}') as process:
        assert process.child.wait(60) != 0
    assert "no_such_knob" in "".join(process.output)


def test_a_taken_port_is_said_at_once(tmp_path: Path) -> None:
    """Before any model is loaded, with what to do about it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        serving(tmp_path, PORT=str(taken.getsockname()[1])) as process,
    ):
        assert process.child.wait(60) != 0
    assert "Cannot listen on" in "".join(process.output)
    assert "Choose another HOST or PORT" in "".join(process.output)


def test_F1_silent_and_stalled_connections_are_closed(tmp_path: Path) -> None:
    """Two hundred sockets that send nothing, or half a head, are gone after ten seconds; others are served."""
    with serving(tmp_path) as process:
        wait_ready(process)
        host, port = process.url.removeprefix("http://").split(":")
        sockets = [socket.create_connection((host, int(port)), timeout=60) for _ in range(200)]
        for number, connection in enumerate(sockets):
            if number % 2:
                connection.sendall(b"GET /livez HTTP/1.1\r\nHost:")
        assert process.post().status_code == 200
        started = time.monotonic()
        for number, connection in enumerate(sockets):
            answer = b""
            while piece := connection.recv(65_536):
                answer += piece
            assert answer.startswith(b"HTTP/1.1 408") if number % 2 else answer == b""
            connection.close()
        assert time.monotonic() - started < 12


def test_log_lines_are_json_and_tell_no_text(tmp_path: Path) -> None:
    """Every line parses; neither the transcript nor the prompt nor the file's name is in them."""
    with serving(tmp_path, LOG_LEVEL="debug") as process:
        wait_ready(process)
        text = process.post(prompt="canary-prompt").json()["text"]
        process.child.send_signal(signal.SIGTERM)
        process.child.wait(30)
    log = [line for line in process.output if not line.startswith("Tympan ")]
    events = [json.loads(line)["event"] for line in log]
    assert "request" in events
    joined = "".join(log)
    for secret in ("canary-prompt", "clip.wav", text):
        assert secret not in joined


def _swallow(process: Process) -> None:
    try:
        process.post()
    except httpx.HTTPError:
        return


def _descendants(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *_descendants(int(child))]
    return found


def test_a_second_model_hears_what_callers_send_and_its_opinion_is_counted(tmp_path: Path) -> None:
    """Every clip over HTTP once more by an engine that takes each fifth word for another: 20 % on the command line."""
    models = '[{"name": "second", "options": {"mishears": "5"}}]'
    with serving(tmp_path, MODELS=models, SHADOW_MODEL="second", SHADOW_SHARE="1") as process:
        wait_ready(process)
        # Told the language, as the second one is: what is made up depends on it.
        said = process.post(language="en").json()["text"].split()
        assert len(said) == 5
        compared = 'tympan_shadow_windows_total{outcome="compared"} 1.0'
        wait_until(process, "/metrics", lambda answer: compared in answer.text)
        errors = 'tympan_shadow_word_errors_total{error="substitution",model="fake"} 1.0'
        assert errors in httpx.get(f"{process.url}/metrics", timeout=30).text
        assert process.post(model="second").status_code == 200  # It would agree with itself.
        process.child.send_signal(signal.SIGTERM)
        assert process.child.wait(30) == 0
    shown = subprocess.run(
        [sys.executable, "-m", "tympan", "quality", "shadow", "--json"],
        env={**os.environ, "TYMPAN_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (found,) = json.loads(shown.stdout)["models"]
    assert (found["model"], found["kind"]) == ("fake", "call")
    figures = [found["now"][name] for name in ("windows", "words", "substitutions", "wer_percent")]
    assert figures == [1, 5, 1, 20.0]


def test_a_shadow_model_that_is_not_served_ends_the_start(tmp_path: Path) -> None:
    """With what to do about it."""
    with serving(tmp_path, SHADOW_MODEL="large-v3") as process:
        assert process.child.wait(60) != 0
    assert "SHADOW_MODEL is 'large-v3', which is not served here" in "".join(process.output)
