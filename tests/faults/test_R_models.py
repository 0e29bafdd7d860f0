"""Several models in one server of real processes with the fake engine: one dies, one cannot load, a GPU vanishes."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx

from tests.faults.client import SETTLE_S
from tests.faults.serving import Server, server_in, wav
from tests.servers.keeper import family
from tests.servers.process import wait_until

_MODELS = [
    {"name": "gpu", "device": "cuda", "options": {"gone": "gone"}},
    {"name": "slow", "options": {"ms_per_batch": "300"}},
    {"name": "broken", "options": {"load_error": "std::bad_alloc"}},
]


def test_R_models_fail_and_die_apart_and_jobs_are_kept(tmp_path: Path) -> None:
    """R4, R5 and R8 side by side: what harms one model neither harms the others nor fails a job."""
    with server_in(tmp_path, MODELS=json.dumps(_MODELS), MODEL_ALIASES='{"large": "gpu"}') as server:
        server.start()
        server.wait_ready()
        assert _states(server) == {"fake": "loaded", "gpu": "unloaded", "slow": "unloaded", "broken": "unloaded"}
        assert _say(server, "large", 1).json()["model"] == "gpu"
        assert _ask(server, "GET", "gpu").json()["device"] == "cuda"

        # A model that cannot be loaded says why, at once from the second time on.
        for _ in range(2):
            refused = _say(server, "broken", 1)
            assert refused.status_code == 503
            assert "ran out of memory" in refused.json()["error"]["message"]
            assert int(refused.headers["retry-after"]) > 0

        # The process of one model is killed: its own requests are answered by the next one, others never notice.
        before = _engines(server)
        assert _say(server, "slow", 2).status_code == 200
        (slow,) = set(_engines(server)) - set(before)
        os.kill(slow, signal.SIGKILL)
        assert _say(server, "fake", 2).status_code == 200
        wait_until(lambda: _say(server, "slow", 3).status_code == 200, SETTLE_S)

        # The GPU vanishes: jobs for its model wait, the rest goes on; when it is back they are done.
        (tmp_path / "gone").touch()
        kept = _submit(server, "large", 4)
        done = _submit(server, "slow", 5)
        assert (kept["model"], done["model"]) == ("gpu", "slow")
        wait_until(lambda: _state(server, done) == "succeeded", SETTLE_S)
        wait_until(lambda: _ask(server, "GET", "gpu").json()["error"], SETTLE_S)
        assert "no CUDA-capable device" in _ask(server, "GET", "gpu").json()["error"]
        assert _state(server, kept) in {"queued", "running"}
        assert httpx.get(f"{server.url}/readyz", timeout=5).status_code == 200
        (tmp_path / "gone").unlink()
        _ask(server, "POST", "gpu")
        wait_until(lambda: _state(server, kept) == "succeeded", 2 * SETTLE_S)
        assert server.ask("text", job_id=kept["id"])
        assert _states(server) == {"fake": "loaded", "gpu": "loaded", "slow": "loaded", "broken": "failed"}


def test_R8_the_cpu_goes_on_where_a_gpu_was_and_the_default_may_have_a_stand_in(tmp_path: Path) -> None:
    """With GPU_FALLBACK=cpu the model moves; with MODEL_FALLBACK another answers for a default that cannot load."""
    settings = {
        "ENGINE_OPTIONS": '{"load_error": "the weights are cut short"}',
        "MODELS": json.dumps(_MODELS[:1]),
        "MODEL_FALLBACK": "gpu",
        "GPU_FALLBACK": "cpu",
    }
    with server_in(tmp_path, **settings) as server:
        server.start()
        server.wait_ready()
        assert _states(server) == {"fake": "failed", "gpu": "loaded"}
        assert _say(server, "fake", 1).json()["model"] == "gpu"
        (tmp_path / "gone").touch()
        wait_until(lambda: _say(server, "gpu", 2).status_code == 200, SETTLE_S)
        assert _ask(server, "GET", "gpu").json()["device"] == "cpu"
        health = httpx.get(f"{server.url}/health", timeout=5).json()
        assert (health["status"], health["model_loaded"]) == ("degraded", False)


def _ask(server: Server, method: str, model: str) -> httpx.Response:
    return httpx.request(method, f"{server.url}/v1/models/{model}", timeout=20)


def _states(server: Server) -> dict[str, str]:
    listed = httpx.get(f"{server.url}/v1/models", timeout=20).json()["data"]
    return {model["id"]: model["state"] for model in listed if model["id"] != "whisper-1"}


def _say(server: Server, model: str, seed: int) -> httpx.Response:
    fields = {"model": model, "response_format": "verbose_json", "vad": "false", "language": "en"}
    files = {"file": ("audio.wav", wav(2.0, seed))}
    return httpx.post(f"{server.url}/v1/audio/transcriptions", data=fields, files=files, timeout=60)


def _submit(server: Server, model: str, seed: int) -> dict[str, Any]:
    fields = {"model": model, "vad": "false", "language": "en"}
    answer = httpx.post(f"{server.url}/v1/jobs", data=fields, files={"file": ("audio.wav", wav(4.0, seed))}, timeout=20)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job


def _state(server: Server, job: dict[str, Any]) -> str:
    return str(server.ask("state", job_id=job["id"])[0])


def _engines(server: Server) -> list[int]:
    return [pid for pid in family(server.child.pid) if b"tympan.batching.child" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""  # It has ended since.
