"""What each family of routes asks of a key. A route that is in none of them is refused to everybody."""

import re
from dataclasses import dataclass
from typing import Final

from tympan.access.callers import Caller, Scope
from tympan.errors import InsufficientScope

OPEN: Final = frozenset({"/livez", "/readyz", "/health", "/openapi.json", "/", "/favicon.ico"})
"""Paths that answer whoever asks: how the server is, what its routes are, and the page that asks for a key."""

_OPEN_BELOW = "/ui/"

_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_READING_POSTS = re.compile(r"/v1/jobs/[^/]+/audio-link")
"""What is asked for with POST and changes nothing: a link to what the caller may read."""


@dataclass(frozen=True, slots=True)
class Family:
    """Routes at and below ``path``: which scope reading takes, and which one everything else."""

    path: str
    reading: Scope
    writing: Scope


FAMILIES: Final = (
    Family("/v1/audio", Scope.TRANSCRIBE, Scope.TRANSCRIBE),
    Family("/v1/realtime", Scope.TRANSCRIBE, Scope.TRANSCRIBE),
    Family("/v1/stream", Scope.TRANSCRIBE, Scope.TRANSCRIBE),
    Family("/inference", Scope.TRANSCRIBE, Scope.TRANSCRIBE),
    Family("/asr", Scope.TRANSCRIBE, Scope.TRANSCRIBE),
    Family("/detect-language", Scope.TRANSCRIBE, Scope.TRANSCRIBE),
    Family("/v1/jobs", Scope.JOBS_READ, Scope.JOBS_WRITE),
    Family("/v1/batches", Scope.JOBS_READ, Scope.JOBS_WRITE),
    Family("/transcribe", Scope.JOBS_READ, Scope.JOBS_WRITE),
    # Who uploads asks how far it has come, so one scope does for both.
    Family("/v1/uploads", Scope.JOBS_WRITE, Scope.JOBS_WRITE),
    Family("/v1/webhook-endpoints", Scope.WEBHOOKS, Scope.WEBHOOKS),
    Family("/v1/models", Scope.MODELS_READ, Scope.ADMIN),
    Family("/load", Scope.ADMIN, Scope.ADMIN),
    Family("/v1/usage", Scope.USAGE_READ, Scope.USAGE_READ),
    Family("/metrics", Scope.METRICS, Scope.METRICS),
    # Figures about the whole server, as the metrics are; what was said in a clip is for the operator alone.
    Family("/v1/quality/runs", Scope.ADMIN, Scope.ADMIN),
    Family("/v1/quality", Scope.METRICS, Scope.ADMIN),
    Family("/v1/alarms", Scope.METRICS, Scope.ADMIN),
    Family("/v1/capacity", Scope.ADMIN, Scope.ADMIN),
    Family("/v1/admin", Scope.ADMIN, Scope.ADMIN),
)
"""Every family of routes that is not open."""


def is_open(path: str) -> bool:
    """Return whether ``path`` answers without a key: no more than files that come with the program lie there."""
    return path in OPEN or path.startswith(_OPEN_BELOW)


def scope_for(method: str, path: str) -> Scope | None:
    """Return what a key has to allow for ``method`` on ``path``, ``None`` when no family has that path."""
    for family in FAMILIES:
        if path == family.path or path.startswith(family.path + "/"):
            is_reading = method in _READING or (method == "POST" and _READING_POSTS.fullmatch(path))
            return family.reading if is_reading else family.writing
    return None


def check_scope(caller: Caller, scope: Scope) -> None:
    """Raise ``InsufficientScope`` when the caller's key does not allow ``scope``."""
    if scope not in caller.scopes:
        raise InsufficientScope(
            f"This needs the scope {scope.value!r}, which the API key does not have.",
            remedy="Use a key that has it; `tympan keys create` makes one.",
        )
