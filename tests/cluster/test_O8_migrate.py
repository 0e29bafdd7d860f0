"""O8: an embedded installation moves into a cluster: the same jobs, the same bytes, and work goes on."""

import hashlib
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, Select
from typer.testing import CliRunner

from tests.jobs_support import TENANT, Shop, open_shop
from tests.servers.postgres import Database as Postgres
from tests.servers.s3 import S3Bucket
from tympan.cli import app
from tympan.domain import JobState
from tympan.jobs.service import JobFilter
from tympan.storage.blobs import BlobStore, open_blobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.tables import metadata

JOBS = 60


def rows_of(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return every row that moves, in order."""
    found = {}
    for table in metadata.sorted_tables:
        if table.name not in {"bells", "workers"}:
            query = table.select().order_by(*table.primary_key.columns)
            found[table.name] = database.read(partial(_rows, query=query))
    return found


def _rows(tx: Connection, query: Select[*tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [tuple(row) for row in tx.execute(query)]


def digests_of(blobs: BlobStore, scratch: Path) -> dict[str, str]:
    """Return the SHA-256 of every blob."""
    found = {}
    for blob in blobs.list(""):
        with blobs.fetch(blob.key, scratch) as path:
            found[blob.key] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def fill(shop: Shop) -> None:
    """Leave jobs in every state: done, waiting, under way, cancelled."""
    for number in range(JOBS):
        shop.submit(3.0, seed=number, metadata=f'{{"n": "{number}"}}')
    shop.work_off(limit=JOBS)
    waiting = shop.submit(45.0, seed=1000)
    shop.service.cancel(TENANT, shop.submit(1.0, seed=1001).id)
    assert shop.get(waiting).state is JobState.QUEUED
    assert shop.work.claim("lost", (shop.get(waiting).lane,)) is not None


def test_O8_jobs_and_audio_are_identical_after_the_move(
    tmp_path: Path, postgres: Postgres, s3_bucket: S3Bucket
) -> None:
    """Row by row and byte by byte; a second run changes nothing; what waited is worked off in the new place."""
    old_dir = tmp_path / "old"
    old_dir.mkdir()
    with open_shop(old_dir, sqlite_url(old_dir / "tympan.db")) as old:
        fill(old)
        rows, digests = rows_of(old.database), digests_of(old.blobs, tmp_path)
    environment = {
        "TYMPAN_MODE": "cluster",
        "TYMPAN_DATABASE_URL": postgres.url,
        "TYMPAN_BROKER_URL": "amqp://unused",
        "TYMPAN_STORAGE_URL": s3_bucket.url(),
        "TYMPAN_SECRET_KEY": "k" * 32,
        "TYMPAN_DATA_DIR": str(tmp_path / "new"),
    }
    for _ in range(2):
        done = CliRunner().invoke(app, ["migrate", "--from", str(old_dir)], env=environment)
        assert done.exit_code == 0, done.output
    with open_shop(tmp_path / "check", postgres.url, rings=True) as new:
        moved = rows_of(new.database)
        running = [row for row in rows["steps"] if "running" in row]
        assert running
        assert {name: len(found) for name, found in moved.items()} == {name: len(found) for name, found in rows.items()}
        assert {name: found for name, found in moved.items() if name != "steps"} == {
            name: found for name, found in rows.items() if name != "steps"
        }
        new.blobs = open_blobs(s3_bucket.url(), tmp_path / "unused")
        assert digests_of(new.blobs, tmp_path) == digests
        new.work_off()
        states = {job.state for job in new.service.page(TENANT, JobFilter(limit=100))}
        assert states == {JobState.SUCCEEDED, JobState.CANCELLED}
        assert new.submit(2.0, seed=7).state is JobState.QUEUED
