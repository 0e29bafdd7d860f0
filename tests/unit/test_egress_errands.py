"""The two errands that lead out: what they bring back, what they cost at most, what they say when they fail."""

import os
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.egress_support import (
    LIMITS,
    POST,
    Host,
    ScriptedResolver,
    Visit,
    certify,
    drip_head,
    egress_for,
    endless,
    endless_chunks,
    endless_head,
    endless_preludes,
    fetch,
    hang,
    no_http,
    reset,
    reset_midway,
    short_body,
    stall,
    watch_bytes,
)
from tympan.egress import PostLimits
from tympan.errors import (
    Cancelled,
    FetchFailed,
    InsufficientStorage,
    InvalidRequest,
)


@pytest.fixture
def trusting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Host]:
    """Return a maker of hosts with TLS whose authority is trusted."""

    def make(*names: str, days: int = 1, trusted: bool = True) -> Host:
        context, authority = certify(tmp_path, *names, days=days)
        if trusted:
            monkeypatch.setenv("SSL_CERT_FILE", str(authority))
        return Host(lambda visit: visit.answer(200, b"own"), tls=context)

    return make


def test_L_tls_proves_the_name_not_the_address(trusting: Callable[..., Host], tmp_path: Path) -> None:
    """The connection goes to the checked address, the certificate is checked against the name."""
    with trusting("media.example") as host:
        egress = egress_for(host, ScriptedResolver(["127.0.0.1"]))
        assert fetch(egress, host.url(name="media.example"), tmp_path) == b"own"
        assert egress.post(host.url(name="media.example"), b"{}", {}, POST).status == 200
        assert b"Host: media.example:" in host.requests[0]
        for name in ("other.example", "127.0.0.1"):
            with pytest.raises(FetchFailed):
                fetch(egress, host.url(name=name), tmp_path)
    assert len(host.requests) == 2


@pytest.mark.parametrize("cut", [False, True])
def test_L_a_cut_connection_is_not_the_end_of_a_file(cut: bool, tmp_path: Path, trusting: Callable[..., Host]) -> None:  # noqa: FBT001
    """Without a length, an encrypted file is whole only if the other side says goodbye in TLS."""

    def send_half(visit: Visit) -> None:
        visit.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        if cut:
            visit.connection.shutdown(socket.SHUT_WR)

    with trusting("media.example") as host:
        host.behave = send_half
        egress = egress_for(host, ScriptedResolver(["127.0.0.1"]))
        if cut:
            with pytest.raises(FetchFailed):
                fetch(egress, host.url(name="media.example"), tmp_path)
        else:
            assert fetch(egress, host.url(name="media.example"), tmp_path) == b"half"


@pytest.mark.parametrize("wrong", [{"days": -1}, {"trusted": False}], ids=str)
def test_W4_bad_tls_gets_no_message(wrong: dict[str, int | bool], trusting: Callable[..., Host]) -> None:
    """A certificate that is out of date, or of an unknown authority, gets nothing."""
    with trusting("media.example", **wrong) as host:
        egress = egress_for(host, ScriptedResolver(["127.0.0.1"]))
        with pytest.raises(FetchFailed):
            egress.post(host.url(name="media.example"), b"secret", {}, POST)
    assert host.requests == []


def test_W4_a_status_is_an_answer() -> None:
    """What the receiver says comes back: status, wait, and a printable beginning of the body."""
    body = b"a\x00\x1b[31m\xff\n" + "é".encode() + b"x" * 5000
    with Host(lambda visit: visit.answer(429, body, Retry_After="120")) as host:
        answer = egress_for(host).post(
            host.url("/hook?a=b"), b'{"a": 1}', {"webhook-id": "m1", "host": "x", "Content-Length": "3"}, POST
        )
    assert (answer.status, answer.retry_after_s) == (429, 120)
    assert answer.excerpt.startswith("a??[31m??éxxx")
    assert len(answer.excerpt.encode()) <= 1024
    assert answer.excerpt.isprintable()
    assert 0 < answer.duration_s < 60
    head, _, sent = host.requests[0].partition(b"\r\n\r\n")
    assert sent == b'{"a": 1}'
    assert head.startswith(b"POST /hook?a=b HTTP/1.1\r\n")
    assert b"webhook-id: m1" in head
    assert (head.lower().count(b"host:"), head.lower().count(b"content-length:")) == (1, 1)


@pytest.mark.parametrize("status", [200, 204, 302, 410, 500])
def test_W4_every_status_is_returned(status: int) -> None:
    """No status is an error here; the sender of webhooks decides what each means."""
    with Host(lambda visit: visit.answer(status)) as host:
        assert egress_for(host).post(host.url(), b"", {}, POST).status == status


@pytest.mark.parametrize("behave", [hang, drip_head, reset, no_http, endless_head, endless_preludes])
def test_W4_no_answer_is_a_failure(behave: Callable[[Visit], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that hangs, trickles, resets or babbles costs its time limit and 64 kB at most."""
    read = watch_bytes(monkeypatch)
    started = time.monotonic()
    with Host(behave) as host, pytest.raises(FetchFailed):
        egress_for(host).post(host.url(), b"", {}, PostLimits(total_s=1.0))
    assert time.monotonic() - started < 30
    assert sum(read) <= 64 << 10


@pytest.mark.parametrize("behave", [endless, endless_chunks, stall, reset_midway, short_body])
def test_W4_the_status_counts_whatever_the_body_does(
    behave: Callable[[Visit], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the status is there, a body that is huge, stalls or breaks off changes nothing."""
    read = watch_bytes(monkeypatch)
    with Host(behave) as host:
        answer = egress_for(host).post(host.url(), b"", {}, PostLimits(total_s=1.0))
    assert answer.status == 200
    assert len(answer.excerpt) <= 1024
    assert sum(read) <= 64 << 10


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416, 204, 206, 304, 300])
def test_download_gives_up_on_a_final_status(status: int, tmp_path: Path) -> None:
    """What will be the same next time is the request's fault, and says so."""
    with Host(lambda visit: visit.answer(status)) as host, pytest.raises(InvalidRequest, match=str(status)) as caught:
        fetch(egress_for(host), host.url(), tmp_path)
    assert (caught.value.param, caught.value.retryable) == ("audio_url", False)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
def test_download_may_try_again_after_a_passing_status(status: int, tmp_path: Path) -> None:
    """What may be different next time is retryable, and says when."""
    with (
        Host(lambda visit: visit.answer(status, Retry_After="7")) as host,
        pytest.raises(FetchFailed, match=str(status)) as caught,
    ):
        fetch(egress_for(host), host.url(), tmp_path)
    assert (caught.value.retry_after_s, caught.value.retryable) == (7, True)


@pytest.mark.parametrize("behave", [endless, stall, hang])
def test_download_stops_when_nobody_wants_it(behave: Callable[[Visit], None], tmp_path: Path) -> None:
    """A cancellation is noticed between pieces and during a silence, and leaves no file."""
    asked = iter([False] * 5)
    limits = replace(LIMITS, max_bytes=1 << 40, total_s=30.0)
    with Host(behave) as host:
        egress = egress_for(host)
        with pytest.raises(Cancelled):
            egress.download(host.url(), tmp_path / "fetched", limits, lambda: next(asked, True))
    assert list(tmp_path.iterdir()) == []


def test_download_says_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No room is a matter of this server, not of the address."""

    def no_room(descriptor: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", no_room)
    with Host(lambda visit: visit.answer(200, b"own")) as host, pytest.raises(InsufficientStorage):
        fetch(egress_for(host), host.url(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_download_does_not_write_through_a_link(tmp_path: Path) -> None:
    """A symbolic link in the place of the file is not followed."""
    (tmp_path / "other").write_bytes(b"keep")
    (tmp_path / "fetched").symlink_to(tmp_path / "other")
    with Host(lambda visit: visit.answer(200, b"own")) as host, pytest.raises(OSError, match="symbolic"):
        fetch(egress_for(host), host.url(), tmp_path)
    assert (tmp_path / "other").read_bytes() == b"keep"
