"""A job's copy of an upload is not begun where it would fill the disk."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.api.job_support import TENANT, job_site, pcm, post, refusal, uploaded
from tympan.errors import InsufficientStorage
from tympan.jobs.resumable import ResumableUploads


def test_N7_a_copy_that_does_not_fit_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The upload stays as it is, and serves a job once there is room."""
    with job_site(tmp_path) as running:
        upload_id, uploads = uploaded(running, pcm(2)), running.app.state.services.uploads
        assert isinstance(uploads, ResumableUploads)
        target = tmp_path / "copy"
        room = SimpleNamespace(free=(64 << 20) + len(pcm(2)) - 1)
        with monkeypatch.context() as full:
            full.setattr(shutil, "disk_usage", lambda _: room)
            with pytest.raises(InsufficientStorage):
                uploads.take(TENANT, upload_id, "job_000000000000", target)
            assert not target.exists()
            assert refusal(post(running, json={"upload_id": upload_id}))[:2] == (507, "insufficient_storage")
            room.free += 1
            assert uploads.take(TENANT, upload_id, "job_000000000000", target)[0] == len(pcm(2))
        uploads.give_back(upload_id, "job_000000000000")
        assert post(running, json={"upload_id": upload_id}).status_code == 202
