"""Two processes without a model share their callers: a retry finds the work of its first try wherever it comes to."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select, update

from tests.api.support import Site, site, wait_for
from tests.jobs_support import LANES, TENANT, Shop, open_shop
from tympan.api.deps import Limits
from tympan.domain import Options
from tympan.errors import RequestTimeout
from tympan.jobs.remote import Lookout, RemoteTranscriber
from tympan.jobs.signals import LocalSignals
from tympan.pipeline import Call, RequestContext
from tympan.storage.calls import CALLS
from tympan.storage.idempotency import LEFT, WAITS
from tympan.storage.jobs import JobFilter
from tympan.storage.tables import idempotency

ROUTE = "/v1/audio/transcriptions"
SOON_S = 40.0


@dataclass(frozen=True, slots=True)
class Pair:
    """Two processes on one database, and a recording of 40 s."""

    one: Site
    other: Site
    shop: Shop
    audio: bytes

    def post(self, at: Site, **kwargs: object) -> httpx.Response:
        """Send the recording and wait for the answer."""
        return at.post(ROUTE, files={"file": ("a", self.audio)}, **kwargs)

    def send(
        self, at: Site, data: dict[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> socket.socket:
        """Send the recording, and return the connection once there is a job for it and who waits is noted."""
        request = httpx.Request(
            "POST", at.url + ROUTE, files={"file": ("a", self.audio)}, data=data or {}, headers=headers or {}
        )
        line = socket.create_connection(("127.0.0.1", int(at.url.rsplit(":", 1)[1])))
        line.settimeout(SOON_S)
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        line.sendall(f"POST {ROUTE} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        wait_for(lambda: WAITS in self.routes(), SOON_S)
        return line

    def leave(self, line: socket.socket) -> None:
        """Hang up, and return when it is noted that nobody waits any more."""
        line.close()
        wait_for(lambda: self.routes() == [LEFT], SOON_S)

    def answered(self, at: Site) -> httpx.Response:
        """Send the recording, let a worker do what there is to do, and return the answer."""
        with ThreadPoolExecutor(1) as callers:
            answer = callers.submit(self.post, at)
            self.work_off(answer.done)
        return answer.result()

    def work_off(self, until: Callable[[], object]) -> None:
        """Let a worker do what there is to do until something holds."""
        wait_for(lambda: self.shop.work_off() < 0 or until(), SOON_S)

    def job_ids(self) -> list[str]:
        """Return the jobs that there are."""
        return [job.id for job in self.shop.store.page(TENANT, JobFilter())]

    def routes(self) -> list[str]:
        """Return what is noted about callers."""
        rows = select(idempotency.c.route).where(idempotency.c.route.in_(CALLS))
        return self.shop.database.read(lambda tx: list(tx.scalars(rows)))


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """Return two api processes."""
    with ExitStack() as stack:
        shop = stack.enter_context(open_shop(tmp_path / "shared"))
        lookout = Lookout(lambda: True)
        lookout.start()
        stack.callback(lookout.stop)
        remote = RemoteTranscriber(shop.service, "base", lookout, LocalSignals(), reattach_s=60.0)
        one, other = (
            stack.enter_context(site(tmp_path / name, Limits(shares_calls=True), remote)) for name in ("one", "other")
        )
        yield Pair(one, other, shop, shop.pcm(40.0).read_bytes())


def test_a_retry_at_another_process_takes_up_the_job(pair: Pair) -> None:
    """The caller has gone from the one; the other answers with the same job's text, says so, and leaves nothing."""
    pair.leave(pair.send(pair.one))
    begun = pair.job_ids()
    with ThreadPoolExecutor(1) as callers:
        answer = callers.submit(pair.post, pair.other)
        wait_for(lambda: pair.routes() == [WAITS], SOON_S)
        assert pair.job_ids() == begun
        pair.work_off(answer.done)
    assert answer.result().status_code == 200
    assert answer.result().headers["tympan-reattached"] == "true"
    assert answer.result().json()["text"].startswith("w0. w1.")
    wait_for(lambda: not pair.job_ids() and not pair.routes(), SOON_S)
    assert list(pair.shop.blobs.list("")) == []
    assert not pair.one.staged
    assert not pair.other.staged


def test_F6_what_nobody_waits_for_stands_still_and_goes_on_where_it_was(pair: Pair) -> None:
    """No worker takes a step of it between the tries; what was done before the first left is not done again."""
    line = pair.send(pair.one)
    assert pair.shop.work_off(limit=2) == 2
    done = len(pair.shop.desk.tasks)
    pair.leave(line)
    assert pair.shop.work_off() == 0
    assert pair.answered(pair.other).headers["tympan-reattached"] == "true"
    in_all = len(pair.shop.desk.tasks)
    assert 0 < done < in_all
    assert pair.answered(pair.other).status_code == 200
    assert len(pair.shop.desk.tasks) == 2 * in_all


def test_who_says_that_it_is_a_retry_shares_what_is_waited_for(pair: Pair) -> None:
    """The first process has not noticed yet that its caller has gone; both are answered from one job."""
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(pair.post, pair.one)
        wait_for(lambda: pair.routes() == [WAITS], SOON_S)
        second = callers.submit(lambda: pair.post(pair.other, headers={"x-stainless-retry-count": "1"}))
        wait_for(lambda: pair.routes() == [WAITS, WAITS], SOON_S)
        assert len(pair.job_ids()) == 1
        pair.work_off(lambda: first.done() and second.done())
    assert first.result().text == second.result().text
    assert "tympan-reattached" not in first.result().headers
    assert second.result().headers["tympan-reattached"] == "true"


def test_equal_calls_at_the_same_time_and_other_calls_are_jobs_of_their_own(pair: Pair) -> None:
    """Each caller may have meant its own; another language is another call."""
    pair.leave(pair.send(pair.one))
    with ThreadPoolExecutor(3) as callers:
        mine = callers.submit(pair.post, pair.other)
        wait_for(lambda: pair.routes() == [WAITS], SOON_S)
        alike = callers.submit(pair.post, pair.other)
        unlike = callers.submit(lambda: pair.post(pair.other, data={"language": "de"}))
        wait_for(lambda: len(pair.job_ids()) == 3, SOON_S)
        pair.work_off(lambda: mine.done() and alike.done() and unlike.done())
    answers = [each.result().headers.get("tympan-reattached") for each in (mine, alike, unlike)]
    assert answers == ["true", None, None]


def test_a_key_is_known_to_all_processes_and_for_one_request_only(pair: Pair) -> None:
    """While the first is answered, and for a while after it; another body under it is a conflict."""
    key = {"idempotency-key": "k1"}
    with ThreadPoolExecutor(2) as callers:
        first = callers.submit(lambda: pair.post(pair.one, headers=key))
        wait_for(lambda: pair.routes() == [WAITS], SOON_S)
        wrong = pair.post(pair.other, headers=key, data={"language": "de"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "idempotency_mismatch")
        pair.work_off(first.done)
    again = pair.post(pair.other, headers=key)
    assert again.headers["tympan-reattached"] == "true"
    assert again.json()["text"] == first.result().json()["text"]
    assert len(pair.job_ids()) == 1


def test_a_stream_that_broke_off_is_told_again_from_its_beginning(pair: Pair) -> None:
    """What was finished for the first caller comes at once, the rest as it is finished: deltas joined are the text."""
    line, bench = pair.send(pair.one, {"stream": "true"}), pair.shop.bench()
    assert bench.work_once(LANES)
    assert bench.work_once(LANES)
    heard = b""
    while b"transcript.text.delta" not in heard:
        heard += line.recv(4096)
    pair.leave(line)
    with ThreadPoolExecutor(1) as callers:
        answer = callers.submit(lambda: pair.post(pair.other, data={"stream": "true"}))
        wait_for(lambda: pair.routes() == [WAITS], SOON_S)
        assert len(pair.job_ids()) == 1
        pair.work_off(answer.done)
    assert answer.result().headers["tympan-reattached"] == "true"
    lines = [line.removeprefix("data: ") for line in answer.result().text.splitlines() if line.startswith("data: {")]
    *deltas, done = map(json.loads, lines)
    assert "".join(event["delta"] for event in deltas) == done["text"]
    assert done["text"].startswith("w0. w1.")


def test_what_nobody_comes_back_to_is_dropped(pair: Pair) -> None:
    """The job goes, and with it what the workers would have done."""
    pair.leave(pair.send(pair.one))
    over = update(idempotency).values(expires_at=pair.shop.database.now() - 1)
    pair.shop.database.write(lambda tx: tx.execute(over))
    pair.shop.janitor().sweep()
    assert not pair.job_ids()
    assert not pair.shop.work_off()


def test_O1_the_callers_of_a_process_that_stops_are_taken_up_by_another(pair: Pair) -> None:
    """It gives up waiting, but what it began stays."""
    line = pair.send(pair.one)
    pair.one.stop()
    wait_for(lambda: pair.routes() == [LEFT], SOON_S)
    line.close()
    assert pair.answered(pair.other).headers["tympan-reattached"] == "true"


def test_a_call_over_its_time_can_be_taken_up_again(pair: Pair) -> None:
    """The limit of time is the caller's: the retry has one of its own."""
    remote, resumed = pair.one.services.backend.transcriber, threading.Event()
    call = Call(ROUTE, "a" * 64, resumed=resumed.set)
    asked = RequestContext("req_1", TENANT, deadline=time.monotonic(), call=call)
    assert remote is not None
    with pytest.raises(RequestTimeout):
        remote.transcribe(pair.shop.pcm(10.0), Options(), asked)
    assert pair.routes() == [LEFT]
    assert not resumed.is_set()
    again = replace(asked, deadline=time.monotonic() + SOON_S)
    with ThreadPoolExecutor(1) as callers:
        answer = callers.submit(remote.transcribe, pair.shop.pcm(10.0), Options(), again)
        pair.work_off(answer.done)
    assert answer.result().text.startswith("w0.")
    assert resumed.is_set()
    assert not pair.job_ids()
