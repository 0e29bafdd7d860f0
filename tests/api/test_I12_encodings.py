"""Bodies that say they are compressed: refused on every route, in every way to say so, and never unpacked."""

import gzip
import json
import re
import zlib
from typing import Any

import pytest
from fastapi.routing import APIRoute
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.api.job_support import HTTP
from tests.api.live_sites import dialled, said
from tests.api.support import Site

BOMB = gzip.compress(bytes(10_000_000), 9)
ENCODINGS: tuple[list[tuple[str, str]], ...] = (
    [("content-encoding", "gzip")],
    [("content-encoding", "br")],
    [("content-encoding", "deflate")],
    [("content-encoding", "X-Gzip")],
    [("content-encoding", "identity, zstd")],
    [("content-encoding", "identity"), ("content-encoding", "gzip")],
)
KINDS = ("application/json", "multipart/form-data; boundary=x", "application/offset+octet-stream")
TUS = [("tus-resumable", "1.0.0"), ("upload-offset", "0")]


def bodies_go_to(site: Site) -> list[tuple[str, str]]:
    """Return every method and path that a body can be sent to."""
    return [
        (method, re.sub(r"{[^}]*}", "job_0123456789ab", route.path))
        for route in site.app.state.routes
        if isinstance(route, APIRoute)
        for method in sorted((route.methods or set()) & {"POST", "PUT", "PATCH"})
    ]


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is unpacked with the standard library's ways to do so."""
    found: list[str] = []

    def noting(name: str, work: Any) -> Any:
        def noted(*given: Any, **named: Any) -> Any:
            found.append(name)
            return work(*given, **named)

        return noted

    for module, name in ((zlib, "decompress"), (zlib, "decompressobj"), (gzip, "decompress")):
        monkeypatch.setattr(module, name, noting(name, getattr(module, name)))
    return found


def test_I12_no_route_takes_a_compressed_body(server: Site, unpacked: list[str]) -> None:
    """Ten kilobytes that are ten megabytes: 400 that names the header, and not one byte of them is made."""
    routes = bodies_go_to(server)
    assert len(routes) > 20
    calls = len(server.transcriber.calls)
    everywhere = [(*route, ENCODINGS[0], KINDS[number % 3]) for number, route in enumerate(routes)]
    somewhere = [("POST", "/v1/jobs", encoding, kind) for encoding in ENCODINGS for kind in KINDS]
    for method, path, encoding, kind in everywhere + somewhere:
        headers = [*encoding, *TUS, ("content-type", kind)]
        answer = HTTP.request(method, server.url + path, headers=headers, content=BOMB)
        assert answer.status_code == 400, (method, path, encoding, kind, answer.text)
        assert "ompressed" in answer.text, (method, path, answer.text)
    assert unpacked == []
    assert len(server.transcriber.calls) == calls
    assert not server.staged


def test_I12_a_body_that_says_it_is_plain_is_taken(server: Site) -> None:
    """``identity`` is no compression, nor is an empty header."""
    for value in ("identity", "", "Identity"):
        assert server.post(headers={"content-encoding": value}).status_code == 200


def test_I12_a_refusal_is_a_typed_one(server: Site) -> None:
    """The usual envelope; each imitated server's clients read it where they look for errors."""
    for path in ("/v1/audio/transcriptions", "/v1/webhook-endpoints"):
        answer = HTTP.post(server.url + path, headers={"content-encoding": "gzip"}, content=BOMB)
        error = json.loads(answer.content)["error"]
        assert (error["code"], error["param"]) == ("invalid_request", "Content-Encoding")
    answer = HTTP.post(f"{server.url}/transcribe/async", headers={"content-encoding": "gzip"}, content=BOMB)
    assert answer.json()["code"] == "invalid_request"


@pytest.mark.parametrize("path", ["/v1/stream", "/v1/realtime?intent=transcription"])
def test_I12_no_extension_compresses_messages(live_site: Site, path: str) -> None:
    """A client that offers permessage-deflate is answered without it."""
    with dialled(live_site, path, compression="deflate") as socket:
        assert socket.request is not None
        assert "permessage-deflate" in socket.request.headers["Sec-WebSocket-Extensions"]
        assert socket.response is not None
        assert "Sec-WebSocket-Extensions" not in socket.response.headers


def test_I12_a_frame_that_claims_to_be_compressed_ends_the_session(live_site: Site) -> None:
    """Its reserved bit is not ours: the protocol's error, and nothing of it is heard."""
    with connect(live_site.url.replace("http", "ws", 1) + "/v1/stream") as socket:
        said(socket, "ready")
        bomb = zlib.compress(bytes(10_000_000), 9)[2:]
        # A binary frame with the bit of permessage-deflate, masked with zeros.
        socket.socket.sendall(b"\xc2\xfe" + min(len(bomb), 10_000).to_bytes(2) + bytes(4) + bomb[:10_000])
        with pytest.raises(ConnectionClosed) as caught:
            said(socket, "never")
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1002
