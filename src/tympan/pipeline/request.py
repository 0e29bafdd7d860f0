"""Who asks for a transcript, how urgently, and how to stop."""

import threading
import time
from dataclasses import dataclass, field

from tympan.domain import Lane
from tympan.errors import Cancelled, RequestTimeout


@dataclass(frozen=True, slots=True)
class RequestContext:
    """Who asks, how urgently, and how to stop. ``deadline`` is a ``time.monotonic()`` value."""

    request_id: str
    tenant: str = "default"
    lane: Lane = Lane.INTERACTIVE
    max_audio_s: float = 14_400.0
    cancel: threading.Event = field(default_factory=threading.Event)
    deadline: float | None = None

    def check(self) -> None:
        """Raise ``Cancelled`` or ``RequestTimeout`` when the request should not go on."""
        if self.cancel.is_set():
            raise Cancelled
        if self.deadline is not None and time.monotonic() > self.deadline:
            raise RequestTimeout(remedy="Send shorter audio, or raise TYMPAN_REQUEST_TIMEOUT_S.")
