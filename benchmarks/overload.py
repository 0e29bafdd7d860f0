"""More than the server can do: health while a hundred wait, short beside long, callers who vanish, five times too much.

The first three parts run the real model. The last has the fake engine at a fixed speed, so that the capacity is known:
what is measured there is who is let in, not how fast a model is. Server and clients share the machine.
"""

import asyncio
import math
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from benchmarks.memory import write_long
from benchmarks.scoring import Clip, licences
from benchmarks.server import Server
from benchmarks.setup import Setup
from benchmarks.store import Check, say, write_result
from benchmarks.tree import tree
from tympan.batching.queue import BatchLimits

HEALTH_GOAL_MS, REFUSAL_GOAL_MS = 50.0, 50.0
BESIDE_GOAL, GOODPUT_GOAL = 2.0, 0.9
SHORT_S = (4.0, 6.5)
"""Length of the clips that stand for five seconds."""

_ROUTE = "/v1/audio/transcriptions"
_PATIENT = {"TYMPAN_MAX_WAIT_S": "3600", "TYMPAN_REQUEST_TIMEOUT_S": "3600"}
_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_TIMEOUT_S = 3600.0
_BOUND_S = 3.0
_WATCH_S = 15.0
_GIVE_UP_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much of each: requests that wait, probes, short clips, hours of the long file, callers, seconds of flood."""

    waiting: int = 100
    probes: int = 500
    shorts: int = 40
    long_h: float = 3.0
    vanishing: int = 32
    flood_s: float = 60.0
    calm_s: float = 20.0


QUICK = Plan(20, 60, 6, 0.25, 8, 8.0, 4.0)
"""A smoke run."""


def run(setup: Setup, plan: Plan) -> Path:
    """Measure all four, write ``overload.json`` and return its path."""
    clips = [clip for clip in setup.clips("a_english_read") if clip.language == "en"]
    shorts = [clip for clip in clips if SHORT_S[0] <= clip.duration_s <= SHORT_S[1]][: plan.shorts]
    steps = setup.steps("overload", repr(plan))
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "health": partial(_health, setup, plan, clips),
        "beside": partial(_beside, setup, plan, shorts, clips),
        "vanish": partial(_vanish, setup, plan, clips),
        "flood": partial(_flood, setup, plan, shorts[0]),
    }
    result = {name: steps.value(name, measure) for name, measure in parts.items()}
    payload = {"model": setup.model_facts(), "licences": licences(clips), **result}
    return write_result(setup.results, "overload", payload, checks(result))


def checks(result: Mapping[str, Any]) -> list[Check]:
    """Return the goals and what was measured."""
    health, beside, vanish, flood = (result[name] for name in ("health", "beside", "vanish", "flood"))
    found = [
        Check(f"p99 of {route}, {health['waiting']} sent at once", f"<= {HEALTH_GOAL_MS:g} ms",
              f"{row['p99_ms']:.1f} ms", row["p99_ms"] <= HEALTH_GOAL_MS)
        for route, row in health["routes"].items()
    ]  # fmt: skip
    allowed_s = max(BESIDE_GOAL * beside["alone"]["p95_s"], beside["alone"]["p95_s"] + beside["batch_s"])
    figure = f"p95 of short clips beside a {beside['long_h']:g}-hour file"
    found.append(
        Check(figure, f"<= 2x alone, or alone + one capped batch: {allowed_s:.2f} s",
              f"{beside['beside']['p95_s']:.2f} s", beside["beside"]["p95_s"] <= allowed_s)
    )  # fmt: skip
    found.append(
        Check(f"CPU after {vanish['callers']} callers vanish", f"<= one running batch: {vanish['batch_cpu_s']:.1f} s",
              f"{vanish['burnt_cpu_s']:.1f} s", vanish["burnt_cpu_s"] <= vanish["batch_cpu_s"])
    )  # fmt: skip
    share = flood["goodput_per_s"] / flood["peak_per_s"]
    found += [
        Check("goodput at five times the capacity", f">= {GOODPUT_GOAL:.0%} of the peak", f"{share:.1%}",
              share >= GOODPUT_GOAL),
        Check("p99 of refusals", f"<= {REFUSAL_GOAL_MS:g} ms", f"{flood['refused_p99_ms']:.1f} ms",
              flood["refused_p99_ms"] <= REFUSAL_GOAL_MS),
        Check("refusals with Retry-After", "100 %", f"{flood['with_retry_after']:.1%}",
              flood["with_retry_after"] == 1.0),
        Check("answered as before after the flood", "<= 30 s", f"{flood['recovered_s']:.1f} s",
              flood["recovered_s"] <= 30.0),
    ]  # fmt: skip
    return found


def _health(setup: Setup, plan: Plan, clips: Sequence[Clip]) -> dict[str, Any]:
    wanted = [clips[number % len(clips)] for number in range(plan.waiting)]
    with setup.server("overload-health", {**_PATIENT, "TYMPAN_MAX_REQUESTS": "400"}) as server:
        return asyncio.run(_probe_while(server, plan, wanted))


async def _probe_while(server: Server, plan: Plan, clips: Sequence[Clip]) -> dict[str, Any]:
    bodies = {clip.path: clip.path.read_bytes() for clip in clips}
    times: dict[str, list[float]] = {"/livez": [], "/readyz": []}
    waiting = []
    async with _client(server) as client, _client(server) as prober:
        calls = [asyncio.create_task(_post(client, bodies[clip.path])) for clip in clips]
        while (await prober.get("/health")).json()["queued_requests"] < plan.waiting:
            await asyncio.sleep(0.02)
            if all(call.done() for call in calls):
                break
        while len(times["/livez"]) < plan.probes and not all(call.done() for call in calls):
            for route, seen in times.items():
                started = time.perf_counter()
                (await prober.get(route)).raise_for_status()
                seen.append(time.perf_counter() - started)
            waiting.append(sum(not call.done() for call in calls))
            await asyncio.sleep(0.01)
        await _gather(calls)
    rows = {
        route: {"probes": len(seen), "p50_ms": _ms(seen, 0.5), "p99_ms": _ms(seen, 0.99), "max_ms": _ms(seen, 1.0)}
        for route, seen in times.items()
    }
    return {"waiting": plan.waiting, "median_waiting": statistics.median(waiting or [0]), "routes": rows}


def _beside(setup: Setup, plan: Plan, shorts: Sequence[Clip], clips: Sequence[Clip]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=setup.work, prefix="long-") as folder:
        path = Path(folder) / "long.mp3"
        write_long(path, clips, plan.long_h * 3600)
        with setup.server("overload-beside", {"TYMPAN_REQUEST_TIMEOUT_S": "3600"}) as server:
            return asyncio.run(_short_beside(server, plan, shorts, path.read_bytes()))


async def _short_beside(server: Server, plan: Plan, shorts: Sequence[Clip], long: bytes) -> dict[str, Any]:
    bodies = [clip.path.read_bytes() for clip in shorts]
    async with _client(server) as client:
        await _one_after_another(client, bodies[:3])
        alone = await _one_after_another(client, bodies)
        call = asyncio.create_task(_post(client, long))
        await asyncio.sleep(3.0)
        beside = await _one_after_another(client, bodies)
        still_running = not call.done()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    return {
        "long_h": plan.long_h,
        "clips": len(bodies),
        "still_running": still_running,
        "batch_s": BatchLimits().idle_ms / 1000.0,
        "alone": {"p50_s": _s(alone, 0.5), "p95_s": _s(alone, 0.95)},
        "beside": {"p50_s": _s(beside, 0.5), "p95_s": _s(beside, 0.95)},
        "beside_s": [round(each, 2) for each in beside],
    }


def _vanish(setup: Setup, plan: Plan, clips: Sequence[Clip]) -> dict[str, Any]:
    """Hang up on all callers at once, and count the processor's time that is spent from then on."""
    with tempfile.TemporaryDirectory(dir=setup.work, prefix="long-") as folder:
        path = Path(folder) / "long.mp3"
        write_long(path, clips, 300.0)
        with setup.server("overload-vanish", {**_PATIENT, "TYMPAN_MAX_REQUESTS": "400"}) as server:
            return asyncio.run(_hang_up(server, plan, path.read_bytes()))


async def _hang_up(server: Server, plan: Plan, body: bytes) -> dict[str, Any]:
    async with _client(server) as warm:
        await _post(warm, body[: len(body) // 10])
    client = _client(server)
    calls = [asyncio.create_task(_post(client, body + bytes([number]))) for number in range(plan.vanishing)]
    async with _client(server) as watcher:
        await asyncio.sleep(6.0)
        running_from = _batches(await _metrics(watcher))
        cpu_then, then = cpu_s(server.pid), time.monotonic()
        await asyncio.sleep(4.0)
        per_s = (cpu_s(server.pid) - cpu_then) / (time.monotonic() - then)
        count, total_s = (now - old for now, old in zip(_batches(await _metrics(watcher)), running_from, strict=True))
        unanswered = sum(not call.done() for call in calls)
        for call in calls:
            call.cancel()
        await client.aclose()
        await asyncio.gather(*calls, return_exceptions=True)
        left = cpu_s(server.pid)
        await asyncio.sleep(_WATCH_S)
        burnt = cpu_s(server.pid) - left
        left = cpu_s(server.pid)
        await asyncio.sleep(5.0)
        idle = (cpu_s(server.pid) - left) / 5.0
    batch_s = total_s / max(1, count)
    return {
        "callers": plan.vanishing,
        "unanswered": unanswered,
        "batch_s": round(batch_s, 2),
        "batch_cpu_s": round(batch_s * per_s, 2),
        "burnt_cpu_s": round(max(0.0, burnt - _WATCH_S * idle), 2),
        "idle_cpu_per_s": round(idle, 3),
    }


def _flood(setup: Setup, plan: Plan, clip: Clip) -> dict[str, Any]:
    """Offer the fake engine half, all and five times of what it can do, and half again."""
    settings = {
        "TYMPAN_ENGINE": "fake",
        "TYMPAN_ENGINE_OPTIONS": '{"ms_per_audio_s": "20"}',
        "TYMPAN_MAX_WAIT_S": str(_BOUND_S),
        "TYMPAN_REATTACH_S": "0",
    }
    with setup.server("overload-flood", settings) as server:
        return asyncio.run(_offer_all(server, plan, clip.path.read_bytes()))


async def _offer_all(server: Server, plan: Plan, body: bytes) -> dict[str, Any]:
    async with _client(server) as client:
        peak = await _closed_loop(client, body, plan.calm_s)
        calm = await _offer(client, body, 0.5 * peak, plan.calm_s)
        flood = await _offer(client, body, 5.0 * peak, plan.flood_s)
        ended = time.perf_counter()
        usual_s = 1.5 * _s(calm.ok, 0.95) + 0.05
        took_s = math.inf
        while took_s > usual_s and time.perf_counter() - ended < _GIVE_UP_S:
            took_s = (await _timed(client, body))[1]
        recovered_s = time.perf_counter() - ended
        after = await _offer(client, body, 0.5 * peak, plan.calm_s)
    return {
        "peak_per_s": round(peak, 2),
        "offered_per_s": round(5.0 * peak, 1),
        "goodput_per_s": round(len(flood.ok) / flood.took_s, 2),
        "refused": len(flood.refused),
        "other_errors": flood.other,
        "with_retry_after": flood.told / max(1, len(flood.refused)),
        "refused_p50_ms": _ms(flood.refused, 0.5),
        "refused_p99_ms": _ms(flood.refused, 0.99),
        "ok_p95_s": {"before": _s(calm.ok, 0.95), "flood": _s(flood.ok, 0.95), "after": _s(after.ok, 0.95)},
        "refused_before_after": [len(calm.refused), len(after.refused)],
        "recovered_s": round(recovered_s, 1),
    }


class _Tally:
    """What became of the requests of one load: seconds of those answered and refused."""

    def __init__(self) -> None:
        self.ok: list[float] = []
        self.refused: list[float] = []
        self.told = 0
        self.other = 0
        self.took_s = 0.0


async def _offer(client: httpx.AsyncClient, body: bytes, per_s: float, for_s: float) -> _Tally:
    """Send at a fixed rate, whatever becomes of it."""
    tally, began = _Tally(), time.perf_counter()

    async def one() -> None:
        answer, took_s = await _timed(client, body)
        if answer.status_code == httpx.codes.OK:
            tally.ok.append(took_s)
        elif answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            tally.refused.append(took_s)
            tally.told += "retry-after" in answer.headers
        else:
            tally.other += 1

    calls = []
    for number in range(round(per_s * for_s)):
        await asyncio.sleep(max(0.0, began + number / per_s - time.perf_counter()))
        calls.append(asyncio.create_task(one()))
    await _gather(calls)
    tally.took_s = time.perf_counter() - began
    return tally


async def _closed_loop(client: httpx.AsyncClient, body: bytes, for_s: float, users: int = 16) -> float:
    """Return how many requests a second are answered to callers who each wait for their answer."""
    await asyncio.gather(*(_post(client, body) for _ in range(users)))
    began, count = time.perf_counter(), 0

    async def user() -> None:
        nonlocal count
        while time.perf_counter() - began < for_s:
            answer = await _post(client, body)
            count += answer.status_code == httpx.codes.OK

    await asyncio.gather(*(user() for _ in range(users)))
    return count / (time.perf_counter() - began)


async def _one_after_another(client: httpx.AsyncClient, bodies: Sequence[bytes]) -> list[float]:
    times = []
    for body in bodies:
        answer, took_s = await _timed(client, body)
        answer.raise_for_status()
        times.append(took_s)
    return times


async def _timed(client: httpx.AsyncClient, body: bytes) -> tuple[httpx.Response, float]:
    started = time.perf_counter()
    answer = await _post(client, body)
    return answer, time.perf_counter() - started


async def _post(client: httpx.AsyncClient, body: bytes) -> httpx.Response:
    return await client.post(_ROUTE, files={"file": ("clip", body)}, data={"beam_size": "1", "language": "en"})


async def _gather(calls: Sequence["asyncio.Task[Any]"]) -> None:
    failed = [each for each in await asyncio.gather(*calls, return_exceptions=True) if isinstance(each, Exception)]
    if failed:
        say(f"{len(failed)} of {len(calls)} calls had no answer, the first for {failed[0]!r}")


def _client(server: Server) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=200)
    return httpx.AsyncClient(base_url=server.base_url, timeout=_TIMEOUT_S, limits=limits)


async def _metrics(client: httpx.AsyncClient) -> str:
    return (await client.get("/metrics")).text


def _batches(metrics: str) -> tuple[float, float]:
    """Return how many passes the engine has made, and their seconds."""
    values = dict(line.rsplit(" ", 1) for line in metrics.splitlines() if line.startswith("tympan_batch_seconds_"))
    return float(values["tympan_batch_seconds_count"]), float(values["tympan_batch_seconds_sum"])


def cpu_s(root: int) -> float:
    """Return the processor's seconds of a process and its descendants, those that have ended included."""
    return sum(_ticks(process.pid) for process in tree(root)) * _TICK_S


def _ticks(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0  # It has ended; its parent has its time.
    return sum(map(int, fields[11:15]))


def _quantile(times: Sequence[float], share: float) -> float:
    ordered = sorted(times)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def _ms(times: Sequence[float], share: float) -> float:
    return round(1000.0 * _quantile(times, share), 1)


def _s(times: Sequence[float], share: float) -> float:
    return round(_quantile(times, share), 3)


INTRO = (
    "A request that is let in is done in time, and one that is not costs next to nothing. The flood meets the fake "
    "engine at 20 ms for a second of audio; everything else the real model. Clients run on the same machine."
)
"""What the page says before its tables."""


def body(result: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield the page's tables: title, head, rows."""
    health, beside, vanish, flood = (result[name] for name in ("health", "beside", "vanish", "flood"))
    rows = [
        [name, row["probes"], row["p50_ms"], row["p99_ms"], row["max_ms"]] for name, row in health["routes"].items()
    ]
    head = ["route", "probes", "p50 ms", "p99 ms", "max ms"]
    yield f"Health, {health['median_waiting']:g} requests waiting", head, rows
    rows = [[name, beside[name]["p50_s"], beside[name]["p95_s"]] for name in ("alone", "beside")]
    yield f"{beside['clips']} short clips and a {beside['long_h']:g}-hour file", ["", "p50 s", "p95 s"], rows
    head = ["callers", "unanswered by then", "a batch s", "its CPU s", "CPU s after", "idle CPU s a second"]
    keys = ("callers", "unanswered", "batch_s", "batch_cpu_s", "burnt_cpu_s", "idle_cpu_per_s")
    yield "All callers vanish", head, [[vanish[key] for key in keys]]
    head = ["peak a second", "offered", "answered", "refused", "refusals p50 ms", "p99 ms", "other errors"]
    keys = ("peak_per_s", "offered_per_s", "goodput_per_s", "refused", "refused_p50_ms", "refused_p99_ms")
    yield "Five times the capacity", head, [[*(flood[key] for key in keys), flood["other_errors"]]]
    p95 = flood["ok_p95_s"]
    yield "Those answered, p95 s", ["half load before", "flood", "half load after"], [list(p95.values())]
