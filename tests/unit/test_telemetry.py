"""Metrics with bounded labels."""

from dataclasses import dataclass

import pytest

from tympan import telemetry
from tympan.domain import Accounting, DecodeStats, Lane, Task, Transcript, Word
from tympan.live.events import Event, Final, Partial, SpeechStarted
from tympan.live.first_text import FirstText
from tympan.telemetry.across import OF_GAUGES


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
        engines: int = 2

    telemetry.record_queue(Queue({Lane.BATCH: 7}, {Lane.BATCH: 90.5}))
    assert value("tympan_queue_depth", lane="batch") == 7
    assert value("tympan_queued_audio_seconds", lane="batch") == 90.5
    assert value("tympan_engines") == 2
    assert 'tympan_queue_depth{lane="live"} 0.0' in telemetry.metrics_text().decode()


def test_batches_and_restarts_are_counted() -> None:
    """The batcher's observer counts passes, failures and restarts."""

    @dataclass
    class Report:
        windows: int
        compute_s: float
        error: str | None
        most: int = 8

    metrics = telemetry.BatchMetrics()
    errors, restarts = (
        value("tympan_batch_errors_total", code="engine_failed"),
        value("tympan_engine_restarts_total", reason="engine_hang"),
    )
    windows, fill = value("tympan_batch_windows_sum"), value("tympan_batch_fill_ratio_sum")
    metrics.on_batch(Report(4, 0.2, None))
    metrics.on_batch(Report(2, 0.2, "engine_failed"))
    metrics.on_restart("engine_hang")
    assert value("tympan_batch_windows_sum") == windows + 6
    assert value("tympan_batch_fill_ratio_sum") == pytest.approx(fill + 0.75)
    assert value("tympan_batch_errors_total", code="engine_failed") == errors + 1
    assert value("tympan_engine_restarts_total", reason="engine_hang") == restarts + 1


def test_every_gauge_says_how_processes_are_joined() -> None:
    """What all of them share must not be added up; nothing is said of gauges that are not there."""
    rows = telemetry.metric_rows()
    assert {row.name for row in rows if row.kind == "gauge"} == set(OF_GAUGES)
    joined = {row.name: row.across for row in rows}
    assert (joined["tympan_jobs"], joined["tympan_queue_depth"], joined["tympan_errors_total"]) == ("max", "sum", "sum")


def test_what_is_not_known_is_not_told() -> None:
    """A database that does not answer leaves no old figures behind."""
    telemetry.JOBS.labels("queued").set(7)
    telemetry.JOB_BACKLOG.set(90)
    assert "tympan_job_backlog_seconds 90.0" in telemetry.metrics_text().decode()
    telemetry.forget_database()
    text = telemetry.metrics_text().decode()
    assert "# TYPE tympan_job_backlog_seconds gauge" in text
    assert "tympan_job_backlog_seconds " not in text.replace("# TYPE tympan_job_backlog_seconds ", "").replace(
        "# HELP tympan_job_backlog_seconds ", ""
    )
    assert "tympan_jobs{" not in text


def test_first_words_are_noted_once_for_each_utterance() -> None:
    """From when speech was noticed to the first text; utterances without text and later texts do not count."""
    now, told = [10.0], list[Event]()
    listener = FirstText(told.append, lambda: now[0])
    count, total = (
        value("tympan_first_text_seconds_count", way="live"),
        value("tympan_first_text_seconds_sum", way="live"),
    )
    word = Word("yes", 0.0, 0.2, 0.9)
    listener(SpeechStarted(0, 0.0))
    now[0] += 0.5
    listener(Partial(0, (word,), 0))
    now[0] += 2.0
    listener(Final(0, 0.0, 1.0, "yes", (), "en"))
    listener(SpeechStarted(1, 3.0))
    listener(Final(1, 3.0, 4.0, "", (), None))
    listener(Final(1, 3.0, 4.0, "late", (), None))
    assert value("tympan_first_text_seconds_count", way="live") == count + 1
    assert value("tympan_first_text_seconds_sum", way="live") == pytest.approx(total + 0.5)
    assert len(told) == 6
