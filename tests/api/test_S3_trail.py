"""What requests leave in the audit log: who, what, when, to what and from where."""

import re
from collections.abc import Iterator

import pytest
from sqlalchemy import text

from tests.api.doors_support import Guarded, guarded
from tests.api.support import CLIP
from tympan.access.callers import Scope
from tympan.access.tokens import Token
from tympan.api.access.deeds import RULES
from tympan.storage.audit import ASKED, AuditRow

TUS = {"tus-resumable": "1.0.0"}
CANARY = "canary-in-the-log"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a server that writes down what is done."""
    with guarded(tmp_path_factory.mktemp("trail"), {"egress_allow": ["127.0.0.1:9"]}) as opened:
        yield opened


@pytest.fixture(scope="module")
def key(house: Guarded) -> Token:
    """Return a key that may do everything."""
    return house.give(tenant="acme", scopes=tuple(Scope))


def _rows(house: Guarded, since: int) -> list[AuditRow]:
    return house.audit.page(after=since)


def _last(house: Guarded) -> int:
    rows = house.audit.page()
    return rows[-1].id if rows else 0


def test_S3_every_operation_that_is_to_be_written_down_is(house: Guarded, key: Token) -> None:
    """All of them are driven; each leaves a row with its key, tenant, address and request id."""
    since = _last(house)
    file = {"file": ("a.wav", CLIP)}
    job = house.ask("POST", "/v1/jobs", key, files=file).json()["id"]
    batch = house.ask("POST", "/v1/batches", key, files=[("file", ("a.wav", CLIP))]).json()["id"]
    uploads = [
        "/v1/" + house.ask("POST", "/v1/uploads", key, headers={**TUS, "upload-length": "10"}).headers["location"]
        for _ in range(2)
    ]
    url = f"https://127.0.0.1:9/{CANARY}"
    made = house.ask("POST", "/v1/webhook-endpoints", key, json={"url": url, "description": CANARY})
    hook = made.json()["id"]
    place = f"/v1/webhook-endpoints/{hook}"
    house.ask("PATCH", place, key, json={"description": "another"})
    house.ask("GET", f"{place}/secret", key)
    house.ask("POST", f"{place}/secret/rotate", key)
    house.ask("DELETE", place, key)
    house.ask("PUT", f"/v1/jobs/{job}/edited", key, json={"segments": [], "speakers": {CANARY: CANARY}})
    house.ask("DELETE", f"/v1/jobs/{job}/edited", key)
    house.ask("DELETE", f"/v1/jobs/{job}", key)
    house.ask("DELETE", f"/v1/batches/{batch}", key)
    house.ask("DELETE", uploads[0], key, headers=TUS)
    house.ask("POST", uploads[1], key, headers={**TUS, "x-http-method-override": "DELETE"})
    house.ask("POST", "/v1/models/base", key)
    house.ask("DELETE", "/v1/models/base", key)
    house.ask("POST", "/load", key, data={"model": "base"})
    given = house.ask("POST", "/v1/admin/keys", key, json={"tenant": "acme", "name": CANARY}).json()
    turned = house.ask("POST", f"/v1/admin/keys/{given['id']}/rotate", key, json={}).json()
    house.ask("DELETE", f"/v1/admin/keys/{given['id']}", key)
    house.ask("PATCH", "/v1/admin/tenants/acme", key, json={"weight": 2})
    house.ask("POST", "/v1/admin/tenants", key, json={"id": "acme"})
    rows = _rows(house, since)
    asked = [row for row in rows if row.outcome == ASKED]
    assert {row.action for row in asked} == {rule.action for rule in RULES}
    assert all(row.actor == f"key:{key.id}" and row.tenant == "acme" for row in rows)
    assert all(row.address == "127.0.0.1" and re.fullmatch("req_[0-9a-f]+", row.request_id or "") for row in rows)
    targets = {row.action: row.target for row in asked}
    assert (targets["job.erase"], targets["batch.erase"], targets["webhook.erase"]) == (job, batch, hook)
    assert targets["edit.save"] == targets["edit.erase"] == job
    assert targets["model.load"] in ("base", None)
    assert sum(row.action == "upload.erase" for row in asked) == 2
    said = str(rows)
    secrets = (CANARY, key.secret, made.json()["secret"], given["key"][-51:], turned["key"][-51:])
    assert not any(secret in said for secret in secrets)


def test_what_was_not_done_after_all_is_told_too(house: Guarded, key: Token) -> None:
    """A second row with the same request id has the status; who may not ask at all leaves none."""
    since = _last(house)
    assert house.ask("DELETE", "/v1/jobs/job_nobodys", key).status_code == 404
    assert house.ask("DELETE", "/v1/jobs/job_nobodys", house.give(scopes=("jobs:read",))).status_code == 403
    assert house.ask("DELETE", "/v1/jobs/job_nobodys").status_code == 401
    rows = [row for row in _rows(house, since) if row.action == "job.erase"]
    assert [row.outcome for row in rows] == [ASKED, "404"]
    assert len({row.request_id for row in rows}) == 1


def test_reading_and_transcribing_leave_nothing(house: Guarded, key: Token) -> None:
    """The log is about who changes what, not about who uses the server."""
    since = _last(house)
    house.transcribe(key)
    for path in ("/v1/jobs", "/v1/models", "/health"):
        assert house.ask("GET", path, key).status_code == 200
    assert _rows(house, since) == []


def test_an_id_that_is_no_name_is_left_out(house: Guarded, key: Token) -> None:
    """Whatever is written into a path does not get into the log, long or wild as it may be."""
    since = _last(house)
    for wild in ("a%0Ab", "%1B%5B31m", "x" * 300, "%3Cscript%3E", "canary text"):
        assert house.ask("DELETE", f"/v1/jobs/{wild}", key).status_code == 404
    assert {row.target for row in _rows(house, since)} == {None}


def test_S3_no_spelling_of_a_path_goes_past_the_log(house: Guarded) -> None:
    """A line end behind a path, which the router overlooks, would reach the route and no row: it reaches nothing."""
    key = house.give(tenant="speller", scopes=tuple(Scope))
    made = house.ask("POST", "/v1/webhook-endpoints", key, json={"url": "https://127.0.0.1:9/"}).json()
    place = f"/v1/webhook-endpoints/{made['id']}"
    for end in ("%0A", "%0a", "%0D", "%0D%0A", "%7F", "%00"):
        for method, path in (
            ("GET", f"{place}/secret"),
            ("POST", f"{place}/secret/rotate"),
            ("DELETE", place),
            ("POST", "/v1/models/base"),
            ("DELETE", "/v1/models/base"),
            ("POST", "/load"),
        ):
            assert house.ask(method, path + end, key).status_code == 404, (method, path, end)
    assert [row.action for row in house.audit.page(limit=1000) if row.actor == f"key:{key.id}"] == ["webhook.create"]
    assert house.ask("GET", f"{place}/secret", key).json()["secret"] == made["secret"]


def test_what_cannot_be_written_down_is_not_done(house: Guarded, key: Token) -> None:
    """Without a row nothing is erased; the caller is told to try again."""
    job = house.ask("POST", "/v1/jobs", key, files={"file": ("a.wav", CLIP)}).json()["id"]
    database = house.stores.database
    database.write(lambda tx: tx.execute(text("alter table audit rename to audit_away")))
    try:
        answer = house.ask("DELETE", f"/v1/jobs/{job}", key)
    finally:
        database.write(lambda tx: tx.execute(text("alter table audit_away rename to audit")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
    assert house.ask("GET", f"/v1/jobs/{job}", key).status_code == 200
    assert house.ask("DELETE", f"/v1/jobs/{job}", key).status_code == 204


def test_where_nobody_needs_a_key_nobody_is_named(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The row says from where, which is all there is."""
    with guarded(tmp_path_factory.mktemp("open"), {"api_keys": "open"}) as house:
        house.ask("DELETE", "/v1/jobs/job_x", headers={"x-request-id": "mine-1"})
        row = house.audit.page()[0]
    assert (row.actor, row.tenant, row.address, row.request_id) == ("anybody", "default", "127.0.0.1", "mine-1")
