"""What senders and the database tell one another about deliveries."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Result: TypeAlias = Literal["delivered", "pending", "failed"]
"""What became of an attempt: it arrived, it is tried again, or it was the last."""


@dataclass(frozen=True, slots=True)
class Event:
    """What happened: ``data`` is a JSON object, ``seq`` grows with each event about the same subject.

    ``trace`` is that of the job it is about, empty where there is none.
    """

    id: str
    type: str
    seq: int
    created_at: float
    data: str
    trace: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryClaim:
    """A delivery that is ours until the lease runs out; ``fence`` proves it.

    ``secrets`` are sealed, the newest first; ``attempt`` counts from 1; ``failing_s`` is how long its endpoint has
    not taken anything.
    """

    delivery_id: int
    fence: int
    attempt: int
    endpoint_id: str
    url: str
    secrets: tuple[str, ...]
    on_trial: bool
    failing_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one attempt. ``pending`` is tried again in ``retry_in_s``; its endpoint rests for ``rest_s``.

    ``gone`` disables the endpoint; ``status`` is ``None`` when no answer came.
    """

    claim: DeliveryClaim
    result: Result
    status: int | None = None
    error: str | None = None
    excerpt: str = ""
    duration_ms: int = 0
    retry_in_s: float = 0.0
    rest_s: float = 0.0
    gone: bool = False
