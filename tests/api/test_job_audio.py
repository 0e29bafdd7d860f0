"""The audio of jobs over HTTP: whole, in ranges, by ticket, as a picture; what hostile bytes can do."""

import hashlib
import io
import os
import threading
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from tests.api.doors_support import Guarded, guarded
from tests.api.job_support import HTTP, TENANT, get, job_site, pcm, post, refusal, submit
from tests.api.support import Site, site, wait_for
from tests.jobs_support import PcmFiles
from tests.servers.s3 import S3Bucket
from tympan.access.tokens import Token
from tympan.api.access import entrance
from tympan.api.deps import Limits
from tympan.api.jobs import audio as audio_routes
from tympan.domain import NewJob, Options, Samples, Source, SourceKind
from tympan.jobs.recordings import media_type_of
from tympan.jobs.sealing import Sealer
from tympan.jobs.service import new_id
from tympan.jobs.tickets import LIFETIME_S, Tickets
from tympan.jobs.waveforms import Waveforms
from tympan.storage.object_blobs import ObjectBlobs
from tympan.storage.objects import Bucket

SOUND = b"fLaC" + os.urandom(300_000)


def wav(seconds: float = 1.0, value: int = 8_000) -> bytes:
    """Return a WAV file with one loud moment."""
    file = io.BytesIO()
    samples = np.zeros(round(seconds * 16_000), np.int16)
    samples[len(samples) // 2] = value
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16_000)
        writer.writeframes(samples.tobytes())
    return file.getvalue()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that this file's tests share."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


@pytest.fixture(scope="module")
def path(shop: Site) -> str:
    """Return where the audio of a job is, which nobody erases."""
    return f"/v1/jobs/{submit(shop, SOUND)['id']}/audio"


def test_the_audio_comes_back_as_it_was_sent(shop: Site, path: str) -> None:
    """With its length and a tag; HEAD tells the same and sends nothing."""
    whole, head = get(shop, path), HTTP.head(shop.url + path)
    assert whole.content == SOUND
    for answer in (whole, head):
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "audio/flac"
        assert answer.headers["content-length"] == str(len(SOUND))
        assert answer.headers["accept-ranges"] == "bytes"
        assert answer.headers["etag"] == whole.headers["etag"]
    assert head.content == b""


def test_what_somebody_sent_is_no_page(shop: Site, path: str) -> None:
    """Not sniffed, not kept, shown in no frame, and nothing in it runs; on parts and errors as well."""
    page = submit(shop, b"<html><script>alert(1)</script>" * 10)["id"]
    for answer in (
        get(shop, path),
        get(shop, path, headers={"range": "bytes=0-9"}),
        get(shop, path, headers={"range": "bytes=999999999-"}),
        get(shop, f"/v1/jobs/{page}/audio"),
    ):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "sandbox; default-src 'none'; frame-ancestors 'none'"
        assert answer.headers["content-disposition"] == "inline"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
    assert get(shop, f"/v1/jobs/{page}/audio").headers["content-type"] == "application/octet-stream"


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"OggS", "audio/ogg"),
        (b"ID3\4", "audio/mpeg"),
        (b"\xff\xfb\x90", "audio/mpeg"),
        (b"\xff\xe3\x18", "audio/mpeg"),
        (b"\xff\xf1\x50", "audio/aac"),
        (b"\0\0\0\x20ftypM4A \0\0", "audio/mp4"),
        (b"\0\0\0\x20ftypisom\0\0", "video/mp4"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm", "video/webm"),
        (b"\x1a\x45\xdf\xa3\x9fB\x82\x88matroska", "video/x-matroska"),
        (b"<!DOCTYPE html>", "application/octet-stream"),
        (b"<svg xmlns=", "application/octet-stream"),
        (b"%PDF-1.7", "application/octet-stream"),
        (b"\xff", "application/octet-stream"),
        (b"", "application/octet-stream"),
    ],
)
def test_the_type_is_one_of_a_few_by_the_first_bytes(head: bytes, kind: str) -> None:
    """Whatever the file was called, and whatever type was told when it was sent."""
    assert media_type_of(head) == kind


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, len(SOUND)),
        ("bytes=-7", len(SOUND) - 7, len(SOUND)),
        ("bytes=262000-262500", 262_000, 262_501),
        ("bytes=5-99999999", 5, len(SOUND)),
    ],
)
def test_a_range_is_a_part(shop: Site, path: str, asked: str, start: int, end: int) -> None:
    """206 with its place; also over the seam of what is read at a time."""
    answer = get(shop, path, headers={"range": asked})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {start}-{end - 1}/{len(SOUND)}"
    assert answer.headers["content-length"] == str(end - start)
    assert answer.content == SOUND[start:end]


def test_a_range_of_nothing_is_416(shop: Site, path: str) -> None:
    """With the length, so that a player can ask again."""
    for asked in (f"bytes={len(SOUND)}-", "bytes=-0", "bytes=400000-,500000-"):
        answer = get(shop, path, headers={"range": asked})
        assert refusal(answer) == (416, "range_not_satisfiable", "Range")
        assert answer.headers["content-range"] == f"bytes */{len(SOUND)}"


def test_what_is_no_single_range_gets_the_whole(shop: Site, path: str) -> None:
    """Several ranges, nonsense, a range of another version; and HEAD knows none."""
    etag = get(shop, path, headers={"range": "bytes=0-0"}).headers["etag"]
    for headers in (
        {"range": "bytes=0-1,5-6"},
        {"range": "bytes=9-5"},
        {"range": "lines=1-2"},
        {"range": "bytes=0-1", "if-range": '"other"'},
    ):
        answer = get(shop, path, headers=headers)
        assert (answer.status_code, len(answer.content)) == (200, len(SOUND))
    assert get(shop, path, headers={"range": "bytes=0-1", "if-range": etag}).status_code == 206
    assert HTTP.head(shop.url + path, headers={"range": "bytes=0-1"}).status_code == 200
    known = get(shop, path, headers={"if-none-match": etag, "range": "bytes=0-1"})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", etag)


def test_audio_that_is_not_there_is_404(shop: Site) -> None:
    """A job that nobody has; one whose audio has gone, or was never fetched: each says what to do."""
    made = submit(shop, SOUND)["id"]
    new = NewJob(new_id("job"), Source(SourceKind.URL, "https://a.example/x.mp3"), Options())
    fetched = shop.shop.service.submit(new)[0]
    shop.shop.blobs.delete_prefix(f"jobs/{made}/")
    for job_id, code, said in (
        ("job_000000000000", "not_found", "no such job"),
        (made, "media_missing", "no longer stored"),
        (fetched.id, "media_missing", "not been fetched yet"),
    ):
        place = f"/v1/jobs/{job_id}"
        for answer in (get(shop, f"{place}/audio"), post(shop, f"{place}/audio-link")):
            assert refusal(answer)[:2] == (404, code)
            assert said in answer.json()["error"]["message"]
        assert HTTP.head(f"{shop.url}{place}/audio").status_code == 404
    shop.shop.service.cancel(TENANT, fetched.id)
    assert "no longer stored" in get(shop, f"/v1/jobs/{fetched.id}/audio").text


def test_audio_that_was_fetched_is_kept_like_an_upload(shop: Site) -> None:
    """A job whose audio lies elsewhere can be listened to once it has run."""
    file = shop.shop.folder / "lies-here.raw"
    file.write_bytes(pcm(1))
    made = shop.shop.service.submit(NewJob(new_id("job"), Source(SourceKind.OBJECT, f"file://{file}"), Options()))[0]
    shop.shop.work_off()
    answer = get(shop, f"/v1/jobs/{made.id}/audio")
    assert (answer.status_code, answer.content) == (200, pcm(1))


def test_unknown_parameters_are_refused(shop: Site, path: str) -> None:
    """By name, as everywhere."""
    assert refusal(get(shop, f"{path}?tikcet=x")) == (400, "invalid_request", "tikcet")
    assert refusal(post(shop, path.replace("audio", "audio-link") + "?x=1"))[2] == "x"


def test_what_is_erased_while_it_is_sent_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection breaks off before the end: nobody takes a part for the whole, and nothing is read on."""
    monkeypatch.setattr(audio_routes, "PIECE_BYTES", 8 << 10)
    with job_site(tmp_path) as running:
        made = submit(running, os.urandom(64 << 20))["id"]
        with httpx.stream("GET", f"{running.url}/v1/jobs/{made}/audio", timeout=60, trust_env=False) as answer:
            pieces = answer.iter_raw(8 << 10)
            next(pieces)
            running.shop.service.erase(TENANT, made)
            with pytest.raises(httpx.RemoteProtocolError):
                list(pieces)
        wait_for(lambda: running.app.state.streams.count == 0)


def test_a_player_who_leaves_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file is not read to its end for nobody; players who stop reading hold little."""
    with job_site(tmp_path) as running:
        made = submit(running, os.urandom(64 << 20))["id"]
        reads: list[int] = []
        find = running.shop.service.recordings.find

        def counted(tenant: str, job_id: str) -> object:
            found = find(tenant, job_id)
            read = found.file.read

            def noted(start: int, n_bytes: int) -> bytes:
                reads.append(n_bytes)
                return read(start, n_bytes)

            monkeypatch.setattr(found.file, "read", noted)
            return found

        monkeypatch.setattr(running.shop.service.recordings, "find", counted)
        with httpx.stream("GET", f"{running.url}/v1/jobs/{made}/audio", timeout=60, trust_env=False) as answer:
            next(answer.iter_raw(1000))
        wait_for(lambda: running.app.state.streams.count == 0)
        assert max(reads) <= audio_routes.PIECE_BYTES
        assert sum(reads) < 32 << 20


def test_E_audio_comes_from_object_storage_the_same_way(tmp_path: Path, s3_bucket: S3Bucket) -> None:
    """Whole and in ranges, over the seams of the objects that a file is stored in."""
    with job_site(tmp_path) as running:
        blobs = ObjectBlobs(Bucket(s3_bucket.url("here")), 100_000)
        running.shop.service.recordings._blobs = blobs
        running.shop.service._blobs = blobs
        made = submit(running, SOUND)["id"]
        place = f"/v1/jobs/{made}/audio"
        assert get(running, place).content == SOUND
        for start, end in ((0, 1), (99_990, 100_010), (150_000, 300_004), (299_999, 300_003)):
            answer = get(running, place, headers={"range": f"bytes={start}-{end - 1}"})
            assert (answer.status_code, answer.content) == (206, SOUND[start:end])
        blobs.delete_prefix(f"jobs/{made}/")
        assert refusal(get(running, place))[:2] == (404, "media_missing")


# ------------------------------------------------------------------------------------------------------- tickets


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path_factory.mktemp("house")) as opened:
        yield opened


@pytest.fixture(scope="module")
def acme(house: Guarded) -> Token:
    """Return the key of a tenant."""
    return house.give(tenant="acme")


def _job(house: Guarded, key: Token, data: bytes = SOUND) -> str:
    return str(house.ask("POST", "/v1/jobs", key, files={"file": ("a.flac", data)}).json()["id"])


def _link(house: Guarded, key: Token, job_id: str) -> str:
    answer = house.ask("POST", f"/v1/jobs/{job_id}/audio-link", key)
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "audio_link"
    return str(answer.json()["url"])


def test_a_ticket_opens_the_audio_of_its_job_without_a_key(house: Guarded, acme: Token) -> None:
    """With GET and HEAD, in ranges; its end is told."""
    job = _job(house, acme)
    url = _link(house, acme, job)
    told = house.ask("POST", f"/v1/jobs/{job}/audio-link", acme).json()
    assert abs(told["expires_at"] - time.time() - LIFETIME_S) < 60
    assert house.ask("GET", url).content == SOUND
    assert house.ask("HEAD", url).headers["content-length"] == str(len(SOUND))
    assert house.ask("GET", url, headers={"range": "bytes=1-3"}).content == SOUND[1:4]
    assert house.ask("GET", url, house.give(tenant="acme")).status_code == 200


def test_a_ticket_opens_nothing_else(house: Guarded, acme: Token) -> None:
    """No other job, route or method; a key that may not is not helped by it."""
    first, second = _job(house, acme), _job(house, acme)
    ticket = urlsplit(_link(house, acme, first)).query
    for method, place in (
        ("GET", f"/v1/jobs/{second}/audio"),
        ("GET", f"/v1/jobs/{first}"),
        ("GET", f"/v1/jobs/{first}/result"),
        ("GET", f"/v1/jobs/{first}/waveform"),
        ("GET", f"/v1/jobs/{first}/edited"),
        ("GET", f"/v1/jobs/{first}/audio/"),
        ("GET", f"/v1/jobs/{first}/audio%0A"),
        ("GET", "/v1/jobs"),
        ("POST", f"/v1/jobs/{first}/audio"),
        ("DELETE", f"/v1/jobs/{first}"),
        ("DELETE", f"/v1/jobs/{first}/audio"),
        ("POST", f"/v1/jobs/{first}/audio-link"),
    ):
        answer = house.ask(method, f"{place}?{ticket}")
        assert answer.status_code == 401, (method, place, answer.text)
    assert house.ask("GET", f"/v1/jobs/{first}/audio?{ticket}", house.give(scopes=("metrics",))).status_code == 403
    assert house.ask("GET", f"/v1/jobs/{first}/audio?{ticket}", house.give(tenant="other")).status_code == 404
    assert house.ask("GET", f"/v1/jobs/{first}/audio?{ticket}&{ticket}").status_code == 401


def test_a_ticket_that_is_none_is_refused(house: Guarded, acme: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bent, ended, sealed by somebody else: 401 that says how to get another."""
    job = _job(house, acme)
    ticket = parse_qs(urlsplit(_link(house, acme, job)).query)["ticket"][0]
    ended = Tickets(Sealer.from_file(house.settings.data_dir / "secret.key"), lambda: 1_000.0)
    theirs = Tickets(Sealer(["x" * 40]))
    for bad in (
        ticket[:-5] + "AAAAA", "nonsense", "", ended.issue("acme", job)[0], theirs.issue("acme", job)[0], "x" * 5_000
    ):  # fmt: skip
        answer = house.ask("GET", f"/v1/jobs/{job}/audio", params={"ticket": bad})
        assert answer.status_code == 401, bad
        assert ("audio-link" in answer.json()["error"]["message"]) is bool(bad)
    mine = Tickets(Sealer.from_file(house.settings.data_dir / "secret.key"))
    assert house.ask("GET", f"/v1/jobs/{job}/audio", params={"ticket": mine.issue("acme", job)[0]}).status_code == 200


def test_K1_a_ticket_is_given_for_ones_own_alone(house: Guarded, acme: Token) -> None:
    """Another tenant's job is none; and a tenant cannot be written into a ticket."""
    job, other = _job(house, acme), house.give(tenant="other")
    assert house.ask("POST", f"/v1/jobs/{job}/audio-link", other).status_code == 404
    mine = Tickets(Sealer.from_file(house.settings.data_dir / "secret.key"))
    for_other = mine.issue("other", job)[0]
    assert house.ask("GET", f"/v1/jobs/{job}/audio", params={"ticket": for_other}).status_code == 404


def test_a_key_that_may_read_may_have_a_ticket(house: Guarded, acme: Token) -> None:
    """It changes nothing, so no more is asked for than for reading."""
    job = _job(house, acme)
    assert house.ask("POST", f"/v1/jobs/{job}/audio-link", house.give("acme", ("jobs:read",))).status_code == 200
    assert house.ask("POST", f"/v1/jobs/{job}/audio-link", house.give("acme", ("jobs:write",))).status_code == 403
    assert house.ask("POST", f"/v1/jobs/{job}/audio-link").status_code == 401


def test_a_ticket_dies_with_its_job(house: Guarded, acme: Token) -> None:
    """What is erased is gone for who holds a ticket as well."""
    job = _job(house, acme)
    url = _link(house, acme, job)
    assert house.ask("DELETE", f"/v1/jobs/{job}", acme).status_code == 204
    assert house.ask("GET", url).status_code == 404


def test_S1_no_ticket_is_logged_or_written_down(house: Guarded, acme: Token, log: io.StringIO) -> None:
    """Neither where it is good nor where it is not, nor in the audit log."""
    job = _job(house, acme)
    url = _link(house, acme, job)
    ticket = urlsplit(url).query.removeprefix("ticket=")[:60]
    for method, address in (("GET", url), ("HEAD", url), ("DELETE", url), ("GET", url.replace("/audio", ""))):
        house.ask(method, address)
    assert "/v1/jobs/{job_id}/audio" in log.getvalue()
    assert ticket not in log.getvalue()
    assert ticket not in str(house.audit.page())
    assert ticket not in str(house.ask("GET", "/metrics", house.give(scopes=("metrics",))).text)


def test_where_no_key_is_needed_a_link_works_too(shop: Site) -> None:
    """So that a page need not care."""
    made = submit(shop, SOUND)["id"]
    url = post(shop, f"/v1/jobs/{made}/audio-link").json()["url"]
    assert get(shop, url).content == SOUND
    assert entrance.TICKET in url


# ------------------------------------------------------------------------------------------------------ waveforms


def test_a_waveform_is_a_picture_of_the_sound(house: Guarded, acme: Token) -> None:
    """By the real decoder, in a sandbox: length, step and peaks; the second time from what is kept."""
    job = _job(house, acme, wav(10.0))
    answer = house.ask("GET", f"/v1/jobs/{job}/waveform?points=100", acme)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["object"], found["duration_s"], found["step_s"]) == ("waveform", 10.0, 0.1)
    assert len(found["peaks"]) == 100
    assert [at for at, peak in enumerate(found["peaks"]) if peak] == [50]
    assert found["peaks"][50] == round(8_000 * 255 / 32_768)
    assert house.ask("GET", f"/v1/jobs/{job}/waveform", acme).json()["step_s"] == 0.01
    assert {blob.key for blob in house.stores.blobs.list(f"jobs/{job}/")} == {
        f"jobs/{job}/media",
        f"jobs/{job}/waveform",
    }
    assert house.ask("GET", f"/v1/jobs/{job}/waveform", house.give(tenant="other")).status_code == 404
    assert house.ask("DELETE", f"/v1/jobs/{job}", acme).status_code == 204
    assert list(house.stores.blobs.list(f"jobs/{job}/")) == []


def test_what_is_no_audio_has_no_waveform(house: Guarded, acme: Token) -> None:
    """The decoder's own words; nothing is kept."""
    job = _job(house, acme, b"<html>" * 100)
    answer = house.ask("GET", f"/v1/jobs/{job}/waveform", acme)
    assert refusal(answer)[:2] == (400, "unsupported_media")
    hostile = _job(house, acme, b"ffconcat version 1.0\nfile secret.wav\n")
    assert house.ask("GET", f"/v1/jobs/{hostile}/waveform", acme).status_code == 400
    assert [blob.key for blob in house.stores.blobs.list(f"jobs/{job}/")] == [f"jobs/{job}/media"]


def test_so_many_points_and_no_others(house: Guarded, acme: Token) -> None:
    """From 100 to 20,000."""
    job = _job(house, acme, wav(2.0))
    for points in ("99", "20001", "x", "100.5"):
        answer = house.ask("GET", f"/v1/jobs/{job}/waveform?points={points}", acme)
        assert refusal(answer) == (400, "invalid_request", "points")
    assert len(house.ask("GET", f"/v1/jobs/{job}/waveform?points=20000", acme).json()["peaks"]) == 200


class Endless(PcmFiles):
    """A decoder that goes on until nobody wants it."""

    def __init__(self) -> None:
        """Begin at rest."""
        self.begun, self.ended = threading.Event(), threading.Event()

    def stream(self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool]) -> Iterator[Samples]:  # type: ignore[override]
        """Yield silence."""
        self.begun.set()
        try:
            while True:
                yield np.zeros(1_000, np.int16)
        finally:
            self.ended.set()


def test_a_caller_who_leaves_ends_the_making(tmp_path: Path) -> None:
    """The decoder does not go on for nobody."""
    with site(tmp_path, Limits()) as running:
        decoder = Endless()
        waveforms = Waveforms(running.shop.service.recordings, running.shop.blobs, tmp_path, decoder, 1e9)  # type: ignore[arg-type]
        object.__setattr__(running.services.desks, "waveforms", waveforms)
        made = submit(running, pcm(1))["id"]
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{running.url}/v1/jobs/{made}/waveform", timeout=2, trust_env=False)
        assert decoder.begun.is_set()
        assert decoder.ended.wait(30)
        waveforms.close()


def test_without_a_desk_a_waveform_is_refused_by_name(shop: Site, path: str) -> None:
    """A server that was put together without one says so."""
    assert refusal(get(shop, path.replace("audio", "waveform")))[:2] == (503, "unavailable")


def test_K8_the_audio_and_its_picture_are_gone_together(house: Guarded, acme: Token) -> None:
    """Once the janitor has been there, both are told to be missing."""
    job = _job(house, acme, wav(1.0))
    assert house.ask("GET", f"/v1/jobs/{job}/waveform", acme).status_code == 200
    house.stores.blobs.delete_prefix(f"jobs/{job}/")
    house.stores.database.write(lambda tx: tx.execute(text("update jobs set audio_until = null")))
    for what in ("audio", "waveform"):
        assert refusal(house.ask("GET", f"/v1/jobs/{job}/{what}", acme))[:2] == (404, "media_missing")


def test_the_tag_tells_nothing_of_the_disk(shop: Site, path: str) -> None:
    """It is a digest."""
    tag = get(shop, path).headers["etag"].strip('"')
    assert len(tag) == 32
    assert tag != hashlib.sha256(SOUND).hexdigest()[:32]
