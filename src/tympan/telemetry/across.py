"""How the figures of several processes become one: what adds up, and what each process says of the same thing.

Counters and histograms are of what a process did itself, so they add up. A gauge is either of a process's own (windows
in its queue), or of what all of them share (jobs in the database), and then it must not be added.
"""

from enum import StrEnum


class Across(StrEnum):
    """What to do with one gauge of several processes."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


OF_GAUGES = {
    "tympan_queue_depth": Across.SUM,
    "tympan_queued_audio_seconds": Across.SUM,
    "tympan_engines": Across.SUM,
    "tympan_model_loaded": Across.SUM,
    "tympan_model_memory_bytes": Across.SUM,
    "tympan_requests_in_progress": Across.SUM,
    "tympan_live_sessions": Across.SUM,
    "tympan_connections": Across.SUM,
    "tympan_usage_unsaved": Across.SUM,
    "tympan_ready": Across.SUM,
    "tympan_realtime_factor": Across.MIN,
    "tympan_limits_shared": Across.MIN,
    "tympan_component_state": Across.MIN,
    "tympan_disk_free_bytes": Across.MIN,
    "tympan_predicted_wait_seconds": Across.MAX,
    "tympan_result_cache_bytes": Across.MAX,
    "tympan_wer_ratio": Across.MAX,
    "tympan_cer_ratio": Across.MAX,
    "tympan_hallucination_ratio": Across.MAX,
    "tympan_quality_run_age_seconds": Across.MAX,
    "tympan_quality_alarms": Across.MAX,
    "tympan_drift_psi": Across.MAX,
    "tympan_rollout_share_ratio": Across.MIN,
    "tympan_jobs": Across.MAX,
    "tympan_job_backlog_seconds": Across.MAX,
    "tympan_webhooks_waiting": Across.MAX,
    "tympan_webhook_lag_seconds": Across.MAX,
    "tympan_outbox_waiting": Across.MAX,
    "tympan_outbox_lag_seconds": Across.MAX,
    "tympan_broker_blocked": Across.MAX,
}
"""Every gauge; a test holds this table, the alerts and the dashboards against the metrics there are."""


def across(name: str, kind: str) -> Across:
    """Return how to join a metric of several processes. Raises ``KeyError`` for a gauge of which nothing is said."""
    return OF_GAUGES[name] if kind == "gauge" else Across.SUM
