"""What the tests of jobs and batches over HTTP have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.api.support import Site, site
from tympan.api.deps import Desks, Limits
from tympan.domain import SAMPLE_RATE_HZ
from tympan.errors import NotFound
from tympan.jobs.resumable import Append, ResumableUploads, UploadRules
from tympan.storage.uploads import UploadStore

HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
TENANT = "default"


@dataclass(slots=True)
class Endpoints:
    """Webhook endpoints on paper."""

    urls: dict[str, str] = field(default_factory=dict)

    def ensure_endpoint(self, tenant: str, url: str) -> str:
        """Return an id for the address."""
        return self.urls.setdefault(url, f"we_{len(self.urls)}")

    def require_endpoint(self, tenant: str, endpoint_id: str) -> str:
        """Know the ids given out before."""
        if endpoint_id not in self.urls.values():
            raise NotFound("There is no such endpoint.", param="webhook_endpoint")
        return endpoint_id


def pcm(seconds: float = 10.0, seed: int = 1) -> bytes:
    """Return bare samples, which the shop's decoder reads."""
    n_samples = round(seconds * SAMPLE_RATE_HZ)
    return np.random.default_rng(seed).integers(-40, 40, n_samples).astype(np.int16).tobytes()


@contextmanager
def job_site(folder: Path, **limits: float) -> Iterator[Site]:
    """Yield a site with resumable uploads and webhook endpoints."""
    with site(folder, Limits(**limits)) as running:  # type: ignore[arg-type]
        store = UploadStore(running.shop.database, ttl_s=600.0)
        uploads = ResumableUploads(store, running.shop.blobs, UploadRules(10**8))
        running.app.state.services = replace(running.services, desks=Desks(running.shop.service, uploads, Endpoints()))
        yield running
        uploads.close()


def uploaded(running: Site, data: bytes, *, whole: bool = True) -> str:
    """Return the id of a resumable upload with ``data``; one that is not ``whole`` lacks a byte."""
    uploads = running.app.state.services.uploads
    assert isinstance(uploads, ResumableUploads)
    found = uploads.create(TENANT, len(data) + (not whole), {})
    writing = uploads.begin(TENANT, found.id, Append(0))
    part = running.shop.folder / found.id
    part.write_bytes(data)
    uploads.add(writing, part, len(data), last=True)
    return found.id


def post(running: Site, path: str = "/v1/jobs", **request: Any) -> httpx.Response:
    """Send a POST."""
    return HTTP.post(running.url + path, **request)


def get(running: Site, path: str, **request: Any) -> httpx.Response:
    """Send a GET."""
    return HTTP.get(running.url + path, **request)


def submit(running: Site, data: bytes | None = None, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Hand a job in as a form and return it as it was answered."""
    files = {"file": ("a.raw", pcm() if data is None else data)}
    answer = post(running, files=files, data=fields, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def job_of(running: Site, job_id: str) -> Any:
    """Return a job as it stands."""
    answer = get(running, f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    """Return status, code and field of an error answer."""
    error = answer.json()["error"]
    assert error["message"]
    return answer.status_code, error["code"], error["param"]


def n_jobs(running: Site) -> int:
    """Return how many jobs are stored."""
    return sum(running.shop.service.counts().values())


def blobs_of(running: Site) -> set[str]:
    """Return the first two parts of every stored blob's key."""
    return {"/".join(blob.key.split("/")[:2]) for blob in running.shop.blobs.list("")}
