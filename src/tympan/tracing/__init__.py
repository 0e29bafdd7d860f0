"""Traces: how long each part of a request took, across threads, processes and machines, told to a collector by OTLP.

Nothing is recorded, and next to nothing spent, outside ``recording``. A trace is handed on as a string, the
``traceparent`` of W3C's Trace Context: with a window to the engine's thread, with a job through the database. Spans
carry ids and figures, never what somebody said or how an error put it.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from tympan.errors import ConfigError, TympanError
from tympan.logs import about

if TYPE_CHECKING:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

Value: TypeAlias = str | int | float | bool
Kind: TypeAlias = Literal["INTERNAL", "SERVER", "CLIENT", "CONSUMER"]
"""Which side of a conversation a span tells of; spelled as OpenTelemetry spells it."""

_EXPORT_S = 5.0
_QUEUE_SPANS = 4_096
_BATCH_SPANS = 512
_HEADER_LENGTH = 55


class Span(Protocol):
    """What is under way."""

    def name(self, name: str) -> None:
        """Call it something else, now that more is known."""
        ...

    def note(self, figures: Mapping[str, Value]) -> None:
        """Add figures and ids."""
        ...

    def fail(self, code: str) -> None:
        """Say that it failed, by an error code."""
        ...


@dataclass(frozen=True, slots=True)
class Member:
    """A window of a batch: whose trace it belongs to, since when it waited (monotonic seconds), how long it is."""

    trace: str
    since_s: float
    audio_s: float


@contextmanager
def recording(endpoint: str, share: float, role: str, version: str) -> Iterator[None]:
    """Record ``share`` of the traces that begin in this block, and all that callers record, and send them away.

    ``endpoint`` is the base address of a collector that takes OTLP over HTTP (``http://collector:4318``); without one
    nothing is recorded. What it does not take is dropped: 4,096 spans wait at most, and at the end 5 s. ``role`` says
    what this process does. Raises ``ConfigError`` where the libraries are not installed.
    """
    if not endpoint:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            "OTLP_ENDPOINT is set, but OpenTelemetry is not installed.",
            remedy="Install requirements/otel.txt, or leave OTLP_ENDPOINT out.",
        ) from error
    with recording_to(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", timeout=_EXPORT_S), share, role, version):
        yield


@contextmanager
def recording_to(exporter: "SpanExporter", share: float, role: str, version: str) -> Iterator[None]:
    """Record as ``recording`` does, and give what is recorded to ``exporter``."""
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased  # noqa: PLC0415

    resource = Resource.create({"service.name": "tympan", "service.version": version, "tympan.role": role})
    sampler = ParentBased(TraceIdRatioBased(share))
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, max_queue_size=_QUEUE_SPANS, max_export_batch_size=_BATCH_SPANS)
    )
    _Current.tracer = provider.get_tracer("tympan", version)
    try:
        yield
    finally:
        _Current.tracer = None
        # The library's own end has no limit that holds for a collector that does not answer.
        end = threading.Thread(target=provider.shutdown, name="traces", daemon=True)
        end.start()
        end.join(_EXPORT_S)


@contextmanager
def span(name: str, *, parent: str = "", kind: Kind = "INTERNAL") -> Iterator[Span]:
    """Record what the block does, below ``parent`` or what is under way in this task or thread.

    Lines that the block logs carry ``trace_id``. An error that leaves the block marks the span with its code, or its
    type, and goes on.
    """
    tracer = _Current.tracer
    if tracer is None:
        yield _NOTHING
        return
    from opentelemetry import trace  # noqa: PLC0415

    with tracer.start_as_current_span(
        name,
        context=_context(parent) if parent else None,
        kind=trace.SpanKind[kind],
        # What an error says may quote what somebody said.
        record_exception=False,
        set_status_on_exception=False,
    ) as live:
        recorded = _Recorded(live)
        with about(trace_id=f"{live.get_span_context().trace_id:032x}"):
            try:
                yield recorded
            except BaseException as error:
                recorded.fail(error.code if isinstance(error, TympanError) else type(error).__name__)
                raise


def current() -> str:
    """Return what is under way here as a ``traceparent``; empty when nothing is recorded."""
    if _Current.tracer is None:
        return ""
    from opentelemetry import trace  # noqa: PLC0415

    here = trace.get_current_span().get_span_context()
    return f"00-{here.trace_id:032x}-{here.span_id:016x}-{here.trace_flags:02x}" if here.is_valid else ""


def batch(members: Iterable[Member], began_s: float, error: str = "") -> None:
    """Record a pass of the engine that has just ended and began at ``began_s`` (monotonic seconds).

    It stands in the trace of its first member that is recorded; each of those has a span for its window, from when it
    waited until now, linked to the pass. Nothing is recorded of a pass that nobody records.
    """
    tracer = _Current.tracer
    if tracer is None:
        return
    everybody = tuple(members)
    recorded = [member for member in everybody if _is_sampled(member.trace)]
    if not recorded:
        return
    from opentelemetry import trace  # noqa: PLC0415

    links = [trace.Link(_span_context(member.trace)) for member in recorded[1:]]
    whole = tracer.start_span(
        "batch",
        context=_context(recorded[0].trace),
        kind=trace.SpanKind.INTERNAL,
        links=links,
        start_time=_wall_ns(began_s),
        attributes={"tympan.windows": len(everybody), "tympan.audio_s": sum(member.audio_s for member in everybody)},
    )
    _Recorded(whole).fail(error)
    for member in recorded:
        tracer.start_span(
            "window",
            context=_context(member.trace),
            links=[trace.Link(whole.get_span_context())],
            start_time=_wall_ns(member.since_s),
            attributes={"tympan.audio_s": member.audio_s, "tympan.wait_s": max(0.0, began_s - member.since_s)},
        ).end()
    whole.end()


class _Current:
    """What records; ``None`` while nothing does."""

    tracer: "trace.Tracer | None" = None


class _Nothing:
    """A span of which nothing is recorded."""

    def name(self, name: str) -> None:
        pass

    def note(self, figures: Mapping[str, Value]) -> None:
        pass

    def fail(self, code: str) -> None:
        pass


_NOTHING = _Nothing()


class _Recorded:
    def __init__(self, span: "trace.Span") -> None:
        self._span = span

    def name(self, name: str) -> None:
        self._span.update_name(name)

    def note(self, figures: Mapping[str, Value]) -> None:
        self._span.set_attributes(figures)

    def fail(self, code: str) -> None:
        from opentelemetry import trace  # noqa: PLC0415

        if code:
            self._span.set_attribute("error.type", code)
            self._span.set_status(trace.StatusCode.ERROR)


def _is_sampled(parent: str) -> bool:
    return len(parent) == _HEADER_LENGTH and bool(int(parent[-2:], 16) & 1)


def _context(parent: str) -> "Context":
    """Return where ``parent``, which may come from a caller, is under way; nowhere if it is none."""
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

    return TraceContextTextMapPropagator().extract({"traceparent": parent}, Context())


def _span_context(parent: str) -> "trace.SpanContext":
    from opentelemetry import trace  # noqa: PLC0415

    return trace.get_current_span(_context(parent)).get_span_context()


def _wall_ns(monotonic_s: float) -> int:
    return time.time_ns() - round((time.monotonic() - monotonic_s) * 1e9)
