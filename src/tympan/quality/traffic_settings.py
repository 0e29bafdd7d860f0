"""What an operator says about watching traffic: fields of a mixin, as those about load are."""

from pydantic import BaseModel, Field


class TrafficFields(BaseModel):
    """Settings about what traffic tells of quality."""

    traffic_days: int = Field(
        400,
        ge=0,
        le=3_650,
        description=(
            "Days that counts of what traffic was like are kept (languages, confidence, noise, codecs; nothing of "
            "single requests); 0 counts nothing."
        ),
    )
    drift_days: int = Field(
        7,
        ge=1,
        le=90,
        description="Days of traffic that are compared with those before, for alarms. Whole weeks serve best.",
    )
    drift_baseline_days: int = Field(
        28, ge=3, le=365, description="Days before these that they are compared with, while no baseline is kept."
    )
