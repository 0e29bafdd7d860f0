"""How long a caller says that it waits for an answer."""

import math
from collections.abc import Mapping

from tympan.errors import InvalidRequest

DEADLINE_HEADER = "tympan-deadline-s"
"""Seconds from the request's first byte, after which its answer is of no use: it is not worked on any longer."""

SDK_HEADER = "x-stainless-read-timeout"
"""What OpenAI's libraries send: how long they wait for an answer once they have sent everything."""

_MOST_CHARS = 32


def deadline_of(headers: Mapping[str, str], most_s: float) -> float:
    """Return how many seconds a request has: what it asks for, at most ``most_s``. Raises ``InvalidRequest``."""
    asked_s = _seconds(headers.get(DEADLINE_HEADER))
    if DEADLINE_HEADER in headers and asked_s is None:
        raise InvalidRequest(
            "The deadline is not a number of seconds.", param=DEADLINE_HEADER, remedy="Send more than 0, such as 12.5."
        )
    return most_s if asked_s is None else min(asked_s, most_s)


def patience_of(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds the caller waits for its answer, by its deadline or its library's; ``None``: unsaid."""
    said = [_seconds(headers.get(name)) for name in (DEADLINE_HEADER, SDK_HEADER)]
    return min((seconds for seconds in said if seconds is not None), default=None)


def _seconds(text: str | None) -> float | None:
    if text is None or len(text) > _MOST_CHARS:
        return None
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if seconds > 0.0 and math.isfinite(seconds) else None
