"""Stored files: the same promises from a folder and from S3."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers.s3 import S3Bucket
from tympan.errors import (
    ConfigError,
    InsufficientStorage,
    InvalidRequest,
    MediaChanged,
    MediaMissing,
    StorageUnavailable,
    TympanError,
)
from tympan.storage.blobs import BlobStore, LocalBlobs, open_blobs
from tympan.storage.object_blobs import ObjectBlobs
from tympan.storage.objects import Bucket

PIECE_BYTES = 100_000
LONG = os.urandom(PIECE_BYTES * 2 + 4_321)


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Return each kind of store, empty."""
    if request.param == "local":
        return LocalBlobs(tmp_path / "blobs")
    bucket: S3Bucket = request.getfixturevalue("s3_bucket")
    return ObjectBlobs(Bucket(bucket.url("some/prefix")), PIECE_BYTES)


@pytest.fixture
def objects(s3_bucket: S3Bucket) -> ObjectBlobs:
    """Return a store in object storage."""
    return ObjectBlobs(Bucket(s3_bucket.url()), PIECE_BYTES)


def keys(store: BlobStore, prefix: str = "") -> list[str]:
    """Return all keys below a prefix."""
    return [info.key for info in store.list(prefix)]


def fetched(store: BlobStore, key: str, folder: Path) -> bytes:
    """Return the bytes of a file as readers get them."""
    with store.fetch(key, folder) as path:
        return path.read_bytes()


@pytest.mark.parametrize("data", [b"", b"x", LONG[:PIECE_BYTES], LONG], ids=["empty", "one", "a-piece", "long"])
def test_what_is_put_is_read(store: BlobStore, tmp_path: Path, data: bytes) -> None:
    """Files of every length come back byte for byte, from ``read`` and ``fetch``, with their size."""
    store.put("jobs/1/media", data)
    assert store.read("jobs/1/media") == data
    assert fetched(store, "jobs/1/media", tmp_path) == data
    assert store.size("jobs/1/media") == len(data)


def test_adopted_files_move_in(store: BlobStore, tmp_path: Path) -> None:
    """An adopted file is in the store and nowhere else."""
    source = tmp_path / "upload"
    source.write_bytes(LONG)
    store.adopt("jobs/1/media", source)
    assert store.read("jobs/1/media") == LONG
    assert not source.exists()


def test_adopting_what_is_not_there_fails(store: BlobStore, tmp_path: Path) -> None:
    """A file that has vanished is a failure, and nothing is stored."""
    with pytest.raises(StorageUnavailable):
        store.adopt("jobs/1/media", tmp_path / "absent")
    assert store.size("jobs/1/media") is None


def test_missing_files_are_missing(store: BlobStore, tmp_path: Path) -> None:
    """Every way to read an absent file says so; a size of nothing is None; a folder is no file."""
    store.put("jobs/1/media", b"x")
    for key in ("jobs/2/media", "jobs/1", "jobs/1/media/below"):
        with pytest.raises(MediaMissing):
            store.read(key)
        with pytest.raises(MediaMissing), store.fetch(key, tmp_path):
            pytest.fail("there is no such file")
        with pytest.raises(MediaMissing):
            store.copy(key, "jobs/3/media")
        assert store.size(key) is None


def test_a_fetched_download_is_removed(store: BlobStore, tmp_path: Path) -> None:
    """Nothing is left in the folder for downloads, also after an error inside the block."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    store.put("jobs/1/media", LONG)
    fetched(store, "jobs/1/media", folder)
    with pytest.raises(ZeroDivisionError), store.fetch("jobs/1/media", folder) as path:
        assert path.stat().st_size // 0
    assert not list(folder.iterdir())
    assert store.read("jobs/1/media") == LONG


def test_files_are_replaced_whole(store: BlobStore) -> None:
    """The newer file of a key counts, and nothing of the older is left."""
    for data in (LONG, b"short", LONG[::-1], b""):
        store.put("jobs/1/media", data)
        assert store.read("jobs/1/media") == data
        assert [(info.key, info.n_bytes) for info in store.list("")] == [("jobs/1/media", len(data))]


@pytest.mark.parametrize("data", [b"short", LONG], ids=["short", "long"])
def test_copies_are_independent(store: BlobStore, data: bytes) -> None:
    """A copy outlives its original, and a new original does not change it."""
    store.put("a/1/media", data)
    store.put("b/1/media", LONG[::-1])
    store.copy("a/1/media", "b/1/media")
    store.put("a/1/media", b"changed")
    assert store.delete_prefix("a/1/") == 1
    assert store.read("b/1/media") == data
    assert keys(store) == ["b/1/media"]


def test_copy_onto_itself_changes_nothing(store: BlobStore) -> None:
    """A file that is copied to a second place twice is there once."""
    store.put("a/media", b"x")
    store.copy("a/media", "b/media")
    store.copy("a/media", "b/media")
    assert (store.read("b/media"), keys(store)) == (b"x", ["a/media", "b/media"])
    assert store.abort_stale_uploads(-60) == 0


@pytest.mark.parametrize("data", [b"", b"x", LONG[:PIECE_BYTES], LONG], ids=["empty", "one", "a-piece", "long"])
def test_a_file_is_read_in_pieces_from_anywhere(store: BlobStore, data: bytes) -> None:
    """Any part of it, also over the seams of what it is stored in; nothing behind its end."""
    store.put("jobs/1/media", data)
    file = store.open("jobs/1/media")
    assert file.n_bytes == len(data)
    for start in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES - 7, len(data) - 1, len(data)):
        for n_bytes in (0, 1, 10, PIECE_BYTES, len(data) + 1):
            if 0 <= start <= len(data):
                assert file.read(start, n_bytes) == data[start : start + n_bytes], (start, n_bytes)


@pytest.mark.parametrize("data", [b"short", LONG], ids=["short", "long"])
def test_reading_in_pieces_ends_with_the_file(store: BlobStore, data: bytes) -> None:
    """Who reads on when it has been erased gets nothing; who reads on in another file is told, not given a mixture."""
    with pytest.raises(MediaMissing):
        store.open("jobs/1/media")
    store.put("jobs/1/media", data)
    first, same = store.open("jobs/1/media"), store.open("jobs/1/media")
    assert first.read(0, 5) == data[:5]
    assert first.tag == same.tag
    store.put("jobs/1/media", data[::-1] + b"!")
    assert store.open("jobs/1/media").tag != first.tag
    with pytest.raises((MediaChanged, MediaMissing)):
        first.read(len(data) - 5, 5)
    again = store.open("jobs/1/media")
    store.delete_prefix("jobs/1/")
    with pytest.raises(MediaMissing):
        again.read(0, 5)


def test_a_prefix_is_a_folder(store: BlobStore) -> None:
    """Deleting one job leaves the one whose id starts alike; what is deleted is counted, the rest is listed."""
    for key in ("jobs/1/media", "jobs/1/sections/0", "jobs/11/media", "uploads/1/0"):
        store.put(key, LONG if key.endswith("media") else b"x")
    assert keys(store, "jobs/1/") == ["jobs/1/media", "jobs/1/sections/0"]
    assert store.delete_prefix("jobs/1/") == 2
    assert store.delete_prefix("jobs/1/") == 0
    assert store.delete_prefix("never/was/") == 0
    assert keys(store) == ["jobs/11/media", "uploads/1/0"]
    assert store.read("jobs/11/media") == LONG


def test_listings_say_when_and_how_long(store: BlobStore) -> None:
    """Length and time of storing are in the listing."""
    store.put("jobs/1/media", LONG)
    (info,) = store.list("jobs/")
    assert info.n_bytes == len(LONG)
    assert abs(info.modified_s - time.time()) < 10


def test_long_listings_are_complete(store: BlobStore) -> None:
    """A listing of more than one page holds every key once, in order."""
    wanted = [f"jobs/{number:04d}/media" for number in range(1_020)]
    for key in wanted:
        if isinstance(store, LocalBlobs):
            store._folder.joinpath(key).parent.mkdir(parents=True)
            store._folder.joinpath(key).touch()
        else:
            assert isinstance(store, ObjectBlobs)
            store._bucket._store.put(key, b"")
    assert keys(store) == wanted


BAD_KEYS = [
    "",
    "/etc/passwd",
    "a/../b",
    "..",
    "a//b",
    "a/",
    "./a",
    "a\0b",
    "a b",
    ".staging/x",
    "a/.hidden",
    "ä",
    "a" * 600,
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_keys_of_another_shape_are_refused(store: BlobStore, tmp_path: Path, key: str) -> None:
    """No key leads out of the store, into its own files, or means two things."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    store.put("ok", b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b"x"),
        lambda: store.adopt(key, source),
        lambda: store.read(key),
        lambda: store.fetch(key, tmp_path).__enter__(),
        lambda: store.size(key),
        lambda: store.copy("ok", key),
        lambda: store.copy(key, "ok"),
        lambda: store.delete_prefix(key + "/"),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest):
            call()
    assert source.exists()
    assert keys(store) == ["ok"]


def test_a_prefix_without_its_slash_is_refused(store: BlobStore) -> None:
    """``jobs/1`` could mean ``jobs/11`` as well."""
    with pytest.raises(InvalidRequest, match="does not end"):
        store.delete_prefix("jobs/1")
    with pytest.raises(InvalidRequest):
        store.delete_prefix("")


def test_many_threads_share_a_store(store: BlobStore) -> None:
    """Writers of one key, and deleters of its folder, never leave half a file or an unexpected error."""
    contents = [bytes([number]) * (PIECE_BYTES // 2) for number in range(4)]
    failures: list[BaseException] = []

    def work(data: bytes) -> None:
        try:
            for _ in range(8):
                store.put("jobs/1/media", data)
                with contextlib.suppress(MediaMissing):
                    assert store.read("jobs/1/media") in contents
                store.delete_prefix("jobs/1/")
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=work, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_health_and_room(store: BlobStore) -> None:
    """A working store is healthy; only a disk has an end."""
    store.check()
    room = store.free_bytes()
    assert (room is None) == isinstance(store, ObjectBlobs)
    assert room is None or room > 1_000_000


def test_N8_unfinished_uploads_are_aborted(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a killed process left of an upload is found and deleted, finished files and fresh uploads are not."""
    store.put("jobs/1/media", LONG)
    _leave_unfinished(store, monkeypatch)
    assert store.size("jobs/2/media") is None
    assert store.abort_stale_uploads(60) == 0
    assert store.abort_stale_uploads(-60) == 1
    assert store.abort_stale_uploads(-60) == 0
    assert store.read("jobs/1/media") == LONG


def _leave_unfinished(store: BlobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def die(point: str) -> None:
        if point == "blob.fsync":
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("tympan.storage.local_blobs.reach", die)
        patch.setattr("tympan.storage.object_blobs.reach", die)
        with pytest.raises(Killed):
            store.put("jobs/2/media", LONG)


def test_N8_no_multipart_upload_is_ever_begun(objects: ObjectBlobs, s3_bucket: S3Bucket) -> None:
    """A long file leaves no multipart upload in the bucket, neither while it is sent nor afterwards."""
    objects.put("jobs/1/media", LONG)
    assert s3_bucket.multiparts() == 0
    assert len(s3_bucket.names()) == 4
    objects.delete_prefix("jobs/1/")
    assert s3_bucket.names() == []


# ------------------------------------------------------------------------------------------------ a folder alone


def test_files_and_folders_are_private(tmp_path: Path) -> None:
    """Other users of the machine cannot read what is stored."""
    store = LocalBlobs(tmp_path / "blobs")
    store.put("jobs/1/media", b"x")
    with store.fetch("jobs/1/media", tmp_path) as path:
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_E1_a_full_disk_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A full disk or quota is its own error, leaves nothing behind, and is gone when there is room again."""
    store = LocalBlobs(tmp_path / "blobs")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InsufficientStorage):
            store.put("media", b"x")
        with pytest.raises(StorageUnavailable):
            store.check()
    assert keys(store) == []
    assert store.abort_stale_uploads(-60) == 0
    store.check()


def test_a_failing_disk_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk while a file is adopted is retryable, and the file stays where it was."""
    store, source = LocalBlobs(tmp_path / "blobs"), tmp_path / "source"
    source.write_bytes(b"x")
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(errno.EIO, "broken")))
    with pytest.raises(StorageUnavailable, match="broken"):
        store.adopt("media", source)
    assert source.exists()
    assert store.size("media") is None


def test_adopting_from_another_disk_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a rename is impossible the bytes are copied, made durable, and the source is removed."""
    store, source = LocalBlobs(tmp_path / "blobs"), tmp_path / "source"
    source.write_bytes(LONG)
    rename = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self == source:
            raise OSError(errno.EXDEV, "other disk")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    store.adopt("jobs/1/media", source)
    assert store.read("jobs/1/media") == LONG
    assert not source.exists()
    assert store.abort_stale_uploads(-60) == 0


def test_an_upload_killed_before_its_name_is_invisible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the bytes on disk and the name lies the moment that counts."""
    store = LocalBlobs(tmp_path / "blobs")
    store.put("jobs/1/media", b"old")
    monkeypatch.setenv("TYMPAN_FAULT", "blob.fsync:raise")
    with pytest.raises(Exception, match=r"blob\.fsync"):
        store.put("jobs/1/media", b"new")
    assert store.read("jobs/1/media") == b"old"


# ------------------------------------------------------------------------------------------------ what is opened


def test_addresses_choose_the_store(tmp_path: Path) -> None:
    """No address and ``file:`` mean a folder, others object storage; nonsense is refused with a remedy."""
    for url, folder in ((None, "default"), ("file:", "default"), (f"file://{tmp_path}/my%20own", "my own")):
        open_blobs(url, tmp_path / "default").put("x", b"x")
        assert (tmp_path / folder / "x").exists()
    assert isinstance(open_blobs("s3://bucket/prefix?region=eu-west-1", tmp_path), ObjectBlobs)
    for url in ("ftp://host/x", "s3:///x", "s3://bucket?secret=1", "file://host/x", "file:relative", "bucket"):
        with pytest.raises(ConfigError) as caught:
            open_blobs(url, tmp_path)
        assert caught.value.remedy


def test_a_bucket_that_does_not_exist_is_no_missing_file(s3_bucket: S3Bucket, tmp_path: Path) -> None:
    """A wrong bucket is a failure of the storage in every call; jobs are not told that their audio is gone."""
    url = s3_bucket.url().replace(s3_bucket.name, "other-bucket")
    store = open_blobs(url, tmp_path)
    source = tmp_path / "source"
    source.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        store.check,
        lambda: store.put("x", b"x"),
        lambda: store.adopt("x", source),
        lambda: store.read("x"),
        lambda: store.size("x"),
        lambda: keys(store),
        lambda: store.delete_prefix("x/"),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailable):
            call()
    assert source.exists()


def test_E7_objects_of_others_and_truncated_ones_are_not_served(
    objects: ObjectBlobs, s3_bucket: S3Bucket, tmp_path: Path
) -> None:
    """An object that was replaced, cut or emptied behind our back is ``MediaChanged``, which nobody tries again."""
    objects.put("short", b"x" * 1000)
    objects.put("long", LONG)
    s3_bucket.put("short", b"x" * 999)
    piece = next(name for name in s3_bucket.names() if name.startswith(".long."))
    s3_bucket.put(piece, LONG[:10])
    for key in ("short", "long"):
        with pytest.raises(MediaChanged) as caught, objects.fetch(key, tmp_path):
            pytest.fail("this is not what was stored")
        assert not caught.value.retryable
    assert not list(tmp_path.glob("blob-*"))
    assert isinstance(caught.value, TympanError)
