"""Two API processes of a cluster, as far as they are one to a page: PostgreSQL, object storage, the same secret key."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.api.doors_support import Guarded, guarded
from tests.api.support import make_transcript
from tests.api.test_job_audio import wav
from tests.results import plant
from tests.servers.postgres import Database as PostgresDatabase
from tests.servers.s3 import S3Bucket
from tympan.domain import JobState, Options
from tympan.storage import migrate
from tympan.storage.database import Database
from tympan.storage.object_blobs import ObjectBlobs

KEY = "a-key-that-every-machine-has-" + "x" * 32
LONG_S = 300.0
"""Longer than the objects that a file is cut into: 8 MiB are 262 s."""


@pytest.fixture
def pair(tmp_path: Path, postgres: PostgresDatabase, s3_bucket: S3Bucket) -> Iterator[tuple[Guarded, Guarded]]:
    """Return two servers over the same stores."""
    database = Database(postgres.url)
    migrate.upgrade(database)
    database.close()
    settings = {
        "mode": "cluster",
        "database_url": postgres.url,
        "broker_url": "amqp://nobody@127.0.0.1:1/",
        "storage_url": s3_bucket.url("audio"),
        "secret_key": KEY,
    }
    with ExitStack() as stack:
        first = stack.enter_context(guarded(tmp_path / "one", settings))
        yield first, stack.enter_context(guarded(tmp_path / "two", settings))


def test_what_one_process_gives_the_other_knows(pair: tuple[Guarded, Guarded]) -> None:
    """A ticket, a waveform, an edited version with its revision; and what one erases is gone for the other."""
    one, two = pair
    assert isinstance(two.stores.blobs, ObjectBlobs)
    key, audio = one.give(tenant="acme"), wav(LONG_S)
    job = one.ask("POST", "/v1/jobs", key, files={"file": ("a.wav", audio)}).json()["id"]
    place = f"/v1/jobs/{job}"
    url = one.ask("POST", f"{place}/audio-link", key).json()["url"]
    assert two.ask("GET", url).content == audio
    seam = 8 << 20
    part = two.ask("GET", url, headers={"range": f"bytes={seam - 5}-{seam + 4}"})
    assert (part.status_code, part.content) == (206, audio[seam - 5 : seam + 5])
    assert two.ask("HEAD", url).headers["content-type"] == "audio/wav"
    pictures = [each.ask("GET", f"{place}/waveform", key).json() for each in (one, two)]
    assert pictures[0] == pictures[1]
    assert (pictures[0]["duration_s"], max(pictures[0]["peaks"])) == (LONG_S, 62)
    with one.stores.database.engine.begin() as tx:
        job_row = one.stores.jobs.get("acme", job)
        one.stores.jobs.endings.end(tx, job, JobState.SUCCEEDED)
    plant(one.stores.database, job, replace(make_transcript(Options()), model=job_row.model or "base"))
    edit = {"segments": [{"start": 0, "end": 1, "text": "By hand."}]}
    saved = one.ask("PUT", f"{place}/edited", key, json=edit, headers={"if-none-match": "*"})
    assert (saved.status_code, saved.headers["etag"]) == (200, '"1"')
    assert two.ask("PUT", f"{place}/edited", key, json=edit, headers={"if-match": '"1"'}).headers["etag"] == '"2"'
    assert one.ask("PUT", f"{place}/edited", key, json=edit, headers={"if-match": '"1"'}).status_code == 409
    assert two.ask("GET", f"{place}/result?format=text&version=edited", key).text == "By hand.\n"
    assert two.ask("DELETE", place, key).status_code == 204
    for what in ("audio", "waveform", "edited"):
        assert one.ask("GET", f"{place}/{what}", key).status_code == 404
    assert one.ask("GET", url).status_code == 404
    assert list(one.stores.blobs.list("jobs/")) == []
