"""How the server says how it is."""

import contextlib
import dataclasses
import socket
from collections.abc import Callable

import httpx
import pytest

from tests.api.support import Site
from tympan import disk
from tympan.api import ops
from tympan.api.deps import Backend
from tympan.api.health import parts_of, status_of, takes_requests
from tympan.api.watches import PartReport, PartState, Watches
from tympan.errors import Unavailable

HEALTH_FIELDS = {
    "status",
    "model_loaded",
    "model",
    "accepting_requests",
    "queued_requests",
    "avg_latency_ms",
    "memory_used_mb",
    "version",
    "components",
}


def test_health_has_the_promised_fields(server: Site) -> None:
    """Every field, with sensible values while the server is idle."""
    server.post()
    response = httpx.get(f"{server.url}/health")
    health = response.json()
    assert response.status_code == 200
    assert set(health) == HEALTH_FIELDS
    assert (health["status"], health["model"], health["model_loaded"]) == ("healthy", "base", True)
    assert (health["accepting_requests"], health["queued_requests"], health["version"]) == (True, 0, "9.9.9")
    assert health["avg_latency_ms"] > 0
    assert health["components"]["engine"]["runtime"] == "scripted"


def test_memory_is_that_of_this_process_and_its_children() -> None:
    """A plausible number of bytes: more than an interpreter, less than a large model."""
    assert 20e6 < ops.memory_used_bytes() < 20e9


def test_low_disk_is_degraded_and_takes_nothing(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Uploads would be refused, so health must not promise otherwise."""
    site = make_site()
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 10**18)
    health = httpx.get(f"{site.url}/health").json()
    assert (health["status"], health["accepting_requests"]) == ("degraded", False)
    assert site.post().status_code == 507


def test_before_the_pipeline_arrives_everything_answers(make_site: Callable[..., Site]) -> None:
    """While the model is fetched there is no pipeline at all; every route still answers in its shape."""
    site = make_site()
    site.services.backend._registry = None
    health = httpx.get(f"{site.url}/health")
    assert (health.status_code, health.json()["status"], health.json()["model"]) == (503, "loading", None)
    assert httpx.get(f"{site.url}/v1/models").json() == {"object": "list", "data": []}
    assert httpx.get(f"{site.url}/v1/models/base").status_code == 503
    assert httpx.get(f"{site.url}/metrics").status_code == 200
    assert httpx.get(f"{site.url}/readyz").headers["retry-after"]
    assert site.post().status_code == 503


def test_an_empty_backend_has_nothing_to_give() -> None:
    """Asking for the pipeline before it is there raises what callers may retry."""
    with pytest.raises(Unavailable, match="being loaded"):
        Backend().require()


def test_oversized_request_heads_are_cut_off(server: Site) -> None:
    """A head without end does not fill the memory: it is refused, and what follows is dropped."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /livez HTTP/1.1\r\n" + (b"X-Filler: " + b"y" * 8_000 + b"\r\n") * 5_000)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 431")
    assert httpx.get(f"{server.url}/livez").status_code == 200


def test_every_part_says_how_it_stands(server: Site) -> None:
    """Each with a status, a reason and a remedy, which are empty while all is well; the metrics say the same."""
    server.post()
    parts = httpx.get(f"{server.url}/health").json()["components"]
    assert {"engine", "models", "requests", "storage"} <= set(parts)
    for part in parts.values():
        assert (part["status"], part["reason"], part["remedy"]) == ("ok", None, None)
    text = httpx.get(f"{server.url}/metrics").text
    assert 'tympan_component_state{component="engine"} 1.0' in text


def test_what_is_broken_says_why_and_what_to_do(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk, a stopping server: reason and remedy, degraded as a whole, and nothing is let in."""
    site = make_site()
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 10**18)
    site.services.house.draining = True
    health = httpx.get(f"{site.url}/health").json()
    parts = health["components"]
    assert (health["status"], health["accepting_requests"]) == ("degraded", False)
    assert (parts["storage"]["status"], parts["requests"]["status"]) == ("down", "degraded")
    for part in (parts["storage"], parts["requests"]):
        assert part["reason"]
        assert part["remedy"]
    assert 'tympan_component_state{component="storage"} 0.0' in httpx.get(f"{site.url}/metrics").text


def test_an_engine_that_is_away_is_down(make_site: Callable[..., Site]) -> None:
    """The server is unhealthy, and says which part it is."""
    site = make_site()
    site.transcriber.ready = False
    answer = httpx.get(f"{site.url}/health")
    assert (answer.status_code, answer.json()["status"]) == (503, "unhealthy")
    assert answer.json()["components"]["engine"]["status"] == "down"
    assert "log" in answer.json()["components"]["engine"]["remedy"]


def test_a_dependency_that_is_away_degrades_and_keeps_nobody_waiting(make_site: Callable[..., Site]) -> None:
    """Requests are still let in: what was seen last is told, and nothing is asked meanwhile."""
    site = make_site()
    asked = []
    away = {"broker": PartReport(PartState.DEGRADED, "The broker does not answer.", "Start it.")}

    class Seen(Watches):
        def reports(self) -> dict[str, PartReport]:
            asked.append(1)
            return dict(away)

    services = dataclasses.replace(site.services, desks=dataclasses.replace(site.services.desks, watches=Seen()))
    parts = parts_of(services)
    assert status_of(services, parts) == "degraded"
    assert takes_requests(services)
    assert parts["broker"].as_json() == {
        "status": "degraded",
        "reason": "The broker does not answer.",
        "remedy": "Start it.",
    }
    assert asked == [1]
