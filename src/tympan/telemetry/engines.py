"""Metrics of engines: their queue, their passes, their processes; and who takes note of them."""

from collections.abc import Mapping
from typing import Protocol

from prometheus_client import Counter, Gauge, Histogram

from tympan.domain import Lane
from tympan.telemetry.registry import LATENCY_BUCKETS_S, REGISTRY

QUEUE_DEPTH = Gauge("tympan_queue_depth", "Windows waiting for the engine.", ["lane"], registry=REGISTRY)
QUEUED_AUDIO = Gauge(
    "tympan_queued_audio_seconds", "Seconds of audio waiting for the engine.", ["lane"], registry=REGISTRY
)
ENGINES = Gauge("tympan_engines", "Engines that are loaded and take windows.", registry=REGISTRY)
BATCH_WINDOWS = Histogram(
    "tympan_batch_windows", "Windows in one pass of the engine.", buckets=(1, 2, 4, 8, 16, 32), registry=REGISTRY
)
BATCH_FILL = Histogram(
    "tympan_batch_fill_ratio",
    "Windows in one pass of the engine, of those that a pass may have.",
    buckets=(0.1, 0.25, 0.5, 0.75, 0.9, 1),
    registry=REGISTRY,
)
BATCH_SECONDS = Histogram(
    "tympan_batch_seconds",
    "Time of one pass of the engine. The sum is how long engines were busy.",
    buckets=LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
BATCH_ERRORS = Counter("tympan_batch_errors", "Passes of the engine that failed, by code.", ["code"], registry=REGISTRY)
ENGINE_RESTARTS = Counter(
    "tympan_engine_restarts", "Replacements of the engine's process, by reason.", ["reason"], registry=REGISTRY
)
for _reason in ("engine_device_lost", "engine_failed", "engine_hang", "engine_out_of_memory", "memory"):
    ENGINE_RESTARTS.labels(_reason)  # A series that begins with its first event does not show it as an increase.
MODEL_LOADED = Gauge("tympan_model_loaded", "1 while the model is in memory.", ["model"], registry=REGISTRY)
MODEL_MEMORY = Gauge(
    "tympan_model_memory_bytes", "Resident memory of the model's process, in bytes.", ["model"], registry=REGISTRY
)
MODEL_LOADS = Counter(
    "tympan_model_loads",
    "Loads of models, by outcome: loaded, or an error code.",
    ["model", "outcome"],
    registry=REGISTRY,
)
MODEL_UNLOADS = Counter(
    "tympan_model_unloads",
    "Processes of models that were ended: asked, room, idle, lost, end.",
    ["model", "reason"],
    registry=REGISTRY,
)


class QueueStats(Protocol):
    """What a queue of windows tells about itself."""

    @property
    def queued_windows(self) -> Mapping[Lane, int]:
        """Waiting windows by lane."""

    @property
    def queued_audio_s(self) -> Mapping[Lane, float]:
        """Seconds of waiting audio by lane."""

    @property
    def compute_s_per_audio_s(self) -> float:
        """Recent seconds of the engine's work per second of audio; 0 where that is not known."""

    @property
    def engines(self) -> int:
        """Engines that are loaded and take windows from it."""


class Batch(Protocol):
    """What is told about one pass of the engine."""

    @property
    def windows(self) -> int:
        """Windows in it."""

    @property
    def most(self) -> int:
        """Windows that it could have had; 0 where that is not known."""

    @property
    def compute_s(self) -> float:
        """Time it took, in seconds."""

    @property
    def error(self) -> str | None:
        """Error code when it failed."""


class BatchMetrics:
    """Watches the engine: an observer for the batcher."""

    def on_batch(self, report: Batch) -> None:
        """Count one pass."""
        BATCH_WINDOWS.observe(report.windows)
        BATCH_SECONDS.observe(report.compute_s)
        if report.most:
            BATCH_FILL.observe(report.windows / report.most)
        if report.error is not None:
            BATCH_ERRORS.labels(report.error).inc()

    def on_restart(self, reason: str) -> None:
        """Count one replacement of the engine's process."""
        ENGINE_RESTARTS.labels(reason).inc()


class ModelMetrics:
    """Watches models come and go: an observer for the fleet."""

    def on_load(self, model: str, outcome: str) -> None:
        """Count one load."""
        MODEL_LOADS.labels(model, outcome).inc()

    def on_unload(self, model: str, reason: str) -> None:
        """Count one end of a process."""
        MODEL_UNLOADS.labels(model, reason).inc()


def record_queue(stats: QueueStats) -> None:
    """Show the queue as it is now, every lane included."""
    ENGINES.set(stats.engines)
    for lane in Lane:
        name = lane.name.lower()
        QUEUE_DEPTH.labels(name).set(stats.queued_windows.get(lane, 0))
        QUEUED_AUDIO.labels(name).set(stats.queued_audio_s.get(lane, 0.0))


def record_model(model: str, memory_bytes: int | None, *, is_loaded: bool) -> None:
    """Show a model as it is now."""
    MODEL_LOADED.labels(model).set(is_loaded)
    MODEL_MEMORY.labels(model).set(memory_bytes or 0)
