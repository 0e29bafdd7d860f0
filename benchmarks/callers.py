"""Callers of a server that is not told apart from any other: many at once, beside a long file, and gone again.

Everything here goes through one HTTP client and looks at the server from outside: its answers, the processor time and
the memory of its processes.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from benchmarks.contenders import Item, Job
from benchmarks.load import post, target_of
from benchmarks.overload import cpu_s
from benchmarks.scoring import Clip
from benchmarks.server import Server
from benchmarks.tree import TreeSampler
from tympan.bench import client as http

MEMORY_PERIOD_S = 0.5
PROBE_EVERY_S = 0.05
_PROBE_LIMIT_S = 900.0
_LOOK_EVERY_S = 0.5
_QUIET_S = 2.0
_IDLE_CPU_PER_S = 0.1


class Prober:
    """Asks a route again and again within a ``with`` block, each time 50 ms after the answer before."""

    def __init__(self, url: str) -> None:
        """Ask ``url``; ``seen_s`` holds how long each answer took."""
        self.seen_s: list[float] = []
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        """Start asking."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the last answer."""
        self._stop.set()
        self._thread.join(timeout=_PROBE_LIMIT_S)

    def _run(self) -> None:
        with httpx.Client(timeout=_PROBE_LIMIT_S, trust_env=False) as client:
            while not self._stop.is_set():
                started = time.perf_counter()
                with contextlib.suppress(httpx.TransportError):  # it took as long as it took
                    client.get(self._url)
                self.seen_s.append(time.perf_counter() - started)
                self._stop.wait(PROBE_EVERY_S)


def waits(took_s: float) -> list[float]:
    """Return what askers every 50 ms would have waited while an answer took ``took_s``: a late one delays them all."""
    return [took_s - number * PROBE_EVERY_S for number in range(int(took_s / PROBE_EVERY_S) + 1)]


def together(server: Server, clips: Sequence[Clip], beam: int, callers: int, health: str) -> dict[str, Any]:
    """Let ``callers`` send the clips at once and ask for the server's health meanwhile."""
    before = cpu_s(server.pid)
    with TreeSampler(server.pid, MEMORY_PERIOD_S) as memory, Prober(server.base_url + health) as prober:
        done = server.run(Job.of(clips, beam=beam, concurrency=callers))
    return {
        "wall_s": round(done.wall_s, 3),
        "cpu_s": round(cpu_s(server.pid) - before, 2),
        "latency_s": {name: round(took_s, 3) for name, took_s in done.latency_s.items()},
        "texts": done.texts,
        "health_s": [round(each, 4) for each in prober.seen_s],
        "peak_pss_mib": round(memory.peak_pss_mib, 1),
    }


def beside(server: Server, shorts: Sequence[Clip], long: Path, beam: int, every_s: float) -> dict[str, Any]:
    """Send a clip every ``every_s`` seconds while a caller sends the long file, again until the last clip is sent."""
    with TreeSampler(server.pid, MEMORY_PERIOD_S) as memory:
        took_s, files = asyncio.run(_beside(server, shorts, long, beam, every_s))
    return {
        "took_s": [round(each, 3) for each in took_s],
        "files": files,
        "peak_pss_mib": round(memory.peak_pss_mib, 1),
    }


async def _beside(
    server: Server, shorts: Sequence[Clip], long: Path, beam: int, every_s: float
) -> tuple[list[float], int]:
    job, sent, files = Job.of(shorts, beam=beam), asyncio.Event(), 0
    async with http.Client(target_of(server.base_url, job), len(shorts) + 1) as client:

        async def keep_busy() -> None:
            nonlocal files
            while not sent.is_set():
                files += 1
                await post(client, Item("long", str(long), "en"))

        async def timed(item: Item) -> float:
            started = time.perf_counter()
            await post(client, item)
            return time.perf_counter() - started

        busy = asyncio.create_task(keep_busy())
        calls = []
        for item in job.items:
            await asyncio.sleep(every_s)
            calls.append(asyncio.create_task(timed(item)))
        sent.set()
        took_s = await asyncio.gather(*calls)
        if busy.done():
            await busy
        busy.cancel()
        await asyncio.gather(busy, return_exceptions=True)
    return list(took_s), files


def hang_up(server: Server, clips: Sequence[Clip], beam: int, after_s: float, watch_s: float) -> dict[str, Any]:
    """Send all clips at once, hang up after ``after_s``, and count the processor's seconds until the server rests.

    It is watched for ``watch_s`` seconds at most; ``rests`` says whether it came to rest by then.
    """
    return asyncio.run(_hang_up(server, clips, beam, after_s, watch_s))


async def _hang_up(server: Server, clips: Sequence[Clip], beam: int, after_s: float, watch_s: float) -> dict[str, Any]:
    job = Job.of(clips, beam=beam)
    async with http.Client(target_of(server.base_url, job), len(clips)) as client:
        calls = [asyncio.create_task(post(client, item)) for item in job.items]
        await asyncio.sleep(after_s)
        answered = sum(call.done() for call in calls)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    began, left = time.monotonic(), cpu_s(server.pid)
    seen = [(0.0, left)]
    while seen[-1][0] < watch_s and not _rests(seen):
        await asyncio.sleep(_LOOK_EVERY_S)
        seen.append((time.monotonic() - began, cpu_s(server.pid)))
    rests = _rests(seen)
    return {
        "callers": len(clips),
        "answered": answered,
        "burnt_cpu_s": round(seen[-1][1] - left, 2),
        "watched_s": round(seen[-1][0], 1),
        "rests": rests,
    }


def _rests(seen: Sequence[tuple[float, float]]) -> bool:
    """Say whether next to nothing was burnt in the last two seconds."""
    now_s, now = seen[-1]
    earlier = [burnt for at_s, burnt in seen if at_s <= now_s - _QUIET_S]
    return bool(earlier) and now - earlier[-1] <= _IDLE_CPU_PER_S * _QUIET_S
