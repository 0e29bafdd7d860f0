"""Every statement that a request leads to, reading or writing, stays with the tenant who asks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from sqlalchemy import update

from tests.api.doors_support import Guarded, guarded
from tests.api.statements import BRANCHES, ROOTS, Said, Transaction, recorded, strays, tables_of
from tests.api.support import CLIP
from tests.results import large, plant
from tympan.access.tokens import Token
from tympan.storage.tables import jobs

TUS = {"tus-resumable": "1.0.0"}
PATCH = {**TUS, "upload-offset": "0", "content-type": "application/offset+octet-stream"}
FILE = {"file": ("a.wav", CLIP)}
TENANT = "acme"
ALLOWED = {"egress_allow": ["127.0.0.1:9"]}


@dataclass(slots=True)
class Watch:
    """Asks as one tenant and keeps what each request said to the database, by method and route."""

    house: Guarded
    key: Token
    transactions: list[Transaction]
    said: list[tuple[str, list[Transaction]]] = field(default_factory=list)

    def ask(self, method: str, path: str, *expected: int, **extra: Any) -> httpx.Response:
        """Return the answer, which is one of those ``expected``; any success when none is."""
        began = len(self.transactions)
        answer = self.house.ask(method, path, self.key, **extra)
        self.said.append((method + " " + re.sub(r"[a-z]+_[0-9a-f]{12,}", "{}", path), self.transactions[began:]))
        assert answer.status_code in expected if expected else answer.is_success, (method, path, answer.text)
        return answer

    def made(self, path: str, **extra: Any) -> str:
        """Return the id of what is made at ``path``."""
        return str(self.ask("POST", path, **extra).json()["id"])


@pytest.fixture(scope="module")
def watch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watch]:
    """Return what was said when a tenant asked for everything, on a server where another one has jobs as well."""
    with recorded() as transactions, guarded(tmp_path_factory.mktemp("watched"), ALLOWED) as house:
        other = house.give(tenant="other")
        assert house.ask("POST", "/v1/jobs", other, files=FILE).status_code == 202
        watching = Watch(house, house.give(tenant=TENANT), transactions)
        everything(watching)
        yield watching


def everything(watch: Watch) -> None:
    """Ask for everything that one can have and do, with success wherever nobody has to work for it."""
    endpoint = about_endpoints(watch)
    about_jobs(watch, endpoint)
    about_batches(watch, endpoint)
    about_uploads(watch)
    watch.ask("POST", "/v1/audio/transcriptions", files=FILE, headers={"idempotency-key": "k"})
    for path in ("/v1/audio/translations", "/v1/audio/detect-language", "/inference"):
        watch.ask("POST", path, files=FILE)
    for path in ("/asr", "/detect-language"):
        watch.ask("POST", path, files={"audio_file": ("a.wav", CLIP)})
    watch.ask("GET", "/v1/usage")
    watch.ask("DELETE", f"/v1/webhook-endpoints/{endpoint}")


def about_endpoints(watch: Watch) -> str:
    """Do everything with an endpoint; return its id."""
    endpoint = watch.made("/v1/webhook-endpoints", json={"url": "https://127.0.0.1:9/hook"})
    path = f"/v1/webhook-endpoints/{endpoint}"
    watch.ask("GET", "/v1/webhook-endpoints")
    watch.ask("GET", path)
    watch.ask("PATCH", path, json={"description": "mine", "enabled": False})
    watch.ask("PATCH", path, json={"url": "https://127.0.0.1:9/other", "enabled": True})
    watch.ask("GET", f"{path}/secret")
    watch.ask("POST", f"{path}/secret/rotate")
    delivery = watch.made(f"{path}/test")
    watch.ask("GET", f"{path}/deliveries", params={"after": delivery})
    watch.ask("GET", f"{path}/deliveries")
    watch.ask("POST", f"{path}/deliveries/{delivery}/replay")
    watch.ask("POST", f"{path}/replay-failed", json={"since": "2026-01-01T00:00:00Z"})
    return endpoint


def about_jobs(watch: Watch, endpoint: str) -> None:
    """Hand jobs in, look at them in every state, end them."""
    with_key = {"headers": {"idempotency-key": "k"}, "files": FILE}
    job = watch.made("/v1/jobs", **with_key)
    assert watch.made("/v1/jobs", **with_key) == job
    watch.made("/v1/jobs", files=FILE, data={"webhook_url": "https://127.0.0.1:9/hook", "deadline": "3600"})
    announced = watch.made("/v1/jobs", files=FILE, data={"webhook_endpoint": endpoint})
    watch.ask("POST", "/transcribe/async", files={"audio": ("a.wav", CLIP)})
    path = f"/v1/jobs/{job}"
    watch.ask("GET", "/v1/jobs", params={"state": "queued", "after": announced})
    watch.ask("GET", path)
    watch.ask("HEAD", path)
    watch.ask("GET", f"/transcribe/{job}")
    watch.ask("GET", f"{path}/result", 409)
    watch.ask("POST", f"/v1/jobs/{announced}/cancel")
    watch.ask("POST", f"/v1/jobs/{announced}/retry")
    watch.ask("GET", f"/v1/jobs/{announced}/events")
    watch.ask("DELETE", f"/v1/jobs/{announced}")
    succeed(watch.house, job)
    for asked in (f"{path}/result", f"/transcribe/{job}", f"{path}/events", path):
        watch.ask("GET", asked)
    about_an_edited_version(watch, f"{path}/edited")
    watch.ask("GET", f"{path}/audio", headers={"range": "bytes=0-3"})
    watch.ask("POST", f"{path}/audio-link")
    watch.ask("GET", f"{path}/waveform", 400)  # The clip is no audio.
    watch.ask("DELETE", path)


def about_an_edited_version(watch: Watch, path: str) -> None:
    """Save one, change it, read it, erase it; be late with one."""
    body = {"speakers": {"A": "x"}, "segments": [{"start": 0, "end": 1, "text": "x", "speaker": "A"}]}
    tag = watch.ask("PUT", path, json=body, headers={"if-none-match": "*"}).headers["etag"]
    watch.ask("PUT", path, json=body, headers={"if-match": tag})
    watch.ask("PUT", path, 409, json=body, headers={"if-match": tag})
    watch.ask("PUT", path, 409, json=body, headers={"if-none-match": "*"})
    watch.ask("GET", path)
    watch.ask("GET", path.replace("edited", "result"), params={"version": "edited", "format": "docx"})
    watch.ask("DELETE", path)


def succeed(house: Guarded, job_id: str) -> None:
    """Let a job have succeeded, without anybody working on it; that is no request."""
    values = {"state": "succeeded", "finished_at": 1.0, "sections_total": 1, "sections_done": 1}
    house.stores.database.write(lambda tx: tx.execute(update(jobs).where(jobs.c.id == job_id).values(values)))
    plant(house.stores.database, job_id, large(600))


def about_batches(watch: Watch, endpoint: str) -> None:
    """Hand batches in, look at them, end them."""
    files = [("file", ("a.wav", CLIP)), ("file", ("b.wav", CLIP))]
    asked = {"files": files, "headers": {"idempotency-key": "k"}, "data": {"webhook_endpoint": endpoint}}
    batch = watch.made("/v1/batches", **asked)
    assert watch.made("/v1/batches", **asked) == batch
    path = f"/v1/batches/{batch}"
    watch.ask("GET", "/v1/batches", params={"after": batch})
    watch.ask("GET", path)
    watch.ask("GET", f"{path}/results", 409)
    watch.ask("POST", f"{path}/cancel")
    watch.ask("GET", f"{path}/results")
    watch.ask("DELETE", path)


def about_uploads(watch: Watch) -> None:
    """Begin uploads, add to them, take one for a job, drop one."""
    places = []
    for _ in range(2):
        made = watch.ask("POST", "/v1/uploads", headers={**TUS, "upload-length": str(len(CLIP))})
        places.append(made.headers["location"].rsplit("/", 1)[1])
        path = f"/v1/uploads/{places[-1]}"
        watch.ask("PATCH", path, headers=PATCH, content=CLIP[:100])
        watch.ask("HEAD", path, headers=TUS)
        watch.ask("PATCH", path, headers={**PATCH, "upload-offset": "100"}, content=CLIP[100:])
        watch.ask("PATCH", path, 409, headers=PATCH, content=b"x")
    watch.made("/v1/jobs", json={"upload_id": places[0]})
    watch.ask("POST", "/v1/jobs", 404, 409, json={"upload_id": places[0]})
    watch.ask("DELETE", f"/v1/uploads/{places[1]}", headers=TUS)


ELSEWHERE = re.compile(
    r"/v1/(models|realtime|stream|admin|alarms|capacity|quality)\b|/(load|livez|readyz|health|metrics|openapi\.json)"
)
"""Paths where nothing is kept of a tenant, and those of the operator, who is shown all tenants."""


def test_K2_every_request_is_watched(watch: Watch) -> None:
    """Whoever adds a route adds it to what is asked for here."""
    document = watch.house.ask("GET", "/openapi.json").json()
    known = {
        method.upper() + " " + re.sub(r"{\w+}", "{}", path)
        for path, item in document["paths"].items()
        for method in item
        if not ELSEWHERE.match(path) and method != "options"
    }
    assert known - {route for route, _ in watch.said} == set()


def test_K2_no_statement_of_a_request_reaches_a_row_of_another_tenant(watch: Watch) -> None:
    """Reading and writing requests: each statement says whose rows, or names rows that one before it has said so of."""
    stray = {route: found for route, said in watch.said if (found := strays(said, TENANT))}
    assert stray == {}
    told = {name for _, said in watch.said for each in said for one in each for name in tables_of(one.statement)}
    assert told >= ROOTS | BRANCHES, "the requests do not touch every table"


def _said(statement: str, *parameters: object, answered: str = "") -> Said:
    return Said(statement, parameters, {answered} - {""})


_MINE, _THEIRS = "job_" + "1" * 32, "job_" + "2" * 32
_FIND = "SELECT jobs.id FROM jobs WHERE jobs.id = ? AND jobs.tenant = ?"


@pytest.mark.parametrize(
    "said",
    [
        [_said("SELECT jobs.id FROM jobs WHERE jobs.id = ?", _MINE)],
        [_said("SELECT jobs.id FROM jobs WHERE jobs.state = ? AND jobs.tenant = ?", "acme", "other")],
        [_said("SELECT jobs.id FROM jobs WHERE jobs.tenant IN (?, ?)", TENANT, "other")],
        [_said("SELECT jobs.id, count(*) FROM jobs GROUP BY jobs.id")],
        [_said(_FIND, _THEIRS, TENANT), _said("DELETE FROM steps WHERE steps.job_id = ?", _THEIRS)],
        [_said(_FIND, _MINE, TENANT, answered=_MINE), _said("DELETE FROM steps WHERE steps.state = ?", "ready")],
        [
            _said(_FIND, _MINE, TENANT, answered=_MINE),
            _said("UPDATE jobs SET priority=? WHERE jobs.id = ?", 1, _THEIRS),
        ],
        [_said("INSERT INTO jobs (id, tenant) VALUES (?, ?)", _MINE, "other")],
        [_said("INSERT INTO steps (job_id, kind) VALUES (?, ?)", _MINE, "prepare")],
        [_said("SELECT delivery_attempts.at FROM delivery_attempts WHERE delivery_attempts.delivery_id IN (?)", 1)],
    ],
)
def test_a_statement_that_strays_is_found(said: list[Said]) -> None:
    """Whichever way it forgets whose rows it is about."""
    assert len(strays([said], TENANT)) == 1


def test_statements_that_follow_a_bound_one_do_not_stray() -> None:
    """By an id that it found or made, in the same transaction or a later one; sums are nobody's."""
    first = [_said(_FIND, _MINE, TENANT, answered=_MINE), _said("DELETE FROM steps WHERE steps.job_id = ?", _MINE)]
    second = [
        _said("INSERT INTO jobs (id, tenant) VALUES (?, ?)", _THEIRS, TENANT),
        _said("INSERT INTO steps (job_id, kind) VALUES (?, ?)", _THEIRS, "prepare"),
        _said("UPDATE jobs SET priority=? WHERE jobs.id = ?", 1, _MINE),
        _said("SELECT count(*) AS count_1 FROM steps WHERE steps.state != ?", "done"),
        _said("SELECT tenants.weight FROM tenants WHERE tenants.id = ?", TENANT),
    ]
    assert strays([first, second], TENANT) == []
