"""Moving an installation: every page of rows, and audio that lies on another disk."""

import errno
import os
from pathlib import Path

import pytest

from tests.jobs_support import open_shop
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.storage.blobs import LocalBlobs
from tympan.storage.ids import new_id
from tympan.storage.transfer import copy_blobs, copy_rows

N_JOBS = 1_100


def test_every_page_of_rows_is_copied_once(tmp_path: Path) -> None:
    """More rows than fit in two pages arrive, and a second run adds none."""
    with open_shop(tmp_path / "old") as old, open_shop(tmp_path / "new") as new:
        source = Source(SourceKind.URL, "https://example.com/a.wav")
        many = [NewJob(new_id("job"), source, Options()) for _ in range(N_JOBS)]
        old.database.write(lambda tx: old.store.insert_many(tx, many))
        for _ in range(2):
            copy_rows(old.database, new.database, lambda sealed: sealed)
            assert sum(new.store.counts().values()) == N_JOBS


def test_audio_on_another_disk_is_copied_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file can have no second name its bytes are copied; the old installation keeps its own."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    old, new = LocalBlobs(tmp_path / "old"), LocalBlobs(tmp_path / "new")
    old.put("jobs/1/media", b"audio")
    monkeypatch.setattr(os, "link", refuse)
    assert copy_blobs(old, new, tmp_path) == (1, 5)
    assert (old.read("jobs/1/media"), new.read("jobs/1/media")) == (b"audio", b"audio")
    assert copy_blobs(old, new, tmp_path) == (0, 0)
