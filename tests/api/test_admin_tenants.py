"""``/v1/admin/tenants``: every limit of every tenant, made, changed and shown by the operator."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.doors_support import Guarded, guarded
from tests.api.support import CLIP, wait_for
from tympan.access.callers import Scope
from tympan.access.tenant_limits import LIMITS
from tympan.access.tokens import Token
from tympan.api.operate.tenants import LimitsBody, LimitsView

TENANTS = "/v1/admin/tenants"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Guarded]:
    """Return a server that asks for keys, with a limit for everybody."""
    with guarded(tmp_path, {"limit_requests_per_min": 500, "retain_audio_days": 2}) as opened:
        yield opened


@pytest.fixture
def admin(house: Guarded) -> Token:
    """Return the operator's key."""
    return house.give("operators", (Scope.ADMIN,))


def _refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_every_limit_can_be_set_and_is_shown() -> None:
    """A new one that is forgotten here is noticed."""
    assert set(LimitsBody.model_fields) == set(LimitsView.model_fields) == set(LIMITS)


def test_a_tenant_is_made_with_what_it_has_of_its_own(house: Guarded, admin: Token) -> None:
    """The rest is the installation's, which is shown beside it; the same name is not made twice."""
    body = {"id": "acme", "weight": 2, "limits": {"storage_mb": 100, "audio_minutes": 0.5}, "text_days": 3}
    answer = house.ask("POST", TENANTS, admin, json=body)
    assert answer.status_code == 201
    made = answer.json()
    assert (made["id"], made["jobs"], made["weight"], made["audio_days"], made["text_days"]) == ("acme", 0, 2, None, 3)
    own = {name: value for name, value in made["limits"].items() if value is not None}
    assert own == {"storage_mb": 100, "audio_minutes": 0.5}
    effective = made["effective"]
    assert (effective["audio_days"], effective["text_days"]) == (2, 3)
    assert (effective["limits"]["requests_per_min"], effective["limits"]["storage_mb"]) == (500, 100)
    assert _refusal(house.ask("POST", TENANTS, admin, json=body))[:2] == (409, "conflict")
    assert house.ask("GET", f"{TENANTS}/acme", admin).json() == made


def test_what_is_left_out_stays_and_null_is_the_installations(house: Guarded, admin: Token) -> None:
    """For limits as for days."""
    body = {"id": "acme", "limits": {"storage_mb": 100, "upload_mb": 5}, "audio_days": 1, "text_days": 3}
    house.ask("POST", TENANTS, admin, json=body)
    change = {"limits": {"storage_mb": None, "jobs_at_once": 0}, "text_days": None}
    changed = house.ask("PATCH", f"{TENANTS}/acme", admin, json=change).json()
    own = {name: value for name, value in changed["limits"].items() if value is not None}
    assert own == {"upload_mb": 5, "jobs_at_once": 0}
    assert (changed["audio_days"], changed["text_days"], changed["weight"]) == (1, None, 1)
    row = house.audit.page()[-1]
    assert (row.action, row.tenant, row.target, row.outcome) == ("tenant.change", "acme", "acme", "done")
    assert (row.detail or {})["changes"] == {"storage_mb": None, "jobs_at_once": 0}


def test_a_changed_limit_holds_within_seconds(house: Guarded, admin: Token) -> None:
    """The running server looks limits up by itself."""
    key = house.give("acme")
    assert house.transcribe(key).status_code == 200
    house.ask("PATCH", f"{TENANTS}/acme", admin, json={"limits": {"requests_per_min": 1}})
    wait_for(lambda: house.transcribe(key).status_code == 429)
    both = house.give("acme", (Scope.ADMIN,))
    assert house.ask("PATCH", f"{TENANTS}/acme", both, json={"weight": 2}).status_code == 200  # It is no work.
    house.ask("PATCH", f"{TENANTS}/acme", admin, json={"limits": {"requests_per_min": 0}})
    wait_for(lambda: house.transcribe(key).status_code == 200)


def test_tenants_come_in_pages_by_name(house: Guarded, admin: Token) -> None:
    """Those with a key or a job are there too; who measures golden sets is not."""
    for name in ("carol", "alice", "bob"):
        house.give(name)
    job = {"file": ("a.wav", CLIP)}
    assert house.ask("POST", "/v1/jobs", house.give("bob"), files=job).status_code == 202
    seen, after = list[dict[str, Any]](), ""
    for _ in range(2):
        page = house.ask("GET", f"{TENANTS}?limit=2{after}", admin).json()
        seen += page["data"]
        after = f"&after={page['next']}"
    assert [each["id"] for each in seen] == ["alice", "bob", "carol", "operators"]
    assert [each["jobs"] for each in seen] == [0, 1, 0, 0]
    assert not page["has_more"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"limits": {"requests_per_min": -1}}, "limits.requests_per_min"),
        ({"limits": {"requests_per_min": 1.5}}, "limits.requests_per_min"),
        ({"limits": {"storage_mb": 10**10}}, "limits.storage_mb"),
        ({"limits": {"audio_minutes": "9"}}, "limits.audio_minutes"),
        ({"limits": {"everything": 1}}, "limits.everything"),
        ({"weight": 0}, "weight"),
        ({"weight": 101}, "weight"),
        ({"audio_days": -1}, "audio_days"),
        ({"id": "another"}, "id"),
        ({}, None),
    ],
)
def test_a_bad_change_is_refused_by_name(house: Guarded, admin: Token, body: Any, param: str | None) -> None:
    """And changes nothing."""
    house.give("acme")
    refused = house.ask("PATCH", f"{TENANTS}/acme", admin, json=body)
    assert _refusal(refused) == (400, "invalid_request", param)
    assert all(value is None for value in house.ask("GET", f"{TENANTS}/acme", admin).json()["limits"].values())


def test_nobody_makes_or_changes_what_is_no_tenant(house: Guarded, admin: Token) -> None:
    """Neither a name that is none, nor the reserved one, nor one that is not there."""
    for name in ("_quality", "", "a b", "x" * 65):
        assert _refusal(house.ask("POST", TENANTS, admin, json={"id": name})) == (400, "invalid_request", "id")
    for method in ("GET", "PATCH"):
        for name in ("nobody", "_quality"):
            answer = house.ask(method, f"{TENANTS}/{name}", admin, json={"weight": 2})
            assert _refusal(answer)[:2] == (404, "not_found")


def test_only_the_operator_may_ask(house: Guarded) -> None:
    """A tenant does not change its own limits, nor see others'."""
    key = house.give("acme", tuple(scope for scope in Scope if scope is not Scope.ADMIN))
    for method, path in (("GET", TENANTS), ("POST", TENANTS), ("GET", f"{TENANTS}/acme"), ("PATCH", f"{TENANTS}/acme")):
        assert _refusal(house.ask(method, path, key, json={"weight": 9}))[:2] == (403, "insufficient_scope")
        assert house.ask(method, path, json={"weight": 9}).status_code == 401
