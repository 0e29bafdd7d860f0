"""What is recorded of the way through the program, and that recording can do no harm."""

import io
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.collector import collecting
from tympan import telemetry, tracing
from tympan.errors import ConfigError, CorruptMedia

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = PARENT[:-1] + "0"


@pytest.fixture
def memory() -> Iterator[InMemorySpanExporter]:
    """Record everything in memory; complete once the recording has ended."""
    exporter = InMemorySpanExporter()
    with tracing.recording_to(exporter, 1.0, "test", "1.2.3"):
        yield exporter


def flushed(exporter: InMemorySpanExporter) -> tuple[ReadableSpan, ...]:
    """Return what has been recorded, in the order of its ends."""
    tracer = tracing._Current.tracer
    assert tracer is not None
    tracer.span_processor.force_flush()  # type: ignore[attr-defined]
    return exporter.get_finished_spans()


def finished(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """Return what has been recorded, by name."""
    return {span.name: span for span in flushed(exporter)}


def place(span: ReadableSpan) -> tuple[str, str]:
    """Return the ids of a span's trace and of its parent, as a header spells them; of none, nothing."""
    return f"{span.context.trace_id:032x}", f"{span.parent.span_id:016x}" if span.parent else ""


def own_id(span: ReadableSpan) -> str:
    """Return a span's own id, as a header spells it."""
    return f"{span.context.span_id:016x}"


def test_nothing_is_recorded_unless_there_is_somewhere_to_send_it() -> None:
    """Spans do nothing, and nobody is below anything."""
    with tracing.recording("", 1.0, "test", "1"), tracing.span("a", parent=PARENT) as span:
        span.note({"n": 1})
        span.name("b")
        span.fail("x")
        assert tracing.current() == ""
        tracing.batch([tracing.Member(PARENT, time.monotonic(), 1.0)], time.monotonic())


def test_a_span_stands_below_what_is_under_way_or_what_it_is_given(memory: InMemorySpanExporter) -> None:
    """A trace goes on where a caller began it, and within a thread by itself."""
    with tracing.span("outer", parent=PARENT, kind="SERVER") as outer:
        outer.note({"n": 3})
        here = tracing.current()
        with tracing.span("inner"):
            pass
    with tracing.span("elsewhere", parent=here):
        pass
    with tracing.span("alone"):
        pass
    spans = finished(memory)
    trace_id, caller = PARENT.split("-")[1:3]
    assert place(spans["outer"]) == (trace_id, caller)
    assert place(spans["inner"]) == place(spans["elsewhere"]) == (trace_id, own_id(spans["outer"]))
    assert place(spans["alone"])[0] != trace_id
    assert spans["outer"].attributes == {"n": 3}
    assert spans["outer"].resource.attributes["service.name"] == "tympan"
    assert spans["outer"].resource.attributes["tympan.role"] == "test"


def test_an_error_is_told_by_its_code_and_never_by_its_words(memory: InMemorySpanExporter) -> None:
    """What an error says may quote what somebody said."""
    with pytest.raises(CorruptMedia), tracing.span("ours"):
        raise CorruptMedia("the words were: canary")
    with pytest.raises(ValueError, match="canary"), tracing.span("other"):
        raise ValueError("canary")
    spans = finished(memory)
    assert spans["ours"].attributes == {"error.type": "corrupt_media"}
    assert spans["other"].attributes == {"error.type": "ValueError"}
    assert not any(span.status.is_ok for span in spans.values())
    assert "canary" not in "".join(span.to_json() for span in spans.values())
    assert not any(span.events for span in spans.values())


@pytest.mark.parametrize("parent", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", PARENT + "x", "é" * 55])
def test_what_is_no_trace_begins_a_new_one(memory: InMemorySpanExporter, parent: str) -> None:
    """Callers may send anything."""
    with tracing.span("a", parent=parent):
        assert len(tracing.current()) == 55
    assert finished(memory)["a"].parent is None


def test_a_caller_who_does_not_record_is_not_recorded(memory: InMemorySpanExporter) -> None:
    """The flag of a trace holds for all of it, passes of the engine included."""
    with tracing.span("a", parent=UNSAMPLED):
        assert tracing.current().endswith("-00")
    tracing.batch([tracing.Member(UNSAMPLED, time.monotonic(), 1.0)], time.monotonic())
    assert finished(memory) == {}


def test_a_share_of_none_records_only_what_callers_do() -> None:
    """Traces that begin here are left out."""
    exporter = InMemorySpanExporter()
    with tracing.recording_to(exporter, 0.0, "test", "1"):
        with tracing.span("ours"):
            pass
        with tracing.span("theirs", parent=PARENT):
            pass
    assert [span.name for span in exporter.get_finished_spans()] == ["theirs"]


def test_a_pass_of_the_engine_stands_with_all_whose_windows_it_had(memory: InMemorySpanExporter) -> None:
    """A window in each of their traces from when it waited, linked to the pass, which is linked to the others."""
    other = PARENT.replace("0af7", "1bf7")
    now = time.monotonic()
    members = [
        tracing.Member(PARENT, now - 3.0, 5.0),
        tracing.Member("", now - 3.0, 1.0),
        tracing.Member(other, now, 2.0),
    ]
    tracing.batch(members, now - 1.0, "engine_hang")
    spans = flushed(memory)
    (whole,) = (span for span in spans if span.name == "batch")
    windows = [span for span in spans if span.name == "window"]
    assert len(windows) == 2
    assert {place(span)[0] for span in windows} == {PARENT[3:35], other[3:35]}
    assert all(link.context == whole.context for span in windows for link in span.links)
    assert place(whole)[0] == PARENT[3:35]
    assert [f"{link.context.trace_id:032x}" for link in whole.links] == [other[3:35]]
    assert whole.attributes == {"tympan.windows": 3, "tympan.audio_s": 8.0, "error.type": "engine_hang"}
    first = next(span for span in windows if place(span)[0] == PARENT[3:35])
    assert first.attributes is not None
    assert first.attributes["tympan.wait_s"] == pytest.approx(2.0)
    assert (first.start_time or 0) < (whole.start_time or 0) <= (whole.end_time or 0)


def test_lines_of_the_log_carry_the_trace(memory: InMemorySpanExporter) -> None:
    """Whoever reads a line finds the trace, within the span only."""
    log = io.StringIO()
    telemetry.configure_logging("info", "json", log)
    with tracing.span("a", parent=PARENT):
        telemetry.get_logger("tympan.test").info("inside")
    telemetry.get_logger("tympan.test").info("outside")
    inside, outside = log.getvalue().splitlines()
    assert f'"trace_id": "{PARENT[3:35]}"' in inside
    assert "trace_id" not in outside


class Broken(SpanExporter):
    """Fails each time."""

    def export(self, spans: object) -> SpanExportResult:
        """Raise."""
        raise RuntimeError("canary")


def test_a_collector_that_fails_costs_nothing_but_the_traces() -> None:
    """What is done goes on, and the recording ends."""
    with tracing.recording_to(Broken(), 1.0, "test", "1"):
        for _ in range(10_000):
            with tracing.span("a"):
                pass


def test_a_collector_that_never_answers_is_not_waited_for_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the process comes in time."""
    monkeypatch.setattr(tracing, "_EXPORT_S", 0.5)
    with collecting(hangs=True) as collector:
        started = time.monotonic()
        with tracing.recording(collector.url, 1.0, "test", "1"), tracing.span("a"):
            pass
        assert time.monotonic() - started < 20.0
        assert not collector.spans


def test_without_the_libraries_the_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(ConfigError, match="OpenTelemetry"), tracing.recording("http://x:1", 1.0, "test", "1"):
        pass
