"""WebSockets and streams of events: who may open them, and that they end with their key."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.access_support import entry
from tests.api.doors_support import Guarded, guarded
from tests.api.live_sites import readable
from tests.api.support import CLIP
from tympan.access.tokens import mint

PATHS = ("/v1/stream", "/v1/realtime?intent=transcription")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path_factory.mktemp("lasting"), transcriber=readable()) as opened:
        yield opened


def _dial(house: Guarded, path: str, **options: Any) -> ClientConnection:
    socket: ClientConnection = connect(house.url.replace("http", "ws", 1) + path, **options)
    return socket


def _bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@pytest.mark.parametrize("path", PATHS)
def test_J1_no_session_opens_without_a_key(house: Guarded, path: str) -> None:
    """The refusal is HTTP's, with its status and words; a key for other things is one of those."""
    unfit = house.give(scopes=("jobs:read",)).text
    for key, status in ((None, 401), (mint().text, 401), (unfit, 403)):
        with pytest.raises(InvalidStatus) as caught:
            _dial(house, path, additional_headers=_bearer(key) if key else {})
        answer = caught.value.response
        assert answer.status_code == status
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.body is not None
        assert b'"code"' in answer.body


@pytest.mark.parametrize("path", PATHS)
def test_a_key_comes_in_a_header_or_as_a_protocol(house: Guarded, path: str) -> None:
    """Browsers can send no header; their key is not sent back to them."""
    key = house.give()
    with _dial(house, path, additional_headers=_bearer(key.text)) as socket:
        assert socket.recv(timeout=30)
    offered: list[Any] = ["realtime", f"openai-insecure-api-key.{key.text}"]
    with _dial(house, path, subprotocols=offered) as socket:
        assert socket.recv(timeout=30)
        assert socket.subprotocol == "realtime"


def test_J5_a_key_in_the_address_of_a_session_is_refused(house: Guarded) -> None:
    """Also beside one in a header."""
    key = house.give()
    with pytest.raises(InvalidStatus) as caught:
        _dial(house, f"/v1/stream?api_key={key.text}", additional_headers=_bearer(key.text))
    assert caught.value.response.status_code == 401
    assert key.secret.encode() not in (caught.value.response.body or b"")


@pytest.mark.parametrize("path", PATHS)
def test_J7_a_page_of_another_site_opens_no_session(house: Guarded, path: str) -> None:
    """Not even with a good key, in a header or as a browser can send it; the server's own page does."""
    key = house.give().text
    offered: list[Any] = ["realtime", f"openai-insecure-api-key.{key}"]
    for origin in ("https://evil.example", "null", "file://", house.url + "0", f"{house.url}.evil.example"):
        for way in ({"additional_headers": _bearer(key)}, {"subprotocols": offered}, {}):
            with pytest.raises(InvalidStatus) as caught:
                _dial(house, path, origin=origin, **way)
            assert caught.value.response.status_code == 403
            assert b"foreign_origin" in (caught.value.response.body or b"")
    with _dial(house, path, origin=house.url, additional_headers=_bearer(key)) as socket:
        assert socket.recv(timeout=30)


@pytest.mark.alone
def test_J8_a_session_ends_with_its_key(house: Guarded) -> None:
    """Within five seconds, with the code for that; a neighbour's goes on."""
    key, other = house.give(), house.give()
    with (
        _dial(house, "/v1/stream", additional_headers=_bearer(key.text)) as socket,
        _dial(house, "/v1/stream", additional_headers=_bearer(other.text)) as neighbour,
    ):
        assert socket.recv(timeout=30)
        assert neighbour.recv(timeout=30)
        house.keys.revoke(key.id, entry())
        started = time.monotonic()
        with pytest.raises(ConnectionClosed) as caught:
            socket.recv(timeout=30)
        assert time.monotonic() - started < 5.0
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (1008, "The API key has expired or was revoked.")
        neighbour.send('{"type": "finish"}')
        assert "ended" in str(neighbour.recv(timeout=30))


@pytest.mark.long
def test_J8_a_stream_of_events_ends_with_its_key(house: Guarded) -> None:
    """Its answer is whole, as if there were no more to tell."""
    key = house.give()
    job_id = house.ask("POST", "/v1/jobs", key, files={"file": ("a.wav", CLIP)}).json()["id"]
    with httpx.stream("GET", f"{house.url}/v1/jobs/{job_id}/events", headers=_bearer(key.text), timeout=30) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert next(lines)
        house.keys.revoke(key.id, entry())
        started = time.monotonic()
        list(lines)
        assert time.monotonic() - started < 5.0
