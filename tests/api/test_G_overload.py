"""More than the server can do: refused early, cheaply and truly; what was let in is done in time."""

import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest

from tests.api.support import CLIP, ScriptedTranscriber, Site, wait_for
from tympan.api.doors.admission import Errand, House, Place
from tympan.api.doors.forecast import LengthGuess, Wish
from tympan.domain import Progress
from tympan.errors import Overloaded
from tympan.pipeline import RequestContext
from tympan.telemetry import REGISTRY

SECOND_BYTES = 16_000


def context(tenant: str = "t", weight: float = 1.0) -> RequestContext:
    """Return who asks."""
    return RequestContext("r", tenant, weight=weight)


def house(site: Site, *, pace: float = 1.0, max_wait_s: float = 100.0, capacity: int = 100) -> House:
    """Return a house whose engine takes ``pace`` seconds for one of audio."""
    made = House(capacity, site.services.staging, max_wait_s=max_wait_s, engine_pace=lambda: pace)
    made.guess = LengthGuess()
    return made


def admit(into: House, audio_s: float, tenant: str = "t", patience_s: float | None = None) -> Place:
    """Let in a file that seems ``audio_s`` long."""
    return into.admit(context(tenant), round(audio_s * SECOND_BYTES), Errand(patience_s=patience_s))


def refused(into: House, audio_s: float, tenant: str = "t", patience_s: float | None = None) -> Overloaded:
    """Return how a file is refused."""
    with pytest.raises(Overloaded) as caught:
        admit(into, audio_s, tenant, patience_s)
    return caught.value


def test_work_is_refused_beyond_the_bound_and_told_when_it_is_done(server: Site) -> None:
    """Position, time to the end, and Retry-After within a fifth of what is ahead; progress makes room again."""
    place = house(server)
    ahead = [admit(place, 24.0) for _ in range(4)]
    assert [each.standing.position for each in ahead] == [1, 2, 3, 4]
    assert ahead[-1].standing.wait_s == pytest.approx(72.0, rel=0.02)
    error = refused(place, 24.0)
    assert error.position == 5
    assert error.eta_s == pytest.approx(120.0, rel=0.02)
    assert error.retry_after_s is not None
    assert 0.78 * 96 <= error.retry_after_s <= 1.22 * 96
    ahead[0].advance(Progress(24.0, 24.0))
    assert admit(place, 24.0).standing.position == 5


def test_an_idle_server_takes_a_file_of_any_length(server: Site) -> None:
    """The bound is on waiting, not on working; short ones take turns with it, another long one would wait for it."""
    place = house(server, pace=0.05, max_wait_s=10.0)
    assert admit(place, 3600.0).standing.wait_s == 0.0
    assert admit(place, 5.0).standing.wait_s == pytest.approx(0.25, rel=0.02)
    error = refused(place, 3600.0)
    assert error.retry_after_s is not None
    assert 0.8 * 180 <= error.retry_after_s <= 1.2 * 181


def test_a_file_longer_than_it_seemed_counts_for_more(server: Site) -> None:
    """The guess is corrected as audio is done, and for files to come when the length is known."""
    place = house(server)
    first = admit(place, 10.0)
    first.advance(Progress(60.0, None))
    assert place.predicted_wait_s == pytest.approx(30.0, rel=0.02)
    first.advance(Progress(60.0, 100.0))
    assert place.predicted_wait_s == pytest.approx(40.0, rel=0.02)
    first.leave()
    assert admit(place, 10.0).audio_s > 50.0


def test_shedding_is_in_stages(server: Site) -> None:
    """Live and long at 80 %, jobs at 90 %, short at 95 %; each refusal is counted under its reason."""
    place = house(server)

    def taken() -> set[str]:
        found = set()
        for wish in Wish:
            try:
                place.check(context(), wish)
            except Overloaded:
                continue
            found.add(wish.value)
        return found

    before = REGISTRY.get_sample_value("tympan_refusals_total", {"reason": "job"}) or 0.0
    admit(place, 79.0)
    assert taken() == {"short", "long", "live", "job"}
    admit(place, 2.0)
    assert taken() == {"short", "job"}
    assert refused(place, 500.0).retry_after_s is not None
    admit(place, 10.0)
    assert taken() == {"short"}
    admit(place, 5.0)
    assert taken() == set()
    assert place.full
    assert (REGISTRY.get_sample_value("tympan_refusals_total", {"reason": "job"}) or 0.0) == before + 2


def test_G3_a_tenant_that_floods_does_not_shut_others_out(server: Site) -> None:
    """Work and places are full for the one, and both are there for another."""
    place = house(server, capacity=16)
    for _ in range(12):
        admit(place, 8.0, "busy")
    refused(place, 1.0, "busy")
    assert admit(place, 8.0, "rare").standing.wait_s == pytest.approx(8.0, rel=0.02)
    for _ in range(3):
        place.admit(context("busy"), 0)
    with pytest.raises(Overloaded, match="already has"):
        place.admit(context("busy"), 0)
    assert place.admit(context("rare"), 0).standing.position == 1


def test_G5_what_cannot_be_done_in_time_is_refused_at_once(server: Site) -> None:
    """Sixty seconds of work ahead and a deadline of ten; without work ahead it is tried."""
    place = house(server)
    for _ in range(60):
        admit(place, 1.0)
    assert "10 s" in str(refused(place, 1.0, patience_s=10.0))
    assert admit(place, 1.0, patience_s=100.0).standing.wait_s > 0
    assert admit(house(server), 60.0, patience_s=10.0).standing.wait_s == 0.0


@pytest.mark.parametrize("header", ["tympan-deadline-s", "x-stainless-read-timeout"])
def test_G5_no_request_starts_after_its_deadline(make_site: Callable[..., Site], header: str) -> None:
    """Fifty wait at a slow engine; a call with eighty seconds is refused before its body, with position and time."""
    site = make_site(ScriptedTranscriber(seconds=5.0, stats_pace=2.0), max_concurrent=1, max_requests=60)
    busy = [admit(site.services.house, 1.0, "default") for _ in range(50)]
    answer = site.post(headers={header: "80"}, timeout=40)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "overloaded")
    assert int(answer.headers["tympan-queue-position"]) == 51
    assert 90 <= int(answer.headers["tympan-queue-eta-s"]) <= 110
    assert 70 <= int(answer.headers["retry-after"]) <= 125
    assert site.transcriber.calls == []
    for place in busy:
        place.leave()


def test_G5_a_deadline_that_passes_while_waiting_ends_the_request_unstarted(make_site: Callable[..., Site]) -> None:
    """It is answered 408 at its deadline, and its pipeline never starts."""
    gate = threading.Event()
    site = make_site(ScriptedTranscriber(gate=gate), max_concurrent=1)
    with ThreadPoolExecutor(1) as other:
        first = other.submit(site.post)
        wait_for(lambda: site.transcriber.calls)
        late = site.post(headers={"tympan-deadline-s": "0.2"})
        assert (late.status_code, late.json()["error"]["code"]) == (408, "request_timeout")
        gate.set()
        assert first.result().status_code == 200
    wait_for(lambda: not site.services.house.count)
    assert len(site.transcriber.calls) == 1


@pytest.mark.parametrize("value", ["soon", "-1", "0", "nan", "inf", "1" * 40])
def test_a_deadline_that_is_none_is_refused(server: Site, value: str) -> None:
    """Only a number of seconds is one."""
    answer = server.post(headers={"tympan-deadline-s": value})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "tympan-deadline-s")


def test_an_answer_tells_where_the_request_stood(server: Site) -> None:
    """Position and predicted seconds, as headers."""
    answer = server.post()
    assert int(answer.headers["tympan-queue-position"]) >= 1
    assert int(answer.headers["tympan-queue-eta-s"]) >= 0


def test_jobs_are_refused_before_their_body_when_the_house_is_nearly_full(make_site: Callable[..., Site]) -> None:
    """At nine tenths of the bound a new job gets 503 with Retry-After, a short file is still taken."""
    site = make_site(ScriptedTranscriber(stats_pace=1.0), max_wait_s=100.0)
    place = admit(site.services.house, 91.0, "default")
    assert site.post("/v1/jobs").status_code == 503
    assert "retry-after" in site.post("/transcribe/async", files={"audio": ("a", CLIP)}).headers
    assert site.post().status_code == 200
    assert httpx.get(f"{site.url}/v1/jobs").status_code == 200
    place.leave()
    assert site.post("/v1/jobs").status_code == 202


@dataclass
class Ledger:
    """What became of requests that were sent at a rate."""

    ok: list[float] = field(default_factory=list)
    refusals: list[httpx.Response] = field(default_factory=list)
    refusal_s: list[float] = field(default_factory=list)
    last_ok_at: float = 0.0
    took_s: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, site: Site, client: httpx.Client) -> None:
        """Send one and write down what happens."""
        started = time.perf_counter()
        answer = client.post(f"{site.url}/v1/audio/transcriptions", files={"file": ("a.wav", CLIP)}, timeout=30)
        took_s = time.perf_counter() - started
        with self.lock:
            if answer.status_code == 200:
                self.ok.append(took_s)
                self.last_ok_at = time.perf_counter()
            else:
                self.refusals.append(answer)
                self.refusal_s.append(took_s)


def offered(site: Site, per_s: float, for_s: float) -> Ledger:
    """Send requests at a fixed rate, whatever becomes of them."""
    ledger, period_s = Ledger(), 1.0 / per_s
    with ThreadPoolExecutor(24) as pool, httpx.Client() as client:
        began = time.perf_counter()
        for number in range(round(for_s * per_s)):
            time.sleep(max(0.0, began + number * period_s - time.perf_counter()))
            pool.submit(ledger.send, site, client)
    ledger.took_s = ledger.last_ok_at - began
    return ledger


@pytest.mark.alone
def test_G1_G2_at_five_times_the_capacity_as_much_is_done_and_the_rest_refused_at_once(
    make_site: Callable[..., Site],
) -> None:
    """Goodput stays at nine tenths of what can be done; every refusal says when to come back; then all is as before."""
    work_s = 0.2
    site = make_site(
        ScriptedTranscriber(seconds=work_s, deaf=True, stats_pace=work_s / 4.2),
        max_concurrent=1, max_requests=64, max_wait_s=1.0,
    )  # fmt: skip
    with ThreadPoolExecutor(3) as pool:
        began = time.perf_counter()
        done = [pool.submit(site.post) for _ in range(8)]
        assert all(task.result().status_code == 200 for task in done)
        peak_per_s = 8 / (time.perf_counter() - began)
    alone = statistics.median(offered(site, 0.5 / work_s, 1.0).ok)
    load_s = 2.5
    flood = offered(site, 5.0 / work_s, load_s)
    assert len(flood.ok) / flood.took_s >= 0.9 * peak_per_s
    assert len(flood.refusals) >= 0.5 * (5.0 / work_s * load_s)
    assert all(answer.status_code == 503 and "retry-after" in answer.headers for answer in flood.refusals)
    assert statistics.median(flood.refusal_s) <= work_s
    assert max(flood.ok) <= 1.0 + 8 * work_s
    after = offered(site, 0.5 / work_s, 0.8)
    assert after.refusals == []
    assert statistics.median(after.ok) <= 1.5 * alone + work_s


def test_G8_long_uploads_together_are_bounded_by_their_seconds(make_site: Callable[..., Site]) -> None:
    """Three hundred files of an hour at once: those beyond the bound are refused unread, and nothing stays behind."""
    site = make_site(ScriptedTranscriber(stats_pace=0.05), max_requests=400, max_wait_s=300.0)
    hours: list[Place] = []
    refusals = 0
    for _ in range(300):
        try:
            hours.append(admit(site.services.house, 3600.0, "default"))
        except Overloaded:
            refusals += 1
    assert sum(place.audio_s for place in hours) <= 300.0 / 0.05 + 3600.0
    assert refusals == 300 - len(hours) >= 295
    for place in hours:
        place.leave()
    assert site.services.house.predicted_wait_s == 0.0
