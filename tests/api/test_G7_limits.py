"""Limits per tenant where they bite: before a body is read, on every route that brings work, with true headers."""

import re
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import reduce
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute
from websockets.exceptions import InvalidStatus

from tests.api.live_sites import dialled, readable, said, tell
from tests.api.support import CLIP, ScriptedTranscriber, Site, make_transcript, site, wait_for
from tympan.access import limits
from tympan.access.limits import LimitBook, LimitDesk, Possessions
from tympan.access.tenant_limits import OwnLimits, TenantLimits, Work
from tympan.access.usage import Period, UsageMeter, UsageRow, Used
from tympan.api.access.callers import EVERYBODY
from tympan.api.app import ROUTERS
from tympan.api.deps import Limits
from tympan.api.intake.metering import work_of
from tympan.domain import Options
from tympan.errors import EngineError, QuotaExceeded, RateLimited, UnsupportedMedia

TENANT = EVERYBODY.tenant
_ITEM = re.compile(r'"([a-z-]+)"((?:;[a-z]+=(?:\d+|"[a-z-]+"))+)')


class Books:
    """Usage in memory."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.rows: dict[tuple[str, str], Used] = {}

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Add rows, of any day."""
        for row in rows:
            key = (row.kind, row.model)
            self.rows[key] = self.rows.get(key, Used()).plus(row.used)

    def between(self, period: Period, tenant: str | None = None) -> list[UsageRow]:
        """Return nothing."""
        return []


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a function that starts a server where everybody has the limits of the test's choice."""
    with ExitStack() as stack:

        def start(transcriber: ScriptedTranscriber | None = None, **limits: float) -> Site:
            desk = LimitDesk(LimitBook(TenantLimits(**limits)))  # type: ignore[arg-type]
            desks = {"limits": desk, "meter": UsageMeter(Books())}
            return stack.enter_context(site(tmp_path, Limits(reattach_s=2.0), transcriber, desks))

        yield start


def _fields(header: str) -> dict[str, dict[str, str]]:
    """Return the items of a structured list by name; an assertion fails for what is none."""
    items = header.split(", ")
    found = [_ITEM.fullmatch(item) for item in items]
    assert all(found), header
    return {match[1]: dict(part.split("=") for part in match[2].strip(";").split(";")) for match in found if match}


def _used(site: Site) -> Used:
    """Return what synchronous calls have used so far."""
    meter = site.services.desks.meter
    meter.flush()
    assert isinstance(meter.books, Books)
    return reduce(Used.plus, meter.books.rows.values(), Used())


def test_G7_the_headers_say_how_one_stands(make: Callable[..., Site]) -> None:
    """Policies stay the same, what remains goes down, and the last answer says how long to wait."""
    running = make(requests_per_min=3, audio_minutes_per_min=1, audio_minutes_per_day=10)
    answers = [running.post() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    policy = _fields(answers[0].headers["ratelimit-policy"])
    assert policy == {
        "requests": {"q": "3", "w": "60"},
        "audio-minute": {"q": "60", "w": "60", "qu": '"audio-seconds"'},
        "audio-day": {"q": "600", "w": "86400", "qu": '"audio-seconds"'},
    }
    assert len({answer.headers["ratelimit-policy"] for answer in answers}) == 1
    left = [_fields(answer.headers["ratelimit"])["requests"]["r"] for answer in answers]
    assert left == ["2", "1", "0", "0"]
    assert 59 <= int(_fields(answers[2].headers["ratelimit"])["requests"]["t"]) <= 60
    assert 1 <= int(answers[3].headers["retry-after"]) <= 20
    assert answers[3].headers["x-ratelimit-limit-requests"] == "3"
    assert answers[3].headers["x-ratelimit-remaining-requests"] == "0"
    assert re.fullmatch(r"\d+s", answers[3].headers["x-ratelimit-reset-requests"])
    assert answers[3].json()["error"] | {"message": ""} == {
        "message": "",
        "type": "requests",
        "param": None,
        "code": "rate_limit_exceeded",
    }


def test_without_limits_there_are_no_headers_of_them(make: Callable[..., Site]) -> None:
    """Nobody is told of what there is not."""
    headers = make().post().headers
    assert not [name for name in headers if "ratelimit" in name]


def test_an_answer_to_a_question_costs_nothing(make: Callable[..., Site]) -> None:
    """Who has used up everything may still look and cancel."""
    running = make(requests_per_min=1)
    assert running.post().status_code == 200
    assert running.post().status_code == 429
    for path in ("/v1/models", "/v1/jobs", "/livez"):
        assert httpx.get(running.url + path).status_code == 200
    assert httpx.post(running.url + "/v1/jobs/job_000000000000/cancel").status_code == 404


def test_over_the_limit_is_told_before_the_body_is_read(make: Callable[..., Site]) -> None:
    """The head of a request is enough."""
    running = make(requests_per_min=1)
    assert running.post().status_code == 200
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nhost: x\r\ncontent-length: 90000000\r\n"
            b"content-type: multipart/form-data; boundary=x\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 429")


def _working_routes() -> list[tuple[str, str]]:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    return sorted(
        (method, route.path) for route in routes for method in route.methods or () if work_of(route.path, method)
    )


def test_no_route_that_brings_work_forgets_the_limits(make: Callable[..., Site]) -> None:
    """Every route that is not listed as free refuses a tenant that has used up its requests, before anything else."""
    running = make(requests_per_min=1)
    assert running.post().status_code == 200
    found = _working_routes()
    assert {("POST", "/v1/audio/transcriptions"), ("POST", "/v1/jobs"), ("POST", "/v1/batches")} <= set(found)
    for method, path in found:
        if path.startswith("/v1/uploads/{"):
            continue  # Part of an upload that was let in.
        answer = httpx.request(method, running.url + re.sub(r"\{[^}]*\}", "x", path), content=b"{}")
        assert answer.status_code == 429, (method, path)
        assert int(answer.headers["retry-after"]) >= 1


def test_a_route_that_nobody_has_thought_of_brings_work() -> None:
    """Whatever takes a body counts, unless it is listed."""
    assert work_of("/v2/anything", "POST") is Work.SYNC
    assert work_of("/v2/anything", "GET") is None
    assert work_of("/v1/jobs/{job_id}/cancel", "POST") is None
    assert work_of("/v1/webhook-endpoints/{endpoint_id}", "PATCH") is None


def test_audio_is_charged_for_what_it_was(make: Callable[..., Site]) -> None:
    """A clip of 4.2 s leaves 55 of 60; who has less than a second left is refused for the rest of it."""
    running = make(audio_minutes_per_day=1)
    for remaining in (55, 51):
        running.post()
        wait_for(lambda wanted=remaining: _remaining(running) == wanted)  # type: ignore[misc]
    running = make(audio_minutes_per_min=1)
    while (answer := running.post()).status_code == 200:
        pass
    assert answer.json()["error"]["code"] == "rate_limit_exceeded"
    assert "audio a minute" in answer.json()["error"]["message"]


def _remaining(running: Site) -> int:
    return running.services.desks.limits.standing(TENANT)[0].remaining


def test_the_days_quota_has_a_code_of_its_own(make: Callable[..., Site]) -> None:
    """As OpenAI's has."""
    running = make(audio_minutes_per_day=0.1)
    assert running.post().status_code == 200
    wait_for(lambda: _remaining(running) <= 1)
    running.post()
    answer = running.post()
    assert answer.status_code == 429
    assert answer.json()["error"]["type"] == answer.json()["error"]["code"] == "insufficient_quota"
    assert int(answer.headers["retry-after"]) > 60


@pytest.mark.parametrize(
    ("error", "requests_left", "audio_left"),
    [(EngineError(), 5, 60), (UnsupportedMedia(), 4, 60)],
    ids=["our failure", "the caller's failure"],
)
def test_failures_that_are_ours_cost_nothing(
    make: Callable[..., Site], error: Exception, requests_left: int, audio_left: int
) -> None:
    """A bad file costs a request and no audio."""
    running = make(ScriptedTranscriber(error=error), requests_per_min=5, audio_minutes_per_min=1)
    assert running.post().status_code >= 400
    wait_for(
        lambda: (
            [each.remaining for each in running.services.desks.limits.standing(TENANT)] == [requests_left, audio_left]
        )
    )
    assert _used(running).failures == 1


def test_requests_at_once_are_bounded_and_free_again(make: Callable[..., Site]) -> None:
    """Two run, the third is told to wait, and after them there is room."""
    gate = threading.Event()
    running = make(ScriptedTranscriber(gate=gate), requests_at_once=2)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(_in_thread(running.post))
        wait_for(lambda: len(running.transcriber.calls) == 2)
        answer = running.post()
        gate.set()
    assert answer.status_code == 429
    assert "2 requests" in answer.json()["error"]["message"]
    assert running.post().status_code == 200


@contextmanager
def _in_thread(work: Callable[[], Any]) -> Iterator[None]:
    thread = threading.Thread(target=work)
    thread.start()
    yield
    thread.join()


def test_the_size_and_the_length_of_a_tenant_are_bounded(make: Callable[..., Site]) -> None:
    """413 for what is announced as too large; the pipeline is told of the shorter length."""
    running = make(upload_mb=1, audio_minutes=0.5)
    answer = running.post(files={"file": ("clip.wav", bytes(3 << 20))})
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"
    assert (
        httpx.post(
            running.url + "/v1/uploads", headers={"tus-resumable": "1.0.0", "upload-length": "1000001"}
        ).status_code
        == 413
    )

    def chunks() -> Iterator[bytes]:
        yield b'--x\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
        for _ in range(40):
            yield bytes(64 << 10)
        yield b"\r\n--x--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(running.url + "/v1/audio/transcriptions", content=chunks(), headers=headers)
    assert answer.status_code == 413


def test_jobs_and_storage_are_bounded(make: Callable[..., Site]) -> None:
    """The job that is one too many is refused, also when nobody looked before; what is refused leaves no audio."""
    running = make()
    desk = LimitDesk(LimitBook(TenantLimits(jobs_at_once=2, storage_mb=1)))
    running.shop.store.check_possessions = lambda tenant, count, added: desk.check_stored(
        tenant, lambda: Possessions(*count()), added=added
    )
    assert [running.post("/v1/jobs").status_code for _ in range(2)] == [202, 202]
    answer = running.post("/v1/jobs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    batch = running.post("/v1/batches", files=[("file", ("a", CLIP)), ("file", ("b", CLIP))])
    assert batch.status_code == 429
    assert len(list(running.shop.blobs.list("jobs/"))) == 2
    first = httpx.get(running.url + "/v1/jobs").json()["data"][0]["id"]
    assert httpx.post(f"{running.url}/v1/jobs/{first}/cancel").status_code == 200
    big = running.post("/v1/jobs", files={"file": ("a", bytes(1_000_000))})
    assert (big.status_code, big.json()["error"]["code"]) == (429, "insufficient_quota")
    assert running.post("/v1/jobs").status_code == 202


def test_a_tenant_of_many_jobs_is_refused_before_its_body_is_read() -> None:
    """What the database says is enough."""
    desk = LimitDesk(LimitBook(TenantLimits(jobs_at_once=2, storage_mb=1)), possessions=lambda _: Possessions(2, 10))
    with pytest.raises(RateLimited):
        desk.check_room(TENANT, Work.JOB, 5)
    desk.check_room(TENANT, Work.UPLOAD, 5)
    with pytest.raises(QuotaExceeded):
        desk.check_room(TENANT, Work.UPLOAD, 1_000_000)


def test_jobs_are_charged_for_what_they_were_once_they_have_ended(make: Callable[..., Site]) -> None:
    """A job is held back by its size and settled when it ends; a repeated request with the same key is not charged."""
    running = make(audio_minutes_per_day=10)
    desk = running.services.desks.limits
    clip = bytes(32_000 * 50)
    headers = {"idempotency-key": '"k"'}
    for _ in range(2):
        assert running.post("/v1/jobs", files={"file": ("a", clip)}, headers=headers).status_code == 202
        wait_for(lambda: 549 <= _remaining(running) <= 551)
    desk.settle_job(TENANT, len(clip), 100.0)
    assert 499 <= _remaining(running) <= 502


def test_work_that_is_waited_for_twice_is_charged_once(make: Callable[..., Site]) -> None:
    """A second call for the same work is no second request and no second audio."""
    gate = threading.Event()
    running = make(ScriptedTranscriber(gate=gate), requests_per_min=10, audio_minutes_per_day=10)
    headers = {"idempotency-key": '"same"'}
    with _in_thread(lambda: running.post(headers=headers)), ThreadPoolExecutor(1) as clients:
        wait_for(lambda: running.transcriber.calls)
        again = clients.submit(running.post, headers=headers)
        wait_for(lambda: any(each.waiting == 2 for each in list(running.services.retries._all)))
        gate.set()
        answer = again.result()
        assert answer.headers["tympan-reattached"] == "true"
    wait_for(lambda: [each.remaining for each in running.services.desks.limits.standing(TENANT)] == [9, 595])
    assert _used(running).audio_s == pytest.approx(4.2)


def test_who_leaves_a_stream_before_its_end_pays_for_what_was_told(make: Callable[..., Site]) -> None:
    """Nobody reads all but the last words for nothing; usage tells it as well."""
    running = make(ScriptedTranscriber(tells=1, pace_s=30.0), audio_minutes_per_day=10)
    data, files = {"stream": "true"}, {"file": ("clip.wav", CLIP)}
    with httpx.stream("POST", running.url + "/v1/audio/transcriptions", data=data, files=files) as answer:
        assert "delta" in next(line for line in answer.iter_lines() if line.startswith("data:"))
    told_s = make_transcript(Options()).segments[0].end_s
    wait_for(lambda: _used(running).requests == 1)
    assert _used(running).audio_s == pytest.approx(told_s)
    assert _remaining(running) in (int(600 - told_s), int(600 - told_s) + 1)


def test_usage_counts_what_was_answered(make: Callable[..., Site]) -> None:
    """Requests, failures and seconds of audio, by kind and model."""
    running = make()
    for _ in range(3):
        running.post()
    running.post(data={"language": "nonsense"})
    wait_for(lambda: _used(running).requests == 4)
    used = _used(running)
    assert used.failures == 1
    assert used.audio_s == pytest.approx(12.6)
    assert used.processing_s == pytest.approx(0.375)


def test_live_sessions_are_bounded_and_counted(make: Callable[..., Site]) -> None:
    """One at a time; the second is told to wait before its socket opens; what was heard is charged."""
    running = make(readable(), live_at_once=1, audio_minutes_per_day=10)
    with dialled(running, "/v1/stream") as socket:
        with pytest.raises(InvalidStatus) as refused, dialled(running, "/v1/realtime?intent=transcription"):
            pass
        assert refused.value.response.status_code == 429
        assert int(refused.value.response.headers["retry-after"]) >= 1
        socket.send(bytes(2 * 16_000 * 7))
        tell(socket, "finish")
        said(socket, "ended")
    wait_for(lambda: _remaining(running) == 593)
    wait_for(lambda: _used(running).audio_s == pytest.approx(7.0))
    assert _used(running).requests == 1
    with dialled(running, "/v1/stream"):
        pass


def test_limits_of_a_tenants_own_count_within_five_seconds() -> None:
    """They are looked up again and again; a failure leaves what was known."""
    own: dict[str, OwnLimits] = {}
    book = LimitBook(TenantLimits(requests_per_min=10, jobs_at_once=3), lambda: dict(own))
    book.start()
    try:
        own["a"] = OwnLimits({"requests_per_min": 2, "from_a_newer_version": 1}, 4.0)
        assert 2 * limits._LOOK_S < 5.0
        wait_for(lambda: book.of("a") == TenantLimits(requests_per_min=2, jobs_at_once=3, weight=4.0))
        assert book.of("b") == TenantLimits(requests_per_min=10, jobs_at_once=3)
    finally:
        book.stop()
