"""Admission, cancellation, time limits and stopping."""

import io
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.api.support import ScriptedTranscriber, Site, wait_for
from tympan.errors import EngineDeviceLost, Overloaded
from tympan.telemetry import REGISTRY


def error_code(response: httpx.Response) -> str:
    """Return the code of an error answer."""
    code: str = response.json()["error"]["code"]
    return code


def test_a_full_house_refuses_with_retry_after(make_site: Callable[..., Site]) -> None:
    """Beyond the capacity a request is refused at once, and served again when a place is free."""
    gate = threading.Event()
    site = make_site(ScriptedTranscriber(gate=gate), max_requests=2)
    with ThreadPoolExecutor(2) as clients:
        running = [clients.submit(site.post) for _ in range(2)]
        wait_for(lambda: site.services.house.count == 2)
        refused = site.post()
        assert (refused.status_code, error_code(refused)) == (503, "overloaded")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert httpx.get(f"{site.url}/health").json()["status"] == "degraded"
        gate.set()
        assert [task.result().status_code for task in running] == [200, 200]
    assert site.post().status_code == 200


def test_retry_after_follows_the_measured_stay(make_site: Callable[..., Site]) -> None:
    """The longer requests have been taking, the later the refused are asked to come back."""
    site = make_site(max_requests=1)
    house = site.services.house
    house.capacity = 0
    assert int(site.post().headers["retry-after"]) <= 2
    house.record_stay(40.0)
    assert int(site.post().headers["retry-after"]) >= 30


def test_more_requests_than_threads_wait_and_are_served(make_site: Callable[..., Site]) -> None:
    """Requests in the house beyond the threads wait for one; none is lost."""
    site = make_site(ScriptedTranscriber(seconds=0.1), max_concurrent=2, max_requests=8)
    with ThreadPoolExecutor(8) as clients:
        answers = [task.result().status_code for task in [clients.submit(site.post) for _ in range(8)]]
    assert answers == [200] * 8


@pytest.mark.alone
def test_G9_health_answers_while_every_thread_is_busy(make_site: Callable[..., Site]) -> None:
    """Liveness, readiness, health and metrics never wait for a pipeline."""
    gate = threading.Event()
    site = make_site(ScriptedTranscriber(gate=gate), max_concurrent=2, max_requests=12)
    with ThreadPoolExecutor(12) as clients:
        running = [clients.submit(site.post) for _ in range(12)]
        wait_for(lambda: site.services.house.count == 12)
        with httpx.Client(base_url=site.url) as probe:
            times = []
            for _ in range(20):
                for path in ("/livez", "/readyz", "/health", "/metrics"):
                    started = time.perf_counter()
                    assert probe.get(path).status_code == 200
                    times.append(time.perf_counter() - started)
            assert sorted(times)[len(times) // 2] < 0.2
            assert probe.get("/health").json()["queued_requests"] == 12
        gate.set()
        assert all(task.result().status_code == 200 for task in running)


def test_a_request_over_its_time_is_cancelled_and_typed(make_site: Callable[..., Site]) -> None:
    """The answer comes at the time limit, the pipeline is told to stop, and the place is given back."""
    site = make_site(ScriptedTranscriber(seconds=60), request_timeout_s=0.3)
    response = site.post(timeout=30)
    assert (response.status_code, error_code(response)) == (408, "request_timeout")
    wait_for(lambda: site.transcriber.cancelled.is_set() or not site.transcriber.calls)
    wait_for(lambda: not site.services.house.count and not site.staged)


def test_a_request_that_never_got_a_thread_is_dropped_in_time(make_site: Callable[..., Site]) -> None:
    """A request still waiting for a thread at its deadline is answered and its pipeline never starts."""
    gate = threading.Event()
    site = make_site(ScriptedTranscriber(gate=gate), request_timeout_s=1.0, max_concurrent=1)
    with ThreadPoolExecutor(2) as clients:
        answers = [task.result() for task in [clients.submit(site.post) for _ in range(2)]]
        gate.set()
    assert [answer.status_code for answer in answers] == [408, 408]
    wait_for(lambda: not site.services.house.count and not site.staged)
    assert len(site.transcriber.calls) <= 1


def test_F6_a_departed_client_cancels_its_request(make_site: Callable[..., Site]) -> None:
    """When the connection closes, the pipeline is told within moments."""
    site = make_site(ScriptedTranscriber(seconds=60))
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(_upload(site))
        wait_for(lambda: site.transcriber.calls)
    assert site.transcriber.cancelled.wait(30)
    wait_for(lambda: not site.services.house.count and not site.staged)


def _upload(site: Site) -> bytes:
    upload = httpx.Request("POST", site.url, files={"file": ("a", b"x")})
    head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {upload.headers['content-type']}\r\n"
    return f"{head}Content-Length: {upload.headers['content-length']}\r\n\r\n".encode() + upload.read()


def test_a_pipelined_request_is_not_taken_for_a_departure(make_site: Callable[..., Site]) -> None:
    """A client that sends its next request early still gets both answers."""
    site = make_site(ScriptedTranscriber(seconds=0.2))
    host, port = site.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(_upload(site) + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    assert received.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Overloaded(retry_after_s=7.2), 503, "overloaded"),
        (EngineDeviceLost(), 503, "engine_device_lost"),
        (RuntimeError("the words were: secret canary"), 500, "internal_error"),
    ],
)
def test_pipeline_errors_become_typed_answers(
    make_site: Callable[..., Site], error: Exception, status: int, code: str
) -> None:
    """Typed errors keep their code; the unexpected becomes a plain 500 that tells nothing and names the request."""
    site = make_site(ScriptedTranscriber(error=error))
    response = site.post(headers={"x-request-id": "my-id.1"})
    assert (response.status_code, error_code(response)) == (status, code)
    assert response.headers["x-request-id"] == "my-id.1"
    assert "canary" not in response.text
    assert ("retry-after" in response.headers) == (status == 503)
    if code == "overloaded":
        assert response.headers["retry-after"] == "8"
    wait_for(lambda: not site.services.house.count and not site.staged)


def test_S1_the_unexpected_is_logged_without_what_was_said(make_site: Callable[..., Site], log: io.StringIO) -> None:
    """A crash report says where and what type, never the message, prompt or file name."""
    site = make_site(ScriptedTranscriber(error=RuntimeError("secret canary")))
    site.post(data={"prompt": "canary"}, files={"file": ("canary.wav", b"x")})
    wait_for(lambda: '"status": 500' in log.getvalue())
    assert '"error_type": "RuntimeError"' in log.getvalue()
    assert "support.py" in log.getvalue()
    assert "canary" not in log.getvalue()


def test_O1_stopping_refuses_the_new_and_finishes_the_running(make_site: Callable[..., Site]) -> None:
    """After the signal readiness is gone at once, new requests get 503, and the running one its answer."""
    gate = threading.Event()
    site = make_site(ScriptedTranscriber(gate=gate))
    with ThreadPoolExecutor(1) as client, httpx.Client(base_url=site.url) as probe:
        assert probe.get("/readyz").status_code == 200
        running = client.submit(site.post)
        wait_for(lambda: site.transcriber.calls)
        site.services.house.draining = True
        assert probe.get("/readyz").status_code == 503
        assert probe.get("/livez").status_code == 200
        refused = site.post()
        assert (refused.status_code, error_code(refused)) == (503, "unavailable")
        gate.set()
        assert running.result().status_code == 200


def test_requests_evicted_at_the_end_of_the_drain_can_be_repeated(make_site: Callable[..., Site]) -> None:
    """A request that does not finish in the drain time is told that the server stops, not that it failed."""
    site = make_site(ScriptedTranscriber(seconds=60))
    answers: list[httpx.Response] = []
    client = threading.Thread(target=lambda: answers.append(site.post()))
    client.start()
    wait_for(lambda: site.transcriber.calls)
    site.services.house.evict()
    client.join(30)
    assert [error_code(answer) for answer in answers] == ["unavailable"]


def test_a_restarting_engine_refuses_before_the_body(make_site: Callable[..., Site]) -> None:
    """While the engine is away, requests get 503 with Retry-After and health says unhealthy; loading says loading."""
    site = make_site()
    site.transcriber.ready = False
    response = site.post()
    assert (response.status_code, error_code(response)) == (503, "unavailable")
    assert "retry-after" in response.headers
    assert httpx.get(f"{site.url}/health").json()["status"] == "unhealthy"
    site.transcriber.info = None
    health = httpx.get(f"{site.url}/health")
    assert (health.status_code, health.json()["status"], health.json()["model_loaded"]) == (503, "loading", False)
    assert httpx.get(f"{site.url}/livez").status_code == 200


def test_metrics_count_successes_and_failures(make_site: Callable[..., Site]) -> None:
    """Requests, errors, latency and audio are counted under the model and the language."""

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    site = make_site()
    requests = value("tympan_requests_total", model="base", language="de")
    audio = value("tympan_audio_duration_seconds_sum", model="base")
    site.post(data={"language": "de"})
    site.transcriber.error = EngineDeviceLost()
    errors = value("tympan_errors_total", model="base", language="de")
    site.post(data={"language": "de"})
    assert value("tympan_requests_total", model="base", language="de") == requests + 2
    assert value("tympan_errors_total", model="base", language="de") == errors + 1
    assert value("tympan_audio_duration_seconds_sum", model="base") == pytest.approx(audio + 4.2)
    text = httpx.get(f"{site.url}/metrics").text
    assert 'tympan_queue_depth{lane="interactive"} 0.0' in text
    assert "tympan_ready 1.0" in text
