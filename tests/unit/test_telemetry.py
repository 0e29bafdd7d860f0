"""Metrics with bounded labels, log lines that nobody can forge and that tell no secrets."""

import io
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tympan import telemetry
from tympan.domain import Accounting, DecodeStats, Lane, Task, Transcript


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    """Give the root logger back as it was."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = before[0]
    root.setLevel(before[1])


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


def lines(fmt: telemetry.LogFormat, level: str = "info") -> tuple[io.StringIO, logging.Logger]:
    """Configure logging into memory and return it with a plain library logger."""
    stream = io.StringIO()
    telemetry.configure_logging(level, fmt, stream)
    return stream, logging.getLogger("some.library")


def test_json_lines_carry_level_time_and_request_id() -> None:
    """Our lines and the libraries' have the same shape."""
    stream, library = lines("json")
    token = telemetry.request_id.set("req_1")
    telemetry.get_logger("tympan.test").info("hello", answer=42)
    library.warning("from %s", "afar")
    telemetry.request_id.reset(token)
    ours, theirs = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (ours["event"], ours["answer"], ours["level"], ours["request_id"]) == ("hello", 42, "info", "req_1")
    assert (theirs["event"], theirs["logger"], theirs["request_id"]) == ("from afar", "some.library", "req_1")


def test_the_level_is_a_threshold() -> None:
    """Lines below it are not written."""
    stream, library = lines("console", "warning")
    library.info("quiet")
    telemetry.get_logger("x").info("quiet")
    library.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


@pytest.mark.parametrize("fmt", ["json", "console"])
def test_S1_exceptions_are_logged_without_their_message(fmt: telemetry.LogFormat) -> None:
    """Type and place are enough to find the fault; the message may quote what a user said."""
    stream, library = lines(fmt)
    try:
        int("canary")
    except ValueError:
        library.exception("failed")
    assert "canary" not in stream.getvalue()
    assert "ValueError" in stream.getvalue()
    assert "test_telemetry.py" in stream.getvalue()


@given(st.text())
def test_S4_no_text_can_forge_a_line(text: str) -> None:
    """Line ends and terminal codes come out escaped, in both formats."""
    for fmt in ("json", "console"):
        stream, library = lines(fmt)
        library.info("%s", text)
        telemetry.get_logger("x").info("event", field=text)
        written = stream.getvalue()
        assert len(written.splitlines()) == 2
        assert "\x1b" not in written
