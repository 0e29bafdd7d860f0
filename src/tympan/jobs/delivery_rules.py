"""What follows from the answer to a delivery: when to try again, when to give up, how long the endpoint rests. Pure."""

from dataclasses import dataclass

from tympan.storage.delivery_values import DeliveryClaim, Outcome

_MINUTE_S, _HOUR_S = 60.0, 3600.0
_MAX_RETRY_AFTER_S = 24 * _HOUR_S
_GONE = 410
_BUSY = (429, 503)


@dataclass(frozen=True, slots=True)
class Schedule:
    """Waits before each attempt, the first included; each is varied by up to the share ``jitter``.

    An endpoint that fails rests for at least the second wait, for longer the longer it fails, for ``max_rest_s`` at
    most.
    """

    waits_s: tuple[float, ...] = (
        0.0,
        5.0,
        5 * _MINUTE_S,
        30 * _MINUTE_S,
        2 * _HOUR_S,
        5 * _HOUR_S,
        10 * _HOUR_S,
        14 * _HOUR_S,
        20 * _HOUR_S,
        24 * _HOUR_S,
    )
    jitter: float = 0.2
    max_rest_s: float = 300.0

    def wait_s(self, attempts: int, draw: float) -> float | None:
        """Return the wait after so many attempts; ``None`` after the last. ``draw`` is a random number from 0 to 1."""
        if attempts >= len(self.waits_s):
            return None
        return self.waits_s[attempts] * (1 + self.jitter * (2 * draw - 1))

    def rest_s(self, failing_s: float) -> float:
        """Return how long an endpoint rests that has failed for ``failing_s``."""
        shortest_s = self.waits_s[1] if len(self.waits_s) > 1 else 0.0
        return min(self.max_rest_s, max(shortest_s, failing_s / 2))


@dataclass(frozen=True, slots=True)
class Reply:
    """What an attempt brought: a status, or else the error that kept it from bringing one."""

    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    excerpt: str = ""
    duration_s: float = 0.0


def judge(claim: DeliveryClaim, reply: Reply, schedule: Schedule, draw: float) -> Outcome:
    """Return what is to be noted about one attempt."""
    duration_ms = round(reply.duration_s * 1000)
    if reply.status is not None and 200 <= reply.status < 300:
        return Outcome(claim, "delivered", reply.status, excerpt=reply.excerpt, duration_ms=duration_ms)
    wait_s = schedule.wait_s(claim.attempt, draw)
    asked_s = min(reply.retry_after_s or 0.0, _MAX_RETRY_AFTER_S)
    rest_s = schedule.rest_s(claim.failing_s)
    if wait_s is not None:
        wait_s = max(wait_s, asked_s)
        # Not longer than its own wait, or the wait would not be kept ...
        rest_s = min(rest_s, wait_s)
    if reply.status in _BUSY:
        rest_s = max(rest_s, asked_s)  # ... unless the receiver asked for it.
    return Outcome(
        claim,
        "failed" if wait_s is None or reply.status == _GONE else "pending",
        reply.status,
        error=reply.error or _told(reply.status),
        excerpt=reply.excerpt,
        duration_ms=duration_ms,
        retry_in_s=wait_s or 0.0,
        rest_s=rest_s,
        gone=reply.status == _GONE,
    )


def _told(status: int | None) -> str:
    if status is not None and 300 <= status < 400:
        return f"The receiver answered {status}; redirects are not followed."
    return f"The receiver answered {status}."
