"""``/v1/admin/keys``: the operator makes, lists, rotates and ends keys; secrets are shown once, deeds written down."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.api.doors_support import Guarded, guarded
from tympan.access.callers import USUAL, Scope
from tympan.access.tokens import Token, parse

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


def _code(answer: Any) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_a_key_is_made_shown_once_and_works_at_once(house: Guarded, admin: Token) -> None:
    """The answer is not to be stored on its way; nothing that is asked later has the secret."""
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
    assert not any(token.secret in each.text or "secret" in each.text for each in told)
    assert told[1].json() == {name: value for name, value in made.items() if name != "key"}
