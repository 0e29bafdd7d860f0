"""What an operator says about watching traffic: fields of a mixin, as those about load are."""

from typing import Self

from pydantic import BaseModel, Field, model_validator


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
    shadow_model: str | None = Field(
        None,
        max_length=512,
        description=(
            "A second model, one of those served, that hears a share of the windows of live traffic again; how far the "
            "two texts differ is counted. Unset: none."
        ),
    )
    shadow_share: float = Field(
        0.01, ge=0, le=1, description="Share of the windows that `SHADOW_MODEL` hears again; 1 is all of them."
    )

    @model_validator(mode="after")
    def _counts_what_it_hears_twice(self) -> Self:
        if self.shadow_model and not self.traffic_days:
            raise ValueError("SHADOW_MODEL needs TRAFFIC_DAYS above 0: what it finds is counted by day")
        return self
