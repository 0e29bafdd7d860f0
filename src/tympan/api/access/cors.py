"""Pages of other sites, as browsers ask about them (CORS): those that the operator allows, and no other."""

import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Send

_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_HEADERS = re.compile(r"[A-Za-z0-9, -]{0,1000}", re.ASCII)
_REMEMBER_S = 600

EXPOSED = (
    *("Retry-After", "RateLimit", "RateLimit-Policy"),
    *(f"X-RateLimit-{what}-Requests" for what in ("Limit", "Remaining", "Reset")),
    *("X-Request-Id", "OpenAI-Processing-Ms", "Tympan-Queue-Position", "Tympan-Queue-Eta-S", "Tympan-Reattached"),
    *("Location", "Allow", "WWW-Authenticate", "Content-Disposition", "ETag", "Asr-Engine"),
    *("Accept-Ranges", "Content-Range"),
    *(f"Tus-{what}" for what in ("Resumable", "Version", "Extension", "Max-Size", "Checksum-Algorithm")),
    *(f"Upload-{what}" for what in ("Offset", "Length", "Defer-Length", "Metadata", "Expires")),
)
"""Headers of answers that the scripts of a page may read."""


def is_preflight(method: str, headers: Headers) -> bool:
    """Return whether a browser asks if it may ask."""
    return method == "OPTIONS" and "origin" in headers and "access-control-request-method" in headers


def preflight_headers(headers: Headers) -> dict[str, str]:
    """Return the answer to a preflight from an origin that is allowed."""
    wanted = headers.get("access-control-request-headers", "")
    return {
        "access-control-allow-origin": headers["origin"],
        "access-control-allow-methods": _METHODS,
        "access-control-allow-headers": wanted if _HEADERS.fullmatch(wanted) else "authorization, content-type",
        "access-control-max-age": str(_REMEMBER_S),
        "vary": "Origin",
    }


def sharing(send: Send, headers: Headers, allowed: Collection[str]) -> Send:
    """Return ``send``, which lets a page of an allowed origin read the answer, if one asks."""
    origin = headers.get("origin")
    if origin is None or origin not in allowed:
        return send

    async def send_shared(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer = MutableHeaders(scope=message)
            answer["access-control-allow-origin"] = origin
            # By name as well: the asterisk counts neither in older browsers nor in requests with credentials.
            answer["access-control-expose-headers"] = ", ".join((*EXPOSED, "*"))
            answer.add_vary_header("Origin")
        await send(message)

    return send_shared
