"""What an operator says about every tenant's limits: fields of a mixin, as those about models are."""

from pydantic import BaseModel, Field

from tympan.access.tenant_limits import TenantLimits

_MOST = 1_000_000_000


class LimitFields(BaseModel):
    """The limits of a tenant that has none of its own; 0 is no limit."""

    limit_requests_per_min: int = Field(
        0, ge=0, le=_MOST, description="Requests that a tenant may make in a minute; 0 is no limit, as with all limits."
    )
    limit_audio_minutes_per_min: float = Field(
        0, ge=0, le=_MOST, description="Minutes of audio that a tenant may hand in in a minute."
    )
    limit_audio_minutes_per_day: float = Field(
        0, ge=0, le=_MOST, description="Minutes of audio that a tenant may hand in in 24 hours."
    )
    limit_requests_at_once: int = Field(
        0, ge=0, le=_MOST, description="Requests for a text that a tenant may have under way at a time."
    )
    limit_jobs_at_once: int = Field(
        0, ge=0, le=_MOST, description="Jobs of a tenant that may be queued or running at a time."
    )
    limit_live_at_once: int = Field(0, ge=0, le=_MOST, description="Live sessions that a tenant may have at a time.")
    limit_storage_mb: int = Field(
        0, ge=0, le=_MOST, description="Uploads and audio that a tenant may keep here, in megabytes of 1,000,000 bytes."
    )
    limit_upload_mb: int = Field(
        0,
        ge=0,
        le=_MOST,
        description="Largest body of a tenant's request or upload, where it is below `MAX_UPLOAD_MB`.",
    )
    limit_audio_minutes: float = Field(
        0, ge=0, le=_MOST, description="Longest recording of a tenant in minutes, where it is below `MAX_AUDIO_S`."
    )

    @property
    def tenant_limits(self) -> TenantLimits:
        """The limits of a tenant that has none of its own."""
        return TenantLimits(
            requests_per_min=self.limit_requests_per_min,
            audio_minutes_per_min=self.limit_audio_minutes_per_min,
            audio_minutes_per_day=self.limit_audio_minutes_per_day,
            requests_at_once=self.limit_requests_at_once,
            jobs_at_once=self.limit_jobs_at_once,
            live_at_once=self.limit_live_at_once,
            storage_mb=self.limit_storage_mb,
            upload_mb=self.limit_upload_mb,
            audio_minutes=self.limit_audio_minutes,
        )
