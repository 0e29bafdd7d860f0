"""What one tenant owns is not there for another: not by its id, its text, its files, its keys or its numbers."""

import json
import re
import secrets
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.api.doors_support import Guarded, guarded
from tests.api.statements import Transaction, recorded, strays
from tests.api.support import CLIP, ScriptedTranscriber
from tympan.access.tokens import Token

CANARY = "canary-of-acme"
TUS = {"tus-resumable": "1.0.0"}
PAIRS = 500
"""How many pairs of requests are timed: 10 pairs 50 times."""

ASKED = 300
"""How often each operation is timed with either id."""


@dataclass(frozen=True, slots=True)
class Ids:
    """One of everything that a tenant can own."""

    job_id: str
    batch_id: str
    upload_id: str
    endpoint_id: str
    delivery_id: str


@pytest.fixture(scope="module")
def transactions() -> Iterator[list[Transaction]]:
    """Return what is said to the database of the server."""
    with recorded() as said:
        yield said


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, transactions: list[Transaction]) -> Iterator[Guarded]:
    """Return a server for two tenants; no worker touches their jobs."""
    with guarded(tmp_path_factory.mktemp("isolation"), {"egress_allow": ["127.0.0.1:9"]}) as opened:
        yield opened


@pytest.fixture(scope="module")
def acme(house: Guarded) -> Token:
    """Return the key of the tenant that owns things."""
    return house.give(tenant="acme")


@pytest.fixture(scope="module")
def other(house: Guarded) -> Token:
    """Return the key of the tenant that would like to have them."""
    return house.give(tenant="other")


@pytest.fixture(scope="module")
def owned(house: Guarded, acme: Token) -> Ids:
    """Return what the first tenant owns."""
    file = {"file": ("a.wav", CLIP)}
    job = house.ask("POST", "/v1/jobs", acme, files=file, data={"metadata": json.dumps({"note": CANARY})}).json()
    batch = house.ask("POST", "/v1/batches", acme, files=[("file", ("a.wav", CLIP)), ("file", ("b.wav", CLIP))]).json()
    upload = house.ask("POST", "/v1/uploads", acme, headers={**TUS, "upload-length": "10"}).headers["location"]
    hook = house.ask("POST", "/v1/webhook-endpoints", acme, json={"url": f"https://127.0.0.1:9/{CANARY}"}).json()
    event_id = house.ask("POST", f"/v1/webhook-endpoints/{hook['id']}/test", acme).json()["id"]
    return Ids(job["id"], batch["id"], upload.rsplit("/", 1)[1], hook["id"], event_id)


def _random_like(ids: Ids, ending: str = "0123456789ab") -> Ids:
    """Return ids of the same form that nobody has."""
    return Ids(*(re.sub(r"[0-9a-f]{12}$", ending, getattr(ids, name)) for name in Ids.__slots__))


def _operations(ids: Ids) -> list[tuple[str, str, dict[str, Any]]]:
    """Return everything that can be asked about what somebody owns."""
    hook = f"/v1/webhook-endpoints/{ids.endpoint_id}"
    upload = f"/v1/uploads/{ids.upload_id}"
    append = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
    file = {"file": ("a.wav", CLIP)}
    return [
        ("GET", f"/v1/jobs/{ids.job_id}", {}),
        ("HEAD", f"/v1/jobs/{ids.job_id}", {}),
        ("GET", f"/v1/jobs/{ids.job_id}/result", {}),
        ("GET", f"/v1/jobs/{ids.job_id}/events", {}),
        ("GET", f"/v1/jobs/{ids.job_id}/result?version=edited&format=docx", {}),
        ("GET", f"/v1/jobs/{ids.job_id}/audio", {}),
        ("POST", f"/v1/jobs/{ids.job_id}/audio-link", {}),
        ("GET", f"/v1/jobs/{ids.job_id}/waveform", {}),
        ("GET", f"/v1/jobs/{ids.job_id}/edited", {}),
        ("PUT", f"/v1/jobs/{ids.job_id}/edited", {"json": {"segments": []}, "headers": {"if-none-match": "*"}}),
        ("DELETE", f"/v1/jobs/{ids.job_id}/edited", {}),
        ("POST", f"/v1/jobs/{ids.job_id}/cancel", {}),
        ("POST", f"/v1/jobs/{ids.job_id}/retry", {}),
        ("DELETE", f"/v1/jobs/{ids.job_id}", {}),
        ("GET", f"/transcribe/{ids.job_id}", {}),
        ("GET", f"/v1/batches/{ids.batch_id}", {}),
        ("GET", f"/v1/batches/{ids.batch_id}/results", {}),
        ("POST", f"/v1/batches/{ids.batch_id}/cancel", {}),
        ("DELETE", f"/v1/batches/{ids.batch_id}", {}),
        ("HEAD", upload, {"headers": TUS}),
        ("PATCH", upload, {"headers": append, "content": b"x"}),
        ("POST", upload, {"headers": {**append, "x-http-method-override": "PATCH"}, "content": b"x"}),
        ("DELETE", upload, {"headers": TUS}),
        ("GET", hook, {}),
        ("PATCH", hook, {"json": {"description": "mine now"}}),
        ("GET", f"{hook}/secret", {}),
        ("POST", f"{hook}/secret/rotate", {}),
        ("GET", f"{hook}/deliveries", {}),
        ("POST", f"{hook}/deliveries/{ids.delivery_id}/replay", {}),
        ("POST", f"{hook}/replay-failed", {"json": {"since": 0}}),
        ("POST", f"{hook}/test", {}),
        ("DELETE", hook, {}),
        ("POST", "/v1/jobs", {"json": {"upload_id": ids.upload_id}}),
        ("POST", "/v1/jobs", {"files": file, "data": {"webhook_endpoint": ids.endpoint_id}}),
    ]


NOT_A_TENANTS = ("/v1/models", "/v1/admin/", "/v1/quality/")
"""Ids that are not of one tenant's things: models, and what the operator alone may ask about."""


def test_K1_every_operation_on_an_id_is_tried(house: Guarded, owned: Ids) -> None:
    """Whoever adds a route with an id in its path adds it to this list."""
    tried = {
        (method, re.sub(r"(job|bat\w*|upl|whe|evt?|msg)_[0-9a-f]+", "{}", path))
        for method, path, _ in _operations(owned)
    }
    document = house.ask("GET", "/openapi.json").json()
    known = {
        (method.upper(), re.sub(r"{\w+}", "{}", path))
        for path, item in document["paths"].items()
        for method in item
        if "{" in path and not path.startswith(NOT_A_TENANTS) and method != "options"
    }
    assert known - tried == set()


def test_K1_anothers_id_is_answered_like_one_that_nobody_has(
    house: Guarded, acme: Token, other: Token, owned: Ids
) -> None:
    """404 with the same words; and what it names is as it was."""
    nobodys = _random_like(owned)
    names = {getattr(ids, name): name for ids in (owned, nobodys) for name in Ids.__slots__}
    before = house.ask("GET", f"/v1/jobs/{owned.job_id}", acme).json()
    for theirs, none in zip(_operations(owned), _operations(nobodys), strict=True):
        answers = [house.ask(method, path, other, **extra) for method, path, extra in (theirs, none)]
        for answer in answers:
            assert answer.status_code == 404, (theirs[:2], answer.text)
            assert CANARY not in answer.text
        said = []
        for answer in answers:
            text = answer.text
            for found, name in names.items():
                text = text.replace(found, name)
            said.append(text)
        assert said[0] == said[1], theirs[:2]
    assert house.ask("GET", f"/v1/jobs/{owned.job_id}", acme).json()["state"] == before["state"] == "queued"
    hook = house.ask("GET", f"/v1/webhook-endpoints/{owned.endpoint_id}", acme).json()
    assert hook["description"] == ""
    assert house.ask("HEAD", f"/v1/uploads/{owned.upload_id}", acme, headers=TUS).headers["upload-offset"] == "0"


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(600)
def test_K1_anothers_id_takes_as_long_as_one_that_nobody_has(house: Guarded, other: Token, owned: Ids) -> None:
    """On every operation the median times, of pairs sent in turn, are within 10 % of one another."""
    theirs = _operations(owned)
    took: list[tuple[list[float], list[float]]] = [([], []) for _ in theirs]
    for number in range(ASKED):
        nobodys = _operations(_random_like(owned, secrets.token_hex(6)))
        for samples, pair in zip(took, zip(theirs, nobodys, strict=True), strict=True):
            for kind in (0, 1) if number % 2 else (1, 0):
                method, path, extra = pair[kind]
                started = time.perf_counter()
                assert house.ask(method, path, other, **extra).status_code == 404
                samples[kind].append(time.perf_counter() - started)
    ratios = {operation[:2]: _ratio(samples) for operation, samples in zip(theirs, took, strict=True)}
    assert len(ratios) >= len(theirs) - 1  # Two of them are one route.
    assert {operation: ratio for operation, ratio in ratios.items() if abs(ratio - 1) > 0.1} == {}


def test_K1_lists_hold_what_is_ones_own(house: Guarded, acme: Token, other: Token, owned: Ids) -> None:
    """Also from behind the id of somebody else's."""
    for path, its_id in (
        ("/v1/jobs", owned.job_id),
        ("/v1/batches", owned.batch_id),
        ("/v1/webhook-endpoints", owned.endpoint_id),
    ):
        assert its_id in house.ask("GET", path, acme).text
        for query in ("", f"?after={its_id[:4]}ffffffffffffffff", f"?after={its_id}"):
            answer = house.ask("GET", path + query, other)
            assert its_id not in answer.text.replace(query.removeprefix("?after="), "")
            assert CANARY not in answer.text


def test_K3_an_idempotency_key_is_ones_own(house: Guarded, acme: Token, other: Token) -> None:
    """The same key and file of another tenant make a job of its own, and its own key finds that again."""
    made: dict[str, set[str]] = {}
    for _ in range(2):
        for key in (acme, other):
            headers = {"idempotency-key": "the-same"}
            answer = house.ask("POST", "/v1/jobs", key, headers=headers, files={"file": ("a.wav", CLIP)})
            made.setdefault(key.id, set()).add(answer.json()["id"])
    assert [len(ids) for ids in made.values()] == [1, 1]
    assert made[acme.id] != made[other.id]


def test_K3_a_retry_takes_up_only_ones_own_work(tmp_path: Path) -> None:
    """The same file at the same moment, under the same key of idempotency, is heard once for each tenant."""
    transcriber = ScriptedTranscriber()
    with guarded(tmp_path, transcriber=transcriber) as house:
        for tenant in ("acme", "other"):
            answer = house.transcribe(house.give(tenant=tenant), headers={"idempotency-key": "the-same"})
            assert answer.status_code == 200
    assert len(transcriber.calls) == 2


def test_K3_a_kept_result_is_ones_own(tmp_path: Path) -> None:
    """Where results are kept for equal calls, the same file is heard once for each tenant, whoever comes first."""
    transcriber = ScriptedTranscriber()
    with guarded(tmp_path, {"result_cache_mb": 8}, transcriber) as house:
        keys = [house.give(tenant=tenant) for tenant in ("acme", "other")]
        told = [house.transcribe(key).headers.get("tympan-cache") for key in (*keys, *keys)]
    assert told == [None, None, "hit", "hit"]
    assert len(transcriber.calls) == 2


def _ratio(samples: tuple[list[float], list[float]]) -> float:
    """Return the median of the first times in medians of the second."""
    return statistics.median(samples[0]) / statistics.median(samples[1])


def _timed_pairs(house: Guarded, first: Token, second: Token, path: str) -> tuple[list[float], list[float]]:
    """Return how long files took the second tenant: those that the first had sent, and those that nobody had."""

    def took_s(key: Token, audio: bytes) -> float:
        started = time.perf_counter()
        assert house.ask("POST", path, key, files={"file": ("a.wav", audio)}).status_code in {200, 202}
        return time.perf_counter() - started

    took: tuple[list[float], list[float]] = ([], [])
    for number in range(PAIRS):
        known, fresh = (CLIP + (2 * number + which).to_bytes(2, "big") * 40_000 for which in (0, 1))
        took_s(first, known)
        # Which of the two goes first changes, or the second would have the warmer disk each time.
        for kind in (0, 1) if number % 2 else (1, 0):
            took[kind].append(took_s(second, (known, fresh)[kind]))
    return took


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(300)
def test_K4_a_kept_result_of_another_tenant_saves_no_time(tmp_path: Path) -> None:
    """A stopwatch tells nothing of what others have sent: the medians are within 10 %."""
    transcriber = ScriptedTranscriber(seconds=0.03)
    with guarded(tmp_path, {"result_cache_mb": 100}, transcriber) as house:
        acme, other = (house.give(tenant=tenant) for tenant in ("acme", "other"))
        took = _timed_pairs(house, acme, other, "/v1/audio/transcriptions")
        assert house.transcribe(acme).headers.get("tympan-cache") is None
        assert house.transcribe(acme).headers["tympan-cache"] == "hit"
    assert len(transcriber.calls) == 3 * PAIRS + 1
    assert abs(_ratio(took) - 1) <= 0.1


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(300)
def test_K4_a_file_that_another_has_sent_takes_as_long(house: Guarded, acme: Token, other: Token) -> None:
    """So nobody learns from a stopwatch whether a recording is known here: the medians are within 10 %."""
    assert abs(_ratio(_timed_pairs(house, acme, other, "/v1/jobs")) - 1) <= 0.1


def test_K5_metrics_name_nobody(house: Guarded, acme: Token, owned: Ids) -> None:
    """No tenant, no id, no text: whoever may see the server's figures sees nothing of anybody."""
    assert house.transcribe(acme).status_code == 200
    text = house.ask("GET", "/metrics", house.give(scopes=("metrics",))).text
    assert "tympan_http_responses_total" in text
    for secret in ("acme", CANARY, acme.id, acme.secret, *(getattr(owned, name) for name in Ids.__slots__)):
        assert secret not in text


def test_K2_an_id_of_another_tenant_leads_to_no_statement_about_its_row(
    house: Guarded, other: Token, owned: Ids, transactions: list[Transaction]
) -> None:
    """After the question whose row it is, which finds none, nothing more is said about it."""
    for method, path, extra in _operations(owned):
        began = len(transactions)
        assert house.ask(method, path, other, **extra).status_code == 404
        assert strays(transactions[began:], "other") == [], (method, path)
