"""What an operator says about quality: fields of a mixin, as those about load are."""

from pydantic import Field

from tympan.quality import TOLERANCE_POINTS
from tympan.quality.traffic_settings import TrafficFields


class QualityFields(TrafficFields):
    """Settings about golden sets and live traffic."""

    quality_starter: bool = Field(
        True, description="Measure the starter golden set, which comes with the program, every week."
    )
    quality_tolerance_points: float = Field(
        TOLERANCE_POINTS,
        ge=0,
        le=100,
        description="By how many percentage points of word errors a golden set may get worse before it is an alarm.",
    )
    quality_run_limit_s: float = Field(
        86_400.0, ge=60, le=604_800, description="Longest time for one run of a golden set, in seconds."
    )
