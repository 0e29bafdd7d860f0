"""What the head of an answer says, as far as anything depends on it; pure."""

import email.utils
import re
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore

EXCERPT_BYTES = 1024

_MAX_RETRY_AFTER_S = 86_400.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a message: ``retry_after_s`` when asked to wait, ``excerpt`` printable and at most 1 kB."""

    status: int
    retry_after_s: float | None
    excerpt: str
    duration_s: float


class Head:
    """Status and headers of one answer."""

    def __init__(self, response: httpcore.Response) -> None:
        """Read them; a header that comes twice counts as missing."""
        self.status = response.status
        values: dict[str, list[str]] = {}
        for name, value in response.headers:
            values.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1").strip())
        self._values = {name: found[0] for name, found in values.items() if len(found) == 1}
        self.is_encoded = any(value.lower() != "identity" for value in values.get("content-encoding", []))

    @property
    def location(self) -> str | None:
        """Where a redirect leads, empty when it does not say; ``None`` for other answers."""
        if self.status not in _REDIRECTS:
            return None
        # Raw UTF-8 is against the standard and common.
        text = self._values.get("location", "").encode("latin-1")
        return text.decode("utf-8", "replace")

    @property
    def is_passing_failure(self) -> bool:
        """Whether the same request can succeed later."""
        return self.status >= 500 or self.status in _PASSING

    @property
    def length_bytes(self) -> int | None:
        """The announced length of the body."""
        text = self._values.get("content-length", "")
        return int(text) if re.fullmatch("[0-9]{1,18}", text) else None

    @property
    def retry_after_s(self) -> float | None:
        """How long the other side asks to wait, a day at most."""
        text = self._values.get("retry-after", "")
        if re.fullmatch("[0-9]{1,9}", text):
            return min(float(text), _MAX_RETRY_AFTER_S)
        try:
            when = email.utils.parsedate_to_datetime(text)
        except (ValueError, OverflowError):
            return None
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return min(max(0.0, (when - datetime.now(UTC)).total_seconds()), _MAX_RETRY_AFTER_S)


def printable(data: bytes) -> str:
    """Return the beginning of ``data`` as text of at most 1 kB, with a question mark for what is no text."""
    text = data[:EXCERPT_BYTES].decode("utf-8", "replace")
    return "".join(letter if letter.isprintable() and letter != "\N{REPLACEMENT CHARACTER}" else "?" for letter in text)
