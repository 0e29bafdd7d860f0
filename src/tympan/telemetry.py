"""What operators see: every metric, declared once; the log is in ``logs``, and its names are here too.

Labels come from small known sets (the loaded model, Whisper's languages, our error codes and routes), so the number of
series is bounded however many clients, files and paths there are. No log line carries text, prompts or file names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

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

from tympan.domain import Lane, Transcript
from tympan.languages import LANGUAGES
from tympan.logs import LogFormat, about, configure_logging, crash_report, get_logger, log_crashes, request_id

__all__ = ["LogFormat", "about", "configure_logging", "crash_report", "get_logger", "log_crashes", "request_id"]

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
REFUSALS = Counter(
    "tympan_refusals",
    "Requests refused for want of capacity: places, deadline, or what was shed (short, long, live, job).",
    ["reason"],
    registry=REGISTRY,
)
REATTACHED = Counter(
    "tympan_reattached_requests", "Requests that took up the work that their first try had begun.", registry=REGISTRY
)
RESULT_CACHE = Counter(
    "tympan_result_cache",
    "Looks for the kept result of an equal call: hit, miss, damaged, away (Redis).",
    ["outcome"],
    registry=REGISTRY,
)
RESULT_CACHE_BYTES = Gauge(
    "tympan_result_cache_bytes", "Bytes of results kept for equal calls, as last seen.", registry=REGISTRY
)
RESULT_CACHE_EVICTIONS = Counter(
    "tympan_result_cache_evictions", "Results that had to go for others before their time.", registry=REGISTRY
)
PREDICTED_WAIT = Gauge(
    "tympan_predicted_wait_seconds", "Time until the requests let in are done, about.", registry=REGISTRY
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
LIVE_SESSIONS = Gauge("tympan_live_sessions", "Live sessions that go on.", registry=REGISTRY)
LIVE_AUDIO = Counter("tympan_live_audio_seconds", "Seconds of audio that live sessions took.", registry=REGISTRY)
LIVE_DROPPED = Counter(
    "tympan_live_partials_dropped", "Partials that a newer one replaced before they were read.", registry=REGISTRY
)
LIVE_ENDS = Counter(
    "tympan_live_ends", "Live sessions that have ended, by WebSocket close code.", ["code"], registry=REGISTRY
)
JOBS = Gauge("tympan_jobs", "Jobs by state.", ["state"], registry=REGISTRY)
JOB_BACKLOG = Gauge("tympan_job_backlog_seconds", "Seconds of audio of jobs that wait, about.", registry=REGISTRY)
STEP_SECONDS = Histogram(
    "tympan_step_seconds", "Time of one step of a job.", ["kind"], buckets=_LATENCY_BUCKETS_S, registry=REGISTRY
)
STEP_FAILURES = Counter(
    "tympan_step_failures", "Steps of jobs that ended with an error, by code.", ["code"], registry=REGISTRY
)
RETRIES = Counter(
    "tympan_retries",
    "What was tried again by itself, by what: storage (a request), step (of a job, promptly), step_later (beyond the "
    "budget of retries), delivery (of a webhook's event).",
    ["what"],
    registry=REGISTRY,
)
RETRIES_FORGONE = Counter(
    "tympan_retries_forgone",
    "Requests to the object storage that were given up early: too many had been tried again.",
    registry=REGISTRY,
)
LEASES_EXPIRED = Counter("tympan_leases_expired", "Steps taken from workers that fell silent.", registry=REGISTRY)
LIMITS_SHARED = Gauge(
    "tympan_limits_shared", "1 while limits are kept in Redis; 0 while it is away or there is none.", registry=REGISTRY
)
LIMITS_REFUSED = Counter(
    "tympan_limits_refused", "Requests over a limit of their tenant, by limit.", ["limit"], registry=REGISTRY
)
USAGE_LOST = Counter(
    "tympan_usage_lost", "Requests whose usage could not be counted, for want of memory.", registry=REGISTRY
)
USAGE_UNSAVED = Gauge("tympan_usage_unsaved", "Counts of usage that are not in the database yet.", registry=REGISTRY)
WEBHOOK_DELIVERIES = Counter(
    "tympan_webhook_deliveries", "Attempts to deliver an event, by outcome.", ["outcome"], registry=REGISTRY
)
BELLS_WAITING = Gauge("tympan_outbox_waiting", "Doorbells written and not yet published.", registry=REGISTRY)
BROKER_BLOCKED = Gauge("tympan_broker_blocked", "1 while the broker takes no doorbells.", registry=REGISTRY)
WER = Gauge(
    "tympan_wer_ratio",
    "Word errors per word said, in the last run of a golden set (characters in zh and ja).",
    ["golden_set", "model"],
    registry=REGISTRY,
)
CER = Gauge(
    "tympan_cer_ratio",
    "Character errors per character said, in the last run of a golden set.",
    ["golden_set", "model"],
    registry=REGISTRY,
)
HALLUCINATIONS = Gauge(
    "tympan_hallucination_ratio",
    "Share of clips without speech that got text, in the last runs of golden sets.",
    ["model"],
    registry=REGISTRY,
)
QUALITY_RUN_AGE = Gauge(
    "tympan_quality_run_age_seconds",
    "Time since a golden set was last measured; since it was made, when it never was.",
    ["golden_set"],
    registry=REGISTRY,
)
QUALITY_ALARMS = Gauge("tympan_quality_alarms", "Open alarms about quality by kind.", ["kind"], registry=REGISTRY)
READY = Gauge("tympan_ready", "1 while the server takes transcription requests.", registry=REGISTRY)
UPLOADED = Counter("tympan_uploaded_bytes", "Bytes of request bodies received.", registry=REGISTRY)
CONNECTIONS = Gauge("tympan_connections", "Open HTTP connections, idle ones included.", registry=REGISTRY)
CONNECTIONS_ENDED = Counter(
    "tympan_connections_ended",
    "HTTP connections that were ended because of the other end: silent, slow (head), large (head), malformed, unread "
    "(answer), leftover (body), crowded (idle, for others), full (no room).",
    ["reason"],
    registry=REGISTRY,
)
LOOP_LAG = Histogram(
    "tympan_loop_lag_seconds",
    "How much later than asked for the event loop turns, looked at ten times a second.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
HTTP_RESPONSES = Counter(
    "tympan_http_responses", "HTTP answers by route pattern and status.", ["route", "status"], registry=REGISTRY
)

for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)

METRICS: tuple[Counter | Gauge | Histogram, ...] = tuple(
    metric for metric in list(globals().values()) if isinstance(metric, Counter | Gauge | Histogram)
)
"""Every metric of ours, in the order of this file."""

_averages: dict[str, float] = {}


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
    if transcript.is_cached:
        return  # Nothing was decoded for it.
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


def _language(code: str | None) -> str:
    return code if code is not None and code in LANGUAGES else UNKNOWN


def _average(model: str, factor: float) -> None:
    mean = _averages.get(model, factor)
    _averages[model] = mean + _SMOOTHING * (factor - mean)
    REALTIME_FACTOR.labels(model).set(_averages[model])
