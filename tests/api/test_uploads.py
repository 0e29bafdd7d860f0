"""Uploads: streamed, bounded in every dimension, refused early, never left behind."""

import errno
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.support import CLIP, ScriptedTranscriber, Site, wait_for
from tympan import disk
from tympan.api import errors
from tympan.api.intake import uploads

BOUNDARY = "frontier"


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """Return a multipart body; a part named ``file`` gets a file name."""
    body = b""
    for name, value in parts:
        extra = '; filename="x"' if name == "file" else ""
        body += (
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + value + b"\r\n"
        )
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def send(site: Site, body: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    """Post a raw body as a form."""
    kind = f"multipart/form-data; boundary={BOUNDARY}"
    return httpx.post(
        f"{site.url}/v1/audio/transcriptions", content=body, headers={"content-type": kind, **headers}, timeout=60
    )


def error_of(response: httpx.Response) -> dict[str, str]:
    """Return the error object of an answer."""
    found: dict[str, str] = response.json()["error"]
    return found


def raw(site: Site, data: bytes) -> socket.socket:
    """Open a connection, send bytes, and leave it open."""
    host, port = site.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=60)
    connection.sendall(data)
    return connection


def head(length: int) -> bytes:
    """Return the head of an upload that announces ``length`` bytes."""
    return (
        "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def test_the_pipeline_gets_exactly_the_bytes_sent(server: Site) -> None:
    """A file larger than every buffer on the way arrives whole, and nothing stays in staging."""
    data = bytes(range(256)) * 8_000
    assert server.post(files={"file": ("a.wav", data)}).status_code == 200
    assert server.transcriber.calls[-1][0] == data
    wait_for(lambda: not server.staged)


def test_a_body_in_single_bytes_is_understood(server: Site) -> None:
    """Boundaries may fall anywhere between two pieces of the body."""
    body = form(("file", b"--front\r\n--frontie"), ("language", b"de"))
    assert send(server, (body[i : i + 1] for i in range(len(body)))).status_code == 200
    content, options = server.transcriber.calls[-1]
    assert content == b"--front\r\n--frontie"
    assert options.language == "de"


@pytest.mark.parametrize("name", ["concat:/etc/passwd", "-i", "http://x/y", "../../x", "n" * 3000, "a\nb", ""])
def test_I3_the_clients_file_name_is_never_a_path(server: Site, name: str) -> None:
    """Whatever the file is called, it lives under a name of ours."""
    before = sorted(server.services.staging.parent.rglob("*"))
    response = server.post(files={"file": (name or "x", CLIP)})
    assert response.status_code == 200
    wait_for(lambda: not server.staged)
    assert sorted(server.services.staging.parent.rglob("*")) == before


def test_an_announced_length_above_the_limit_is_refused_before_the_body(make_site: Callable[..., Site]) -> None:
    """The refusal comes while not one byte of the body has been sent."""
    site = make_site(max_upload_bytes=100_000)
    with raw(site, head(50_000_000)) as connection:
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413")
    assert json.loads(answer.split(b"\r\n\r\n", 1)[1])["error"]["code"] == "too_large"


def test_a_client_that_sends_on_still_reads_the_refusal(make_site: Callable[..., Site]) -> None:
    """A client that writes its whole body before it reads gets the typed answer, not a broken pipe."""
    site = make_site(max_upload_bytes=100_000)
    response = site.post(files={"file": ("a.wav", bytes(20_000_000))})
    assert response.status_code == 413
    assert "MAX_UPLOAD_MB" in error_of(response)["message"]


def test_bytes_are_counted_when_no_length_is_announced(make_site: Callable[..., Site]) -> None:
    """A chunked upload is stopped at the limit; what was written is removed."""
    site = make_site(max_upload_bytes=100_000)

    def endless() -> Iterator[bytes]:
        yield form(("file", b""), end=False)[:-2]
        for _ in range(400):
            yield bytes(64_000)

    response = send(site, endless())
    assert (response.status_code, error_of(response)["code"]) == (413, "too_large")
    wait_for(lambda: not site.staged)


def test_a_file_of_exactly_the_limit_is_taken(make_site: Callable[..., Site]) -> None:
    """The limit counts the file, not the form around it; one byte more is too much."""
    site = make_site(max_upload_bytes=100_000)
    assert site.post(files={"file": ("a", bytes(100_000))}).status_code == 200
    assert site.post(files={"file": ("a", bytes(100_001))}).status_code == 413


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_request"),
        (b"nonsense", "invalid_request"),
        (form(("language", b"en")), "invalid_request"),
        (form(("file", b"")), "empty_audio"),
        (form(("file", b"x"), ("file", b"y")), "invalid_request"),
        (form(("file", b"x"), end=False), "invalid_request"),
        (form(("file", b"x"), ("language", b"\xff")), "invalid_request"),
        (form(("file", b"x"), ("prompt", b"a\0b")), "invalid_request"),
        (form(("file", b"x"), ("prompt", b"p" * 40_000)), "invalid_request"),
        (form(("file", b"x"), ("language", b"en"), ("language", b"de")), "invalid_request"),
        (form(*[("prompt", b"p")] * 100), "invalid_request"),
        (f"--{BOUNDARY}\r\nX: {'y' * 1_000_000}\r\n\r\n".encode(), "invalid_request"),
        (f"--{BOUNDARY}\r\nX: y\r\n\r\nvalue\r\n--{BOUNDARY}--\r\n".encode(), "invalid_request"),
    ],
)
def test_I13_broken_forms_are_refused_by_cause(server: Site, body: bytes, code: str) -> None:
    """Every malformed body gets a 400 of its own and leaves nothing behind."""
    response = send(server, body)
    assert (response.status_code, error_of(response)["code"]) == (400, code)
    wait_for(lambda: not server.staged and not server.services.house.count)


def test_I13_a_hundred_thousand_parts_cost_nothing(server: Site) -> None:
    """Parsing stops at the field limit: the refusal comes while the others are still to come."""
    part = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\r\n'.encode()
    with raw(server, head(100_000 * len(part)) + part * 2_000) as connection:
        assert connection.recv(65_536).startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "application/json"},
        {"content-type": "multipart/form-data"},
        {"content-type": f"multipart/form-data; boundary={'b' * 300}"},
    ],
)
def test_other_kinds_of_body_are_refused(server: Site, headers: dict[str, str]) -> None:
    """No JSON, no missing or huge boundary."""
    response = send(server, form(("file", b"x")), **headers)
    assert (response.status_code, error_of(response)["code"]) == (400, "invalid_request")


def test_F3_a_trickling_body_is_ended(make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that come too slowly end in 408, and the place is free again."""
    monkeypatch.setattr(errors, "_LINGER_S", 60.0)  # However late the bytes, the answer can still be read.
    site = make_site(upload_idle_s=0.4)
    body = form(("file", CLIP))
    with raw(site, head(len(body))) as connection:
        for byte in body[:12]:
            connection.sendall(bytes([byte]))
            time.sleep(0.06)
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    wait_for(lambda: not site.services.house.count and not site.staged)


def test_F3_a_body_that_stops_is_ended(make_site: Callable[..., Site]) -> None:
    """A pause longer than the limit ends in 408."""
    site = make_site(upload_idle_s=0.3)
    with raw(site, head(10_000) + form(("file", CLIP), end=False)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 408")
    wait_for(lambda: not site.services.house.count and not site.staged)


def test_F4_an_aborted_upload_leaves_nothing(make_site: Callable[..., Site]) -> None:
    """A client that vanishes in the middle frees its place and its disk space; the pipeline never starts."""
    site = make_site()
    connection = raw(site, head(1_000_000) + form(("file", bytes(500_000)), end=False))
    wait_for(lambda: site.staged)
    connection.close()
    wait_for(lambda: not site.services.house.count and not site.staged)
    assert not site.transcriber.calls


def test_E1_a_full_disk_answers_507_and_cleans_up(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a write fails for lack of room, the caller learns it and the partial file goes."""
    site = make_site()

    def no_room(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(uploads, "_append", no_room)
    response = site.post()
    assert (response.status_code, error_of(response)["code"]) == (507, "insufficient_storage")
    wait_for(lambda: not site.services.house.count and not site.staged)


def test_E2_little_room_refuses_before_the_body(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An upload that the disk could not hold is refused on its announced length."""
    site = make_site(max_upload_bytes=10**15)
    free = site.services.house.disk_free_bytes
    with raw(site, head(free)) as connection:
        assert connection.recv(4096).startswith(b"HTTP/1.1 507")
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", free * 2)
    assert site.post().status_code == 507


def test_staging_left_by_a_dead_process_is_swept(make_site: Callable[..., Site], tmp_path: Path) -> None:
    """At start the folders of dead processes go; those of living ones stay."""
    (tmp_path / "staging" / "dead" / "upload").mkdir(parents=True)
    (tmp_path / "staging" / "dead" / "upload" / "in").write_bytes(b"x")
    first = make_site()
    second = make_site(ScriptedTranscriber())
    assert not (tmp_path / "staging" / "dead").exists()
    assert first.services.staging.exists()
    assert second.services.staging.exists()
    assert first.post().status_code == 200
