"""Object storage that misbehaves: errors, silence, damage. What is read is what was stored, or an error."""

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.http_faults import Answer, Fault, FaultyHttp, cut_short, damage, header, silent, status
from tests.contract.test_blobs import LONG, PIECE_BYTES, fetched, keys
from tests.servers.s3 import S3Bucket
from tympan import telemetry
from tympan.errors import MediaChanged, StorageUnavailable
from tympan.storage.object_blobs import ObjectBlobs
from tympan.storage.objects import Bucket, RequestLimits

PATIENT = RequestLimits(connect_s=20, stall_s=20, request_s=60, pause_s=0.01, max_pause_s=0.05)
QUICK = RequestLimits(connect_s=1, stall_s=2, request_s=5, pause_s=0.01, max_pause_s=0.05)


@pytest.fixture
def faulty(s3_bucket: S3Bucket) -> Iterator[FaultyHttp]:
    """Return a proxy before the service of S3."""
    with FaultyHttp(s3_bucket.server.port) as proxy:
        yield proxy


@pytest.fixture
def shaky(s3_bucket: S3Bucket, faulty: FaultyHttp) -> ObjectBlobs:
    """Return a store behind that proxy, to which no answer of a busy machine is too late."""
    return ObjectBlobs(Bucket(s3_bucket.url(endpoint=faulty.endpoint), PATIENT), PIECE_BYTES)


@pytest.fixture
def hasty(s3_bucket: S3Bucket, faulty: FaultyHttp) -> ObjectBlobs:
    """Return a store behind that proxy that does not wait for long."""
    return ObjectBlobs(Bucket(s3_bucket.url(endpoint=faulty.endpoint), QUICK), PIECE_BYTES)


@pytest.mark.parametrize(
    "fault",
    [
        lambda: status(503, "PUT", 2),
        lambda: status(500, "GET", 2),
        lambda: header("PUT", "ETag", '"00000000000000000000000000000000"'),
        lambda: header("PUT", "ETag", '"no-digest"'),
        lambda: damage(1),
        lambda: cut_short(2),
    ],
    ids=["503-on-put", "500-on-get", "wrong-etag", "other-etag", "damage", "cut"],
)
def test_E6_passing_faults_are_survived(
    shaky: ObjectBlobs, faulty: FaultyHttp, tmp_path: Path, fault: Callable[[], Fault]
) -> None:
    """Errors, damage and broken connections that pass do not reach the caller; no wrong byte does either."""
    faulty.fault = fault()
    shaky.put("jobs/1/media", LONG)
    faulty.fault = fault()
    assert fetched(shaky, "jobs/1/media", tmp_path) == LONG
    assert [(info.key, info.n_bytes) for info in shaky.list("")] == [("jobs/1/media", len(LONG))]


def test_E6_a_silence_that_passes_is_survived(hasty: ObjectBlobs, faulty: FaultyHttp, tmp_path: Path) -> None:
    """Who says nothing for longer than the limit is asked again."""
    faulty.fault = silent(2.5, 1)
    hasty.put("jobs/1/media", LONG)
    assert faulty.methods.count("PUT") > 1
    faulty.fault = silent(2.5, 1)
    assert fetched(hasty, "jobs/1/media", tmp_path) == LONG


def test_E6_tries_are_few(shaky: ObjectBlobs, faulty: FaultyHttp, s3_bucket: S3Bucket) -> None:
    """A service that keeps failing is asked five times; nothing is visible then, and no multipart upload is left."""
    faulty.fault = status(503, "PUT", 1_000)
    with pytest.raises(StorageUnavailable) as caught:
        shaky.put("jobs/1/media", LONG)
    assert caught.value.retryable
    assert faulty.methods.count("PUT") == 5
    faulty.fault = None
    assert shaky.size("jobs/1/media") is None
    assert s3_bucket.multiparts() == 0
    assert s3_bucket.names() == []


def test_G6_when_most_requests_fail_they_are_not_tried_again(
    faulty: FaultyHttp, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shares a budget has spent it: one try each; the log of metrics says so, and success is not in the way."""
    bucket = Bucket(s3_bucket.url(endpoint=faulty.endpoint), QUICK)
    while bucket._write_budget.allows_retry():
        pass
    before = telemetry.RETRIES_FORGONE._value.get()
    faulty.fault = status(503, "PUT", 5)
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            bucket.put("x", b"x", {})
    assert faulty.methods == ["PUT"] * 5
    assert telemetry.RETRIES_FORGONE._value.get() - before == 5
    bucket.put("x", b"x", {})
    assert s3_bucket.names() == ["x"]


def test_E6_refused_credentials_are_not_tried_again(shaky: ObjectBlobs, faulty: FaultyHttp) -> None:
    """A refusal is a refusal the first time."""
    faulty.fault = status(403, "PUT", 1_000)
    with pytest.raises(StorageUnavailable, match="Object storage"):
        shaky.put("x", b"x")
    assert faulty.methods.count("PUT") == 1


def test_E6_damage_that_stays_is_never_served(shaky: ObjectBlobs, faulty: FaultyHttp, tmp_path: Path) -> None:
    """Bytes that differ from those stored end in an error after two readings, with nothing left behind."""
    shaky.put("jobs/1/media", LONG)
    faulty.fault = damage(1_000)
    with pytest.raises(MediaChanged), shaky.fetch("jobs/1/media", tmp_path):
        pytest.fail("this is not what was stored")
    assert not list(tmp_path.iterdir())


def test_E6_a_piece_damaged_on_its_way_is_not_accepted(shaky: ObjectBlobs, faulty: FaultyHttp) -> None:
    """When neither the tag nor the bytes read back agree with what was sent, the file does not become visible."""

    def wrong(method: str, path: str, answer: Answer) -> Answer | None:
        return (
            header("PUT", "ETag", '"1"')(method, path, answer) if method == "PUT" else damage(1)(method, path, answer)
        )

    faulty.fault = wrong
    with pytest.raises(StorageUnavailable, match="does not hold what was sent"):
        shaky.put("jobs/1/media", LONG)
    faulty.fault = None
    assert shaky.size("jobs/1/media") is None


def test_E6_a_broken_listing_goes_on_where_it_was(shaky: ObjectBlobs, s3_bucket: S3Bucket, faulty: FaultyHttp) -> None:
    """Pages that fail are asked for again; no key is lost or told twice."""
    wanted = [f"jobs/{number:04d}" for number in range(1_010)]
    for key in wanted:
        s3_bucket.put(key, b"")
    pages = 0

    def second_page(method: str, path: str, answer: Answer) -> Answer:
        nonlocal pages
        pages += "list-type" in path
        return (503, [], b"") if pages in {2, 3} else answer

    faulty.fault = second_page
    assert keys(shaky) == wanted


def test_a_dead_service_is_unavailable_soon(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """Nobody listening, and somebody who listens and says nothing, both end in an error within the limits."""
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        for port in (1, mute.getsockname()[1]):
            store = ObjectBlobs(Bucket(s3_bucket.url(endpoint=f"http://127.0.0.1:{port}"), QUICK))
            started = time.monotonic()
            with pytest.raises(StorageUnavailable):
                store.check()
            with pytest.raises(StorageUnavailable), store.fetch("x", tmp_path):
                pytest.fail("there is no service")
            assert time.monotonic() - started < 60
