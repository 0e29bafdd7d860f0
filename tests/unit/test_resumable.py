"""Resumable uploads without HTTP: rows, locks, parts and jobs, in both databases and both kinds of blob store."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import insert, select, update
from starlette.datastructures import Headers

from tests.api.support import wait_for
from tests.servers.postgres import Database as PostgresDatabase
from tests.servers.s3 import S3Bucket
from tympan.api.tus import headers as tus_headers
from tympan.errors import (
    Conflict,
    InsufficientStorage,
    InvalidRequest,
    MediaChanged,
    MediaMissing,
    NotFound,
    Overloaded,
    StorageUnavailable,
    TooLarge,
    TympanError,
    UploadExpired,
    UploadLocked,
    UploadOffsetMismatch,
)
from tympan.jobs.resumable import Append, ResumableUploads, UploadRules, Writing
from tympan.storage import migrate, uploads
from tympan.storage.blobs import BlobStore, LocalBlobs, open_blobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.tables import jobs, upload_parts
from tympan.storage.tables import uploads as table
from tympan.storage.uploads import Part, UploadStore

DATA = os.urandom(1000)
ME = "default"


class Shop:
    """A database, a blob store and the uploads over them."""

    def __init__(self, folder: Path, database: Database, blobs: BlobStore, rules: UploadRules) -> None:
        """Put them together in ``folder``."""
        self.folder, self.database, self.blobs = folder, database, blobs
        self.store = UploadStore(database, ttl_s=600.0, lock_s=5.0)
        self.uploads = ResumableUploads(self.store, blobs, rules)

    def append(self, upload_id: str, offset: int, data: bytes) -> Writing:
        """Add one part, as a request does."""
        writing = self.uploads.begin(ME, upload_id, Append(offset))
        self.add(writing, data)
        return writing

    def add(self, writing: Writing, data: bytes, *, last: bool = True) -> None:
        """Store ``data`` as the next part."""
        source = self.folder / f"in-{time.monotonic_ns()}"
        source.write_bytes(data)
        self.uploads.add(writing, source, len(data), last=last)

    def finished(self, data: bytes = DATA) -> str:
        """Return the id of a finished upload in two parts."""
        upload_id = self.uploads.create(ME, len(data), {}).id
        self.append(upload_id, 0, data[:300])
        self.append(upload_id, 300, data[300:])
        return upload_id

    def change(self, upload_id: str, **values: object) -> None:
        """Change the row behind everybody's back; times are seconds from now."""
        moved = {name: self.database.now() + v if name.endswith(("_at", "_until")) else v for name, v in values.items()}
        query = update(table).where(table.c.id == upload_id).values(moved)
        self.database.write(lambda tx: tx.execute(query))

    def add_job(self, job_id: str) -> None:
        """Store a job of this id."""
        texts = ("source_location", "options", "output", "metadata")
        values = {"id": job_id, "tenant": ME, "state": "queued", "lane": 1, "priority": 0, "source_kind": "upload"}
        row = insert(jobs).values(**values, **dict.fromkeys(texts, "{}"), created_at=self.database.now())
        self.database.write(lambda tx: tx.execute(row))

    def keys(self, prefix: str = "uploads/") -> list[str]:
        """Return the keys of all stored blobs."""
        return [blob.key for blob in self.blobs.list(prefix)]

    def rows(self) -> int:
        """Return how many parts are on the books."""
        return self.database.read(lambda tx: len(tx.execute(select(upload_parts)).all()))


@pytest.fixture(params=["sqlite", "postgres and s3"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return uploads over each database and each kind of blob store."""
    blobs: BlobStore = LocalBlobs(tmp_path / "blobs")
    url = sqlite_url(tmp_path / "t.db")
    if request.param != "sqlite":
        postgres: PostgresDatabase = request.getfixturevalue("postgres")
        bucket: S3Bucket = request.getfixturevalue("s3_bucket")
        url, blobs = postgres.url, open_blobs(bucket.url(), tmp_path)
    yield from _open(tmp_path, url, blobs)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[Shop]:
    """Return uploads over SQLite and files."""
    yield from _open(tmp_path, sqlite_url(tmp_path / "t.db"), LocalBlobs(tmp_path / "blobs"))


def _open(folder: Path, url: str, blobs: BlobStore) -> Iterator[Shop]:
    database = Database(url)
    migrate.upgrade(database)
    shop = Shop(folder, database, blobs, UploadRules(10_000, orphan_s=0.0))
    yield shop
    shop.uploads.close()
    database.close()


def test_N7_a_job_takes_the_bytes_that_came(shop: Shop) -> None:
    """Parts are joined in their order; the digest and the length are the file's; released, nothing is left."""
    upload_id = shop.finished()
    target = shop.folder / "media"
    assert shop.uploads.take(ME, upload_id, "job_1", target) == (1000, hashlib.sha256(DATA).hexdigest())
    assert target.read_bytes() == DATA
    for _ in range(2):
        shop.uploads.release(upload_id)
        assert (shop.keys(), shop.rows()) == ([], 0)
    with pytest.raises(NotFound):
        shop.uploads.get(ME, upload_id)


def test_N7_an_upload_serves_one_job(shop: Shop) -> None:
    """The same job may take it twice, another one not: not while the first is on its way, and not after."""
    upload_id = shop.finished()
    for _ in range(2):
        shop.uploads.take(ME, upload_id, "job_1", shop.folder / "media")
    with pytest.raises(UploadLocked):
        shop.uploads.take(ME, upload_id, "job_2", shop.folder / "other")
    shop.add_job("job_1")
    for until in (60, -1):
        shop.change(upload_id, lock_until=until)
        with pytest.raises(Conflict, match="used for a job"):
            shop.uploads.take(ME, upload_id, "job_2", shop.folder / "other")
    assert not (shop.folder / "other").exists()
    assert shop.uploads.sweep_expired() == 1  # The job has its own copy.
    assert (shop.keys(), shop.rows()) == ([], 0)


def test_N7_an_upload_whose_job_never_came_to_be_is_free_again(shop: Shop) -> None:
    """Given back at once, or when the claim of a server that died has run out."""
    upload_id = shop.finished()
    shop.uploads.take(ME, upload_id, "job_1", shop.folder / "media")
    shop.uploads.give_back(upload_id, "job_of_another")
    with pytest.raises(UploadLocked):
        shop.uploads.take(ME, upload_id, "job_2", shop.folder / "media")
    shop.uploads.give_back(upload_id, "job_1")
    shop.uploads.take(ME, upload_id, "job_2", shop.folder / "media")
    shop.change(upload_id, lock_until=-1)
    assert shop.uploads.take(ME, upload_id, "job_3", shop.folder / "media")[0] == 1000


def test_N7_only_finished_uploads_are_taken(shop: Shop) -> None:
    """Conflict for one with bytes or a length to come; nothing is marked."""
    short = shop.uploads.create(ME, 1000, {}).id
    shop.append(short, 0, DATA[:999])
    for upload_id in (short, shop.uploads.create(ME, None, {}).id):
        with pytest.raises(Conflict, match="not finished"):
            shop.uploads.take(ME, upload_id, "job_1", shop.folder / "media")
        assert shop.uploads.get(ME, upload_id).job_id is None


def test_N7_bytes_that_the_store_lost_are_noticed(local: Shop) -> None:
    """A part that is gone or has another length fails the job, and the upload stays free."""
    upload_id = local.finished()
    first = min(local.keys())
    path = local.folder / "blobs" / first
    path.write_bytes(DATA[:299])
    with pytest.raises(MediaChanged):
        local.uploads.take(ME, upload_id, "job_1", local.folder / "media")
    path.unlink()
    with pytest.raises(MediaMissing):
        local.uploads.take(ME, upload_id, "job_1", local.folder / "media")
    assert not (local.folder / "media").exists()
    assert local.uploads.get(ME, upload_id).job_id is None


def test_N7_a_gap_on_the_books_is_noticed(local: Shop) -> None:
    """Parts that do not follow one another, or do not reach the end, are never joined."""
    upload_id = local.finished()
    query = upload_parts.delete().where(upload_parts.c.offset_bytes == 300)
    local.database.write(lambda tx: tx.execute(query))
    with pytest.raises(MediaChanged):
        local.uploads.take(ME, upload_id, "job_1", local.folder / "media")
    with pytest.raises(StorageUnavailable):
        local.uploads.take(ME, upload_id, "job_1", local.folder / "no" / "folder")


def test_N7_a_lock_keeps_others_out_until_it_runs_out(shop: Shop) -> None:
    """The second request is refused while the lock lives, and takes over when it has not been extended."""
    upload_id = shop.uploads.create(ME, 1000, {}).id
    first = shop.uploads.begin(ME, upload_id, Append(0))
    with pytest.raises(UploadLocked):
        shop.uploads.begin(ME, upload_id, Append(0))
    with pytest.raises(UploadLocked):
        shop.append(upload_id, 0, b"x")
    assert shop.uploads.hold(first)
    shop.change(upload_id, lock_until=-1)
    second = shop.uploads.begin(ME, upload_id, Append(0))
    assert not shop.uploads.hold(first)
    shop.uploads.end(first)  # Gives back nothing: it is not the first one's any more.
    assert shop.uploads.hold(second)


def test_N7_a_request_that_woke_up_too_late_changes_nothing(shop: Shop) -> None:
    """Its part is refused, and the bytes of the request that took over are not written over."""
    upload_id = shop.uploads.create(ME, 1000, {}).id
    frozen = shop.uploads.begin(ME, upload_id, Append(0))
    shop.change(upload_id, lock_until=-1)
    shop.append(upload_id, 0, DATA[:300])
    with pytest.raises(UploadLocked):
        shop.add(frozen, bytes(300))
    shop.append(upload_id, 300, DATA[300:])
    shop.uploads.take(ME, upload_id, "job_1", shop.folder / "media")
    assert (shop.folder / "media").read_bytes() == DATA
    shop.uploads.release(upload_id)
    assert shop.keys() == []  # What the late request left is gone, too.


def test_N7_a_lock_that_ran_out_and_nobody_took_is_still_good(shop: Shop) -> None:
    """A pause of the database does not cost the bytes that came meanwhile."""
    upload_id = shop.uploads.create(ME, 1000, {}).id
    writing = shop.uploads.begin(ME, upload_id, Append(0))
    shop.change(upload_id, lock_until=-1)
    shop.add(writing, DATA[:10])
    assert shop.uploads.get(ME, upload_id).offset_bytes == 10


def test_N7_a_part_that_comes_after_the_end_leaves_nothing(shop: Shop) -> None:
    """An upload that was removed or has expired takes no part, and keeps no blob."""
    removed, expired = (shop.uploads.create(ME, 1000, {}).id for _ in range(2))
    late = [shop.uploads.begin(ME, upload_id, Append(0)) for upload_id in (removed, expired)]
    shop.uploads.terminate(ME, removed)
    with pytest.raises(NotFound):
        shop.add(late[0], DATA)
    assert shop.keys() == []
    shop.change(expired, expires_at=-1)
    assert not shop.uploads.hold(late[1])
    with pytest.raises(UploadExpired):
        shop.add(late[1], DATA)
    shop.change(expired, lock_until=-1)
    assert shop.uploads.sweep_expired() == 1
    assert (shop.keys(), shop.rows()) == ([], 0)


def test_N7_several_parts_of_one_request(shop: Shop) -> None:
    """A request may store as it goes; only the last part gives the lock back."""
    upload_id = shop.uploads.create(ME, 1000, {}).id
    writing = shop.uploads.begin(ME, upload_id, Append(0))
    shop.add(writing, DATA[:400], last=False)
    assert (writing.offset_bytes, writing.room_bytes, writing.held) == (400, 600, True)
    with pytest.raises(UploadLocked):
        shop.uploads.begin(ME, upload_id, Append(400))
    shop.add(writing, DATA[400:])
    assert not writing.held
    found = shop.uploads.get(ME, upload_id)
    assert found.offset_bytes == found.n_bytes
    shop.uploads.end(shop.uploads.begin(ME, upload_id, Append(1000)))


def test_N7_a_commit_whose_answer_was_lost_is_not_repeated(shop: Shop) -> None:
    """The same part a second time changes nothing, as after a connection that broke at the commit."""
    upload_id = shop.uploads.create(ME, 1000, {}).id
    writing = shop.uploads.begin(ME, upload_id, Append(0))
    part = Part(0, 10, f"uploads/{upload_id}/0-{writing.token}")
    for _ in range(2):
        shop.store.add_part(upload_id, writing.token, part, last=False)
    assert (shop.rows(), shop.uploads.get(ME, upload_id).offset_bytes) == (1, 10)


def test_N7_expired_uploads_are_swept_and_remembered_for_a_day(shop: Shop) -> None:
    """Bytes go at once, the row a day later; one that is being written to waits for its lock."""
    upload_id = shop.finished()
    shop.change(upload_id, expires_at=-1, lock_until=60, lock_owner="somebody")
    assert shop.uploads.sweep_expired() == 0
    assert len(shop.keys()) == 2
    shop.change(upload_id, lock_until=-1)
    assert [shop.uploads.sweep_expired() for _ in range(2)] == [1, 0]
    assert (shop.keys(), shop.rows()) == ([], 0)
    with pytest.raises(UploadExpired):
        shop.uploads.get(ME, upload_id)
    shop.change(upload_id, expires_at=-86_401.0)
    shop.uploads.sweep_expired()
    with pytest.raises(NotFound):
        shop.uploads.get(ME, upload_id)


def test_N7_orphans_are_swept_when_they_are_old(shop: Shop) -> None:
    """Blobs of uploads that are not on the books go; those of living uploads and new ones stay."""
    living = shop.finished()
    for number in range(3):
        shop.blobs.put(f"uploads/upl_gone/{number}", b"x")
    shop.blobs.put("jobs/job_1/media", b"x")
    patient = ResumableUploads(shop.store, shop.blobs, UploadRules(10_000))
    assert patient.sweep_orphans() == 0
    patient.close()
    # Object storage tells times in whole seconds, so it takes one until they are old.
    wait_for(lambda: shop.uploads.sweep_orphans() and not shop.keys("uploads/upl_gone/"))
    assert shop.uploads.sweep_orphans() == 0
    assert len(shop.keys(f"uploads/{living}/")) == len(shop.keys()) == 2
    assert shop.keys("jobs/") == ["jobs/job_1/media"]


def test_N7_a_store_that_cannot_delete_does_not_stop_the_caller(local: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload is off the books; its blobs are orphans that the sweep finds when the store is back."""
    upload_id = local.finished()

    def refuse(_prefix: str) -> int:
        raise StorageUnavailable

    with monkeypatch.context() as broken:
        broken.setattr(local.blobs, "delete_prefix", refuse)
        local.uploads.terminate(ME, upload_id)
    assert len(local.keys()) == 2
    wait_for(lambda: local.uploads.sweep_orphans() == 2)


def test_N7_every_query_names_the_tenant(shop: Shop) -> None:
    """For another tenant the upload does not exist, whatever is asked of it."""
    upload_id = shop.finished()
    other = "other"
    asks = (
        lambda: shop.uploads.get(other, upload_id),
        lambda: shop.uploads.begin(other, upload_id, Append(1000)),
        lambda: shop.uploads.terminate(other, upload_id),
        lambda: shop.uploads.take(other, upload_id, "job_1", shop.folder / "media"),
        lambda: shop.uploads.get(ME, "upl_\0" + "0" * 12),
    )
    for ask in asks:
        with pytest.raises(NotFound):
            ask()
    assert shop.uploads.get(ME, upload_id).job_id is None


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        (Append(299), UploadOffsetMismatch),
        (Append(301), UploadOffsetMismatch),
        (Append(300, 999), InvalidRequest),
        (Append(300, 10_001), TooLarge),
    ],
)
def test_N7_what_cannot_be_appended_takes_no_lock(local: Shop, wanted: Append, error: type[TympanError]) -> None:
    """A refused request leaves the upload free for the next."""
    upload_id = local.uploads.create(ME, 1000, {}).id
    local.append(upload_id, 0, DATA[:300])
    with pytest.raises(error):
        local.uploads.begin(ME, upload_id, wanted)
    local.append(upload_id, 300, DATA[300:])


def test_N7_a_deferred_length_cannot_be_shorter_than_what_is_there(local: Shop) -> None:
    """The length that is told later holds from then on."""
    upload_id = local.uploads.create(ME, None, {"filename": "YQ=="}).id
    local.append(upload_id, 0, DATA[:300])
    with pytest.raises(InvalidRequest, match="longer already"):
        local.uploads.begin(ME, upload_id, Append(300, 299))
    local.uploads.end(local.uploads.begin(ME, upload_id, Append(300, 300)))
    found = local.uploads.get(ME, upload_id)
    assert (found.offset_bytes, found.n_bytes, dict(found.metadata)) == (300, 300, {"filename": "YQ=="})


def test_N7_counts_are_bounded(local: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """So many open uploads, so many parts, and then a typed refusal; ended ones do not count."""
    monkeypatch.setattr(uploads, "MAX_OPEN", 2)
    monkeypatch.setattr(uploads, "MAX_PARTS", 2)
    upload_id = local.uploads.create(ME, 1000, {}).id
    gone = local.uploads.create(ME, 1000, {}).id
    with pytest.raises(Overloaded):
        local.uploads.create(ME, 1000, {})
    local.uploads.create("other", 1000, {})
    local.change(gone, expires_at=-1)
    local.uploads.create(ME, 1000, {})
    for offset in range(2):
        local.append(upload_id, offset, b"x")
    with pytest.raises(TooLarge, match="more than 2 pieces"):
        local.append(upload_id, 2, b"x")


def test_N7_a_file_that_does_not_fit_is_refused_before_it_is_sent(local: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large for the limit, too large for the disk; a store without such a limit takes it."""
    with pytest.raises(TooLarge, match=r"0\.01 MB"):
        local.uploads.create(ME, 10_001, {})
    monkeypatch.setattr(local.blobs, "free_bytes", lambda: (64 << 20) + 999)
    with pytest.raises(InsufficientStorage):
        local.uploads.create(ME, 1000, {})
    local.uploads.create(ME, 999, {})
    monkeypatch.setattr(local.blobs, "free_bytes", lambda: None)
    local.uploads.create(ME, 1000, {})


def test_N7_places_are_given_back(local: Shop) -> None:
    """A place is free again after the block, also when it failed."""
    places = UploadRules(10, max_writers=1)
    counted = ResumableUploads(local.store, local.blobs, places)
    with pytest.raises(ValueError), counted.place():  # noqa: PT012 (the refusal inside is part of it)
        with pytest.raises(Overloaded), counted.place():
            pass
        raise ValueError
    with counted.place():
        counted.close()


def test_N7_a_removal_waits_for_a_job_that_takes_the_upload(local: Shop) -> None:
    """It is refused while the job is being made, and allowed when that came to nothing."""
    upload_id = local.finished()
    local.uploads.take(ME, upload_id, "job_1", local.folder / "media")
    with pytest.raises(Conflict):
        local.uploads.terminate(ME, upload_id)
    with pytest.raises(Conflict):
        local.uploads.begin(ME, upload_id, Append(1000))
    local.change(upload_id, lock_until=-1)
    local.uploads.terminate(ME, upload_id)
    assert local.keys() == []


def test_N7_metadata_is_told_as_it_came() -> None:
    """Names keep their order, values their base64, and a name without a value stays one."""
    text = "filename dGFsay5tcDM=,private,filetype YXVkaW8vbXBlZw=="
    pairs = tus_headers.metadata(Headers({"Upload-Metadata": text}))
    assert list(pairs) == ["filename", "private", "filetype"]
    assert tus_headers.metadata_text(pairs) == text
    assert tus_headers.metadata(Headers({"Upload-Metadata": " "})) == {}
