"""Other servers beside Tympan, over HTTP, on the same two cores: speed, waiting, health, hanging up, memory, errors.

They take turns and are never asked at once: every server does a part before any of them does the next. All of them get
the same files, the same model and the same beam.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import callers
from benchmarks.accuracy import bootstrap_of, counts_of
from benchmarks.contenders import Job
from benchmarks.memory import write_long
from benchmarks.peer_servers import HEALTH, Peer, named
from benchmarks.scoring import Clip, licences
from benchmarks.server import Server
from benchmarks.servers_page import GREEDY, OURS, checks
from benchmarks.setup import Setup, throughput
from benchmarks.short import pick
from benchmarks.store import Steps, say, write_result
from tympan.bench.stats import quantile
from tympan.quality.scoring import Counts

BEAM = 5
LIVE = "/livez"
"""What Tympan is asked for its health; the others have one route for it, `/health`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each: clips by callers at a time, turns, and seconds after which a server has no second turn."""

    sizes: Mapping[int, int] = field(default_factory=lambda: {1: 6, 8: 12, 32: 32})
    turns: int = 2
    enough_s: float = 60.0
    calibration: int = 6
    beside: int = 8
    every_s: float = 2.5
    long_s: float = 180.0
    hang_up_s: float = 1.0
    watch_s: float = 50.0


QUICK = Plan({2: 2}, 1, calibration=2, beside=2, every_s=1.0, long_s=20.0, hang_up_s=0.5, watch_s=10.0)
"""A smoke run."""


@dataclass(frozen=True, slots=True)
class Side:
    """A server under its name, with the beam it is asked for; how to make it in the shape for so many callers."""

    name: str
    beam: int
    make: Callable[[int], Server]
    health: str = HEALTH


def run(setup: Setup, plan: Plan) -> Path:
    """Measure Tympan and the servers that ``setup`` names, write ``servers.json`` and return its path."""
    peers = named(setup)
    clips = pick(setup.clips("a_english_read"), max(plan.sizes.values()))
    steps = setup.steps("servers", repr(plan))
    rates = {peer.name: _calibrate(setup, steps, plan, peer, clips) for peer in peers}
    best = {name: max(each, key=lambda shape: each[shape]) for name, each in rates.items()}
    sides = [Side(OURS, BEAM, lambda _: setup.server("servers-tympan"), LIVE)]
    sides += [Side(peer.name, BEAM, partial(_shaped, setup, peer, best[peer.name])) for peer in peers]
    runs = _load(steps, plan, sides, clips)
    result: dict[str, Any] = {
        "beam": BEAM,
        "servers": [_facts(peer, rates[peer.name]) for peer in peers],
        "load": _rows(clips, plan, runs),
        "errors": _errors(clips, runs[max(plan.sizes)]),
        "health": _health(runs[max(plan.sizes)]),
        "beside": _beside(setup, steps, plan, sides, clips),
        "vanish": _vanish(steps, plan, sides, clips),
    }
    result["memory"] = _memory(runs, result["beside"]["sides"])
    head = {"model": setup.model_facts(), "licences": licences(clips), "clips": [clip.id for clip in clips]}
    return write_result(setup.results, "servers", {**head, **asdict(plan), **result}, checks(result))


def _shaped(setup: Setup, peer: Peer, best: str, callers_at_once: int) -> Server:
    return peer.server(setup, next(iter(peer.shapes)) if callers_at_once == 1 else best)


def _facts(peer: Peer, rates: Mapping[str, float]) -> dict[str, Any]:
    return {"name": peer.name, "versions": peer.versions, "settings": peer.settings, "calibration": dict(rates)}


def _calibrate(setup: Setup, steps: Steps, plan: Plan, peer: Peer, clips: Sequence[Clip]) -> dict[str, float]:
    """Return audio-seconds a second of each shape, a few callers at once; 0 for the only one."""
    if len(peer.shapes) == 1:
        return dict.fromkeys(peer.shapes, 0.0)
    few = clips[: plan.calibration]

    def rate(shape: str) -> float:
        with peer.server(setup, shape) as server:
            server.run(Job.of(clips[:2], beam=BEAM, concurrency=2))
            return round(throughput(few, server.run(Job.of(few, beam=BEAM, concurrency=len(few))).wall_s), 3)

    return {shape: steps.value(f"calibration, {peer.name} {shape}", partial(rate, shape)) for shape in peer.shapes}


Runs = dict[int, dict[str, list[dict[str, Any]]]]
"""The turns of every server by callers at a time."""


def _load(steps: Steps, plan: Plan, sides: Sequence[Side], clips: Sequence[Clip]) -> Runs:
    return {c: _turns(steps, plan, sides, clips[:n], c) for c, n in plan.sizes.items()}


def _turns(steps: Steps, plan: Plan, sides: Sequence[Side], clips: Sequence[Clip], c: int) -> dict[str, Any]:
    with ExitStack() as stack:
        servers = {side.name: stack.enter_context(_warm(side, c, clips)) for side in sides}
        every = [(side.name, side.beam, side.health, servers[side.name]) for side in sides]
        every.insert(1, (GREEDY, 1, LIVE, servers[OURS]))
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name, *_ in every}
        for number in range(plan.turns):
            for name, beam, health, server in every:
                if sum(turn["wall_s"] for turn in runs[name]) < plan.enough_s:
                    ask = partial(callers.together, server, clips, beam, c, health)
                    runs[name].append(steps.value(f"{c} callers, turn {number}, {name}", ask))
    return runs


@contextmanager
def _warm(side: Side, c: int, clips: Sequence[Clip]) -> Iterator[Server]:
    """Yield the server after it has done two clips untimed."""
    with side.make(c) as server:
        server.run(Job.of(clips[:2], beam=side.beam, concurrency=2))
        yield server


def _rows(clips: Sequence[Clip], plan: Plan, runs: Runs) -> list[dict[str, Any]]:
    return [_row(c, clips[: plan.sizes[c]], turns) for c, turns in runs.items()]


def _row(c: int, clips: Sequence[Clip], turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    sides = {}
    for name, own in turns.items():
        rates = [throughput(clips, turn["wall_s"]) for turn in own]
        faster = [turn["wall_s"] / ours["wall_s"] for turn, ours in zip(own, turns[OURS], strict=False)]
        waits = [took_s for turn in own for took_s in turn["latency_s"].values()]
        sides[name] = {
            "rate": round(statistics.median(rates), 2),
            "rates": [round(rate, 2) for rate in rates],
            "ratio": round(statistics.median(faster), 2),
            "p50_s": round(quantile(waits, 0.5), 2),
            "p95_s": round(quantile(waits, 0.95), 2),
            "cpu_s": round(statistics.median(turn["cpu_s"] for turn in own), 1),
        }
        say(f"{c} callers, {name}: {sides[name]['rate']:.1f} x real time, p95 {sides[name]['p95_s']:.2f} s")
    audio_s = round(sum(clip.duration_s for clip in clips), 1)
    return {"callers": c, "clips": len(clips), "audio_s": audio_s, "sides": sides}


def _errors(clips: Sequence[Clip], turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Count the words wrong in the first turn, and how far Tympan lies above each."""
    texts = {name: own[0]["texts"] for name, own in turns.items()}
    return {
        name: {
            **sum(counts_of(clips, text), Counts()).as_dict(),
            "difference": None if name == OURS else asdict(bootstrap_of(clips, texts[OURS], text)),
        }
        for name, text in texts.items()
    }


def _health(turns: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    rows = {}
    for name, own in turns.items():
        seen_ms = [1000.0 * each for turn in own for took_s in turn["health_s"] for each in callers.waits(took_s)]
        shares = {"p50_ms": 0.5, "p99_ms": 0.99, "max_ms": 1.0}
        answers = sum(len(turn["health_s"]) for turn in own)
        rows[name] = {"probes": answers} | {key: round(quantile(seen_ms, q), 1) for key, q in shares.items()}
    return rows


def _memory(runs: Runs, beside: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the most that each server held in any of its runs."""
    return {
        name: max([row["peak_pss_mib"], *(turn["peak_pss_mib"] for turns in runs.values() for turn in turns[name])])
        for name, row in beside.items()
    }


def _beside(setup: Setup, steps: Steps, plan: Plan, sides: Sequence[Side], clips: Sequence[Clip]) -> dict[str, Any]:
    few, rows = clips[: plan.beside], {}
    with tempfile.TemporaryDirectory(dir=setup.work, prefix="long-") as folder:
        path = Path(folder) / "long.mp3"
        write_long(path, clips, plan.long_s)

        def measure(side: Side) -> dict[str, Any]:
            with _warm(side, 2, clips) as server:
                return callers.beside(server, few, path, side.beam, plan.every_s)

        for side in sides:
            row = steps.value(f"beside a long file, {side.name}", partial(measure, side))
            p50_s, p95_s = (round(quantile(row["took_s"], share), 2) for share in (0.5, 0.95))
            rows[side.name] = {**row, "p50_s": p50_s, "p95_s": p95_s}
    return {"clips": len(few), "sides": rows}


def _vanish(steps: Steps, plan: Plan, sides: Sequence[Side], clips: Sequence[Clip]) -> dict[str, Any]:
    def measure(side: Side) -> dict[str, Any]:
        with _warm(side, len(clips), clips) as server:
            return callers.hang_up(server, clips, side.beam, plan.hang_up_s, plan.watch_s)

    return {side.name: steps.value(f"callers hang up, {side.name}", partial(measure, side)) for side in sides}
