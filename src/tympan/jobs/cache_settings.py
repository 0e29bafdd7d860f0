"""What an operator says about results that are kept for equal calls: fields of a mixin, as those about load are."""

from pydantic import BaseModel, Field


class CacheFields(BaseModel):
    """Settings about results that serve more than one caller."""

    result_ttl_s: float = Field(
        3_600.0,
        ge=0,
        le=31_536_000,
        description=(
            "How long the result of a job serves equal jobs, in seconds; 0 never. As long, but a day at most, results "
            "of synchronous calls are kept where `RESULT_CACHE_MB` makes room for them."
        ),
    )
    result_cache_mb: int = Field(
        0,
        ge=0,
        le=1_000_000,
        description=(
            "Room for results of synchronous calls, in megabytes of 1,000,000 bytes, so that an equal call or job of "
            "the same tenant is answered at once: in memory, in a cluster in Redis. 0 keeps none."
        ),
    )
