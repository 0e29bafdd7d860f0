"""``/v1/admin/keys``: the operator makes, lists, rotates and ends keys; secrets are shown once, deeds written down."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.doors_support import Guarded, guarded
from tests.api.support import wait_for
from tympan.access.callers import USUAL, Scope
from tympan.access.tokens import Token, parse
from tympan.storage.audit import ASKED

KEYS = "/v1/admin/keys"


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path) as opened:
        yield opened


@pytest.fixture
def admin(house: Guarded) -> Token:
    """Return the operator's key."""
    return house.give("operators", (Scope.ADMIN,))


def _made(house: Guarded, admin: Token, **body: Any) -> dict[str, Any]:
    answer = house.ask("POST", KEYS, admin, json=body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_a_key_is_made_shown_once_and_works_at_once(house: Guarded, admin: Token, log: io.StringIO) -> None:
    """The answer is not to be stored on its way; nothing that is asked or logged later has the secret."""
    answer = house.ask("POST", KEYS, admin, json={"tenant": "acme", "name": "laptop"})
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    token = parse(made["key"])
    assert token is not None
    assert (made["id"], made["tenant"], made["state"], made["scopes"]) == (token.id, "acme", "active", [*USUAL])
    assert made["expires_at"] is None
    assert house.transcribe(token).status_code == 200
    told = [house.ask("GET", path, admin) for path in (KEYS, f"{KEYS}/{token.id}")]
    assert [each.status_code for each in told] == [200, 200]
    assert token.secret not in told[0].text + told[1].text + str(house.audit.page()) + log.getvalue()
    shown = told[1].json()
    assert {**shown, "last_used_at": None} == {name: value for name, value in made.items() if name != "key"}


def test_what_a_key_allows_and_when_it_ends_is_what_was_asked(house: Guarded, admin: Token) -> None:
    """Scopes once each; days become a date."""
    made = _made(house, admin, scopes=["transcribe", "transcribe", "admin"], expires_in_days=0.5)
    assert made["scopes"] == ["transcribe", "admin"]
    stored = house.keys.get(made["id"])
    assert stored.expires_at == pytest.approx(stored.created_at + 43_200, abs=1)
    assert house.ask("GET", KEYS, made["key"]).status_code == 200


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"tenant": "_quality"}, "tenant"),
        ({"tenant": "no blanks"}, "tenant"),
        ({"tenant": 3}, "tenant"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scopes"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"scopes": "transcribe"}, "scopes"),
        ({"expires_in_days": 0}, "expires_in_days"),
        ({"expires_in_days": 36_501}, "expires_in_days"),
        ({"expires_in_days": True}, "expires_in_days"),
        ({"secret": "mine"}, "secret"),
        ([], None),
    ],
)
def test_a_bad_wish_is_refused_by_name(house: Guarded, admin: Token, body: Any, param: str | None) -> None:
    """Nothing is made."""
    assert _refusal(house.ask("POST", KEYS, admin, json=body)) == (400, "invalid_request", param)
    assert len(house.keys.listing()) == 1


def test_a_body_that_is_no_json_or_too_large_is_refused(house: Guarded, admin: Token) -> None:
    """As everywhere."""
    assert _refusal(house.ask("POST", KEYS, admin, content=b"{"))[:2] == (400, "invalid_request")
    assert _refusal(house.ask("POST", KEYS, admin, content=b" " * 70_000))[:2] == (413, "too_large")


def test_keys_come_in_pages_the_newest_first(house: Guarded, admin: Token) -> None:
    """Of all tenants or of one; with those that have ended, or those alone."""
    ids = [_made(house, admin, tenant=("one", "two")[n % 2])["id"] for n in range(5)]
    house.ask("DELETE", f"{KEYS}/{ids[0]}", admin)
    seen, after = list[str](), ""
    for _ in range(3):
        page = house.ask("GET", f"{KEYS}?limit=2{after}", admin).json()
        seen += [key["id"] for key in page["data"]]
        after = f"&after={page['next']}"
    assert seen == [*reversed(ids), admin.id]
    assert (page["has_more"], page["next"]) == (False, None)
    assert [key["id"] for key in house.ask("GET", f"{KEYS}?tenant=two", admin).json()["data"]] == [ids[3], ids[1]]
    ended = house.ask("GET", f"{KEYS}?state=revoked", admin).json()["data"]
    assert [(key["id"], key["state"]) for key in ended] == [(ids[0], "revoked")]
    expired = house.give("one", lifetime_s=-1.0)
    assert [k["id"] for k in house.ask("GET", f"{KEYS}?state=expired", admin).json()["data"]] == [expired.id]
    active = {key["id"] for key in house.ask("GET", f"{KEYS}?state=active&limit=100", admin).json()["data"]}
    assert active == {admin.id, *ids[1:]}


@pytest.mark.parametrize(
    ("query", "param"),
    [("after=nobodys", "after"), ("state=lost", "state"), ("limit=0", "limit"), ("limit=101", "limit"), ("x=1", "x")],
)
def test_a_bad_question_is_refused_by_name(house: Guarded, admin: Token, query: str, param: str) -> None:
    """A page that begins nowhere is no empty page."""
    assert _refusal(house.ask("GET", f"{KEYS}?{query}", admin)) == (400, "invalid_request", param)


def test_a_rotated_key_goes_on_for_a_while(house: Guarded, admin: Token) -> None:
    """The new one is the same but for its secret; without an overlap the old one ends at once."""
    old = _made(house, admin, tenant="acme", scopes=["jobs:read"], name="ci", expires_in_days=10)
    answer = house.ask("POST", f"{KEYS}/{old['id']}/rotate", admin, json={"overlap_hours": 1})
    assert (answer.status_code, answer.headers["cache-control"]) == (201, "no-store")
    new = answer.json()
    assert [new[name] for name in ("tenant", "name", "scopes", "rotated_from")] == [
        "acme",
        "ci",
        ["jobs:read"],
        old["id"],
    ]
    for key in (old, new):
        assert house.ask("GET", "/v1/jobs", key["key"]).status_code == 200
    assert house.ask("POST", f"{KEYS}/{new['id']}/rotate", admin, json={"overlap_hours": 0}).status_code == 201
    wait_for(lambda: house.ask("GET", "/v1/jobs", new["key"]).status_code == 401)
    ended = house.ask("POST", f"{KEYS}/{new['id']}/rotate", admin, json={})
    assert _refusal(ended)[:2] == (409, "conflict")
    for hours in (-1, 2161):
        bad = house.ask("POST", f"{KEYS}/{old['id']}/rotate", admin, json={"overlap_hours": hours})
        assert _refusal(bad) == (400, "invalid_request", "overlap_hours")


def test_a_revoked_key_is_refused_and_stays_in_the_list(house: Guarded, admin: Token) -> None:
    """Ending it twice changes nothing."""
    made = _made(house, admin, tenant="acme")
    assert house.ask("GET", "/v1/jobs", made["key"]).status_code == 200
    first = house.ask("DELETE", f"{KEYS}/{made['id']}", admin).json()
    assert first["state"] == "revoked"
    wait_for(lambda: house.ask("GET", "/v1/jobs", made["key"]).status_code == 401)
    again = house.ask("DELETE", f"{KEYS}/{made['id']}", admin).json()
    assert again["revoked_at"] == first["revoked_at"]


def test_the_last_key_that_may_administrate_does_not_end_itself(house: Guarded, admin: Token) -> None:
    """Nobody could make another one from here; with a second one it may go, and a dead one is no second one."""
    place = f"{KEYS}/{admin.id}"
    house.give("operators", (Scope.ADMIN,), lifetime_s=-1.0)
    house.give("operators", USUAL)
    assert _refusal(house.ask("DELETE", place, admin))[:2] == (409, "conflict")
    assert house.ask("GET", KEYS, admin).status_code == 200
    house.give("others", (Scope.ADMIN,))
    assert house.ask("DELETE", place, admin).json()["state"] == "revoked"
    wait_for(lambda: house.ask("GET", KEYS, admin).status_code == 401)


def test_what_is_not_there_is_not_found(house: Guarded, admin: Token) -> None:
    """Whatever is done with it."""
    for method, path in (("GET", "nobodys"), ("DELETE", "nobodys"), ("POST", "nobodys/rotate")):
        assert _refusal(house.ask(method, f"{KEYS}/{path}", admin, json={}))[:2] == (404, "not_found")


def test_only_the_operator_may_ask(house: Guarded, admin: Token) -> None:
    """A key with everything else does not, and learns nothing of others' keys; nor does nobody."""
    tenant = house.give("acme", tuple(scope for scope in Scope if scope is not Scope.ADMIN))
    before = house.audit.page()
    for method, path, body in (
        ("GET", KEYS, None),
        ("POST", KEYS, {"tenant": "acme"}),
        ("GET", f"{KEYS}/{admin.id}", None),
        ("POST", f"{KEYS}/{tenant.id}/rotate", {}),
        ("DELETE", f"{KEYS}/{tenant.id}", None),
    ):
        assert _refusal(house.ask(method, path, tenant, json=body))[:2] == (403, "insufficient_scope")
        assert house.ask(method, path, None, json=body).status_code == 401
    assert house.audit.page() == before


def test_every_change_is_in_the_log_with_whom_it_is_about(house: Guarded, admin: Token) -> None:
    """One row as it is asked, and one in the transaction that does it, with the same request id."""
    since = house.audit.page()[-1].id
    made = _made(house, admin, tenant="acme", scopes=["jobs:read"])
    new = house.ask("POST", f"{KEYS}/{made['id']}/rotate", admin, json={}).json()
    house.ask("DELETE", f"{KEYS}/{made['id']}", admin)
    rows = house.audit.page(after=since)
    assert [(row.action, row.outcome) for row in rows] == [
        (action, outcome) for action in ("key.create", "key.rotate", "key.revoke") for outcome in (ASKED, "done")
    ]
    assert {row.actor for row in rows} == {f"key:{admin.id}"}
    done = rows[1::2]
    assert [(row.tenant, row.target) for row in done] == [
        ("acme", made["id"]), ("acme", new["id"]), ("acme", made["id"])
    ]  # fmt: skip
    assert [row.request_id for row in rows[::2]] == [row.request_id for row in done]
    assert (done[0].detail or {})["scopes"] == ["jobs:read"]
    assert (done[1].detail or {})["rotated_from"] == made["id"]


def test_without_keys_only_this_machine_may_administrate(tmp_path: Path) -> None:
    """Not who comes through a proxy, nor a page under a name that leads here; and the first key has to have admin."""
    with guarded(tmp_path, {"api_keys": None, "trusted_proxies": ["127.0.0.1"]}) as house:
        assert house.ask("GET", KEYS).json()["data"] == []
        forwarded: list[dict[str, str]] = [{"x-forwarded-for": "127.0.0.1"}, {"via": "1.1 proxy"}, {"x-real-ip": "::1"}]
        named = [{"host": "rebound.example"}, {"host": "192.0.2.7:8000"}, {"host": "[::1"}]
        for headers in [*forwarded, *named, {"x-forwarded-for": "192.0.2.7"}]:
            assert _refusal(house.ask("GET", KEYS, headers=headers))[:2] == (403, "insufficient_scope")
            assert _refusal(house.ask("POST", KEYS, headers=headers, json={}))[:2] == (403, "insufficient_scope")
        assert _refusal(house.ask("POST", KEYS, json={"scopes": ["transcribe"]}))[:2] == (409, "conflict")
        first = house.ask("POST", KEYS, json={"scopes": ["admin"]})
        assert first.status_code == 201
        row = house.audit.page()[-1]
        assert (row.actor, row.action, row.target) == ("anybody", "key.create", first.json()["id"])
        wait_for(lambda: house.ask("GET", KEYS).status_code == 401)
        assert house.ask("GET", KEYS, first.json()["key"], headers={"host": "any.example"}).status_code == 200
