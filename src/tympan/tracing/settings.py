"""What an operator says about traces: fields of a mixin, as those about load are."""

from pydantic import BaseModel, Field


class TraceFields(BaseModel):
    """Settings about where traces go."""

    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^\s?#@]+)?$",
        description=(
            "Address of a collector of traces that speaks OTLP over HTTP, such as `http://collector:4318`. Without one "
            "nothing is recorded. `OTEL_EXPORTER_OTLP_HEADERS` holds what it wants to know, such as a key."
        ),
    )
    trace_share: float = Field(
        1.0,
        ge=0,
        le=1,
        description=(
            "Share of the traces that begin here and are recorded. Who sends a `traceparent` decides for itself."
        ),
    )
