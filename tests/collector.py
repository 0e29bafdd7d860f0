"""A collector of traces: takes OTLP over HTTP, as the programs that keep traces do, and shows what came."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


@dataclass(frozen=True, slots=True)
class Told:
    """One span as it arrived; ``links`` are ids of other spans."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: int
    role: str
    start_ns: int
    end_ns: int
    failed: bool
    figures: dict[str, Any]
    links: tuple[str, ...]


@dataclass(slots=True)
class Collector:
    """What has been told, in the order of arrival."""

    url: str = ""
    spans: list[Told] = field(default_factory=list)
    requests: int = 0
    status: int = 200
    gate: threading.Event = field(default_factory=threading.Event)

    def of(self, trace_id: str) -> list[Told]:
        """Return the spans of one trace, by when they began."""
        return sorted((span for span in list(self.spans) if span.trace_id == trace_id), key=lambda span: span.start_ns)

    def named(self, name: str) -> list[Told]:
        """Return the spans of one name."""
        return [span for span in list(self.spans) if span.name == name]


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _read(body: bytes) -> Iterator[Told]:
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {pair.key: _value(pair.value) for pair in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Told(
                    span.name,
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.kind,
                    about["tympan.role"],
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    span.status.code == 2,
                    {pair.key: _value(pair.value) for pair in span.attributes},
                    tuple(link.span_id.hex() for link in span.links),
                )


@contextmanager
def collecting(*, hangs: bool = False) -> Iterator[Collector]:
    """Yield a collector; one that ``hangs`` answers nobody before its gate is opened."""
    collector = Collector()
    if not hangs:
        collector.gate.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            collector.requests += 1
            collector.gate.wait(30)
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            collector.spans += _read(body)
            self.send_response(collector.status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    collector.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.gate.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
