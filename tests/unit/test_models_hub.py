"""The hub, spoken to through its own client against a small server: fetching, progress, refusals."""

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tympan.engine import models
from tympan.engine.models import Access
from tympan.engine.store import PullProgress
from tympan.errors import ModelDigestMismatch, ModelUnavailable

REVISION = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "README.md": b"not wanted",
    "config.json": b"{}",
    "model.bin": b"weights " * 100_000,
    "tokenizer.json": b"[]",
    "vocabulary.json": b'["a"]',
}


class _Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client needs: a repository's listing, and its files at a revision."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    requests: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        for repo, files in self.repositories.items():
            if path.startswith(f"/api/models/{repo}"):
                listed = [{"rfilename": name, "size": len(data)} for name, data in files.items()]
                self._send(json.dumps({"id": repo, "sha": REVISION, "siblings": listed}).encode())
                return
            name = path.removeprefix(f"/{repo}/resolve/{REVISION}/")
            if name in files:
                self._send(files[name])
                return
        self._send(b"{}", status=404, error="RepoNotFound")

    def _send(self, body: bytes, status: int = 200, error: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        if error:
            self.send_header("X-Error-Code", error)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the address of a hub that has ``small`` and nothing else."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(_Hub, "repositories", {"Systran/faster-whisper-small": FILES})
    monkeypatch.setattr(_Hub, "requests", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(10)


def test_a_trusted_model_is_fetched_from_the_hub(hub: str, tmp_path: Path) -> None:
    """The files of a Whisper model arrive at the newest revision, with progress; others stay where they are."""
    seen: list[PullProgress] = []
    access = Access(trust_first_use=True, hub_endpoint=hub)
    model = models.resolve("small", tmp_path, access, seen.append)
    assert (model.source, model.revision) == ("hub", REVISION)
    assert {path.name: path.read_bytes() for path in model.path.iterdir()} == {
        name: data for name, data in FILES.items() if name != "README.md"
    }
    assert PullProgress("downloading model.bin", len(FILES["model.bin"]), len(FILES["model.bin"])) in seen
    asked = len(_Hub.requests)
    assert models.resolve("small", tmp_path, access).source == "cache"
    assert len(_Hub.requests) == asked


def test_a_model_exported_to_onnx_is_fetched_in_int8(hub: str, tmp_path: Path) -> None:
    """Its graphs, in the folder they lie in, weights beside them, vocabulary and settings; no other variants."""
    wanted = {
        "config.json": b"{}",
        "tokenizer.json": b"[]",
        "onnx/encoder_model_int8.onnx": b"encoder",
        "onnx/encoder_model_int8.onnx_data": b"weights",
        "onnx/decoder_model_merged_int8.onnx": b"decoder",
    }
    others = {"onnx/encoder_model.onnx": b"", "onnx/decoder_model_merged_uint8.onnx": b"", "README.md": b""}
    _Hub.repositories["onnx-community/moonshine-base-ONNX"] = wanted | others
    access = Access(trust_first_use=True, hub_endpoint=hub)
    model = models.resolve("moonshine-base", tmp_path, access)
    files = {path.relative_to(model.path).as_posix(): path for path in model.path.rglob("*") if path.is_file()}
    assert {name: path.read_bytes() for name, path in files.items()} == wanted
    assert models.resolve("moonshine-base", tmp_path).source == "cache"
    files["onnx/encoder_model_int8.onnx"].write_bytes(b"changed")
    with pytest.raises(ModelDigestMismatch, match="encoder_model_int8"):
        models.resolve("moonshine-base", tmp_path)


def test_an_export_that_lacks_a_part_is_refused(hub: str, tmp_path: Path) -> None:
    """The part is named before anything is fetched."""
    _Hub.repositories["istupakov/canary-1b-v2-onnx"] = {"encoder-model.int8.onnx": b"", "vocab.txt": b""}
    with pytest.raises(ModelUnavailable, match=r"has no decoder-model\?int8\.onnx"):
        models.resolve("canary-1b-v2", tmp_path, Access(trust_first_use=True, hub_endpoint=hub))
    assert not [request for request in _Hub.requests if "resolve" in request]


def test_a_pull_again_asks_for_the_recorded_revision(hub: str, tmp_path: Path) -> None:
    """After the first use the newest revision is no longer what is wanted."""
    access = Access(trust_first_use=True, hub_endpoint=hub)
    models.resolve("small", tmp_path, access)
    _Hub.requests.clear()
    assert models.pull("small", tmp_path, access, force=True).source == "hub"
    assert any(f"/revision/{REVISION}" in request for request in _Hub.requests)


def test_a_repository_that_is_not_there_is_named(hub: str, tmp_path: Path) -> None:
    """The hub's refusal becomes a model error that names the repository."""
    with pytest.raises(ModelUnavailable, match="Systran/faster-whisper-medium"):
        models.resolve("medium", tmp_path, Access(trust_first_use=True, hub_endpoint=hub))


def test_a_repository_without_weights_is_refused(hub: str, tmp_path: Path) -> None:
    """What is missing is named before anything is fetched."""
    _Hub.repositories["Systran/faster-whisper-small"] = {"README.md": b""}
    with pytest.raises(ModelUnavailable, match=r"model\.bin"):
        models.resolve("small", tmp_path, Access(trust_first_use=True, hub_endpoint=hub))
    assert not [request for request in _Hub.requests if "resolve" in request]


def test_a_hub_out_of_reach_is_said_soon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection is an error with a remedy, and leaves nothing half done."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with pytest.raises(ModelUnavailable, match="No source could supply small") as refused:
        models.resolve("small", tmp_path, Access(trust_first_use=True, hub_endpoint="http://127.0.0.1:9"))
    assert refused.value.remedy
    assert not list((tmp_path / "models").glob("[!.]*"))
