"""A retry takes up what its first try began: computed once, given to whoever waits, never to anybody else."""

import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest

from tests.api.support import CLIP, ScriptedTranscriber, Site, site, wait_for
from tests.batching_support import Script, fine, running
from tests.jobs_support import PcmFiles
from tests.pipeline_support import HearsAll
from tympan.api.deps import Limits
from tympan.api.doors.retries import Running
from tympan.api.model_names import ModelCard
from tympan.api.turns import Turn, Turns
from tympan.batching.batcher import BatcherOptions
from tympan.batching.queue import BatchLimits
from tympan.domain import WindowTask
from tympan.errors import EngineDeviceLost
from tympan.pipeline import RequestContext, Transcriber
from tympan.telemetry import REGISTRY


@pytest.fixture
def slow(make_site: Callable[..., Site]) -> Site:
    """Return a server that keeps what nobody waits for a while; nobody is answered while `give_up` gives up."""
    gate = threading.Event()
    gate.set()
    return make_site(ScriptedTranscriber(gate=gate), reattach_s=60.0)


def give_up(at: Site, once: Callable[[], object] = lambda: True, **kwargs: object) -> None:
    """Send a call, and hang up once the server is at it, before it can be done, and ``once`` something is so."""
    gate = getattr(at.transcriber, "gate", None)
    if gate is not None:
        gate.clear()
    fields: dict[str, object] = {"files": {"file": ("a", CLIP)}} | kwargs
    request = httpx.Request("POST", f"{at.url}/v1/audio/transcriptions", **fields)  # type: ignore[arg-type]
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join([f"POST {request.url.path} HTTP/1.1", *lines, "", ""]).encode()
    with socket.create_connection((request.url.host, request.url.port or 80), timeout=60) as caller:
        caller.sendall(head + request.read())
        wait_for(lambda: _attended(at) and once())
        (mine,) = _attended(at)
    wait_for(lambda: not mine.waiting)
    if gate is not None:
        gate.set()


def _attended(at: Site) -> list[Running]:
    return [each for each in list(at.services.retries._all) if each.waiting]


def test_a_call_that_comes_again_gets_what_its_first_try_began(slow: Site) -> None:
    """One pipeline, one result; the answer says so and it is counted."""
    before = REGISTRY.get_sample_value("tympan_reattached_requests_total") or 0.0
    give_up(slow)
    answer = slow.post()
    assert answer.status_code == 200
    assert answer.headers["tympan-reattached"] == "true"
    assert len(slow.transcriber.calls) == 1
    assert REGISTRY.get_sample_value("tympan_reattached_requests_total") == before + 1
    wait_for(lambda: not slow.services.house.count and not slow.staged and not len(slow.services.retries))
    assert "tympan-reattached" not in slow.post().headers


def test_openai_s_library_is_answered_by_its_own_retry(slow: Site) -> None:
    """It waits for less time than the work takes, and its second try has the answer of the first's work."""
    gate = slow.transcriber.gate
    assert gate is not None
    gate.clear()

    def answer_once_it_has_gone() -> None:
        wait_for(lambda: slow.transcriber.calls and not _attended(slow))
        gate.set()

    with (
        ThreadPoolExecutor(1) as aside,
        openai.OpenAI(base_url=f"{slow.url}/v1", api_key="-", timeout=1.0, max_retries=6) as client,
    ):
        aside.submit(answer_once_it_has_gone)
        assert client.audio.transcriptions.create(model="base", file=("a.wav", CLIP)).text.startswith("Hello")
    assert len(slow.transcriber.calls) == 1


def test_a_result_that_nobody_waited_for_is_there_for_the_retry(slow: Site) -> None:
    """The work ended between the tries."""
    give_up(slow)
    wait_for(lambda: not slow.services.house.count)
    assert slow.post().headers["tympan-reattached"] == "true"
    assert len(slow.transcriber.calls) == 1


def test_what_nobody_comes_back_to_is_dropped(make_site: Callable[..., Site]) -> None:
    """After the time to come back the pipeline is cancelled, and nothing is left."""
    at = make_site(ScriptedTranscriber(seconds=60.0), reattach_s=0.3)
    give_up(at)
    assert at.transcriber.cancelled.wait(30)
    wait_for(lambda: not at.services.house.count and not at.staged and not len(at.services.retries))


OTHERS: tuple[dict[str, object], ...] = (
    {"files": {"file": ("a", CLIP + b"x")}},
    {"data": {"language": "de"}},
    {"data": {"temperature": "0.2"}},
    {"data": {"response_format": "srt"}},
    {"path": "/v1/audio/translations"},
    {"headers": {"idempotency-key": "mine"}},
)


def test_what_differs_in_anything_is_done_anew(slow: Site) -> None:
    """Other bytes, another field, another route, a key: another request."""
    give_up(slow)
    with ThreadPoolExecutor(len(OTHERS)) as clients:
        answers = list(clients.map(lambda other: slow.post(**other), OTHERS))
    assert [answer.headers.get("tympan-reattached") for answer in answers] == [None] * len(OTHERS)
    assert len(slow.transcriber.calls) == 1 + len(OTHERS)


def test_calls_that_are_alike_at_the_same_time_are_not_one(make_site: Callable[..., Site]) -> None:
    """Each caller may have meant its own; one that says that it is a retry is taken at its word."""
    gate = threading.Event()
    slow = make_site(ScriptedTranscriber(gate=gate), reattach_s=60.0)
    with ThreadPoolExecutor(3) as clients:
        first = clients.submit(slow.post)
        wait_for(lambda: len(slow.transcriber.calls) == 1)
        second = clients.submit(slow.post)
        wait_for(lambda: len(slow.transcriber.calls) == 2)
        retry = clients.submit(lambda: slow.post(headers={"x-stainless-retry-count": "1"}))
        wait_for(lambda: any(each.waiting == 2 for each in list(slow.services.retries._all)))
        gate.set()
        answers = [task.result() for task in (first, second, retry)]
    assert [answer.headers.get("tympan-reattached") for answer in answers] == [None, None, "true"]
    assert len({answer.text for answer in answers}) == 1
    assert len(slow.transcriber.calls) == 2


def test_a_key_makes_calls_one_and_is_for_one_request_only(slow: Site) -> None:
    """The same key while the first is answered, and shortly after; another body under it is a conflict."""
    key = {"idempotency-key": "k1"}
    with ThreadPoolExecutor(2) as clients:
        first = clients.submit(lambda: slow.post(headers=key))
        wait_for(lambda: len(slow.services.retries))
        second = clients.submit(lambda: slow.post(headers=key))
        wrong = slow.post(headers=key, data={"language": "de"})
        assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "idempotency_mismatch")
        assert [task.result().status_code for task in (first, second)] == [200, 200]
    assert slow.post(headers=key).headers["tympan-reattached"] == "true"
    assert len(slow.transcriber.calls) == 1
    wait_for(lambda: not slow.staged)


def test_a_failure_is_not_kept(make_site: Callable[..., Site]) -> None:
    """The retry of what failed is done anew."""
    at = make_site(ScriptedTranscriber(error=EngineDeviceLost()), reattach_s=5.0)
    key = {"idempotency-key": "k"}
    assert at.post(headers=key).status_code == 503
    at.transcriber.error = None
    assert at.post(headers=key).status_code == 200
    assert len(at.transcriber.calls) == 2


def test_a_call_over_its_time_can_be_taken_up_again(make_site: Callable[..., Site]) -> None:
    """The answer is 408 at the limit; the retry has a limit of its own and finds the work half done."""
    gate = threading.Event()
    at = make_site(ScriptedTranscriber(gate=gate), reattach_s=60.0)
    late = at.post(headers={"tympan-deadline-s": "0.5"})
    assert (late.status_code, late.json()["error"]["code"]) == (408, "request_timeout")
    gate.set()
    assert at.post().status_code == 200
    assert len(at.transcriber.calls) == 1


def test_only_so_much_work_stands_still(make_site: Callable[..., Site]) -> None:
    """Beyond an eighth of the threads whoever left first is dropped at once."""
    at = make_site(ScriptedTranscriber(seconds=60.0), reattach_s=60.0, max_concurrent=16)
    for number in range(4):
        give_up(at, files={"file": ("a", CLIP + bytes([number]))})
    wait_for(lambda: len(at.services.retries) == 2 and at.services.house.count == 2)
    assert at.services.house.predicted_wait_s == 0.0
    at.services.house.evict()


def test_O1_a_stopping_server_waits_for_nobody_to_come_back(make_site: Callable[..., Site]) -> None:
    """What stands still when it drains is dropped."""
    at = make_site(ScriptedTranscriber(seconds=60.0), reattach_s=60.0)
    give_up(at)
    at.stop()
    assert at.transcriber.cancelled.wait(30)
    wait_for(lambda: not at.services.house.count)


@contextmanager
def real_pipeline(folder: Path, script: Script) -> Iterator[Site]:
    """Yield a server whose engine follows ``script``, with one window of five seconds at a time."""
    options = BatcherOptions(batch=BatchLimits(max_windows=1), prefetch_lead_s=0.001)
    with running(options, script=script) as batcher:
        pipeline = Transcriber(PcmFiles(), HearsAll(), batcher, max_window_s=5.0)
        with site(folder, Limits(reattach_s=60.0), ScriptedTranscriber()) as at:
            at.services.backend.arrive(pipeline, ModelCard("base"))
            yield at


def test_F6_work_stands_still_while_nobody_waits_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """After the caller has gone at most what the engine has is finished; the retry needs the remaining windows only."""
    noise = np.random.default_rng(1).integers(-40, 40, 60 * 16_000).astype(np.int16).tobytes()
    files = {"file": ("a", noise)}
    script, held, gone = Script(), threading.Event(), threading.Event()

    def hold(tasks: Sequence[WindowTask]) -> None:
        held.set()
        assert gone.wait(60)

    with real_pipeline(tmp_path, script) as at:
        assert at.post(files=files, data={"language": "de"}).status_code == 200
        in_all = len(script.seen)
        script.steps += [fine, fine, fine, hold]
        give_up(at, held.is_set, files=files, data={"language": "en"})
        at_departure = len(script.seen) - in_all
        assert 4 <= at_departure < in_all - 2
        gone.set()
        time.sleep(0.3)  # More would be done by now if the rest did not stand still.
        assert len(script.seen) - in_all <= at_departure + 2
        answer = at.post(files=files, data={"language": "en"})
        assert (answer.status_code, len(script.seen) - in_all) == (200, in_all)
    assert answer.headers["tympan-reattached"] == "true"


def test_tenants_take_turns_at_the_threads() -> None:
    """One with ten files waiting does not hold up another's only one, and weights count."""
    turns, began = Turns(), []
    gate = threading.Event()

    def turn(tenant: str, weight: float = 1.0) -> Turn:
        def do() -> bool:
            began.append(tenant)
            gate.wait(60)
            return True

        return Turn(RequestContext("r", tenant, weight=weight), do, lambda: None)

    for _ in range(10):
        turns.add(turn("busy"))
    turns.add(turn("rare"))
    turns.add(turn("heavy", 3.0))
    turns.add(turn("heavy", 3.0))
    threads = [threading.Thread(target=turns.take_one) for _ in range(5)]
    for number, thread in enumerate(threads):
        thread.start()
        wait_for(lambda number=number: len(began) == number + 1)  # type: ignore[misc]
    gate.set()
    for thread in threads:
        thread.join(30)
    assert sorted(began[:4]) == ["busy", "heavy", "heavy", "rare"]
