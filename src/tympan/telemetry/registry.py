"""Where all metrics are registered, and what they share."""

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from tympan.languages import LANGUAGES

disable_created_metrics()  # type: ignore[no-untyped-call]

REGISTRY = CollectorRegistry()
UNKNOWN = "unknown"
"""The label value of a model or language that is not, or not yet, known."""

LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60, 120, 300)


def language_label(code: str | None) -> str:
    """Return a language as a label: its code if it is one of Whisper's, so that there are only so many."""
    return code if code is not None and code in LANGUAGES else UNKNOWN


for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)
