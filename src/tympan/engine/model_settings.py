"""What an operator says about the models of a server: which ones, how each runs, and how they share memory.

The settings are fields of a mixin, so that what is about models stands together. Nothing here reads anything.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

MAX_ENTRIES = 32
"""Most models that ``MODELS`` may name."""


@dataclass(frozen=True, slots=True, repr=False)
class ModelEntry:
    """One model of ``MODELS``; what is ``None`` is as for the default model.

    ``options`` are knobs of its runtime. ``pinned``: never unloaded to make room. ``preload``: loaded at the start.
    ``memory_mb`` is what it counts for until it is measured, in place of our estimate.
    """

    __pydantic_config__: ClassVar[Mapping[str, object]] = {"extra": "forbid"}

    name: str
    engine: str | None = None
    device: Literal["auto", "cpu", "cuda", "metal", "vulkan"] | None = None
    compute_type: str | None = None
    threads: int | None = None
    pinned: bool = False
    preload: bool = False
    memory_mb: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what can never be right."""
        if not self.name.strip():
            raise ValueError("a model needs a name")
        for name in ("threads", "memory_mb"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} of {self.name} must be 1 or more")

    def __repr__(self) -> str:
        """Return the name, with what was said beside it."""
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "name"}
        details = [name if value is True else f"{name}={value}" for name, value in said.items() if value]
        return f"{self.name} ({', '.join(details)})" if details else self.name


def parse_entries(value: object) -> object:
    """Return the setting ``MODELS`` as a list of tables.

    It comes as names with commas between them, as JSON, or as a list of names and tables. What makes no sense is
    returned as it is, for pydantic to refuse. Raises ``ValueError`` for what looks like JSON and is not.
    """
    if isinstance(value, str):
        text = value.strip()
        value = json.loads(text) if text.startswith("[") else [name.strip() for name in text.split(",") if name.strip()]
    if not isinstance(value, list | tuple):
        return value
    return [{"name": item} if isinstance(item, str) else item for item in value]


class ModelFields(BaseModel):
    """Settings about how several models live together."""

    model_aliases: dict[str, str] = Field(
        default_factory=dict,
        description='More names for models, as a JSON object of name and model: `{"gpt-4o-transcribe": "base"}`.',
    )
    models_cached: bool = Field(
        False, description="Also serve every model that lies in the models folder at the start."
    )
    model_memory_mb: int | None = Field(
        None,
        ge=1,
        le=100_000_000,
        description=(
            "Memory that all loaded models together may take on one device, in megabytes of 1,000,000 bytes. `auto` is "
            "70 % of the machine's, and of the GPU's for models there. Models that do not fit take turns."
        ),
    )
    model_dwell_s: float = Field(
        20.0,
        ge=0,
        le=86_400,
        description="Shortest time a loaded model stays before it makes room for another, in seconds.",
    )
    model_idle_s: float | None = Field(
        None, ge=1, le=2_592_000, description="Unload a model that was not used for this many seconds; `auto` is never."
    )
    model_wait_s: float = Field(
        60.0, gt=0, le=3_600, description="Longest wait of a request for its model to be loaded, in seconds; then 503."
    )
    model_fallback: str | None = Field(
        None, max_length=512, description="Model that answers in place of one that cannot be loaded."
    )
    gpus: str = Field(
        "auto",
        pattern=r"^(auto|[0-9]{1,3}(,[0-9]{1,3}){0,15})$",
        description=(
            "NVIDIA GPUs that models run on, by CUDA's numbers, such as `0,1`: each model runs on every one, in a "
            "process of its own. `auto` takes all that can be seen."
        ),
    )
    gpu_fallback: Literal["wait", "cpu"] = Field(
        "wait", description="When a GPU is lost: `wait` for it, or go on with the model on the `cpu`, much slower."
    )

    @field_validator("model_memory_mb", "model_idle_s", mode="before")
    @classmethod
    def _automatic(cls, value: object) -> object:
        return None if isinstance(value, str) and value.strip().lower() in ("", "auto") else value
