"""Other servers: started in their shapes, asked in turns, and the page says where they are ahead."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self, cast

import pytest

from benchmarks import callers, peer_servers, servers, servers_page
from benchmarks.contenders import BenchmarkError, Job, Outcome
from benchmarks.peer_servers import HEALTH, KINDS, Peer, Shape, named
from benchmarks.render import render
from benchmarks.run import main, parser
from benchmarks.scoring import Clip
from benchmarks.server import SERVE, Server
from benchmarks.servers import QUICK, Plan, Side
from benchmarks.servers_page import GREEDY, OURS
from benchmarks.setup import Setup
from tympan.bench.facts import cores

STUB = """
import sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, busy_s = int(sys.argv[1]), float(sys.argv[2])

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(b"{}")

    def do_POST(self):
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        end = time.thread_time() + busy_s * (3 if b"long" in sent else 1)
        while time.thread_time() < end:
            pass
        self.answer(b'{"text": "red green"}')

    def log_message(self, *_):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_):
        pass  # the caller has gone

Server(("127.0.0.1", port), Handler).serve_forever()
"""
"""A server that works on what it was sent, whether anybody waits for it or not."""

PLAN = Plan({1: 2, 3: 4}, 2, 60.0, 2, 2, 0.1, 20.0, 0.05, 20.0)


@dataclass(frozen=True)
class Stubs(Setup):
    """A setup whose Tympan is a stub."""

    def server(self, name: str, environment: Mapping[str, str] | None = None, command: Sequence[str] = SERVE) -> Server:
        """Return a stub that is fast."""
        return Server({}, self.work / "ours.log", shape(self.work, 0.0).command, OURS, HEALTH)

    def clips(self, name: str) -> list[Clip]:
        """Return four clips."""
        return [clip(self.work, number) for number in range(4)]

    def model_facts(self) -> dict[str, Any]:
        """Return some facts."""
        return {"name": "base", "bytes": 1, "sha256": "0" * 64}


def shape(folder: Path, busy_s: float) -> Shape:
    """Return a stub that is busy for so long with each clip."""
    path = folder / "stub.py"
    path.write_text(STUB)
    return Shape((sys.executable, str(path), "{port}", str(busy_s)))


def clip(folder: Path, number: int) -> Clip:
    """Return a clip of five seconds."""
    path = folder / f"ls-{number}.wav"
    path.write_bytes(b"short")
    return Clip(f"ls-{number}", path, 5.0, "en", "red green")


@pytest.fixture
def setup(tmp_path: Path) -> Stubs:
    """Return the setup of a run with nothing in it."""
    return Stubs(
        tmp_path, "base", str(tmp_path), tmp_path, tmp_path / "results", {}, quick=False, fresh=True, limit_s=60
    )


def test_servers_take_turns_and_become_a_page(setup: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The faster shape is chosen; every part has every server; the slower one is behind, and the page agrees."""
    shapes = {"2x1": shape(setup.work, 0.2), "1x2": shape(setup.work, 0.05)}
    monkeypatch.setattr(servers, "named", lambda _: [Peer("slow", "slow 1.0", "none", shapes)])
    monkeypatch.setattr(servers, "write_long", lambda path, *_: path.write_bytes(b"long"))
    document = json.loads(servers.run(setup, PLAN).read_text())
    result = document["result"]
    assert result["servers"][0]["calibration"]["1x2"] > result["servers"][0]["calibration"]["2x1"]
    assert [row["callers"] for row in result["load"]] == [1, 3]
    assert set(result["load"][0]["sides"]) == {OURS, GREEDY, "slow"}
    assert len(result["load"][1]["sides"]["slow"]["rates"]) == 2
    assert result["load"][0]["sides"]["slow"]["ratio"] > 2.0
    assert set(result["memory"]) == set(result["vanish"]) == set(result["beside"]["sides"]) == {OURS, "slow"}
    assert all(row["rests"] for row in result["vanish"].values())
    assert result["errors"]["slow"]["errors"] == 0
    assert "red green" not in json.dumps(document)
    assert {check["figure"]: check["met"] for check in document["checks"]}["short clips, 1 caller: speed"]
    page = {path.name: path.read_text() for path in render(setup.results, setup.work)}["servers.md"]
    assert "2x1 for one caller, else 1x2" in page
    assert "# Beside other servers" in page


class Answering:
    """A server that does nothing, in no time."""

    def __enter__(self) -> Self:
        """Start."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""

    def run(self, job: Job) -> Outcome:
        """Answer."""
        return Outcome(0.0, {})


def test_a_slow_server_has_no_second_turn(setup: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first turn was long enough; the others have all of theirs."""
    made = {name: Answering() for name in (OURS, "slow")}

    def together(server: Answering, clips: Sequence[Clip], *_: object) -> dict[str, Any]:
        return {"wall_s": 61.0 if server is made["slow"] else 1.0}

    monkeypatch.setattr(callers, "together", together)
    sides = [Side(name, 5, cast("Any", partial(lambda server, _: server, server))) for name, server in made.items()]
    turns = servers._turns(setup.steps("servers"), PLAN, sides, setup.clips(""), 2)
    assert {name: len(own) for name, own in turns.items()} == {OURS: 2, GREEDY: 2, "slow": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_what_is_burnt_for_nobody_is_counted(setup: Stubs) -> None:
    """All callers have gone, the stub goes on; a server that is still busy at the end of the watch is told as such."""
    clips = setup.clips("")
    with Server({}, setup.work / "s.log", shape(setup.work, 0.5).command, "stub", HEALTH) as server:
        found = callers.hang_up(server, clips, 5, 0.1, 20.0)
        assert found["answered"] == 0
        assert found["rests"]
        assert 1.0 < found["burnt_cpu_s"] <= 2.3
        cut = callers.hang_up(server, clips, 5, 0.1, 0.5)
    assert not cut["rests"]
    assert cut["burnt_cpu_s"] < found["burnt_cpu_s"]


def test_a_health_route_that_is_late_is_seen(setup: Stubs) -> None:
    """The prober asks until its block ends, and at least once."""
    with (
        Server({}, setup.work / "s.log", shape(setup.work, 0.0).command, "stub", HEALTH) as server,
        callers.Prober(server.base_url + HEALTH) as prober,
    ):
        pass
    assert prober.seen_s
    with callers.Prober("http://127.0.0.1:9/health") as nobody:
        pass
    assert nobody.seen_s


def test_an_answer_that_is_late_counts_for_all_who_would_have_asked() -> None:
    """A minute without an answer is no single bad probe."""
    assert callers.waits(0.01) == [0.01]
    assert callers.waits(0.12) == pytest.approx([0.12, 0.07, 0.02])
    assert len(callers.waits(60.0)) >= 1_200


RESULT: dict[str, Any] = {
    "load": [{"callers": 1, "sides": {OURS: {"rate": 9.0, "p95_s": 1.0}, "peer": {"rate": 3.0, "p95_s": 2.0}}}],
    "beside": {"sides": {OURS: {"p95_s": 1.0}, "peer": {"p95_s": 1.0}}},
    "health": {OURS: {"p99_ms": 5.0}, GREEDY: {"p99_ms": 1.0}, "peer": {"p99_ms": 9.0}},
    "vanish": {OURS: {"burnt_cpu_s": 1.0}, "peer": {"burnt_cpu_s": 50.0}},
    "memory": {OURS: 700.0, "peer": 400.0},
    "errors": {
        OURS: {"rate_percent": 8.0, "difference": None},
        "peer": {"rate_percent": 7.5, "difference": {"low_points": -0.5}},
    },
}


def test_where_tympan_is_behind_is_said() -> None:
    """Memory is missed; word errors within chance are no miss, but are told; greedy search is no contender."""
    missed = [check.figure for check in servers_page.checks(RESULT) if not check.met]
    assert missed == ["highest memory"]
    told = servers_page.behind(RESULT)
    assert "highest memory (peer 400 MiB, Tympan 700)" in told
    assert "word errors (peer 7.5 %, Tympan 8, within chance)" in told
    assert "speed" not in told
    worse = {**RESULT, "errors": {**RESULT["errors"], "peer": {"rate_percent": 6.0, "difference": {"low_points": 0.4}}}}
    assert [check.figure for check in servers_page.checks(worse) if not check.met] == ["highest memory", "word errors"]
    assert "none of the figures" in servers_page.behind({**RESULT, "memory": {OURS: 1.0, "peer": 2.0}, "errors": {
        OURS: {"rate_percent": 7.0}, "peer": {"rate_percent": 7.5}}})  # fmt: skip


def test_each_is_started_with_the_weights_of_the_run(setup: Stubs, monkeypatch: pytest.MonkeyPatch) -> None:
    """coro-asr finds them under the model's name where it is started; whisper.cpp gets a file of its own."""
    monkeypatch.setattr(peer_servers, "_packages", lambda *_: "coro-asr 1.0")
    monkeypatch.setattr(peer_servers, "exported", lambda *_: setup.work)
    (setup.work / "ggml.bin").touch()
    (setup.work / "CMakeCache.txt").write_text("A:B=C\nCMAKE_PROJECT_VERSION:STATIC=1.9.1\n")
    program = setup.work / "bin" / "whisper-server"
    program.parent.mkdir()
    program.touch()
    for _ in range(2):  # a second run finds the folder as the first one left it
        coro, whisper = named(replace(setup, peers={"coro-asr": str(program), "whisper.cpp": str(program)}))
    assert (setup.work / "peers" / "base").resolve() == setup.work.resolve()
    assert next(iter(coro.shapes)) == f"{cores()}x1"
    assert "{port}" in next(iter(coro.shapes.values())).command
    assert whisper.versions == "whisper.cpp 1.9.1"
    assert str(setup.work / "ggml.bin") in next(iter(whisper.shapes.values())).command


@pytest.mark.parametrize(
    ("peers", "complaint"),
    [
        ({"nobody": "x"}, "nobody is no server"),
        ({}, "Name a server to measure"),
        ({"coro-asr": "/nowhere/python"}, "There is no /nowhere/python"),
        ({"coro-asr": sys.executable}, "does not have coro-asr"),
    ],
)
def test_who_cannot_take_part_is_refused(setup: Stubs, peers: dict[str, str], complaint: str) -> None:
    """By name and with the remedy, before anything is started."""
    with pytest.raises(BenchmarkError, match=complaint):
        named(replace(setup, peers=peers))


def test_only_who_asks_for_other_servers_gets_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are no part of everything, for nothing of theirs comes with Tympan."""
    seen: list[str] = []
    for name in list(KINDS):
        assert parser().parse_args(["--peer", f"{name}=/x"]).peer == [(name, "/x")]
    table = {name: (lambda *_, name=name: seen.append(name)) for name in ("ready", "servers")}
    monkeypatch.setattr("benchmarks.run.COMMANDS", table)
    monkeypatch.setattr("benchmarks.run.render", lambda *_: None)
    folders = ["--corpus", str(tmp_path), "--work", str(tmp_path)]
    assert main(["all", *folders]) == 0
    assert main(["servers", *folders]) == 0
    assert seen == ["ready", "servers"]
    assert QUICK.turns == 1
