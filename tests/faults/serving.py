"""The whole server as a process that may be killed, and a client that talks to it over HTTP."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.faults.checker import TERMINAL, Promise
from tests.faults.client import Client
from tests.faults.evidence import Evidence, gather, keep_diary
from tests.faults.house import Gone
from tests.servers.process import free_port, wait_until
from tests.webhook_receiver import Receiver, receiver
from tympan.storage import migrate
from tympan.storage.blobs import open_blobs
from tympan.storage.database import Database, sqlite_url

_PROGRAM = "from tympan.bootstrap import serve; from tympan.config import load; serve(load())"
_START_S, _RATE_HZ = 60.0, 8_000
_TOLD_S = 100.0
"""Bound for webhooks: the claim of a sender that was killed lasts a minute."""

_PATIENCE_S = 60.0
"""How long a client tries again when it is asked to; the lock of an upload outlives its process by half a minute."""

_TUS = {"Tus-Resumable": "1.0.0"}
_QUICK = {
    "ENGINE": "fake",
    "LOG_FORMAT": "json",
    "HEARTBEAT_S": "0.5",
    "LEASE_S": "3",
    "SWEEP_S": "0.5",
    "POLL_S": "0.2",
    "DRAIN_S": "3",
}


@dataclass
class Server:
    """One folder of data, and the process that serves it: started, asked, killed and started again."""

    folder: Path
    database: Database
    receiver: Receiver
    settings: Mapping[str, str]
    port: int = field(default_factory=free_port)
    crashes: int = 0
    log: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    _child: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def child(self) -> subprocess.Popen[str]:
        """Its process."""
        assert self._child is not None
        return self._child

    def start(self, fault: str = "") -> None:
        """Start it, and return when it takes jobs, which is before the engine is there."""
        variables = {**_QUICK, "PORT": str(self.port), "DATA_DIR": str(self.folder), "FAULT": fault, **self.settings}
        variables["EGRESS_ALLOW"] = json.dumps([f"127.0.0.1:{self.receiver.port}"])
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM],
            env={**os.environ, **{f"TYMPAN_{name}": value for name, value in variables.items()}, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.folder,
        )
        threading.Thread(target=self._collect, args=(self._child,), daemon=True).start()
        wait_until(lambda: self._answers("/livez"), _START_S, self.tail)

    def wait_ready(self) -> None:
        """Wait for the engine."""
        wait_until(lambda: self._answers("/readyz"), _START_S, self.tail)

    def close(self) -> None:
        """End it at once, however it is."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(20)

    def tail(self) -> str:
        """Return the last lines of its log."""
        return "".join(self.log[-30:])

    def ask(self, request: str, **values: object) -> Any:
        """Return the answer to a request; when the process is killed meanwhile, start it and ask again."""
        while True:
            try:
                return getattr(_Calls(self.url, self.receiver.url(), self.places), request)(**values)
            except Gone:
                self._start_again()

    def evidence(self) -> Evidence:
        """Return what is there now, and what the receiver of webhooks got."""
        blobs = open_blobs(None, self.folder / "blobs")
        staged = [path.name for path in (self.folder / "blobs" / ".staging").iterdir()]
        found = gather(self.database, blobs, staged)
        got = [(one.id, one.payload["data"]["id"], one.payload["type"]) for one in self.receiver.messages]
        return Evidence(**{**{name: getattr(found, name) for name in found.__slots__}, "received": tuple(got)})

    def _start_again(self) -> None:
        self.child.wait(20)
        assert self.child.returncode == -signal.SIGKILL, self.tail()
        self.crashes += 1
        self.start()

    def _answers(self, path: str) -> bool:
        assert self.child.poll() is None, self.tail()
        try:
            return httpx.get(f"{self.url}{path}", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def _collect(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        with child.stdout:
            self.log.extend(child.stdout)


@dataclass(frozen=True, slots=True)
class _Calls:
    """Requests in HTTP; each raises ``Gone`` when it gets no answer."""

    url: str
    hook: str
    places: dict[str, str]

    def submit(self, intent: str, audio: bytes, language: str, endpoint: str | None) -> str:
        """Hand in a job, with its audio or as a resumable upload when the intent says so."""
        fields = {"language": language, "vad": "false", "metadata": json.dumps({"intent": intent})}
        if endpoint:
            fields["webhook_url"] = self.hook
        if intent == "uploaded":
            fields["upload_id"] = self._upload(intent, audio)
            body: dict[str, Any] = {"json": fields | {"vad": False, "metadata": {"intent": intent}}}
        else:
            body = {"data": fields, "files": {"file": ("audio.wav", audio)}}
        answer = self._send("POST", "/v1/jobs", headers={"Idempotency-Key": intent.replace(" ", "-")}, **body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def state(self, job_id: str) -> tuple[str, int]:
        """Return state and finished sections."""
        answer = self._send("GET", f"/v1/jobs/{job_id}")
        if answer.status_code == 404:
            return "gone", 0
        assert answer.status_code == 200, answer.text
        return answer.json()["state"], answer.json()["progress"]["sections_done"]

    def text(self, job_id: str) -> str:
        """Return the text of a job."""
        answer = self._send("GET", f"/v1/jobs/{job_id}/result", params={"format": "verbose_json"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["text"])

    def cancel(self, job_id: str) -> str:
        """Cancel a job; return its state."""
        return str(self._send("POST", f"/v1/jobs/{job_id}/cancel").json()["state"])

    def erase(self, job_id: str) -> None:
        """Erase a job."""
        answer = self._send("DELETE", f"/v1/jobs/{job_id}")
        assert answer.status_code in {204, 404}, answer.text

    def at_once(self, audio: bytes) -> str:
        """Return the text of audio in one pass, without a job."""
        answer = self._send(
            "POST",
            "/v1/audio/transcriptions",
            data={"language": "en", "vad": "false", "response_format": "json"},
            files={"file": ("audio.wav", audio)},
        )
        assert answer.status_code == 200, answer.text
        return str(answer.json()["text"])

    def _upload(self, intent: str, audio: bytes) -> str:
        """Upload in two pieces, going on where an earlier attempt ended; return the upload's id."""
        if intent not in self.places:
            made = self._send("POST", "/v1/uploads", headers={**_TUS, "Upload-Length": str(len(audio))})
            assert made.status_code == 201, made.text
            self.places[intent] = httpx.URL(f"{self.url}/v1/uploads").join(made.headers["location"]).path
        place = self.places[intent]
        while (there := self._send("HEAD", place, headers=_TUS)).status_code == 200:
            offset = int(there.headers["upload-offset"])
            if offset == len(audio):
                break
            piece = audio[offset : None if offset else len(audio) // 2]
            headers = {**_TUS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
            sent = self._send("PATCH", place, headers=headers, content=piece)
            assert sent.status_code == 204, sent.text
        # One that is gone has been taken by its job, of which the key knows.
        return place.rsplit("/", 1)[1]

    def _send(self, method: str, path: str, **values: Any) -> httpx.Response:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                answer = httpx.request(method, f"{self.url}{path}", timeout=30, **values)
            except httpx.TransportError as error:
                raise Gone from error
            if answer.status_code not in {409, 423, 429, 503} or time.monotonic() > deadline:
                return answer
            time.sleep(0.05)


def wav(seconds: float, seed: int) -> bytes:
    """Return a WAV file with noise that no other seed gives."""
    drawn = np.random.default_rng(seed).integers(40, 216, round(seconds * _RATE_HZ)).astype(np.uint8)
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(1)
        writer.setframerate(_RATE_HZ)
        writer.writeframes(drawn.tobytes())
    return file.getvalue()


def http_load(client: Client, seed: int) -> dict[str, bytes]:
    """As ``mixed_load``, in HTTP, with a resumable upload; return the audio of what succeeds."""
    base = 1000 * (seed + 1)
    audio = {"short": wav(4.0, base), "long": wav(620.0, base + 1), "uploaded": wav(5.0, base + 2)}
    cancelled = client.submit("cancelled", wav(1500.0, base + 3), ends=frozenset({"cancelled"}))
    client.submit("bad", b"this is no audio", ends=frozenset({"failed"}))
    erased = client.submit("erased", wav(4.0, base + 4), ends=TERMINAL)
    for intent, content in audio.items():
        client.submit(intent, content)
    client.wait(cancelled, lambda _, sections: sections > 0)
    client.cancel(cancelled)
    client.again(client.history.promises["short"], audio["short"])
    client.wait(erased, lambda _, __: False)
    client.erase(erased)
    return audio


def settle(server: Server, client: Client, audio: Mapping[str, bytes]) -> None:
    """Wait until all has ended and been told, and find out what an undisturbed pass gives."""
    client.settle()
    wait_until(lambda: not _untold(server), _TOLD_S, lambda: f"not delivered: {_untold(server)}\n{server.tail()}")
    for intent, content in audio.items():
        client.history.promises[intent].text = server.ask("at_once", audio=content)


def told_text(server: Server, promise: Promise) -> str:
    """Return what a client reads as the result."""
    return str(server.ask("text", job_id=promise.told[-1]))


def _untold(server: Server) -> set[tuple[str, str]]:
    found = server.evidence()
    return set(found.events) - {(subject, kind) for _, subject, kind in found.received or ()}


@contextmanager
def server_in(folder: Path, **settings: str) -> Iterator[Server]:
    """Yield a server that is not started, over an empty database that keeps a diary; end it at the end."""
    database = Database(sqlite_url(folder / "tympan.db"))
    migrate.upgrade(database)
    keep_diary(database)
    with receiver() as hooks:
        server = Server(folder, database, hooks, settings)
        try:
            yield server
        finally:
            server.close()
            database.close()
