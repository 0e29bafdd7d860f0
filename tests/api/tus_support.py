"""A server of resumable uploads alone: in this process, or as a process that can be killed."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import httpx
from fastapi import Depends, FastAPI
from sqlalchemy import select

from tests.api.support import wait_for
from tympan.api.deps import Backend, Desks, Limits, Services, make_services
from tympan.api.errors import on_error, on_http_error
from tympan.api.intake.incoming import check_encoding
from tympan.api.intake.staging import open_staging
from tympan.api.middleware import Exchange
from tympan.api.server import Address, HttpServer, ServerHooks
from tympan.api.tus import routes as tus
from tympan.errors import TympanError
from tympan.jobs.resumable import ResumableUploads, UploadRules
from tympan.jobs.service import JobService
from tympan.storage import migrate
from tympan.storage.blobs import LocalBlobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.tables import uploads
from tympan.storage.uploads import UploadStore

ROOT = Path(__file__).parents[2]
MAX_BYTES = 2_000_000
TUS = {"Tus-Resumable": "1.0.0"}
_NO_JOBS = cast("JobService", None)  # These routes have nothing to do with jobs.
HTTP = httpx.Client(timeout=60, trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))
BYTES = {**TUS, "Content-Type": "application/offset+octet-stream"}


@dataclass(frozen=True, slots=True)
class Setup:
    """What the tests vary."""

    ttl_s: float = 600.0
    lock_s: float = 5.0
    part_bytes: int = 200_000
    max_writers: int = 8
    idle_s: float = 5.0
    max_bytes: int = MAX_BYTES


@dataclass(slots=True)
class TusSite:
    """A running server and what is behind it."""

    url: str
    services: Services
    uploads: ResumableUploads
    blobs: LocalBlobs
    database: Database
    stop: threading.Event = field(default_factory=threading.Event)


@contextmanager
def parts_of(folder: Path, setup: Setup) -> Iterator[TusSite]:
    """Put a site together in ``folder`` without a server."""
    database = Database(sqlite_url(folder / "t.db"))
    migrate.upgrade(database)
    blobs = LocalBlobs(folder / "blobs")
    rules = UploadRules(setup.max_bytes, setup.part_bytes, setup.max_writers, renew_s=setup.lock_s / 3)
    resumable = ResumableUploads(UploadStore(database, ttl_s=setup.ttl_s, lock_s=setup.lock_s), blobs, rules)
    with open_staging(folder / "staging") as staging:
        services = make_services(
            staging, Limits(upload_idle_s=setup.idle_s), Backend(), "0", Desks(_NO_JOBS, resumable)
        )
        try:
            yield TusSite("", services, resumable, blobs, database)
        finally:
            services.runner.close()
            resumable.close()
            database.close()


@contextmanager
def tus_site(folder: Path, setup: Setup | None = None) -> Iterator[TusSite]:
    """Run a server on a real socket in a thread."""
    with parts_of(folder, setup or Setup()) as site:
        server = _server(site)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        site.url = f"{server.url}/v1/uploads"
        try:
            yield site
        finally:
            server.stop()
            thread.join(10)
    assert not thread.is_alive()


def _server(site: TusSite) -> HttpServer:
    hooks = ServerHooks(on_drain=lambda: None, on_force=lambda: None)
    return HttpServer(_app(site), site.services, Address("127.0.0.1", 0, drain_s=0.2), hooks)


def _app(site: TusSite) -> FastAPI:
    app = FastAPI(dependencies=[Depends(check_encoding)])
    app.state.services = site.services
    app.include_router(tus.router)
    app.state.routes = tuple(tus.router.routes)
    app.add_exception_handler(TympanError, on_error)
    app.add_exception_handler(404, on_http_error)
    app.add_exception_handler(405, on_http_error)
    app.add_middleware(Exchange)
    return app


class Process:
    """The same server as a process of its own, in ``folder``; killed at the end of the ``with`` block."""

    def __init__(self, folder: Path, setup: Setup, fault: str = "") -> None:
        """Start it, with a fault if asked for, and wait until it listens."""
        environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}", "TYMPAN_FAULT": fault}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.tus_support", str(folder), json.dumps(asdict(setup))],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        assert self.url, "the server did not start"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def kill(self) -> None:
        """End it as the kernel would."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Return its exit status."""
        status = self._process.wait(10)
        if self._process.stdout is not None:
            self._process.stdout.close()
        return status


def create(url: str, n_bytes: int, **headers: str) -> str:
    """Begin an upload over HTTP and return its address."""
    answer = HTTP.post(url, headers={**TUS, "Upload-Length": str(n_bytes), **headers})
    assert answer.status_code == 201, answer.text
    return str(httpx.URL(url).join(answer.headers["location"]))


def patch(address: str, offset: int, data: bytes, **headers: str) -> httpx.Response:
    """Append ``data`` at ``offset``."""
    return HTTP.patch(address, content=data, headers={**BYTES, "Upload-Offset": str(offset), **headers})


def offset_of(address: str) -> int:
    """Ask how far the upload has come."""
    answer = HTTP.head(address, headers=TUS)
    assert answer.status_code == 200, answer.status_code
    return int(answer.headers["upload-offset"])


def is_locked(site: TusSite, address: str) -> bool:
    """Return whether a request has the lock of an upload; a request that asked would have the lock for a moment."""
    query = select(uploads.c.lock_owner).where(uploads.c.id == id_of(address))
    return site.database.read(lambda tx: tx.scalar(query)) is not None


def begin_patch(address: str, offset: int, n_bytes: int, data: bytes) -> socket.socket:
    """Announce ``n_bytes``, send ``data``, and return the open connection."""
    url = httpx.URL(address)
    connection = socket.create_connection((url.host, url.port or 80), timeout=60)
    head = [f"PATCH {url.path} HTTP/1.1", f"Host: {url.host}", f"Content-Length: {n_bytes}", f"Upload-Offset: {offset}"]
    head += [f"{name}: {value}" for name, value in BYTES.items()]
    connection.sendall("\r\n".join([*head, "", ""]).encode() + data)
    return connection


def encoded(text: str) -> str:
    """Return ``text`` as metadata and checksums are sent."""
    return base64.b64encode(text.encode()).decode()


def id_of(address: str) -> str:
    """Return the id at the end of an address."""
    return address.rsplit("/", 1)[1]


def _main(folder: Path, setup: Setup) -> None:
    with parts_of(folder, setup) as site:
        server = _server(site)
        threading.Thread(target=_announce, args=(server,), daemon=True).start()
        server.run()


def _announce(server: HttpServer) -> None:
    wait_for(lambda: server.started, 30)
    sys.stdout.write(f"{server.url}/v1/uploads\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.alarm(120)  # Never left behind.
    _main(Path(sys.argv[1]), Setup(**json.loads(sys.argv[2])))
