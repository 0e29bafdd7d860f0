"""One request to a deployment and its answer, within bounds. Redirects are answers, and no proxy is used."""

import http.client
import json
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tympan.errors import InvalidRequest

_ANSWER_S = 60.0
_MAX_BYTES = 8 << 20
_WORDS = 200

_FAILURES: tuple[tuple[type[Exception], str, str], ...] = (
    (ConnectionRefusedError, "nothing listens there", "Start the server, or check host and port."),
    (socket.gaierror, "the name {host} is not known", "Check the address, and this machine's DNS."),
    (
        ssl.SSLCertVerificationError,
        "its certificate is not valid: {error}",
        "Renew the certificate, or use the name that it is for.",
    ),
    (ssl.SSLError, "it does not speak TLS", "Use http:// in the address, or the port that has TLS."),
    (
        TimeoutError,
        "no answer within {answer_s:g} s",
        "See whether the process hangs, or a firewall drops what is sent to it.",
    ),
    (
        http.client.HTTPException,
        "what answers breaks off, or is no HTTP",
        "See whether the address is that of an HTTP port, and what the server's log says.",
    ),
    (ConnectionError, "the connection broke off", "See what the server's log says, and that of a proxy before it."),
)
"""What can go wrong, what that means, and what to do; the first that fits counts."""


class Unreachable(Exception):
    """No answer came: why, and what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        """Say why, and what to do."""
        super().__init__(message)
        self.message, self.remedy = message, remedy


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; ``took_s`` until all of it was there."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    took_s: float = 0.0

    def json(self) -> dict[str, Any]:
        """Return the object in it, an empty one where there is none."""
        with suppress(ValueError):
            found = json.loads(self.body)
            if isinstance(found, dict):
                return found
        return {}

    def words(self) -> str:
        """Return what it says in one line: its status, and the message of an error where it has one."""
        error = self.json().get("error")
        said = f"[{error.get('code')}] {error.get('message')}" if isinstance(error, dict) else ""
        plain = "".join(each for each in " ".join(said.split()) if each.isprintable())[:_WORDS]
        return f"status {self.status}{': ' + plain if plain else ''}"


class Errand:
    """Asks one deployment; each question has a connection of its own."""

    def __init__(self, url: str, key: str | None = None, *, answer_s: float = _ANSWER_S) -> None:
        """Ask at ``url``, with ``key`` where it is given. Raises ``InvalidRequest`` for what is no HTTP address."""
        self._parts = _checked(url)
        self._key, self._answer_s = key, answer_s

    def __call__(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> Reply:
        """Return the answer to one request. Raises ``Unreachable``."""
        given = {"user-agent": "tympan-doctor", **headers}
        if self._key:
            given["authorization"] = f"Bearer {self._key}"
        connection = self._connection()
        began = time.monotonic()
        try:
            connection.request(method, self._parts.path.rstrip("/") + path, body, given)
            answer = connection.getresponse()
            read = answer.read(_MAX_BYTES)
            named = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, read, named, time.monotonic() - began)
        except (OSError, http.client.HTTPException) as error:
            raise self._explained(error) from error
        finally:
            connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=self._answer_s)
        return http.client.HTTPConnection(host, port, timeout=self._answer_s)

    def _explained(self, error: Exception) -> Unreachable:
        found = ((cause, remedy) for kind, cause, remedy in _FAILURES if isinstance(error, kind))
        cause, remedy = next(found, ("it cannot be reached: {error}", "Check the address and the network."))
        said = getattr(error, "verify_message", None) or str(error) or type(error).__name__
        return Unreachable(cause.format(error=said, host=self._parts.hostname, answer_s=self._answer_s), remedy)


def _checked(url: str) -> SplitResult:
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise InvalidRequest("--url is not the address of a server.", remedy="Use one such as http://127.0.0.1:8000.")
