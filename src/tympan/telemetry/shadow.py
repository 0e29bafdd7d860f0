"""Metrics of the shadow model: the windows that it heard again, and how far its text was from the first one."""

from typing import Protocol

from prometheus_client import Counter

from tympan.telemetry.registry import REGISTRY

SHADOW_OUTCOMES = ("compared", "failed", "full", "busy", "late", "unsupported", "unavailable")
"""What becomes of a window that chance has chosen."""

SHADOW_WINDOWS = Counter(
    "tympan_shadow_windows",
    "Windows chosen to be heard again: compared, failed, or left out because others waited to be heard (full), callers "
    "waited (busy), it took too long (late), the model cannot (unsupported) or was not loaded (unavailable).",
    ["outcome"],
    registry=REGISTRY,
)
SHADOW_WORDS = Counter(
    "tympan_shadow_words", "Words that the shadow model heard, by the model it is compared with.", ["model"],
    registry=REGISTRY,
)  # fmt: skip
SHADOW_ERRORS = Counter(
    "tympan_shadow_word_errors",
    "Words in which a model differs from the shadow model: substitution, deletion (it has less), insertion.",
    ["model", "error"],
    registry=REGISTRY,
)

for _outcome in SHADOW_OUTCOMES:
    SHADOW_WINDOWS.labels(_outcome)


class Edits(Protocol):
    """How two texts differ."""

    @property
    def units(self) -> int:
        """Words of the shadow model's text."""

    @property
    def substitutions(self) -> int:
        """Other words."""

    @property
    def deletions(self) -> int:
        """Words less."""

    @property
    def insertions(self) -> int:
        """Words more."""


def record_disagreement(model: str, edits: Edits) -> None:
    """Show how one window's text differs from the shadow model's."""
    SHADOW_WORDS.labels(model).inc(edits.units)
    SHADOW_ERRORS.labels(model, "substitution").inc(edits.substitutions)
    SHADOW_ERRORS.labels(model, "deletion").inc(edits.deletions)
    SHADOW_ERRORS.labels(model, "insertion").inc(edits.insertions)
