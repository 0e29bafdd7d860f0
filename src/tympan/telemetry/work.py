"""Metrics of jobs and of what they need: doorbells, webhooks, and the parts that a server is made of."""

import math

from prometheus_client import Counter, Gauge, Histogram

from tympan.domain import JobState
from tympan.telemetry.registry import LATENCY_BUCKETS_S, REGISTRY

JOBS = Gauge("tympan_jobs", "Jobs by state.", ["state"], registry=REGISTRY)
JOB_BACKLOG = Gauge("tympan_job_backlog_seconds", "Seconds of audio of jobs that wait, about.", registry=REGISTRY)
JOBS_ENDED = Counter(
    "tympan_jobs_ended", "Jobs that ended in this process, by state; calls that wait for their text are none.",
    ["state"], registry=REGISTRY,
)  # fmt: skip
JOB_AUDIO = Counter("tympan_job_audio_seconds", "Seconds of audio of the sections that were done.", registry=REGISTRY)
STEP_SECONDS = Histogram(
    "tympan_step_seconds", "Time of one step of a job.", ["kind"], buckets=LATENCY_BUCKETS_S, registry=REGISTRY
)
STEP_FAILURES = Counter(
    "tympan_step_failures", "Steps of jobs that ended with an error, by code.", ["code"], registry=REGISTRY
)
LEASES_EXPIRED = Counter("tympan_leases_expired", "Steps taken from workers that fell silent.", registry=REGISTRY)
WEBHOOK_DELIVERIES = Counter(
    "tympan_webhook_deliveries",
    "Attempts to deliver an event, by outcome: delivered, pending (failed, and tried again), failed (for good), "
    "dropped, lost.",
    ["outcome"],
    registry=REGISTRY,
)
WEBHOOKS_WAITING = Gauge("tympan_webhooks_waiting", "Deliveries of events that are not over.", registry=REGISTRY)
WEBHOOK_LAG = Gauge(
    "tympan_webhook_lag_seconds",
    "How long the oldest delivery to an endpoint that answers has been due.",
    registry=REGISTRY,
)
BELLS_WAITING = Gauge("tympan_outbox_waiting", "Doorbells written and not yet published.", registry=REGISTRY)
BELL_LAG = Gauge("tympan_outbox_lag_seconds", "Age of the oldest doorbell that waits.", registry=REGISTRY)
BROKER_BLOCKED = Gauge("tympan_broker_blocked", "1 while the broker takes no doorbells.", registry=REGISTRY)
COMPONENT = Gauge(
    "tympan_component_state",
    "How a part stands that `/health` tells of: 1 ok, 0.5 degraded, 0 down.",
    ["component"],
    registry=REGISTRY,
)
DISK_FREE = Gauge("tympan_disk_free_bytes", "Room left on the disk that takes uploads.", registry=REGISTRY)

_FROM_THE_DATABASE = (JOB_BACKLOG, WEBHOOKS_WAITING, WEBHOOK_LAG)


def forget_database() -> None:
    """Say nothing of what is in the database any more: it does not answer, and old figures would look like new ones."""
    JOBS.clear()
    for gauge in _FROM_THE_DATABASE:
        gauge.set(math.nan)


# A series that begins with its first event does not show it as an increase.
for _state in JobState:
    if _state.is_terminal:
        JOBS_ENDED.labels(_state.value)
for _outcome in ("delivered", "pending", "failed", "dropped", "lost"):
    WEBHOOK_DELIVERIES.labels(_outcome)
forget_database()
