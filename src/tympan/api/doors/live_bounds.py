"""What live speech over the network may take: bytes, seconds and sessions."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LineLimits:
    """How long one session waits, in seconds.

    ``idle_s`` for audio; ``patience_s`` for room while as much audio is held as may be; ``send_s`` for a caller who
    does not read; ``settle_s`` for what is left to be told at the end; ``session_s`` in all.
    """

    idle_s: float = 60.0
    patience_s: float = 30.0
    send_s: float = 30.0
    settle_s: float = 30.0
    session_s: float = 14_400.0


@dataclass(frozen=True, slots=True)
class LiveBounds:
    """How many sessions there may be, how large a message, and how soon a connection is known to be dead.

    A caller is pinged every ``ping_s`` seconds and has ``pong_s`` to answer.
    """

    max_sessions: int = 32
    max_message_bytes: int = 1 << 20
    ping_s: float = 10.0
    pong_s: float = 20.0
    line: LineLimits = field(default_factory=LineLimits)
