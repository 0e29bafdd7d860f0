"""The settings of live speech over the network."""

from pydantic import BaseModel, Field


class LiveFields(BaseModel):
    """What an operator may set about live sessions; part of the settings."""

    max_live_sessions: int = Field(
        32, ge=0, le=10_000, description="Most live sessions (WebSockets) at the same time; above it 503."
    )
    live_idle_s: float = Field(
        60.0, gt=0, le=3_600, description="Longest time without audio in a live session, in seconds; then it ends."
    )
