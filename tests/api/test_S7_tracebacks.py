"""S7: whatever breaks inside, no answer tells how: no traceback, no path, no message of a library."""

import asyncio
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.api.job_support import HTTP, job_site, pcm
from tests.api.support import Site
from tests.log_support import captured_log
from tympan import faultpoints
from tympan.api.server import _log_lost

TUS = {"Tus-Resumable": "1.0.0"}
INSIDES = re.compile(rb'Traceback|File "|InjectedFault|\.py\b|line \d+|site-packages|sqlite|/home|/tmp|/usr')
POINTS = (
    "upload.written",
    "blob.fsync",
    "blob.rename",
    "job.insert",
    "job.committed",
    "job.cancel",
    "erase.rows",
    "erase.blobs",
    "blob.delete",
    "upload.part",
    "upload.commit",
)
"""The points that a request can reach."""


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    """A server with jobs and uploads."""
    with job_site(tmp_path) as running:
        yield running


def everything(site: Site) -> Iterator[httpx.Response]:
    """Do what touches every point, and go on whatever breaks."""
    data = pcm(1.0)
    yield HTTP.post(f"{site.url}/v1/audio/transcriptions", files={"file": ("a.wav", data)})
    for _ in range(2):
        made = HTTP.post(f"{site.url}/v1/jobs", files={"file": ("a.wav", data)})
        yield made
        if made.status_code == httpx.codes.ACCEPTED:
            path = f"{site.url}/v1/jobs/{made.json()['id']}"
            yield HTTP.post(f"{path}/cancel")
            yield HTTP.post(f"{path}/retry")
            yield HTTP.delete(path)
    started = HTTP.post(f"{site.url}/v1/uploads", headers={**TUS, "Upload-Length": str(len(data))})
    yield started
    if started.status_code == httpx.codes.CREATED:
        kind = {**TUS, "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        where = httpx.URL(f"{site.url}/v1/uploads").join(started.headers["location"])
        yield HTTP.patch(where, headers=kind, content=data)
        yield HTTP.delete(where, headers=TUS)


@pytest.mark.parametrize("point", POINTS)
def test_S7_what_breaks_is_not_explained_to_callers(shop: Site, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """The fault is met, the answer is a 500 in the usual envelope with an id to report, and says nothing else."""
    monkeypatch.setattr(faultpoints, "_seen", {})
    monkeypatch.setenv("TYMPAN_FAULT", f"{point}:raise")
    answers = list(everything(shop))
    assert faultpoints._seen.get(point), "nobody was there"
    for answer in answers:
        assert not INSIDES.search(answer.content), answer.text
        assert answer.headers["x-request-id"]
    broken = [answer for answer in answers if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR]
    for answer in broken:
        error = json.loads(answer.content)["error"]
        assert (error["type"], error["code"]) == ("server_error", "internal_error")
        assert answer.headers["x-request-id"] in error["message"]
    assert len(broken) == 1


def test_S1_an_error_that_no_task_took_is_logged_without_its_message(site_log: io.StringIO) -> None:
    """Neither what it says nor what its callback was called with."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(_log_lost)
    loop.call_soon(int, "canarybird")
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    (line,) = site_log.getvalue().splitlines()
    found = json.loads(line)
    assert (found["event"], found["about"], found["error_type"]) == ("error_lost", "Exception", "ValueError")
    assert "canarybird" not in line


@pytest.fixture
def site_log() -> Iterator[io.StringIO]:
    """Return what is logged."""
    with captured_log() as stream:
        yield stream
