"""``/livez``, ``/readyz``, ``/health``, ``/metrics``: how the server is. None of them waits for the pipeline."""

import resource
import sys
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tympan import telemetry
from tympan.api.deps import Services, services_of
from tympan.api.health import parts_of, show, status_of, takes_requests
from tympan.api.watches import PartReport
from tympan.errors import Unavailable

router = APIRouter()

_PROC = Path("/proc")
_PAGE_BYTES = resource.getpagesize()


@router.get("/livez")
async def livez() -> dict[str, str]:
    """Answer while the process is alive and its event loop turns."""
    return {"status": "alive"}


@router.get("/readyz")
async def readyz(request: Request) -> dict[str, str]:
    """Answer 200 while transcription requests are taken. Raises ``Unavailable`` while starting or stopping."""
    services = services_of(request)
    if services.house.draining:
        raise Unavailable("The server is stopping.", retry_after_s=5.0)
    services.backend.require()
    return {"status": "ready"}


@router.get("/health")
async def health(request: Request) -> JSONResponse:
    """Describe the server: 200 when it works (healthy, degraded), 503 when not (loading, unhealthy)."""
    services = services_of(request)
    parts = parts_of(services)
    status = status_of(services, parts)
    return JSONResponse(_report(services, status, parts), 200 if status in ("healthy", "degraded") else 503)


@router.get("/metrics", response_class=Response)
async def metrics(request: Request) -> Response:
    """Return all metrics in Prometheus' text format."""
    services = services_of(request)
    registry = services.backend.registry
    if registry is not None:
        telemetry.record_queue(registry.stats())
        for view in registry.views():
            telemetry.record_model(view.card.id, view.memory_bytes, is_loaded=view.state == "loaded")
    telemetry.PREDICTED_WAIT.set(services.house.predicted_wait_s)
    show(parts_of(services))
    telemetry.READY.set(services.backend.ready and not services.house.draining)
    return Response(telemetry.metrics_text(), media_type=telemetry.METRICS_MEDIA_TYPE)


def _report(services: Services, status: str, parts: dict[str, PartReport]) -> dict[str, Any]:
    house, backend = services.house, services.backend
    views = backend.registry.views() if backend.registry else ()
    return {
        "status": status,
        "model_loaded": any(view.is_default and view.state == "loaded" for view in views),
        "model": backend.card.id if backend.card else None,
        "accepting_requests": takes_requests(services),
        "queued_requests": house.count,
        "avg_latency_ms": round(house.mean_stay_s * 1000, 1),
        "memory_used_mb": round(memory_used_bytes() / 1e6, 1),
        "version": services.version,
        "components": {name: part.as_json() for name, part in parts.items()},
    }


def memory_used_bytes() -> int:
    """Return the resident memory of this process and its children; of this process at its peak without ``/proc``."""
    if not (_PROC / "self" / "statm").exists():
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return sum(_resident_bytes(pid) for pid in ("self", *_children("self")))


def _children(pid: str) -> list[str]:
    found: list[str] = []
    for task in (_PROC / pid / "task").glob("*/children"):
        for child in _read(task).split():
            found += [child, *_children(child)]
    return found


def _resident_bytes(pid: str) -> int:
    columns = _read(_PROC / pid / "statm").split()
    return int(columns[1]) * _PAGE_BYTES if columns else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # the process or thread has ended since
        return ""
