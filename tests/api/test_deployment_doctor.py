"""The doctor's questions to a running deployment, and what it makes of the answers."""

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.api.support import Site
from tympan.cli import app
from tympan.cli.checks import Check, Status
from tympan.cli.console import stderr, stdout
from tympan.cli.deployment import examine_deployment
from tympan.cli.errand import Errand, Reply, Unreachable
from tympan.errors import InvalidRequest, Unavailable

WELL: dict[str, Any] = {
    "/livez": {"status": "alive"},
    "/readyz": {"status": "ready"},
    "/health": {"status": "healthy", "version": "?", "components": {"engine": {"status": "ok", "runtime": "onnx"}}},
    "/v1/audio/transcriptions": {"text": "beep"},
}
METRICS = 'tympan_http_responses_total{route="/x",status="200"} %d\ntympan_http_responses_total{status="503"} %d\n'


def _asking(**replies: Reply | Exception) -> Callable[[str, str, bytes | None, Mapping[str, str]], Reply]:
    """Return a deployment that is well but for some answers, named by the last part of the path."""

    def ask(_method: str, path: str, _body: bytes | None, _headers: Mapping[str, str]) -> Reply:
        reply = replies.get(path.rsplit("/", 1)[-1])
        if isinstance(reply, Exception):
            raise reply
        if reply is not None:
            return reply
        body = (METRICS % (99, 1)).encode() if path == "/metrics" else json.dumps(WELL[path]).encode()
        return Reply(200, body)

    return ask


def _found(**replies: Reply | Exception) -> dict[str, Check]:
    return {check.name: check for check in examine_deployment(_asking(**replies))}


def _error(status: int, code: str, message: str) -> Reply:
    return Reply(status, json.dumps({"error": {"code": code, "message": message}}).encode())


def test_a_deployment_that_is_well_passes() -> None:
    """Every question is asked and answered; only another version is worth a word."""
    found = _found()
    assert list(found) == ["Reachable", "Ready", "Health", "Version", "Part engine", "Metrics", "Transcription"]
    assert {check.name for check in found.values() if check.status is not Status.OK} == {"Version"}
    assert found["Part engine"].detail == "runtime onnx"
    assert "100 answers since the start, 1 of them" in found["Metrics"].detail


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Unreachable("nothing listens there", "Start the server."), "nothing listens"),
        (Reply(301, headers={"location": "https://there/"}), "sends to https://there/"),
        (Reply(200, b"<html>hello"), "/livez is answered with status 200"),
        (Reply(502), "status 502"),
    ],
)
def test_what_is_no_tympan_ends_the_questions(answer: Reply | Exception, words: str) -> None:
    """Nobody there, a redirect, another program, a proxy without a server: said once, with a remedy."""
    found = _found(livez=answer)
    assert list(found) == ["Reachable"]
    assert found["Reachable"].status is Status.FAIL
    assert words in found["Reachable"].detail
    assert found["Reachable"].remedy


def test_parts_are_shown_with_the_servers_own_reasons_and_remedies() -> None:
    """What is down fails, what is degraded warns; odd shapes are left out."""
    down = {"status": "down", "reason": "It is away.", "remedy": "Start it."}
    parts = {"broker": {**down, "status": "degraded"}, "database": down, "odd": 3, "odder": {"status": "what"}}
    body = json.dumps({"status": "unhealthy", "components": parts}).encode()
    found = _found(health=Reply(503, body), readyz=_error(503, "unavailable", "The model is being loaded."))
    assert found["Ready"].detail == "status 503: [unavailable] The model is being loaded."
    assert found["Health"].status is Status.FAIL
    assert found["Part broker"] == Check("Part broker", Status.WARN, "It is away.", "Start it.")
    assert found["Part database"].status is Status.FAIL
    assert "Part odd" not in found
    assert "Part odder" not in found


@pytest.mark.parametrize(
    ("reply", "status", "words"),
    [
        (_error(401, "invalid_api_key", "No key."), Status.WARN, "--api-key"),
        (_error(413, "too_large", "Too large."), Status.FAIL, "larger bodies"),
        (_error(429, "rate_limit_exceeded", "Too many."), Status.FAIL, "limit of the key"),
        (_error(503, "unavailable", "No engine."), Status.FAIL, "which part is down"),
        (_error(507, "insufficient_storage", "Full."), Status.FAIL, "Free disk space"),
        (Reply(504, b"<html>"), Status.FAIL, "wait longer"),
        (Reply(200, b"not json"), Status.FAIL, "log"),
        (Unreachable("no answer within 60 s", "See whether it hangs."), Status.FAIL, "hangs"),
    ],
)
def test_a_transcription_that_fails_says_what_to_do(reply: Reply | Exception, status: Status, words: str) -> None:
    """By what the server, or a proxy before it, said."""
    found = _found(transcriptions=reply)["Transcription"]
    assert found.status is status
    assert words in found.remedy


def test_many_errors_in_the_metrics_and_a_missing_key_are_warnings() -> None:
    """More than a twentieth of the answers, and a scope that the key has not."""
    many = _found(metrics=Reply(200, (METRICS % (90, 10)).encode()))["Metrics"]
    assert (many.status, "tympan_error_codes_total" in many.remedy) == (Status.WARN, True)
    assert _found(metrics=Reply(403))["Metrics"].status is Status.WARN
    assert _found(metrics=Reply(500))["Metrics"].status is Status.FAIL
    assert _found(metrics=Reply(200, b"odd\n\xff 1\nx nan"))["Metrics"].status is Status.OK


@pytest.fixture
def runner() -> CliRunner:
    """Return what calls the command line."""
    stdout.cache_clear()
    stderr.cache_clear()
    return CliRunner()


def test_the_command_asks_a_real_server(runner: CliRunner, server: Site) -> None:
    """Exit status 0 while all is well, and the answers as JSON, after the log of the server that runs here."""
    done = runner.invoke(app, ["doctor", "--url", server.url, "--json"])
    found = {check["name"]: check for check in json.loads(done.stdout[done.stdout.index("[\n") :])}
    assert done.exit_code == 0, done.output
    assert found["Transcription"]["status"] == found["Part engine"]["status"] == "ok"


def test_the_command_fails_with_what_is_wrong(runner: CliRunner, make_site: Callable[..., Site]) -> None:
    """An engine that is away and a broken pipeline: exit status 1, causes and remedies in plain words."""
    site = make_site()
    site.transcriber.error = Unavailable("The engine is away.")
    site.transcriber.ready = False
    done = runner.invoke(app, ["doctor", "--url", site.url])
    assert done.exit_code == 1
    assert "Part engine" in done.output
    assert "failed" in done.output


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Return a port that takes connections and says what is no HTTP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def talk() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(100)
                    connection.sendall(b"220 mail.example.com ESMTP\r\n")

        threading.Thread(target=talk, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("scheme", "words"), [("http", "is no HTTP"), ("https", "does not speak TLS")])
def test_another_program_at_the_port_is_told_from_a_server(silent_port: int, scheme: str, words: str) -> None:
    """What is there is named, not shown as a traceback."""
    (check,) = examine_deployment(Errand(f"{scheme}://127.0.0.1:{silent_port}", answer_s=10))
    assert words in check.detail


def test_nobody_there_an_unknown_name_and_silence_are_told_apart() -> None:
    """Each with its remedy."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        (check,) = examine_deployment(Errand(f"http://127.0.0.1:{port}", answer_s=0.2))
        assert check.detail == "no answer within 0.2 s"
    (check,) = examine_deployment(Errand(f"http://127.0.0.1:{port}"))
    assert check.detail == "nothing listens there"
    (check,) = examine_deployment(Errand("http://nowhere.invalid"))
    assert "nowhere.invalid" in check.detail


@pytest.mark.parametrize("url", ["", "ftp://x", "http://", "http://h:0", "http://h:99999999", "127.0.0.1:8000"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InvalidRequest):
        Errand(url)
