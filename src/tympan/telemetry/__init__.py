"""What operators see: every metric, declared once; the log is in ``logs``, and its names are here too.

Labels come from small known sets (the loaded model, Whisper's languages, our error codes and routes), so the number of
series is bounded however many clients, files and paths there are. No log line carries text, prompts or file names.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric

from tympan.domain import Transcript
from tympan.logs import LogFormat, about, configure_logging, crash_report, get_logger, log_crashes, request_id
from tympan.telemetry.across import across
from tympan.telemetry.engines import (
    BATCH_ERRORS,
    BATCH_FILL,
    BATCH_SECONDS,
    BATCH_WINDOWS,
    ENGINE_RESTARTS,
    ENGINES,
    MODEL_LOADED,
    MODEL_LOADS,
    MODEL_MEMORY,
    MODEL_UNLOADS,
    QUEUE_DEPTH,
    QUEUED_AUDIO,
    BatchMetrics,
    ModelMetrics,
    QueueStats,
    record_model,
    record_queue,
)
from tympan.telemetry.quality import (
    AUDIO_BANDWIDTH,
    AUDIO_CODECS,
    AUDIO_SNR,
    CER,
    DETECTED_LANGUAGES,
    DRIFT_PSI,
    EMPTY_TRANSCRIPTS,
    HALLUCINATION_SCORE,
    HALLUCINATIONS,
    QUALITY_ALARMS,
    QUALITY_RUN_AGE,
    ROLLOUT_SHARE,
    SPEECH_COVERAGE,
    TRAFFIC_LOST,
    WER,
    record_observation,
)
from tympan.telemetry.registry import LATENCY_BUCKETS_S, REGISTRY, UNKNOWN, language_label
from tympan.telemetry.shadow import SHADOW_ERRORS, SHADOW_WINDOWS, SHADOW_WORDS, record_disagreement
from tympan.telemetry.work import (
    BELL_LAG,
    BELLS_WAITING,
    BROKER_BLOCKED,
    COMPONENT,
    DISK_FREE,
    JOB_AUDIO,
    JOB_BACKLOG,
    JOBS,
    JOBS_ENDED,
    LEASES_EXPIRED,
    STEP_FAILURES,
    STEP_SECONDS,
    WEBHOOK_DELIVERIES,
    WEBHOOK_LAG,
    WEBHOOKS_WAITING,
    forget_database,
)

__all__ = [
    "AUDIO_BANDWIDTH",
    "AUDIO_CODECS",
    "AUDIO_SNR",
    "BATCH_ERRORS",
    "BATCH_FILL",
    "BATCH_SECONDS",
    "BATCH_WINDOWS",
    "BELLS_WAITING",
    "BELL_LAG",
    "BROKER_BLOCKED",
    "CER",
    "COMPONENT",
    "DETECTED_LANGUAGES",
    "DISK_FREE",
    "DRIFT_PSI",
    "EMPTY_TRANSCRIPTS",
    "ENGINES",
    "ENGINE_RESTARTS",
    "HALLUCINATIONS",
    "HALLUCINATION_SCORE",
    "JOBS",
    "JOBS_ENDED",
    "JOB_AUDIO",
    "JOB_BACKLOG",
    "LEASES_EXPIRED",
    "MODEL_LOADED",
    "MODEL_LOADS",
    "MODEL_MEMORY",
    "MODEL_UNLOADS",
    "QUALITY_ALARMS",
    "QUALITY_RUN_AGE",
    "QUEUED_AUDIO",
    "QUEUE_DEPTH",
    "REGISTRY",
    "ROLLOUT_SHARE",
    "SHADOW_ERRORS",
    "SHADOW_WINDOWS",
    "SHADOW_WORDS",
    "SPEECH_COVERAGE",
    "STEP_FAILURES",
    "STEP_SECONDS",
    "TRAFFIC_LOST",
    "UNKNOWN",
    "WEBHOOKS_WAITING",
    "WEBHOOK_DELIVERIES",
    "WEBHOOK_LAG",
    "WER",
    "BatchMetrics",
    "LogFormat",
    "ModelMetrics",
    "QueueStats",
    "about",
    "configure_logging",
    "crash_report",
    "forget_database",
    "get_logger",
    "log_crashes",
    "record_disagreement",
    "record_model",
    "record_observation",
    "record_queue",
    "request_id",
]

METRICS_MEDIA_TYPE = CONTENT_TYPE_PLAIN_0_0_4
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
    buckets=LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
FIRST_TEXT = Histogram(
    "tympan_first_text_seconds",
    "Time to the first words: stream, from the first byte of the request; live, from the beginning of the utterance.",
    ["way"],
    buckets=LATENCY_BUCKETS_S,
    registry=REGISTRY,
)
AUDIO_DURATION = Histogram(
    "tympan_audio_duration_seconds",
    "Length of the audio of requests that succeeded.",
    ["model"],
    buckets=_DURATION_BUCKETS_S,
    registry=REGISTRY,
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
for _reason in ("places", "deadline", "short", "long", "live", "job"):
    REFUSALS.labels(_reason)  # A series that begins with its first event does not show it as an increase.
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
LIVE_SESSIONS = Gauge("tympan_live_sessions", "Live sessions that go on.", registry=REGISTRY)
LIVE_AUDIO = Counter("tympan_live_audio_seconds", "Seconds of audio that live sessions took.", registry=REGISTRY)
LIVE_DROPPED = Counter(
    "tympan_live_partials_dropped", "Partials that a newer one replaced before they were read.", registry=REGISTRY
)
LIVE_ENDS = Counter(
    "tympan_live_ends", "Live sessions that have ended, by WebSocket close code.", ["code"], registry=REGISTRY
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

METRICS: tuple[Counter | Gauge | Histogram, ...] = tuple(
    metric for metric in list(globals().values()) if isinstance(metric, Counter | Gauge | Histogram)
)
"""Every metric of ours."""

_averages: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric as it is scraped, for the documentation."""

    name: str
    kind: str
    labels: tuple[str, ...]
    across: str
    description: str


def metric_rows() -> list[MetricRow]:
    """Return every metric of ours."""
    rows = []
    for metric in METRICS:
        family = next(iter(metric.describe()))
        name = family.name + ("_total" if family.type == "counter" else "")
        joined = across(name, family.type).value
        rows.append(MetricRow(name, family.type, tuple(metric._labelnames), joined, family.documentation))  # noqa: SLF001
    return rows


def record_success(transcript: Transcript, latency_s: float) -> None:
    """Count one answered request; ``latency_s`` is what the caller waited."""
    model = transcript.model
    REQUESTS.labels(model, language_label(transcript.language)).inc()
    LATENCY.labels(model).observe(latency_s)
    AUDIO_DURATION.labels(model).observe(transcript.duration_s)
    if transcript.is_cached:
        return  # Nothing was decoded for it.
    WINDOWS.labels(model).inc(transcript.stats.windows)
    FALLBACKS.labels(model).inc(transcript.stats.fallbacks)
    SPEECH.labels(model).inc(transcript.accounting.speech_s)
    if transcript.processing_s > 0:
        _average(model, transcript.duration_s / transcript.processing_s)


def record_first_text(way: str, elapsed_s: float) -> None:
    """Count a caller who has got the first words, ``elapsed_s`` after the beginning; ``way`` is stream or live."""
    FIRST_TEXT.labels(way).observe(elapsed_s)


def record_failure(model: str, language: str | None) -> None:
    """Count one request that failed."""
    REQUESTS.labels(model, language_label(language)).inc()
    ERRORS.labels(model, language_label(language)).inc()


def metrics_text() -> bytes:
    """Return all metrics in the text format that Prometheus scrapes; what is not known just now is not among them."""
    return generate_latest(_Known())


class _Known(CollectorRegistry):
    """The registry without figures that are not known."""

    def collect(self) -> Iterator[Metric]:
        """Yield what is known."""
        for family in REGISTRY.collect():
            family.samples = [sample for sample in family.samples if not math.isnan(sample.value)]
            yield family


def _average(model: str, factor: float) -> None:
    mean = _averages.get(model, factor)
    _averages[model] = mean + _SMOOTHING * (factor - mean)
    REALTIME_FACTOR.labels(model).set(_averages[model])
