"""The way to a server that is measured: one recording in, its text out, whichever of three interfaces it speaks.

This is the second door for HTTP, beside ``egress``: that one refuses private addresses, on which servers under test
live, and opens one connection for each errand, which would be timed too.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

from tympan.bench.interfaces import FILE_FIELDS, ROUTES, Api
from tympan.errors import InvalidRequest

MAX_ANSWER_BYTES = 16 << 20
"""A longer answer counts as an error: no transcript is that long."""

_MESSAGE_CHARACTERS = 200
_KEEP_OPEN_S = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """A server: its address, its interface, and what is said in every request. ``key`` is a bearer token."""

    url: str
    api: Api = Api.OPENAI
    model: str = "whisper-1"
    key: str | None = None
    timeout_s: float = 120.0
    fields: tuple[tuple[str, str], ...] = ()

    @property
    def route(self) -> str:
        """The full address that recordings are posted to. Raises ``InvalidRequest`` for what is no HTTP address."""
        parts = _parts(self.url)
        path = parts.path.rstrip("/")
        route = ROUTES[self.api]
        if not path.endswith(route):
            path = path.removesuffix("/v1") + route
        return urlunsplit((parts.scheme, parts.netloc, path, parts.query, ""))

    @property
    def shown(self) -> str:
        """The address without user, password and query: fit for a report."""
        parts = _parts(self.url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
        return urlunsplit((parts.scheme, f"[{host}]{port}" if ":" in host else host + port, parts.path, "", ""))


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        if parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0:
            return parts
    except ValueError:
        pass  # Told below, as for any other text that is no address.
    raise InvalidRequest(f"{url!r} is not the address of a server.", remedy="Use one such as http://127.0.0.1:8000.")


@dataclass(frozen=True, slots=True)
class Item:
    """What one request sends: the bytes of a file, and what is known of them."""

    name: str
    data: bytes
    duration_s: float
    language: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """How one request ended: with a text, or with an error of some kind and the words for it."""

    text: str | None = None
    error: str | None = None
    detail: str = ""


class Client:
    """Connections to one server, kept open between requests; at most ``connections`` of them."""

    def __init__(self, target: Target, connections: int) -> None:
        """Prepare; nothing is opened before the first request. Proxies of the environment are not used."""
        self._target = target
        headers = {"Authorization": f"Bearer {target.key}"} if target.key else {}
        # Given up before servers do so (5 s and more), or a request would meet a connection that is just being closed.
        limits = httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=_KEEP_OPEN_S
        )
        self._http = httpx.AsyncClient(headers=headers, limits=limits, timeout=target.timeout_s, trust_env=False)

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def send(self, item: Item) -> Answer:
        """Post one recording and return how that ended; it never raises but when it is cancelled.

        Kinds of errors: ``timeout``, ``connect``, ``broken`` (the connection ended before the answer did),
        ``http_NNN``, ``too_long``, ``cached`` (there was nothing to measure), and ``no_text`` (200, but nothing in it
        that is a text).
        """
        try:
            async with asyncio.timeout(self._target.timeout_s):
                return await self._answer(item)
        except (TimeoutError, httpx.TimeoutException):
            return Answer(error="timeout", detail=f"no answer within {self._target.timeout_s:g} s")
        except httpx.ConnectError as error:
            return Answer(error="connect", detail=_words(str(error) or "the connection was not made"))
        except (httpx.TransportError, httpx.DecodingError) as error:
            return Answer(error="broken", detail=_words(f"{type(error).__name__}: {error}"))

    async def _answer(self, item: Item) -> Answer:
        files = {FILE_FIELDS[self._target.api]: (item.name, item.data)}
        query, form = _asked(self._target, item)
        request = self._http.build_request("POST", self._target.route, params=query or None, files=files, data=form)
        response = await self._http.send(request, stream=True)
        try:
            body = bytearray()
            async for part in response.aiter_bytes():
                body += part
                if len(body) > MAX_ANSWER_BYTES:
                    return Answer(error="too_long", detail=f"over {MAX_ANSWER_BYTES} bytes")
        finally:
            await response.aclose()
        if response.status_code != httpx.codes.OK:
            return Answer(error=f"http_{response.status_code}", detail=_words(body.decode(errors="replace")))
        if response.headers.get("tympan-cache") == "hit":
            return Answer(
                error="cached", detail="the server kept the text of an equal request: set RESULT_CACHE_MB to 0"
            )
        return _text(bytes(body))


def _asked(target: Target, item: Item) -> tuple[dict[str, str], dict[str, str]]:
    """Return the query and the form of a request."""
    spoken = {"language": item.language} if item.language else {}
    extra = dict(target.fields)
    if target.api is Api.ASR:
        return {"output": "json", "task": "transcribe", "encode": "true"} | spoken | extra, {}
    named = {"model": target.model} if target.api is Api.OPENAI else {}
    return {}, named | {"response_format": "json"} | spoken | extra


def _text(body: bytes) -> Answer:
    try:
        said: Mapping[str, Any] | object = json.loads(body)
    except ValueError:
        return Answer(error="no_text", detail=_words(body.decode(errors="replace")))
    text = said.get("text") if isinstance(said, Mapping) else None
    if isinstance(text, str):
        return Answer(text=text.strip())
    # whisper.cpp's server tells of failures with status 200.
    return Answer(error="no_text", detail=_words(body.decode(errors="replace")))


def _words(text: str) -> str:
    plain = " ".join(text.split())
    return "".join(character for character in plain if character.isprintable())[:_MESSAGE_CHARACTERS]


def is_refusal(kind: str) -> bool:
    """Return whether an error of this ``kind`` says that no request can succeed: nobody there, or not this way."""
    return kind in {"connect", "http_401", "http_403", "http_404", "http_405", "no_text"}
