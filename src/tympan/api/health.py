"""How the server is, part by part, with reasons and remedies. Nothing here waits for anything."""

from typing import Any

from tympan import telemetry
from tympan.api.deps import Services
from tympan.api.watches import PartReport, PartState

_STATES = {PartState.OK: 1.0, PartState.DEGRADED: 0.5, PartState.DOWN: 0.0}


def takes_requests(services: Services) -> bool:
    """Return whether a request sent now would be let in."""
    house, transcriber = services.house, services.backend.transcriber
    default_is_out = transcriber is not None and not transcriber.ready
    return services.backend.ready and not (house.draining or house.full or house.disk_low or default_is_out)


def status_of(services: Services, parts: dict[str, PartReport]) -> str:
    """Return the one word for all: ``loading``, ``unhealthy``, ``degraded`` or ``healthy``."""
    if services.backend.loading:
        return "loading"
    if not services.backend.ready:
        return "unhealthy"
    well = all(part.state is PartState.OK for part in parts.values())
    return "healthy" if well and takes_requests(services) else "degraded"


def parts_of(services: Services) -> dict[str, PartReport]:
    """Return how every part stands: those of this process now, the others as they were seen last."""
    parts = {
        "engine": _engine(services),
        "models": _models(services),
        "requests": _requests(services),
        "storage": _storage(services),
        **services.desks.watches.reports(),
    }
    services.spells.note(parts)
    return parts


def show(parts: dict[str, PartReport]) -> None:
    """Let the metrics say how every part stands."""
    telemetry.COMPONENT.clear()
    for name, part in parts.items():
        telemetry.COMPONENT.labels(name).set(_STATES[part.state])


def _engine(services: Services) -> PartReport:
    backend = services.backend
    transcriber = backend.transcriber
    info = transcriber.info if transcriber else None
    if transcriber is None or info is None:
        reason = "The model is being loaded." if backend.loading else "No engine has started."
        remedy = "Wait; the log says how far it is." if backend.loading else "Look for its error in the log."
        return PartReport(PartState.DOWN, reason, remedy, {"ready": False})
    facts = {
        "ready": transcriber.ready,
        "runtime": info.engine,
        "device": info.device,
        "compute_type": info.compute_type,
        "queued_windows": sum(transcriber.stats().queued_windows.values()),
    }
    if transcriber.ready:
        return PartReport(facts=facts)
    if info.engine == "remote":
        remedy = "Start workers, or find out why the existing ones do not answer."
        return PartReport(PartState.DOWN, "No worker has been seen lately.", remedy, facts)
    remedy = "It restarts by itself; if that goes on, look for the reason in the log."
    return PartReport(PartState.DOWN, "The engine is being replaced, or cannot be loaded.", remedy, facts)


def _models(services: Services) -> PartReport:
    views = services.backend.registry.views() if services.backend.registry else ()
    facts = {"states": {view.card.id: view.state for view in views}}
    failed = [view.card.id for view in views if view.state == "failed"]
    if not failed:
        return PartReport(facts=facts)
    reason = f"Not to be loaded: {', '.join(failed[:8])}."
    return PartReport(PartState.DEGRADED, reason, "GET /v1/models/<id> says why; it is tried again by itself.", facts)


def _requests(services: Services) -> PartReport:
    house = services.house
    facts = {
        "in_house": house.count,
        "capacity": house.capacity,
        "draining": house.draining,
        "predicted_wait_s": round(house.predicted_wait_s, 1),
    }
    if house.draining:
        return PartReport(PartState.DEGRADED, "The server is stopping.", "Send requests to another one.", facts)
    if house.full:
        remedy = "Send fewer at a time, or add machines; MAX_REQUESTS and MAX_WAIT_S set how many may wait."
        return PartReport(PartState.DEGRADED, "As much is waiting as may wait; some are refused.", remedy, facts)
    return PartReport(facts=facts)


def _storage(services: Services) -> PartReport:
    house = services.house
    free_bytes, is_low = house.disk_free_bytes, house.disk_low
    facts: dict[str, Any] = {"ok": not is_low, "free_mb": free_bytes // 1_000_000}
    telemetry.DISK_FREE.set(free_bytes)
    if not is_low:
        return PartReport(facts=facts)
    remedy = "Free disk space below DATA_DIR, or move it; DISK_RESERVE_MB sets how much stays free."
    return PartReport(PartState.DOWN, "The disk is too full to take uploads.", remedy, facts)
