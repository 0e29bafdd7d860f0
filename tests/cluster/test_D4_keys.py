"""Keys in a cluster without Redis: what is revoked ends in every process, and a silent database shuts nobody out."""

import time
from collections.abc import Iterator

import httpx
import pytest

from tests.access_support import entry, new_key
from tests.cluster.conftest import Site
from tests.cluster.support import Node
from tympan.access.tokens import Token
from tympan.storage.keys import KeyStore

LIMIT_S = 5.0
PROBES = 200


@pytest.fixture
def doors(site: Site) -> Iterator[tuple[Node, Node]]:
    """Yield two api processes that ask for keys; they are told nothing but through the database."""
    nodes = [site.cluster.add("api", API_KEYS="required") for _ in range(2)]
    for node in nodes:
        node.wait_ready()
    yield nodes[0], nodes[1]
    for node in nodes:
        node.kill()
        site.cluster.nodes.remove(node)


def _give(site: Site) -> Token:
    token, new = new_key()
    KeyStore(site.store).create(new, entry())
    return token


def _status(node: Node, token: Token) -> int:
    headers = {"authorization": f"Bearer {token.text}"}
    return httpx.get(f"{node.url}/v1/models", headers=headers, timeout=10).status_code


@pytest.mark.long
def test_D4_J8_a_revoked_key_ends_in_every_process(site: Site, doors: tuple[Node, Node]) -> None:
    """Within five seconds, and for good: of 200 probes after that none gets in."""
    token, other = _give(site), _give(site)
    assert [_status(node, token) for node in doors] == [200, 200]
    KeyStore(site.store).revoke(token.id, entry())
    started = time.monotonic()
    ended: dict[str, float] = {}
    while len(ended) < len(doors):
        assert time.monotonic() - started < LIMIT_S, ended
        for node in doors:
            if node.url not in ended and _status(node, token) == 401:
                ended[node.url] = time.monotonic() - started
        time.sleep(0.02)
    # Bad keys are answered with 429 after a while.
    assert {_status(doors[number % 2], token) for number in range(PROBES)} <= {401, 429}
    assert [_status(node, other) for node in doors] == [200, 200]


@pytest.mark.long
def test_a_silent_database_shuts_out_nobody_who_was_in(site: Site, doors: tuple[Node, Node]) -> None:
    """Keys that were used lately go on, at once after the first; when it speaks again, what is revoked ends."""
    door, _ = doors
    token, unused = _give(site), _give(site)
    assert _status(door, token) == 200
    site.to_postgres.set(swallow=True)
    try:
        time.sleep(4.0)
        assert _status(door, token) == 200
        started = time.monotonic()
        assert [_status(door, token) for _ in range(5)] == [200] * 5
        assert time.monotonic() - started < LIMIT_S
        assert _status(door, unused) == 503
    finally:
        site.to_postgres.heal()
    KeyStore(site.store).revoke(token.id, entry())
    deadline = time.monotonic() + 4 * LIMIT_S  # Its connections have to be made anew first.
    while _status(door, token) == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
