"""One envelope, one table, on every route."""

import io
import json
from collections.abc import Iterator

import httpx
import pytest

from tests.api.support import Site
from tympan.api.errors import STATUS, MethodNotAllowed, retry_after_s
from tympan.errors import Overloaded, TympanError


def subclasses(cls: type[TympanError]) -> Iterator[type[TympanError]]:
    """Yield a class and everything below it."""
    yield cls
    for child in cls.__subclasses__():
        yield from subclasses(child)


def test_every_error_code_has_a_status_and_every_status_a_code() -> None:
    """The table and the error tree name exactly the same codes."""
    assert {error.code for error in subclasses(TympanError)} == set(STATUS)


def test_retryable_errors_answer_with_a_retryable_status() -> None:
    """A client that looks at the status alone sees that it is worth trying again."""
    for error in subclasses(TympanError):
        if error.retryable:
            assert STATUS[error.code] in (408, 409, 423, 429, 500, 502, 503, 507), error


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/v1/audio/transcriptions", 405, "method_not_allowed"),
        ("POST", "/v1/audio/transcriptions/", 404, "not_found"),
        ("DELETE", "/v1/models/base", 409, "conflict"),
        ("POST", "/v1/models/tiny", 404, "model_not_found"),
        ("GET", "/v1/models/a/b/c", 404, "model_not_found"),
        ("PUT", "/health", 405, "method_not_allowed"),
        ("GET", "/%00%ff", 404, "not_found"),
        ("GET", "/docs", 404, "not_found"),
        ("GET", "/ui", 404, "not_found"),
    ],
)
def test_every_refusal_has_the_envelope(server: Site, method: str, path: str, status: int, code: str) -> None:
    """Unknown paths and wrong methods answer in the same shape as everything else, with a cause and a remedy."""
    response = httpx.request(method, server.url + path)
    assert response.status_code == status
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["type"]) == (code, "invalid_request_error")
    assert error["message"].count(".") >= 2
    assert response.headers["x-request-id"]
    if status == 405:
        assert response.headers["allow"]


def test_every_answer_carries_our_headers(server: Site) -> None:
    """A request id, the time taken, and no caching or sniffing of transcripts."""
    response = server.post()
    assert response.headers["x-request-id"].startswith("req_")
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "server" not in response.headers


def test_the_log_tells_why_a_request_failed(server: Site, log: io.StringIO) -> None:
    """The line of a request that was answered with an error has its code; others have none."""
    server.post(data={"language": "nowhere"})
    server.post()
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [line.get("code") for line in lines if line["event"] == "request"] == ["unsupported_language", None]


@pytest.mark.parametrize("given", ["a b", "x" * 65, "é", "a;b"])
def test_a_strange_request_id_is_replaced(server: Site, given: str) -> None:
    """Only short plain ids are taken over from the client, so that logs stay readable."""
    response = httpx.get(f"{server.url}/livez", headers={b"x-request-id": given.encode()})
    assert response.headers["x-request-id"].startswith("req_")


def test_retry_after_is_whole_seconds() -> None:
    """The header is rounded up and never zero."""
    assert retry_after_s(Overloaded(retry_after_s=0.0)) == 1
    assert retry_after_s(Overloaded(retry_after_s=2.1)) == 3
    assert retry_after_s(Overloaded()) == 2


def test_the_methods_error_belongs_to_the_tree() -> None:
    """The one error that only HTTP knows is an invalid request like others."""
    assert MethodNotAllowed().code == "method_not_allowed"
    assert str(MethodNotAllowed()) == "This path does not support that method."
