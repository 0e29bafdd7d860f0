"""A server with doors: real keys, real stores, everything that routes ask for, over a scripted pipeline."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI

from tests.access_support import entry, new_key
from tests.api.support import CARD, CLIP, ScriptedTranscriber, wait_for
from tympan.access.callers import USUAL
from tympan.access.tokens import Token
from tympan.api.app import create_app
from tympan.api.deps import Backend, Limits, Transcriber, make_services
from tympan.api.intake.staging import open_staging
from tympan.api.server import Address, HttpServer, ServerHooks
from tympan.bootstrap.access import open_doors
from tympan.bootstrap.jobs import Stores, WorkerPost, open_desks, open_stores
from tympan.config import Settings, load
from tympan.storage.audit import AuditStore
from tympan.storage.keys import KeyStore


@dataclass(slots=True)
class Guarded:
    """The server, and its keys."""

    url: str
    app: FastAPI
    settings: Settings
    stores: Stores
    http: httpx.Client

    @property
    def keys(self) -> KeyStore:
        """The keys that it knows."""
        return KeyStore(self.stores.database)

    @property
    def audit(self) -> AuditStore:
        """What was done."""
        return AuditStore(self.stores.database)

    def give(self, tenant: str = "default", scopes: tuple[str, ...] = USUAL, lifetime_s: float | None = None) -> Token:
        """Return a fresh key."""
        token, new = new_key(tenant, scopes, lifetime_s)
        self.keys.create(new, entry())
        return token

    def ask(self, method: str, path: str, key: Token | str | None = None, **extra: Any) -> httpx.Response:
        """Send a request with a key."""
        text = key.text if isinstance(key, Token) else key
        headers = dict(extra.pop("headers", {})) | ({} if text is None else {"authorization": f"Bearer {text}"})
        return self.http.request(method, path, headers=headers, **extra)

    def transcribe(self, key: Token | str | None = None, **extra: Any) -> httpx.Response:
        """Send a clip."""
        return self.ask("POST", "/v1/audio/transcriptions", key, files={"file": ("clip.wav", CLIP)}, **extra)


@contextmanager
def guarded(
    folder: Path, settings: Mapping[str, object] | None = None, transcriber: Transcriber | None = None
) -> Iterator[Guarded]:
    """Yield a server that asks for keys on a real socket."""
    chosen = load({"data_dir": folder, "engine": "fake", "api_keys": "required", **(settings or {})})
    with ExitStack() as stack:
        staging = stack.enter_context(open_staging(folder / "staging"))
        stores = stack.enter_context(open_stores(chosen))
        doors = stack.enter_context(open_doors(chosen, stores.database))
        desks = stack.enter_context(open_desks(chosen, stores, WorkerPost(0.0), doors))
        services = make_services(staging, Limits(), Backend(), "9.9.9", desks)
        stack.callback(services.runner.close)
        services.backend.arrive(transcriber or ScriptedTranscriber(), CARD)
        app = create_app(services)
        hooks = ServerHooks(on_drain=lambda: None, on_force=lambda: None)
        server = HttpServer(app, services, Address("127.0.0.1", 0, drain_s=0.2), hooks)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        wait_for(lambda: server.started)
        http = stack.enter_context(httpx.Client(base_url=server.url, timeout=60))
        try:
            yield Guarded(server.url, app, chosen, stores, http)
        finally:
            server.stop()
            thread.join(10)
    assert not thread.is_alive()
