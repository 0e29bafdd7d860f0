"""N7: uploads go on where they broke off, over HTTP, whatever breaks."""

import base64
import hashlib
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from tests.api.support import wait_for
from tests.api.tus_support import (
    BYTES,
    HTTP,
    MAX_BYTES,
    TUS,
    Process,
    Setup,
    TusSite,
    begin_patch,
    create,
    encoded,
    id_of,
    is_locked,
    offset_of,
    patch,
    tus_site,
)
from tympan.errors import NotFound
from tympan.storage.tables import uploads as table

DATA = random.Random(7).randbytes(500_000)  # noqa: S311 (no secret)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TusSite]:
    """Return a server that tests share."""
    with tus_site(tmp_path_factory.mktemp("tus")) as running:
        yield running


def _expire(site: TusSite, address: str) -> None:
    late = update(table).where(table.c.id == id_of(address)).values(expires_at=site.database.now() - 1)
    site.database.write(lambda tx: tx.execute(late))


def _digest(site: TusSite, address: str, folder: Path) -> str:
    """Take the finished upload as a job would and return the SHA-256 of its bytes."""
    target = folder / id_of(address)
    n_bytes, digest = site.uploads.take("default", id_of(address), "job_1", target)
    data = target.read_bytes()
    assert (n_bytes, digest) == (len(data), hashlib.sha256(data).hexdigest())
    site.uploads.release(id_of(address))
    return digest


def _finish(address: str, data: bytes) -> None:
    """Go on as a client does: ask for the offset, send the rest, wait while another request holds the lock."""
    deadline = time.monotonic() + 60
    while (offset := offset_of(address)) < len(data):
        answer = patch(address, offset, data[offset:])
        assert answer.status_code in {204, 409, 423}, answer.text
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


def test_N7_an_upload_in_three_requests_holds_the_same_bytes(site: TusSite, tmp_path: Path) -> None:
    """The plain case: create, append, ask, append, and the bytes are the file's."""
    address = create(site.url, len(DATA), **{"Upload-Metadata": f"filename {encoded('talk.mp3')},private"})
    assert patch(address, 0, DATA[:100_000]).headers["upload-offset"] == "100000"
    told = HTTP.head(address, headers=TUS)
    assert told.headers["upload-length"] == str(len(DATA))
    assert told.headers["upload-metadata"] == f"filename {encoded('talk.mp3')},private"
    assert told.headers["cache-control"] == "no-store"
    assert told.headers["tus-resumable"] == "1.0.0"
    assert told.headers["upload-expires"].endswith(" GMT")
    done = patch(address, 100_000, DATA[100_000:])
    assert (done.status_code, done.headers["upload-offset"]) == (204, str(len(DATA)))
    assert _digest(site, address, tmp_path) == hashlib.sha256(DATA).hexdigest()


def test_N7_options_say_what_is_offered(site: TusSite) -> None:
    """A client that asks first learns version, extensions, checksums and the largest upload; no version is asked."""
    for url in (site.url, f"{site.url}/upl_0123456789ab"):
        answer = HTTP.options(url)
        assert answer.status_code == 204
        assert answer.headers["tus-version"] == "1.0.0"
        assert answer.headers["tus-max-size"] == str(MAX_BYTES)
        assert answer.headers["tus-checksum-algorithm"] == "sha1,sha256,md5"
        extensions = set(answer.headers["tus-extension"].split(","))
        assert extensions == {
            "creation", "creation-with-upload", "creation-defer-length", "expiration", "checksum", "termination",
        }  # fmt: skip


@pytest.mark.parametrize("version", [{}, {"Tus-Resumable": "0.2.2"}])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_N7_another_version_of_the_protocol_is_refused(site: TusSite, method: str, version: dict[str, str]) -> None:
    """412, and the version that is spoken; nothing is made."""
    url = site.url if method == "POST" else f"{site.url}/upl_0123456789ab"
    answer = HTTP.request(method, url, headers=version)
    assert (answer.status_code, answer.headers["tus-version"]) == (412, "1.0.0")


def test_N7_a_wrong_offset_is_refused_and_changes_nothing(site: TusSite) -> None:
    """409, before and behind the offset; the message says where the upload stands."""
    address = create(site.url, 1000)
    assert patch(address, 0, DATA[:500]).status_code == 204
    for offset in (0, 499, 501, 1000):
        answer = patch(address, offset, DATA[:100])
        assert (answer.status_code, _code(answer)) == (409, "upload_offset_mismatch")
        assert "500 bytes" in answer.text
        assert answer.headers["tus-resumable"] == "1.0.0"
    assert offset_of(address) == 500


def test_N7_a_second_request_at_the_same_time_is_refused(site: TusSite) -> None:
    """423 while the first one sends; the first one's bytes arrive, and then the next may write."""
    address = create(site.url, 1000)
    first = begin_patch(address, 0, 600, DATA[:300])
    wait_for(lambda: is_locked(site, address))
    assert patch(address, 0, DATA[:1]).status_code == 423
    assert offset_of(address) == 0
    first.sendall(DATA[300:600])
    assert first.recv(1000).startswith(b"HTTP/1.1 204")
    first.close()
    assert patch(address, 600, DATA[600:1000]).status_code == 204


def test_N7_what_arrived_before_the_caller_vanished_is_kept(site: TusSite, tmp_path: Path) -> None:
    """A connection that breaks costs no byte that the server has seen."""
    address = create(site.url, len(DATA))
    begin_patch(address, 0, len(DATA), DATA[:123_456]).close()
    wait_for(lambda: offset_of(address) == 123_456)
    _finish(address, DATA)
    assert _digest(site, address, tmp_path) == hashlib.sha256(DATA).hexdigest()


def test_N7_what_arrived_before_a_long_pause_is_kept(tmp_path: Path) -> None:
    """A caller who falls silent is let go with 408, and its bytes stay."""
    with tus_site(tmp_path, Setup(idle_s=1.0)) as site:
        address = create(site.url, 1000)
        silent = begin_patch(address, 0, 1000, DATA[:400])
        assert silent.recv(1000).startswith(b"HTTP/1.1 408")
        silent.close()
        assert offset_of(address) == 400
        assert patch(address, 400, DATA[400:1000]).status_code == 204


@pytest.mark.alone
def test_N7_the_lock_is_held_as_long_as_the_request_lasts(tmp_path: Path) -> None:
    """A slow request that lasts longer than its lease extends it, and nobody takes the upload over."""
    with tus_site(tmp_path, Setup(lock_s=1.5)) as site:
        address = create(site.url, 1000)
        slow = begin_patch(address, 0, 1000, DATA[:100])
        wait_for(lambda: is_locked(site, address))
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert patch(address, 0, DATA[:1]).status_code == 423
            time.sleep(0.1)
        slow.sendall(DATA[100:1000])
        assert slow.recv(1000).startswith(b"HTTP/1.1 204")
        slow.close()


@pytest.mark.parametrize("point", ["upload.part", "upload.commit"])
@pytest.mark.parametrize("nth", [1, 2])
def test_N7_a_server_killed_at_a_commit_loses_only_what_was_not_acknowledged(
    tmp_path: Path, point: str, nth: int
) -> None:
    """``kill -9`` beside the commit: the offset tells what is stored, and the client goes on from there."""
    setup, data = Setup(lock_s=1.0), DATA * 3
    with Process(tmp_path, setup, f"{point}:crash:{nth}") as server:
        address = create(server.url, len(data))
        with pytest.raises(httpx.TransportError):
            patch(address, 0, data)
        assert server.wait() == -9
    with Process(tmp_path, setup) as server:
        address = f"{server.url}/{id_of(address)}"
        stored = offset_of(address)
        # The first part was on the books when the second failed.
        assert (stored >= setup.part_bytes) == (nth == 2)
        assert stored < len(data)
        _finish(address, data)
    with tus_site(tmp_path, setup) as site:
        assert _digest(site, address, tmp_path) == hashlib.sha256(data).hexdigest()
        assert not list(site.blobs.list("uploads/"))


def test_N7_a_server_killed_in_the_middle_of_a_body_keeps_the_parts_before(tmp_path: Path) -> None:
    """One long request is stored in parts, so a crash costs less than a part of it."""
    setup = Setup(lock_s=1.0, part_bytes=100_000)
    with Process(tmp_path, setup) as server:
        address = create(server.url, len(DATA))
        sending = begin_patch(address, 0, len(DATA), DATA[:350_000])
        wait_for(lambda: offset_of(address) >= 200_000)
        server.kill()
        sending.close()
    with Process(tmp_path, setup) as server:
        address = f"{server.url}/{id_of(address)}"
        assert 200_000 <= offset_of(address) <= 350_000
        _finish(address, DATA)
    with tus_site(tmp_path, setup) as site:
        assert _digest(site, address, tmp_path) == hashlib.sha256(DATA).hexdigest()


_CUTS = st.lists(st.tuples(st.integers(0, 60_000), st.integers(0, 60_000)), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(cuts=_CUTS)
def test_N7_random_cuts_never_change_a_byte(site: TusSite, cuts: list[tuple[int, int]]) -> None:
    """Requests that announce more than they send, and vanish: the finished upload is the file, by SHA-256."""
    _cut(site, cuts)


@pytest.mark.long
@settings(max_examples=1000, deadline=None)
@given(cuts=_CUTS)
def test_N7_a_thousand_random_cuts(site: TusSite, cuts: list[tuple[int, int]]) -> None:
    """The same, for longer."""
    _cut(site, cuts)


def _cut(site: TusSite, cuts: list[tuple[int, int]]) -> None:
    data = DATA[:60_000]
    address = create(site.url, len(data))
    for announced, sent in cuts:
        offset = offset_of(address)
        rest = data[offset : offset + max(announced, sent)]
        begin_patch(address, offset, len(rest), rest[:sent]).close()
    _finish(address, data)
    # A request that was still on its way may hold the lock of a finished upload for a moment.
    target = site.services.staging / "cut"
    wait_for(lambda: _free(address))
    assert site.uploads.take("default", id_of(address), "job_1", target)[1] == hashlib.sha256(data).hexdigest()
    site.uploads.release(id_of(address))


def _free(address: str) -> bool:
    return patch(address, offset_of(address), b"").status_code == 204


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "md5"])
def test_N7_a_checksum_is_checked_and_a_bad_one_keeps_nothing(site: TusSite, algorithm: str) -> None:
    """460, the offset stays, and the same bytes with the right digest are taken."""
    address = create(site.url, 400_000)
    right, wrong = (
        base64.b64encode(hashlib.new(algorithm, part).digest()).decode() for part in (DATA[:400_000], DATA[1:])
    )
    refused = patch(address, 0, DATA[:400_000], **{"Upload-Checksum": f"{algorithm} {wrong}"})
    assert (refused.status_code, _code(refused)) == (460, "checksum_mismatch")
    assert offset_of(address) == 0
    assert not list(site.blobs.list(f"uploads/{id_of(address)}/"))
    assert patch(address, 0, DATA[:400_000], **{"Upload-Checksum": f"{algorithm} {right}"}).status_code == 204


def test_N7_a_body_with_a_checksum_that_breaks_off_keeps_nothing(site: TusSite) -> None:
    """What cannot be checked is not kept."""
    address = create(site.url, 400_000)
    digest = base64.b64encode(hashlib.sha1(DATA[:400_000], usedforsecurity=False).digest()).decode()
    url = httpx.URL(address)
    with socket.create_connection((url.host, url.port or 80)) as connection:
        lines = [f"PATCH {url.path} HTTP/1.1", "Host: x", "Content-Length: 400000", "Upload-Offset: 0"]
        lines += [f"{name}: {value}" for name, value in BYTES.items()] + [f"Upload-Checksum: sha1 {digest}"]
        connection.sendall("\r\n".join([*lines, "", ""]).encode() + DATA[:300_000])
        wait_for(lambda: is_locked(site, address))
    wait_for(lambda: patch(address, 0, b"").status_code == 204)
    assert offset_of(address) == 0


@pytest.mark.parametrize("value", ["crc32 AAAA", "sha1", "sha1 !!!", "sha1 AAAA", "", "sha256"])
def test_N7_a_checksum_that_cannot_be_read_is_refused(site: TusSite, value: str) -> None:
    """400 for algorithms that are not offered and for what is no digest."""
    address = create(site.url, 100)
    answer = patch(address, 0, DATA[:100], **{"Upload-Checksum": value})
    assert (answer.status_code, _code(answer), offset_of(address)) == (400, "invalid_request", 0)


def test_N7_an_expired_upload_answers_410_also_when_it_has_been_swept(site: TusSite) -> None:
    """Whoever comes back too late learns why the upload is not there; its bytes are gone with the sweep."""
    address = create(site.url, 1000)
    assert patch(address, 0, DATA[:500]).status_code == 204
    _expire(site, address)
    for swept in (False, True):
        assert HTTP.head(address, headers=TUS).status_code == 410
        assert HTTP.delete(address, headers=TUS).status_code == 410
        answer = patch(address, 500, DATA[500:1000])
        assert (answer.status_code, _code(answer)) == (410, "upload_expired")
        if not swept:
            assert site.uploads.sweep_expired() >= 1
            assert not list(site.blobs.list(f"uploads/{id_of(address)}/"))


def test_N7_a_deferred_length_is_told_later_and_then_holds(site: TusSite, tmp_path: Path) -> None:
    """The length may come with any request, once; another one is refused."""
    made = HTTP.post(site.url, headers={**TUS, "Upload-Defer-Length": "1"})
    address = str(httpx.URL(site.url).join(made.headers["location"]))
    assert patch(address, 0, DATA[:1000]).status_code == 204
    told = HTTP.head(address, headers=TUS)
    assert told.headers["upload-defer-length"] == "1"
    assert "upload-length" not in told.headers
    assert patch(address, 1000, b"", **{"Upload-Length": "999"}).status_code == 400
    assert patch(address, 1000, b"", **{"Upload-Length": str(MAX_BYTES + 1)}).status_code == 413
    assert patch(address, 1000, DATA[1000:1500], **{"Upload-Length": "2000"}).status_code == 204
    assert patch(address, 1500, b"", **{"Upload-Length": "2001"}).status_code == 400
    assert patch(address, 1500, DATA[1500:2000], **{"Upload-Length": "2000"}).status_code == 204
    assert _digest(site, address, tmp_path) == hashlib.sha256(DATA[:2000]).hexdigest()


def test_N7_creation_brings_the_first_bytes(site: TusSite, tmp_path: Path) -> None:
    """A short file is there after one request."""
    headers = {**BYTES, "Upload-Length": "1000"}
    made = HTTP.post(site.url, headers=headers, content=DATA[:600])
    assert (made.status_code, made.headers["upload-offset"]) == (201, "600")
    address = str(httpx.URL(site.url).join(made.headers["location"]))
    assert patch(address, 600, DATA[600:1000]).status_code == 204
    assert _digest(site, address, tmp_path) == hashlib.sha256(DATA[:1000]).hexdigest()


def test_N7_a_creation_whose_bytes_are_refused_leaves_nothing(site: TusSite) -> None:
    """Nobody learns the address of such an upload, so it is removed."""
    before = len(list(site.blobs.list("uploads/")))
    answer = HTTP.post(site.url, headers={**BYTES, "Upload-Length": "100"}, content=DATA[:101])
    assert (answer.status_code, _code(answer)) == (413, "too_large")
    bad = {"Upload-Checksum": f"sha1 {base64.b64encode(bytes(20)).decode()}"}
    assert HTTP.post(site.url, headers={**BYTES, "Upload-Length": "99", **bad}, content=DATA[:99]).status_code == 460
    assert HTTP.post(site.url, headers={**TUS, "Upload-Length": "9"}, content=b"x").status_code == 400
    assert len(list(site.blobs.list("uploads/"))) == before


@pytest.mark.parametrize("suffix", ["", "/"])
def test_N7_the_location_is_right_behind_a_proxy_that_adds_a_path(site: TusSite, suffix: str) -> None:
    """The address is relative to the one that was asked, with and without a slash at its end."""
    made = HTTP.post(site.url + suffix, headers={**TUS, "Upload-Length": "10"})
    outside = httpx.URL("https://speech.example/stt/v1/uploads" + suffix).join(made.headers["location"])
    assert outside.path.startswith("/stt/v1/uploads/upl_")
    assert patch(str(httpx.URL(site.url + suffix).join(made.headers["location"])), 0, DATA[:10]).status_code == 204


def test_N7_a_terminated_upload_is_gone_even_while_somebody_writes(site: TusSite) -> None:
    """204, then 404; the request that was writing leaves no bytes behind."""
    address = create(site.url, 400_000)
    writing = begin_patch(address, 0, 400_000, DATA[:250_000])
    wait_for(lambda: offset_of(address) > 0)
    assert HTTP.delete(address, headers=TUS).status_code == 204
    writing.sendall(DATA[250_000:400_000])
    assert writing.recv(1000).startswith(b"HTTP/1.1 404")
    writing.close()
    for answer in (HTTP.head(address, headers=TUS), HTTP.delete(address, headers=TUS), patch(address, 0, b"x")):
        assert answer.status_code == 404
    assert not list(site.blobs.list(f"uploads/{id_of(address)}/"))


def test_N7_more_bytes_than_allowed_are_refused(site: TusSite) -> None:
    """413 for a length above the limit and for a body beyond the length, announced or not."""
    too_much = HTTP.post(site.url, headers={**TUS, "Upload-Length": str(MAX_BYTES + 1)})
    assert (too_much.status_code, _code(too_much)) == (413, "too_large")
    address = create(site.url, 1000)
    assert patch(address, 0, DATA[:1001]).status_code == 413
    chunked = HTTP.patch(address, content=iter([DATA[:900], DATA[900:1100]]), headers={**BYTES, "Upload-Offset": "0"})
    assert (chunked.status_code, _code(chunked)) == (413, "too_large")
    assert offset_of(address) == 0
    made = HTTP.post(site.url, headers={**TUS, "Upload-Defer-Length": "1"})
    deferred = str(httpx.URL(site.url).join(made.headers["location"]))
    assert patch(deferred, 0, bytes(MAX_BYTES + 1)).status_code == 413


def test_N7_a_chunked_body_is_taken(site: TusSite) -> None:
    """A body need not announce its length."""
    address = create(site.url, 1000)
    chunks = iter([DATA[:300], DATA[300:1000]])
    answer = HTTP.patch(address, content=chunks, headers={**BYTES, "Upload-Offset": "0"})
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, "1000")


@pytest.mark.parametrize(
    "value",
    [
        "name !!!", "a YQ==,a YQ==", ",", "a YQ==,,b YQ==", "\u00e9 YQ==", "n" * 65 + " YQ==", "a YQ== YQ==",
        ",".join(f"k{n}" for n in range(33)), "big " + "YWFh" * 2100,
    ],
)  # fmt: skip
def test_N7_metadata_that_is_wrong_or_too_much_is_refused(site: TusSite, value: str) -> None:
    """400 for names twice, no base64, no ASCII, too many pairs and too many bytes."""
    headers = {**TUS, "Upload-Length": "10"}
    raw = [(name.encode(), text.encode()) for name, text in [*headers.items(), ("Upload-Metadata", value)]]
    answer = HTTP.post(site.url, headers=raw)
    assert (answer.status_code, _code(answer)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Upload-Length": "-1"}, {"Upload-Length": "ten"}, {"Upload-Length": "9" * 19}, {"Upload-Length": "\u0661"},
        {"Upload-Length": "5", "Upload-Defer-Length": "1"}, {"Upload-Defer-Length": "2"},
        {"Upload-Length": "5", "Content-Encoding": "gzip"},
    ],
)  # fmt: skip
def test_N7_a_creation_without_a_proper_length_is_refused(site: TusSite, headers: dict[str, str]) -> None:
    """400 for no length, two lengths, and what is no number."""
    raw = [(name.encode(), text.encode()) for name, text in {**TUS, **headers}.items()]
    answer = HTTP.post(site.url, headers=raw)
    assert (answer.status_code, _code(answer)) == (400, "invalid_request")


@pytest.mark.parametrize("n_digits", [8, 15, 16, 18])
def test_N7_a_creation_of_any_number_above_the_limit_is_too_large(site: TusSite, n_digits: int) -> None:
    """However many digits it has: it is a number of bytes."""
    answer = HTTP.post(site.url, headers={**TUS, "Upload-Length": "9" * n_digits})
    assert (answer.status_code, _code(answer)) == (413, "too_large")


def test_N7_a_post_can_stand_for_the_methods_that_some_networks_block(site: TusSite) -> None:
    """The protocol asks for it: X-HTTP-Method-Override says what the request is."""
    address, stands_for = create(site.url, 6), "X-HTTP-Method-Override"
    sent = HTTP.post(address, content=b"abcdef", headers={**BYTES, "Upload-Offset": "0", stands_for: "PATCH"})
    assert (sent.status_code, sent.headers["upload-offset"], sent.headers["tus-resumable"]) == (204, "6", "1.0.0")
    assert HTTP.post(address, headers={**TUS, stands_for: "head"}).headers["upload-offset"] == "6"
    assert HTTP.post(address, headers={stands_for: "DELETE"}).status_code == 412
    for headers in ({}, {stands_for: "PUT"}):
        answer = HTTP.post(address, headers={**TUS, **headers})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, stands_for)
    assert offset_of(address) == 6
    assert HTTP.post(address, headers={**TUS, stands_for: "DELETE"}).status_code == 204
    assert HTTP.head(address, headers=TUS).status_code == 404


def test_N7_a_body_of_another_type_or_without_an_offset_is_refused(site: TusSite) -> None:
    """400, and nothing is kept."""
    address = create(site.url, 10)
    for headers in ({"Content-Type": "audio/mpeg"}, {"Upload-Offset": "-1"}, {"Upload-Offset": ""}):
        assert patch(address, 0, DATA[:10], **headers).status_code == 400
    assert HTTP.patch(address, content=b"x", headers=BYTES).status_code == 400
    assert offset_of(address) == 0


def test_N7_the_upload_of_another_tenant_does_not_exist(site: TusSite) -> None:
    """404 on every method, as for an id that never was."""
    foreign = site.uploads.create("other", 10, {})
    for name in (foreign.id, "upl_0123456789ab", "no-such-id", "%00"):
        address = f"{site.url}/{name}"
        answers = [HTTP.head(address, headers=TUS), patch(address, 0, b"x"), HTTP.delete(address, headers=TUS)]
        assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert site.uploads.get("other", foreign.id).offset_bytes == 0


def test_N7_an_empty_file_is_complete_at_once(site: TusSite) -> None:
    """No request with bytes follows a length of zero."""
    address = create(site.url, 0)
    found = site.uploads.get("default", id_of(address))
    assert (found.n_bytes, found.offset_bytes) == (0, 0)


def test_N7_no_more_requests_write_than_there_are_places(tmp_path: Path) -> None:
    """503 with Retry-After when all places are taken; the next is let in when one has ended."""
    with tus_site(tmp_path, Setup(max_writers=1)) as site:
        first, second = create(site.url, 10), create(site.url, 10)
        sending = begin_patch(first, 0, 10, DATA[:5])
        wait_for(lambda: patch(second, 0, b"").status_code == 503)
        refused = patch(second, 0, DATA[:10])
        assert int(refused.headers["retry-after"]) >= 1
        sending.close()
        wait_for(lambda: patch(second, 0, DATA[:10]).status_code == 204)


def test_N7_a_full_disk_is_said_before_the_body_is_read(
    site: TusSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """507 for creations and for bodies; nothing is kept, and it works when there is room again."""
    address = create(site.url, 1000)
    with monkeypatch.context() as full:
        full.setattr(site.blobs, "free_bytes", lambda: 500)
        assert HTTP.post(site.url, headers={**TUS, "Upload-Length": "1000"}).status_code == 507
        sending = begin_patch(address, 0, 1000, b"")
        assert sending.recv(1000).startswith(b"HTTP/1.1 507")
        sending.close()
    assert patch(address, 0, DATA[:1000]).status_code == 204


def test_N7_what_fitted_on_a_disk_that_became_full_is_kept(site: TusSite, monkeypatch: pytest.MonkeyPatch) -> None:
    """507, the offset tells what is stored, and the rest follows when there is room."""
    address, write = create(site.url, 1_500_000), Path.open
    data = DATA * 3
    blocks = []

    def fill(self: Path, mode: str = "r", *args: object, **kwargs: object) -> object:
        if mode == "ab":
            blocks.append(self)
            if len(blocks) > 1:
                with write(self, "ab") as file:
                    file.write(b"half a block")
                raise OSError(28, "No space left on device")
        return write(self, mode, *args, **kwargs)  # type: ignore[call-overload]

    with monkeypatch.context() as full:
        full.setattr(Path, "open", fill)
        assert patch(address, 0, data).status_code == 507
    stored = offset_of(address)
    assert 0 < stored < len(data)
    _finish(address, data)
    assert _digest(site, address, site.services.staging) == hashlib.sha256(data).hexdigest()


def test_N7_a_server_that_stops_keeps_what_arrived(tmp_path: Path) -> None:
    """Requests that are sending when the server drains are ended, and what they sent is stored."""
    with tus_site(tmp_path) as site:
        address = create(site.url, 1000)
        sending = begin_patch(address, 0, 1000, DATA[:300])
        wait_for(lambda: is_locked(site, address))
        site.services.house.draining = True
        assert HTTP.post(site.url, headers={**TUS, "Upload-Length": "10"}).status_code == 503
        site.services.house.evict()
        assert sending.recv(1000).startswith(b"HTTP/1.1 503")
        sending.close()
        site.services.house.draining = site.services.house.evicting = False
        assert patch(address, 300, DATA[300:1000]).status_code == 204


def test_N7_a_request_whose_lock_was_taken_over_stores_nothing(site: TusSite) -> None:
    """A request that lost its lock is told so; the upload goes on for the one that has it."""
    address = create(site.url, 1000)
    sending = begin_patch(address, 0, 1000, DATA[:300])
    wait_for(lambda: is_locked(site, address))
    thief = update(table).where(table.c.id == id_of(address)).values(lock_owner="somebody")
    site.database.write(lambda tx: tx.execute(thief))
    sending.sendall(DATA[300:1000])
    assert sending.recv(1000).startswith(b"HTTP/1.1 423")
    sending.close()
    assert offset_of(address) == 0


def test_N7_a_used_upload_is_gone(site: TusSite, tmp_path: Path) -> None:
    """Once the job has its own copy, the upload is not found; while the job takes it, nobody appends or removes."""
    address = create(site.url, 10)
    assert patch(address, 0, DATA[:10]).status_code == 204
    site.uploads.take("default", id_of(address), "job_1", tmp_path / "media")
    for answer in (patch(address, 10, b""), HTTP.delete(address, headers=TUS)):
        assert (answer.status_code, _code(answer)) == (409, "conflict")
    site.uploads.release(id_of(address))
    with pytest.raises(NotFound):
        site.uploads.get("default", id_of(address))
