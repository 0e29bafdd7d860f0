"""A real server does what /openapi.json says: requests are made from the description, valid ones and broken ones."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.acceptance.test_serve import Process, clip, serving, wait_ready

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
FILE_FIELDS = ("file", "audio", "audio_file")
KNOWN: dict[str, Any] = {
    "enabled": True,
    "model": "fake",
    "url": "https://example.com/hook",
    "since": "2026-01-01T00:00:00Z",
    "id": "newsroom",
    "name": "a name",
    "audio_days": 7,
}
HARMLESS = (
    "response_format",
    "temperature",
    "beam_size",
    "preset",
    "vad",
    "translate",
    "offset_t",
    "max_len",
)
UNANSWERED = {
    "POST /v1/jobs/{job_id}/retry",  # Nothing fails here.
    "POST /v1/webhook-endpoints/{endpoint_id}/deliveries/{delivery_id}/replay",  # Nothing is delivered.
    "PATCH /v1/uploads/{upload_id}",  # Offset, length and checksum have to fit.
    "POST /v1/uploads",
    "DELETE /v1/models/{model_id}",  # The only model stays.
    "PUT /v1/jobs/{job_id}/edited",  # Revision, segments and times have to fit.
    "DELETE /v1/jobs/{job_id}/edited",  # Likewise the revision.
    "GET /v1/quality/runs/{run_id}",  # There is no golden set.
    "POST /v1/capacity/plan",  # Nothing has been measured.
}
LEAKS = (b"Traceback (most recent", b'File "/', b"sqlalchemy", b"site-packages")


@schemathesis.serializer("application/offset+octet-stream")
def bare(_context: Any, value: Any) -> Any:
    """Send bytes as they are."""
    return getattr(value, "data", value)


@dataclass(frozen=True, slots=True)
class World:
    """A running server, its description, and ids of what exists on it, by the name of the path's parameter."""

    process: Process
    schema: Any
    ids: dict[str, str]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Return a server with a finished and corrected job, a finished batch, an upload, a webhook endpoint and a key."""
    with serving(
        tmp_path_factory.mktemp("world"), MAX_UPLOAD_MB="1", REQUEST_TIMEOUT_S="20", API_KEYS="open"
    ) as process:
        wait_ready(process)
        yield World(process, schemathesis.openapi.from_url(f"{process.url}/openapi.json"), _ids(process.url))
        assert process.child.poll() is None, "the server has died"


def _ids(url: str) -> dict[str, str]:
    with httpx.Client(base_url=url, timeout=20) as http:
        audio = ("a.wav", clip())
        job = http.post("/v1/jobs", files={"file": audio}, data={"vad": "false"}).json()["id"]
        batch = http.post("/v1/batches", files=[("file", audio)], data={"vad": "false"}).json()["id"]
        made = http.post("/v1/uploads", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "9"})
        endpoint = http.post("/v1/webhook-endpoints", json={"url": "https://example.com/hook"}).json()["id"]
        while http.get(f"/v1/batches/{batch}").json()["state"] != "finished":
            pass
        correction = {"segments": [{"start": 0.0, "end": 1.0, "text": "Corrected."}]}
        saved = http.put(f"/v1/jobs/{job}/edited", json=correction, headers={"if-none-match": "*"})
        assert saved.status_code < 300, saved.text
        return {
            "job_id": job,
            "batch_id": batch,
            "upload_id": made.headers["location"].rsplit("/", 1)[-1],
            "endpoint_id": endpoint,
            "model_id": "fake",
            "tenant_id": "default",
            "key_id": http.post("/v1/admin/keys", json={"scopes": ["admin"]}).json()["id"],
        }


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_S7_the_server_does_what_it_says(world: World, mode: GenerationMode) -> None:
    """No server error, no status, type or body that is not described, and nothing of the inside in any answer."""
    assert _examples(world, mode, 6) > 120


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
def test_S7_the_server_does_what_it_says_at_length(world: World, mode: GenerationMode) -> None:
    """The same with many requests."""
    assert _examples(world, mode, 150) > 3_000


def _examples(world: World, mode: GenerationMode, n_examples: int) -> int:
    """Send requests to every operation and return how many they were; fail at the end with everything found."""
    found: dict[str, str] = {}
    unanswered: set[str] = set()
    doomed = _ids(world.process.url)
    n_sent = 0
    for result in world.schema.get_all_operations():
        operation = result.ok()
        if mode is GenerationMode.NEGATIVE and not _can_be_broken(operation.definition.raw):
            continue
        sender = _Sender(doomed if operation.method == "delete" else world.ids, found)
        run = settings(
            max_examples=n_examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(hypothesis.given(case=operation.as_strategy(generation_mode=mode))(sender.send))
        run()
        n_sent += sender.n_sent
        if not sender.n_done:
            unanswered.add(operation.label)
    assert not found, "\n\n".join(found.values())
    if mode is GenerationMode.POSITIVE:
        assert unanswered <= UNANSWERED, "never answered with a success"
    return n_sent


def _can_be_broken(described: dict[str, Any]) -> bool:
    """Return whether something is sent that could be wrong: more than ids in the path, and headers with any text."""
    given = [one for one in described.get("parameters", ()) if one["in"] != "path"]
    return "requestBody" in described or any(
        one.get("required") or one["schema"] != {"type": "string"} for one in given
    )


class _Sender:
    """Sends the cases of one operation; every other one with real audio and with ids that exist."""

    def __init__(self, ids: dict[str, str], found: dict[str, str]) -> None:
        self.n_sent = self.n_done = 0
        self._ids, self._found = ids, found
        self._dice = random.Random(7)  # noqa: S311 (no secret)

    def send(self, case: Any) -> None:
        """Send one case and note what is wrong with its answer."""
        self.n_sent += 1
        if self._dice.random() < 0.6:
            self._make_real(case)
        response = case.call(timeout=30)
        self.n_done += response.status_code < 300
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as failures:
            for failure in failures.exceptions:
                self._found.setdefault(
                    f"{case.operation.label} {type(failure).__name__}",
                    f"{case.operation.label}: {failure}\n{case.as_curl_command()[:600]}",
                )
        leaks = [word for word in LEAKS if word in response.content]
        if leaks:
            self._found.setdefault(f"{case.operation.label} leak", f"{case.operation.label} tells {leaks}")

    def _make_real(self, case: Any) -> None:
        """Let a case have a chance to succeed: real audio, things that exist, and few fields beside."""
        for name in case.path_parameters:
            case.path_parameters[name] = self._ids.get(name, case.path_parameters[name])
        if not isinstance(case.body, dict):
            return
        real = {name: [clip(0.5)] if name == "file" and "batches" in case.path else clip(0.5) for name in FILE_FIELDS}
        if case.media_type == "multipart/form-data" and case.path in ("/v1/jobs", "/v1/batches"):
            case.body["file"] = real["file"]
        for name in list(case.body):
            if name in real or name in KNOWN:
                case.body[name] = real.get(name) or KNOWN[name]
            elif name not in HARMLESS:
                del case.body[name]
