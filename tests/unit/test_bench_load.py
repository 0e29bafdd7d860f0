"""The load client against a small server: when requests start, what counts, how each failure is told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tympan.bench import load_report
from tympan.bench.arrivals import End, drawn_items, poisson
from tympan.bench.client import Item, Target
from tympan.bench.facts import provenance
from tympan.bench.interfaces import Api
from tympan.bench.load import NOT_SENT, Load, Outcome, Sample, Weighted, check_size, run
from tympan.errors import Cancelled, FetchFailed, InvalidRequest

ITEM = Item("a.wav", b"RIFF" + bytes(2_000), 5.0, "en", "hello world")
ONE = Weighted((ITEM,), (1.0,))
ORIGIN = {**provenance(), "command": "tympan bench load"}
QUIET = Load(End(requests=4), users=2, warm_up=0)


@dataclass
class Script:
    """What the server does with a request, and what it has seen."""

    delay_s: float = 0.0
    status: int = 200
    body: bytes = b'{"text": " Hello world. "}'
    headers: tuple[tuple[str, str], ...] = ()
    stalls: Callable[[], object] | None = None
    seen: list[tuple[str, Message, bytes]] = field(default_factory=list)
    under_way: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextmanager
def _server(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            with script.lock:
                script.seen.append((self.path, self.headers, body))
                script.under_way += 1
                script.most = max(script.most, script.under_way)
            time.sleep(script.delay_s)
            if script.stalls is not None:
                script.stalls()
            with script.lock:
                script.under_way -= 1
            self.send_response(script.status)
            self.send_header("Content-Length", str(len(script.body)))
            for name, value in script.headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(script.body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        # A client that gives up leaves a broken pipe behind, which is not worth a word.
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def _run(url: str, load: Load = QUIET, sent: Weighted = ONE, **target: Any) -> Outcome:
    return run(Target(url, **target), load, sent, lambda: False, lambda _sample: None)


def _kinds(outcome: Outcome) -> set[str | None]:
    return {sample.answer.error for sample in outcome.samples}


@pytest.mark.parametrize(
    ("api", "path", "file_field", "named"),
    [
        (Api.OPENAI, "/v1/audio/transcriptions", b'name="file"', b'name="model"'),
        (Api.INFERENCE, "/inference", b'name="file"', b'name="response_format"'),
        (Api.ASR, "/asr?output=json&task=transcribe&encode=true&language=en&beam_size=2", b'name="audio_file"', b""),
    ],
)
def test_each_interface_is_spoken_as_its_servers_expect(api: Api, path: str, file_field: bytes, named: bytes) -> None:
    """Route, name of the file, and where the other fields go; the text comes back without blanks around it."""
    script = Script()
    with _server(script) as url:
        outcome = _run(url, Load(End(requests=1), users=1, warm_up=0), api=api, fields=(("beam_size", "2"),), key="k")
    (asked, headers, body), (sample,) = script.seen[0], outcome.samples
    assert asked == path
    assert file_field in body
    assert named in body
    assert (b"beam_size" in body) is (api is not Api.ASR)
    assert headers["Authorization"] == "Bearer k"
    assert sample.answer.text == "Hello world."


@pytest.mark.parametrize(
    ("url", "route"),
    [
        ("http://h:1", "http://h:1/v1/audio/transcriptions"),
        ("http://h:1/v1/", "http://h:1/v1/audio/transcriptions"),
        ("https://h/proxy", "https://h/proxy/v1/audio/transcriptions"),
        ("https://h/v1/audio/transcriptions", "https://h/v1/audio/transcriptions"),
    ],
)
def test_the_address_may_end_anywhere_before_the_file(url: str, route: str) -> None:
    """A base address, one with /v1 and the full one mean the same."""
    assert Target(url).route == route


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://", "http://h:99999", "", "http://[::1"])
def test_what_is_no_address_is_refused(url: str) -> None:
    """Before anything is sent, with an example of what is one."""
    with pytest.raises(InvalidRequest, match="is not the address of a server"):
        _ = Target(url).route


def test_reports_hold_no_secret_of_the_address() -> None:
    """User, password and query are left out."""
    assert Target("https://me:secret@h:1/x?key=2").shown == "https://h:1/x"
    assert Target("http://[::1]:8000").shown == "http://[::1]:8000"


def test_users_wait_for_their_answers() -> None:
    """A closed loop of two has at most two requests under way, and ends after the number asked for."""
    script = Script(delay_s=0.03)
    with _server(script) as url:
        outcome = _run(url, Load(End(requests=9), users=2, warm_up=1))
    assert len(script.seen) == 10
    assert script.most == 2
    assert sorted(sample.number for sample in outcome.samples) == list(range(9))
    assert all(sample.latency_s is not None and sample.latency_s >= 0.03 for sample in outcome.samples)


def test_a_stall_counts_for_all_who_should_have_come_in_the_meantime() -> None:
    """No coordinated omission: while the server stalls, requests go on starting, and each tells how long it waited.

    The server answers nothing before ten requests have come. A client that waits for answers would never send the
    second; here each of the ten waits at least until the tenth is due.
    """
    script, tenth = Script(), threading.Event()

    def stall() -> None:
        if len(script.seen) >= 10:
            tenth.set()
        assert tenth.wait(30)

    script.stalls = stall
    with _server(script) as url:
        outcome = _run(url, Load(End(requests=12), rate_per_s=60.0, warm_up=0))
    in_order = sorted(outcome.samples, key=lambda sample: sample.number)
    assert [sample.answer.error for sample in in_order] == [None] * 12
    for sample in in_order[:10]:
        assert sample.latency_s is not None
        assert sample.latency_s >= in_order[9].due_s - sample.due_s


def test_what_the_client_cannot_have_under_way_is_an_error_and_not_a_delay() -> None:
    """At the bound a request is not sent, counts as failed, and the next ones keep their time."""
    over, refused = threading.Event(), list[Sample]()

    def seen(sample: Sample) -> None:
        if sample.answer.error == NOT_SENT:
            refused.append(sample)
        if len(refused) == 27:
            over.set()

    with _server(Script(stalls=lambda: over.wait(30))) as url:
        load = Load(End(requests=30), rate_per_s=200.0, max_in_flight=3, warm_up=0)
        outcome = run(Target(url), load, ONE, lambda: False, seen)
    assert len(refused) == 27
    assert all(sample.start_s is None for sample in refused)
    assert len(outcome.samples) == 30
    numbers = load_report.figures(ONE, outcome)
    assert numbers["errors"] == {NOT_SENT: 27}
    assert numbers["latency_of_all_ms"]["p50"] is None
    assert numbers["latency_ms"]["p99"] is not None


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (Script(status=503, body=b"busy"), "http_503"),
        (Script(body=b"<html>"), "no_text"),
        (Script(body=b'{"error": "failed to read audio"}'), "no_text"),
        (Script(body=b'{"text": 7}'), "no_text"),
        (Script(headers=(("Tympan-Cache", "hit"),)), "cached"),
        (Script(delay_s=1.0), "timeout"),
    ],
)
def test_every_failure_has_a_kind_and_its_words(script: Script, kind: str) -> None:
    """Statuses, answers without a text and silence are told apart, with an example of what was said."""
    with _server(script) as url:
        outcome = _run(url, Load(End(requests=2), users=2, warm_up=0), timeout_s=0.2 if script.delay_s else 60.0)
    assert _kinds(outcome) == {kind}
    assert outcome.samples[0].answer.detail


def test_a_server_that_is_not_there_ends_the_run_at_once() -> None:
    """Refused connections and wrong routes in the warm-up are told with the remedy; without one they are errors."""
    with pytest.raises(FetchFailed, match="does not transcribe") as told:
        _run("http://127.0.0.1:9", Load(End(requests=2), users=1, warm_up=2))
    assert "--api" in str(told.value.remedy)
    assert _kinds(_run("http://127.0.0.1:9", QUIET)) == {"connect"}
    with _server(Script(status=404)) as url, pytest.raises(FetchFailed, match="http_404"):
        _run(url, Load(End(requests=2), users=1, warm_up=1))


def test_a_busy_server_does_not_end_the_run() -> None:
    """A server that refuses for now is what is measured."""
    with _server(Script(status=503)) as url:
        assert _kinds(_run(url, Load(End(requests=2), users=1, warm_up=2))) == {"http_503"}


def test_a_stop_keeps_what_is_answered() -> None:
    """What is under way is given up, the rest is in the result."""
    seen: list[Sample] = []
    with _server(Script(delay_s=0.05)) as url:
        load = Load(End(requests=10_000), users=2, warm_up=0)
        outcome = run(Target(url), load, ONE, lambda: len(seen) >= 6, seen.append)
        assert outcome.cut_short is True
        assert 6 <= len(outcome.samples) < 1_000
        with pytest.raises(Cancelled):
            run(Target(url), Load(End(requests=1), users=1, warm_up=500), ONE, lambda: True, seen.append)


@pytest.mark.parametrize(
    "load",
    [
        Load(End(requests=1)),
        Load(End(requests=1), rate_per_s=1.0, users=1),
        Load(End(), users=1),
        Load(End(requests=1), users=100_000),
    ],
)
def test_loads_that_cannot_be_meant_are_refused(load: Load) -> None:
    """No loop, two loops, no end, too many users."""
    with pytest.raises(InvalidRequest):
        load.check()


def test_more_than_fits_in_memory_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """A sparse file of two gigabytes is refused by its size; a file that is gone by its absence."""
    with (tmp_path / "huge.wav").open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(InvalidRequest, match="bytes"):
        check_size([tmp_path / "huge.wav"])
    with pytest.raises(InvalidRequest, match="cannot be read"):
        check_size([tmp_path / "gone.wav"])


def test_arrivals_are_poissons_and_repeat() -> None:
    """The same seed gives the same load; gaps have the mean and the scatter of the exponential distribution."""
    arrivals = poisson(50.0, End(duration_s=100.0), (3.0, 1.0), seed=7)
    assert arrivals == poisson(50.0, End(duration_s=100.0), (3.0, 1.0), seed=7)
    assert arrivals != poisson(50.0, End(duration_s=100.0), (3.0, 1.0), seed=8)
    gaps = [b.at_s - a.at_s for a, b in pairwise(arrivals)]
    mean = sum(gaps) / len(gaps)
    scatter = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.02, rel=0.05)
    assert scatter == pytest.approx(mean, rel=0.05)
    assert sum(arrival.item for arrival in arrivals) / len(arrivals) == pytest.approx(0.25, abs=0.03)
    assert len(poisson(50.0, End(requests=10), (1.0,), seed=7)) == 10


def test_items_are_drawn_by_weight() -> None:
    """The endless draw of the closed loop has the same shares."""
    chosen = drawn_items((1.0, 0.0, 3.0), seed=1)
    found = [next(chosen) for _ in range(4_000)]
    assert found.count(1) == 0
    assert found.count(2) / 4_000 == pytest.approx(0.75, abs=0.03)


def _document() -> dict[str, Any]:
    """Return the result of a short run in which one of four requests was refused."""
    script = Script()
    items = Weighted((ITEM, Item("b.wav", ITEM.data, 40.0)), (1.0, 1.0))
    with _server(script) as url:
        load = Load(End(requests=40), users=2, warm_up=0)
        outcome = _run(url, load, items)
        samples = tuple(
            sample if n % 4 else Sample(sample.number, sample.item, sample.due_s, None, None, refused)
            for n, (sample, refused) in enumerate(
                (s, type(s.answer)(error="http_503", detail="busy")) for s in outcome.samples
            )
        )
        return load_report.document(Target(url), load, items, Outcome(samples, outcome.wall_s, cut_short=False), ORIGIN)


def test_the_report_counts_what_was_not_answered() -> None:
    """Errors by kind, percentiles of all and of those answered, lengths apart, word errors, throughput in audio."""
    document = json.loads(json.dumps(_document()))
    numbers = document["figures"]
    assert (numbers["requests"], numbers["answered"], numbers["errors"]) == (40, 30, {"http_503": 10})
    assert numbers["error_percent"] == 25.0
    assert numbers["latency_of_all_ms"]["p50"] is not None
    assert numbers["latency_of_all_ms"]["p90"] is None
    assert [row["requests"] for row in numbers["by_length"]] != []
    assert sum(row["answered"] for row in numbers["by_length"]) == 30
    assert numbers["wer"] == 0.0
    audio_s = sum(document["items"][r["item"]]["duration_s"] for r in document["requests"] if r["error"] is None)
    assert numbers["throughput_audio_s_per_s"] == pytest.approx(audio_s / numbers["wall_s"], rel=0.01)


def test_the_page_has_tables_and_charts() -> None:
    """Latencies, errors with an example, and the charts beside it."""
    document = _document()
    page = load_report.page(document, ["load-latency.svg"])
    for words in ("never", "http_503", "busy", "![load-latency](load-latency.svg)", "2 users", "25.00 %"):
        assert words in page
    charts = load_report.charts(document)
    assert set(charts) == {"latency", "over-time"}
    assert "errors" in charts["over-time"]


def test_a_late_client_and_a_cut_run_are_told() -> None:
    """Figures that rest on a client that could not keep up say so at the top."""
    document = _document()
    document["cut_short"] = True
    document["figures"]["client_late_ms"] = {"p99": 900.0}
    document["figures"]["errors"][NOT_SENT] = 3
    document["figures"]["error_examples"][NOT_SENT] = "x"
    page = load_report.page(document, [])
    for words in ("cut short", "client was late", "3 requests were not sent"):
        assert words in page


def test_without_an_answer_there_is_no_chart() -> None:
    """All failed: figures without percentiles of answers, a page, no picture."""
    load = Load(End(requests=3), users=1, warm_up=0)
    outcome = _run("http://127.0.0.1:9", load)
    document = load_report.document(Target("http://127.0.0.1:9"), load, ONE, outcome, ORIGIN)
    assert load_report.charts(document) == {}
    assert document["figures"]["latency_ms"] is None
    assert "connect" in load_report.page(document, [])
