"""A rollout over a real server: a share, everybody, a restart, and back; jobs and calls alike."""

from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.operations.support import Server, recording, serving
from tests.servers.process import wait_until
from tympan.cli import app

_MODELS = '[{"name": "second", "engine": "fake"}]'


def _rollout(*words: str) -> None:
    done = CliRunner().invoke(app, ["rollout", *words])
    assert done.exit_code == 0, done.output


def _model(server: Server, **fields: str) -> str:
    answer = server.transcribe(1.0, response_format="verbose_json", **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["made_by"]["engine"] == "fake"
    return str(answer.json()["model"])


def _models(server: Server, n: int) -> Counter[str]:
    """Return which model answered each of ``n`` calls with different audio."""
    answers = [
        httpx.post(
            f"{server.url}/v1/audio/transcriptions",
            files={"file": ("a.wav", recording(0.5, 300.0 + number))},
            data={"vad": "false", "response_format": "verbose_json"},
            timeout=60,
        ).json()
        for number in range(n)
    ]
    return Counter(answer["model"] for answer in answers)


def _job(server: Server) -> dict[str, Any]:
    made = httpx.post(f"{server.url}/v1/jobs", files={"file": ("a.wav", recording(1.0))}, data={"vad": "false"})
    assert made.status_code == 202, made.text
    found: dict[str, Any] = {}

    def has_ended() -> bool:
        found.update(httpx.get(f"{server.url}/v1/jobs/{made.json()['id']}").json())
        return found["state"] not in ("queued", "running")

    wait_until(has_ended, 30, lambda: str(found))
    return found


def test_a_model_is_tried_promoted_kept_over_a_restart_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names a model gets it all the time; nobody is refused at any step."""
    for name, value in (("ENGINE", "fake"), ("MODELS", _MODELS), ("DATA_DIR", str(tmp_path / "data"))):
        monkeypatch.setenv(f"TYMPAN_{name}", value)
    with serving(tmp_path / "data", MODELS=_MODELS) as server:
        _rollout("start", "second", "--share", "100")
        wait_until(lambda: _model(server) == "second", 20, server.said)
        assert _job(server)["model"] == "second"
        assert _model(server, model="fake") == "fake"
        _rollout("share", "50")
        wait_until(lambda: len(_models(server, 10)) == 2, 20, server.said)
        _rollout("promote", "--anyway")
        wait_until(lambda: set(_models(server, 10)) == {"second"}, 20, server.said)
        assert _model(server, model="fake") == "fake"
        server.ask_to_stop()
        assert server.exit_s()[0] == 0
        server.start()
        assert _model(server) == "second"
        assert httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"] == "second"
        assert _job(server)["state"] == "succeeded"
        _rollout("rollback")
        wait_until(lambda: _model(server) == "fake", 20, server.said)
