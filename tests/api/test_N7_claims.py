"""An upload on its way into a job: when there is no room for the copy, and when another job has it."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.api.job_support import TENANT, job_site, pcm, post, refusal, uploaded
from tympan.errors import InsufficientStorage
from tympan.jobs import resumable
from tympan.jobs.resumable import ResumableUploads


def test_N7_a_copy_that_does_not_fit_is_not_begun_and_one_job_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upload stays as it is, and serves a job once there is room."""
    with job_site(tmp_path) as running:
        upload_id, uploads = uploaded(running, pcm(2)), running.app.state.services.uploads
        assert isinstance(uploads, ResumableUploads)
        target = tmp_path / "copy"
        room = SimpleNamespace(free=(64 << 20) + len(pcm(2)) - 1)
        with monkeypatch.context() as full:
            full.setattr(resumable, "shutil", SimpleNamespace(disk_usage=lambda _: room))
            with pytest.raises(InsufficientStorage):
                uploads.take(TENANT, upload_id, "job_000000000000", target)
            assert not target.exists()
            assert refusal(post(running, json={"upload_id": upload_id}))[:2] == (507, "insufficient_storage")
            room.free += 1
            assert uploads.take(TENANT, upload_id, "job_000000000000", target)[0] == len(pcm(2))
        taken = post(running, json={"upload_id": upload_id})
        assert refusal(taken) == (423, "upload_locked", "upload_id")
        assert "A job is being made of this upload." in taken.json()["error"]["message"]
        assert int(taken.headers["retry-after"]) > 0
        uploads.give_back(upload_id, "job_000000000000")
        assert post(running, json={"upload_id": upload_id}).status_code == 202
