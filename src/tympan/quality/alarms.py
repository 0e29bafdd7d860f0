"""What can be wrong with quality: kinds of alarms of golden sets and of models on trial; where all alarms are kept."""

from collections.abc import Mapping
from types import MappingProxyType

from tympan.storage.alarms import Alarm, AlarmBook

__all__ = [
    "CANDIDATE_WORSE",
    "KINDS",
    "RUN_FAILED",
    "RUN_OVERDUE",
    "TEXT_FROM_NOTHING",
    "WORSE_WORDS",
    "Alarm",
    "AlarmBook",
]

WORSE_WORDS = "wer_regression"
TEXT_FROM_NOTHING = "hallucination_regression"
RUN_FAILED = "run_failed"
RUN_OVERDUE = "run_overdue"
CANDIDATE_WORSE = "candidate_worse"

KINDS: Mapping[str, str] = MappingProxyType(
    {
        WORSE_WORDS: "More word errors on a golden set than its baseline had, beyond chance and tolerance.",
        TEXT_FROM_NOTHING: "Text for more clips without speech than at the baseline, beyond chance.",
        RUN_FAILED: "The last run of a golden set failed, so nothing is known.",
        RUN_OVERDUE: "A golden set has not been measured since its schedule would have had it.",
        CANDIDATE_WORSE: "A model on trial is worse than the one it should replace; it still answers its share.",
    }
)
"""Every kind of alarm about golden sets and models on trial, and what it says."""
