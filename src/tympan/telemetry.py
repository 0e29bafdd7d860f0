"""What operators see: every metric, declared once; the log format; the request id that ties log lines together.

Labels come from small known sets (the loaded model, Whisper's languages, our error codes and routes), so the number of
series is bounded however many clients, files and paths there are. No log line carries text, prompts or file names.
"""

import logging
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TextIO, TypeAlias

import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from structlog.types import EventDict, Processor

from tympan.domain import Lane, Transcript
from tympan.languages import LANGUAGES

LogFormat: TypeAlias = Literal["json", "console"]

disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
METRICS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
UNKNOWN = "unknown"
"""The label value of a model or language that is not, or not yet, known."""

_LATENCY_BUCKETS_S = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 20, 30, 60, 120, 300)
_DURATION_BUCKETS_S = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600, 7200, 14400)
_SMOOTHING = 0.1

REQUESTS = Counter(
    "tympan_requests",
    "Transcription requests answered, failed ones included.",
    ["model", "language"],
    registry=REGISTRY,
)
ERRORS = Counter("tympan_errors", "Transcription requests that failed.", ["model", "language"], registry=REGISTRY)
ERROR_CODES = Counter("tympan_error_codes", "Error answers of the HTTP interface by code.", ["code"], registry=REGISTRY)
LATENCY = Histogram(
    "tympan_latency_seconds",
    "Time from the first byte of a request to its answer, for requests that succeeded.",
    ["model"],
    buckets=_LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
AUDIO_DURATION = Histogram(
    "tympan_audio_duration_seconds",
    "Length of the audio of requests that succeeded.",
    ["model"],
    buckets=_DURATION_BUCKETS_S,
    registry=REGISTRY,
)
QUEUE_DEPTH = Gauge("tympan_queue_depth", "Windows waiting for the engine.", ["lane"], registry=REGISTRY)
QUEUED_AUDIO = Gauge(
    "tympan_queued_audio_seconds", "Seconds of audio waiting for the engine.", ["lane"], registry=REGISTRY
)
REALTIME_FACTOR = Gauge(
    "tympan_realtime_factor",
    "Seconds of audio per second of processing in one request; moving average over about ten requests.",
    ["model"],
    registry=REGISTRY,
)
WINDOWS = Counter("tympan_windows", "Windows decoded.", ["model"], registry=REGISTRY)
FALLBACKS = Counter("tympan_fallbacks", "Windows that needed another decoding attempt.", ["model"], registry=REGISTRY)
SPEECH = Counter("tympan_speech_seconds", "Seconds that were taken for speech.", ["model"], registry=REGISTRY)
IN_PROGRESS = Gauge(
    "tympan_requests_in_progress", "Transcription requests admitted and not answered.", registry=REGISTRY
)
BATCH_WINDOWS = Histogram(
    "tympan_batch_windows", "Windows in one pass of the engine.", buckets=(1, 2, 4, 8, 16, 32), registry=REGISTRY
)
BATCH_SECONDS = Histogram(
    "tympan_batch_seconds", "Time of one pass of the engine.", buckets=_LATENCY_BUCKETS_S, registry=REGISTRY
)
BATCH_ERRORS = Counter("tympan_batch_errors", "Passes of the engine that failed, by code.", ["code"], registry=REGISTRY)
ENGINE_RESTARTS = Counter(
    "tympan_engine_restarts", "Replacements of the engine's process, by reason.", ["reason"], registry=REGISTRY
)
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
JOBS = Gauge("tympan_jobs", "Jobs by state.", ["state"], registry=REGISTRY)
JOB_BACKLOG = Gauge("tympan_job_backlog_seconds", "Seconds of audio of jobs that wait, about.", registry=REGISTRY)
STEP_SECONDS = Histogram(
    "tympan_step_seconds", "Time of one step of a job.", ["kind"], buckets=_LATENCY_BUCKETS_S, registry=REGISTRY
)
STEP_FAILURES = Counter(
    "tympan_step_failures", "Steps of jobs that ended with an error, by code.", ["code"], registry=REGISTRY
)
LEASES_EXPIRED = Counter("tympan_leases_expired", "Steps taken from workers that fell silent.", registry=REGISTRY)
WEBHOOK_DELIVERIES = Counter(
    "tympan_webhook_deliveries", "Attempts to deliver an event, by outcome.", ["outcome"], registry=REGISTRY
)
BELLS_WAITING = Gauge("tympan_outbox_waiting", "Doorbells written and not yet published.", registry=REGISTRY)
BROKER_BLOCKED = Gauge("tympan_broker_blocked", "1 while the broker takes no doorbells.", registry=REGISTRY)
READY = Gauge("tympan_ready", "1 while the server takes transcription requests.", registry=REGISTRY)
UPLOADED = Counter("tympan_uploaded_bytes", "Bytes of request bodies received.", registry=REGISTRY)
HTTP_RESPONSES = Counter(
    "tympan_http_responses", "HTTP answers by route pattern and status.", ["route", "status"], registry=REGISTRY
)

for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)

METRICS: tuple[Counter | Gauge | Histogram, ...] = tuple(
    metric for metric in list(globals().values()) if isinstance(metric, Counter | Gauge | Histogram)
)
"""Every metric of ours, in the order of this file."""

request_id: ContextVar[str] = ContextVar("request_id", default="")
"""The id of the request that the current task or thread works for; empty outside requests."""

_averages: dict[str, float] = {}


class QueueStats(Protocol):
    """What a queue of windows tells about itself."""

    @property
    def queued_windows(self) -> Mapping[Lane, int]:
        """Waiting windows by lane."""

    @property
    def queued_audio_s(self) -> Mapping[Lane, float]:
        """Seconds of waiting audio by lane."""


class Batch(Protocol):
    """What is told about one pass of the engine."""

    @property
    def windows(self) -> int:
        """Windows in it."""

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


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric as it is scraped, for the documentation."""

    name: str
    kind: str
    labels: tuple[str, ...]
    description: str


def metric_rows() -> list[MetricRow]:
    """Return every metric of ours."""
    rows = []
    for metric in METRICS:
        family = next(iter(metric.describe()))
        name = family.name + ("_total" if family.type == "counter" else "")
        rows.append(MetricRow(name, family.type, tuple(metric._labelnames), family.documentation))  # noqa: SLF001
    return rows


def record_success(transcript: Transcript, latency_s: float) -> None:
    """Count one answered request; ``latency_s`` is what the caller waited."""
    model = transcript.model
    REQUESTS.labels(model, _language(transcript.language)).inc()
    LATENCY.labels(model).observe(latency_s)
    AUDIO_DURATION.labels(model).observe(transcript.duration_s)
    WINDOWS.labels(model).inc(transcript.stats.windows)
    FALLBACKS.labels(model).inc(transcript.stats.fallbacks)
    SPEECH.labels(model).inc(transcript.accounting.speech_s)
    if transcript.processing_s > 0:
        _average(model, transcript.duration_s / transcript.processing_s)


def record_failure(model: str, language: str | None) -> None:
    """Count one request that failed."""
    REQUESTS.labels(model, _language(language)).inc()
    ERRORS.labels(model, _language(language)).inc()


def record_queue(stats: QueueStats) -> None:
    """Show the queue as it is now, every lane included."""
    for lane in Lane:
        name = lane.name.lower()
        QUEUE_DEPTH.labels(name).set(stats.queued_windows.get(lane, 0))
        QUEUED_AUDIO.labels(name).set(stats.queued_audio_s.get(lane, 0.0))


def record_model(model: str, memory_bytes: int | None, *, is_loaded: bool) -> None:
    """Show a model as it is now."""
    MODEL_LOADED.labels(model).set(is_loaded)
    MODEL_MEMORY.labels(model).set(memory_bytes or 0)


def metrics_text() -> bytes:
    """Return all metrics in the text format that Prometheus scrapes."""
    return generate_latest(REGISTRY)


def configure_logging(level: str, fmt: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line, those of libraries included, to ``stream`` (standard error) in one format."""
    shared = _processors()
    renderer: Processor = (
        structlog.processors.JSONRenderer()
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _one_line, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a logger whose lines carry the current request id."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def crash_report(error: BaseException) -> dict[str, object]:
    """Return what may be logged of an unexpected error: its type and where it arose.

    The message stays out, because it can quote what a user said or sent.
    """
    frames = traceback.extract_tb(error.__traceback__)
    return {
        "error_type": type(error).__name__,
        "errno": getattr(error, "errno", None),
        "where": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames[-12:]],
    }


def _processors() -> list[Processor]:
    return [
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_request_id,
        _hide_exception_text,
    ]


def _add_request_id(_logger: Any, _method: str, event: EventDict) -> EventDict:
    if current := request_id.get():
        event.setdefault("request_id", current)
    return event


def _hide_exception_text(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Reduce an attached exception to a crash report, ours and the libraries' alike."""
    info = event.pop("exc_info", None)
    error = sys.exc_info()[1] if info is True else info[1] if isinstance(info, tuple) else info
    if isinstance(error, BaseException):
        event.update(crash_report(error))
    return event


def _one_line(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape control characters, so that nobody can forge a log line or recolour a terminal."""
    return {key: _escape(value) if isinstance(value, str) else value for key, value in event.items()}


def _escape(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def _language(code: str | None) -> str:
    return code if code is not None and code in LANGUAGES else UNKNOWN


def _average(model: str, factor: float) -> None:
    mean = _averages.get(model, factor)
    _averages[model] = mean + _SMOOTHING * (factor - mean)
    REALTIME_FACTOR.labels(model).set(_averages[model])
