"""What an operator says about load: how much may wait, and for how long.

The settings are fields of a mixin, so that what is about load stands together. Nothing here reads anything.
"""

from pydantic import BaseModel, Field


class LoadFields(BaseModel):
    """Settings about what is done when more comes than can be done."""

    max_wait_s: float = Field(
        120.0,
        gt=0,
        le=86_400,
        description=(
            "Longest predicted wait of a request for its turn, in seconds, at most REQUEST_TIMEOUT_S. Near it live "
            "sessions and long files are refused first, then jobs, then short files: 503 with Retry-After."
        ),
    )
    reattach_s: float = Field(
        10.0,
        ge=0,
        le=300,
        description=(
            "How long the work of a caller who has gone stands still in case it is a retry that comes, in seconds; "
            "then it is dropped. 0 drops it at once."
        ),
    )
    max_queued_audio_s: float = Field(
        36_000_000.0,
        ge=1,
        le=3_600_000_000,
        description="Most seconds of audio of jobs that may wait, about; above it 503 with Retry-After.",
    )
