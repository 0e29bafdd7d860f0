"""What an operator says about who may come in: fields of a mixin, as those about models are."""

import ipaddress
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from tympan.storage.audit import MIN_DAYS


class DoorFields(BaseModel):
    """Settings about keys, pages of other sites, proxies in front, our own page, and the log of who did what."""

    api_keys: Literal["required", "open"] | None = Field(
        None,
        description=(
            "Whether callers need a key. `auto`: on a loopback address once there are any, on others always. "
            "`required`: always. `open`: never, everybody who reaches the port may use the server."
        ),
    )
    allowed_origins: tuple[str, ...] = Field(
        (),
        max_length=100,
        description='Web sites whose pages may ask beside the server\'s own, as a JSON list: `["https://example.com"]`.',
    )
    trusted_proxies: tuple[str, ...] = Field(
        (),
        max_length=100,
        description=(
            "Proxies in front whose `X-Forwarded-For` is believed, as a JSON list of addresses and networks. Who is "
            "not in it is taken for the caller: in the audit log, and where bad keys are counted."
        ),
    )
    metrics_open: bool = Field(
        False,
        description="Answer `/metrics` without a key, for networks where none but Prometheus reaches the port.",
    )
    web_ui: bool = Field(
        True,
        description="Show the web UI at `/`. Its files need no key; what is done in it needs one like any other call.",
    )
    audit_days: float = Field(
        365.0, ge=MIN_DAYS, le=36_500, description="Days that the audit log is kept; the database refuses less than 30."
    )

    @field_validator("api_keys", mode="before")
    @classmethod
    def _auto_keys(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "auto") else value

    @field_validator("allowed_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            scheme, separator, rest = origin.partition("://")
            if not (scheme and separator and rest) or "/" in rest or "*" in rest:
                raise ValueError(
                    f"{origin!r} is not an origin; write only scheme and host, such as https://example.com"
                )
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ipaddress.ip_network(network, strict=False)
        return value
