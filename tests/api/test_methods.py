"""HEAD wherever there is GET, and the methods of a path in full where another is refused."""

from pathlib import Path

import httpx
import pytest

from tests.api.job_support import get, job_site, post, submit
from tests.api.support import Site

_PATHS = ("/livez", "/readyz", "/health", "/metrics", "/openapi.json", "/v1/models", "/v1/models/base", "/v1/jobs")


@pytest.mark.parametrize("path", _PATHS)
def test_head_answers_like_get_without_a_body(server: Site, path: str) -> None:
    """Monitors and proxies ask with HEAD."""
    answer = httpx.head(server.url + path)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) > 0
    assert answer.headers["content-type"] == httpx.get(server.url + path).headers["content-type"]
    assert not answer.content


def test_head_of_a_job_and_its_events_ends_at_once(tmp_path: Path) -> None:
    """No stream is opened for a caller who wants none of it."""
    with job_site(tmp_path) as running:
        made = submit(running)
        head = httpx.head(f"{running.url}/v1/jobs/{made['id']}")
        assert (head.status_code, head.headers["etag"]) == (200, get(running, f"/v1/jobs/{made['id']}").headers["etag"])
        events = httpx.head(f"{running.url}/v1/jobs/{made['id']}/events", timeout=30)
        assert events.status_code == 200
        assert events.headers["content-type"].startswith("text/event-stream")
        assert events.headers["x-accel-buffering"] == "no"
        assert "content-length" not in events.headers
        assert running.app.state.streams.count == 0
        assert httpx.head(f"{running.url}/v1/jobs/{made['id']}/result").status_code == 409
        assert httpx.head(f"{running.url}/v1/jobs/job_0/events").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, HEAD, POST"),
        ("PATCH", "/v1/jobs/job_0", "DELETE, GET, HEAD"),
        ("GET", "/v1/jobs/job_0/cancel", "POST"),
        ("GET", "/v1/uploads", "OPTIONS, POST"),
        ("PUT", "/v1/webhook-endpoints/we_0", "DELETE, GET, HEAD, PATCH"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("OPTIONS", "/livez", "GET, HEAD"),
    ],
)
def test_a_refused_method_is_told_all_that_there_are(server: Site, method: str, path: str, allowed: str) -> None:
    """Also those on other routes of the same path, in the header and in the remedy."""
    answer = httpx.request(method, server.url + path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
    assert f"Use {allowed}." in answer.json()["error"]["message"]


def test_an_error_ends_no_connection_that_carried_no_body(server: Site) -> None:
    """There is nothing left to take: the caller's next request needs no new connection."""
    with httpx.Client() as client:
        bare = client.post(f"{server.url}/v1/jobs/job_0/cancel")
        deleted = client.delete(f"{server.url}/v1/jobs/job_0")
        sent = client.put(f"{server.url}/v1/jobs", content=b"x")
    assert [answer.status_code for answer in (bare, deleted, sent)] == [404, 404, 405]
    assert [answer.headers.get("connection") for answer in (bare, deleted, sent)] == [None, None, "close"]


def test_a_result_that_is_not_there_yet_says_when_to_ask_again(tmp_path: Path) -> None:
    """409 with Retry-After while the job runs; without once it has ended for good."""
    with job_site(tmp_path) as running:
        made = submit(running)
        waiting = get(running, f"/v1/jobs/{made['id']}/result")
        assert (waiting.status_code, waiting.headers["retry-after"]) == (409, "2")
        post(running, f"/v1/jobs/{made['id']}/cancel")
        ended = get(running, f"/v1/jobs/{made['id']}/result")
        assert ended.status_code == 409
        assert "retry-after" not in ended.headers
