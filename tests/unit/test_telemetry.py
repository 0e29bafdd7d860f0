"""Metrics with bounded labels."""

from dataclasses import dataclass

import pytest

from tympan import telemetry
from tympan.domain import Accounting, DecodeStats, Lane, Task, Transcript


def value(name: str, **labels: str) -> float:
    """Return a sample, 0 when it does not exist."""
    return telemetry.REGISTRY.get_sample_value(name, labels) or 0.0


def heard(language: str | None, audio_s: float = 6.0, processing_s: float = 0.5) -> Transcript:
    """Return an empty transcript of some audio."""
    accounting = Accounting(audio_s, 4.0, 2.0, 4.0)
    stats = DecodeStats(windows=3, fallbacks=1)
    return Transcript(
        "", (), Task.TRANSCRIBE, language, 1.0, (), accounting, "unit", stats=stats, processing_s=processing_s
    )


def test_one_success_moves_every_counter_it_should() -> None:
    """Requests, audio, windows, fallbacks, speech and speed, all under the model."""
    before = value("tympan_requests_total", model="unit", language="de")
    telemetry.record_success(heard("de"), 0.7)
    assert value("tympan_requests_total", model="unit", language="de") == before + 1
    assert value("tympan_latency_seconds_count", model="unit") >= 1
    assert value("tympan_audio_duration_seconds_sum", model="unit") >= 6
    assert value("tympan_windows_total", model="unit") >= 3
    assert value("tympan_fallbacks_total", model="unit") >= 1
    assert value("tympan_speech_seconds_total", model="unit") >= 4


def test_the_realtime_factor_is_a_moving_average() -> None:
    """One slow request moves it a little, not all the way."""
    telemetry._averages.pop("unit", None)
    telemetry.record_success(heard("de", 10, 1), 1)
    assert value("tympan_realtime_factor", model="unit") == 10
    telemetry.record_success(heard("de", 10, 10), 1)
    assert value("tympan_realtime_factor", model="unit") == pytest.approx(9.1)


def test_S2_labels_come_from_known_sets() -> None:
    """Ten thousand invented languages make one series."""
    for number in range(10_000):
        telemetry.record_failure("unit", f"x{number}")
    series = [line for line in telemetry.metrics_text().decode().splitlines() if 'model="unit"' in line]
    assert sum("tympan_errors_total" in line for line in series) == 1
    assert value("tympan_errors_total", model="unit", language="unknown") >= 10_000


def test_the_queue_is_shown_for_every_lane() -> None:
    """Lanes without work show zero instead of vanishing."""

    @dataclass
    class Queue:
        queued_windows: dict[Lane, int]
        queued_audio_s: dict[Lane, float]
        compute_s_per_audio_s: float = 0.0

    telemetry.record_queue(Queue({Lane.BATCH: 7}, {Lane.BATCH: 90.5}))
    assert value("tympan_queue_depth", lane="batch") == 7
    assert value("tympan_queued_audio_seconds", lane="batch") == 90.5
    assert 'tympan_queue_depth{lane="live"} 0.0' in telemetry.metrics_text().decode()


def test_batches_and_restarts_are_counted() -> None:
    """The batcher's observer counts passes, failures and restarts."""

    @dataclass
    class Report:
        windows: int
        compute_s: float
        error: str | None

    metrics = telemetry.BatchMetrics()
    errors, restarts = (
        value("tympan_batch_errors_total", code="engine_failed"),
        value("tympan_engine_restarts_total", reason="engine_hang"),
    )
    windows = value("tympan_batch_windows_sum")
    metrics.on_batch(Report(4, 0.2, None))
    metrics.on_batch(Report(2, 0.2, "engine_failed"))
    metrics.on_restart("engine_hang")
    assert value("tympan_batch_windows_sum") == windows + 6
    assert value("tympan_batch_errors_total", code="engine_failed") == errors + 1
    assert value("tympan_engine_restarts_total", reason="engine_hang") == restarts + 1
