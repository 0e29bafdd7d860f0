"""Hundreds of uploads at once, each hours long when it is decoded: what they take together is bounded."""

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.media import silent_m4a
from tests.operations.support import Server, serving
from tests.servers.process import wait_until

FRAME_S = 0.064
COUNT, MINUTES, PLACES = 300, 10, 8
MOST_ADDED_MIB = 400.0
"""What a server may take beside its model."""

SETTINGS = {
    "MAX_WAIT_S": "10",
    "ENGINE_OPTIONS": '{"ms_per_audio_s": "0.2"}',
    "RESULT_TTL_S": "0",
}
_HEAD = b'--x\r\nContent-Disposition: form-data; name="vad"\r\n\r\nfalse\r\n'
_FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
_END = b"\r\n--x--\r\n"


def family(pid: int) -> list[int]:
    """Return a process and all that came of it."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for member in found:
        found += [child for child, parent in parents.items() if parent == member]
    return found


def memory_mib(pid: int) -> float:
    """Return the memory of a process and all that came of it; what several share counts once."""
    total_kib = 0
    for member in family(pid):
        with suppress(OSError):
            lines = Path(f"/proc/{member}/smaps_rollup").read_text().splitlines()
            total_kib += next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
    return total_kib / 1024


@dataclass
class Peak:
    """The most memory that was seen."""

    mib: float = 0.0
    over: threading.Event = field(default_factory=threading.Event)

    def watch(self, pid: int) -> None:
        """Look until it is over."""
        while not self.over.wait(0.1):
            self.mib = max(self.mib, memory_mib(pid))


@contextmanager
def peak_of(server: Server) -> Iterator[Peak]:
    """Yield the peak of a server's memory during the block."""
    peak = Peak()
    watcher = threading.Thread(target=peak.watch, args=(server.child.pid,))
    watcher.start()
    try:
        yield peak
    finally:
        peak.over.set()
        watcher.join()


async def flood(server: Server, audio: bytes, count: int) -> list[httpx.Response]:
    """Send a file so many times, all of them half way before any goes on; return the answers."""
    begun, all_begun = 0, asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        nonlocal begun
        begun += 1
        if begun == count:
            all_begun.set()
        yield _HEAD + _FILE + audio[: len(audio) // 2]
        await all_begun.wait()
        yield audio[len(audio) // 2 :] + _END

    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=server.url, timeout=600, limits=limits, trust_env=False) as client:
        kind = {"content-type": "multipart/form-data; boundary=x"}
        sent = (client.post("/v1/audio/transcriptions", content=body(), headers=kind) for _ in range(count))
        return await asyncio.gather(*sent)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(900)
def test_G8_so_many_long_uploads_at_once_take_bounded_memory(tmp_path: Path) -> None:
    """Whoever finds no place or no time is told to come back; the others are heard; in a bounded amount of memory."""
    audio = silent_m4a(round(MINUTES * 60 / FRAME_S))
    with serving(tmp_path / "data", MAX_REQUESTS=str(PLACES), **SETTINGS) as server:
        (first,) = asyncio.run(flood(server, audio, 1))
        assert first.status_code == 200, first.text
        before = memory_mib(server.child.pid)
        with peak_of(server) as peak:
            answers = asyncio.run(flood(server, audio, COUNT))
        assert server.child.poll() is None
        statuses = Counter(answer.status_code for answer in answers)
        assert set(statuses) == {200, 503}, statuses
        assert statuses[503] >= COUNT - PLACES
        assert all("retry-after" in answer.headers for answer in answers if answer.status_code == 503)
        assert peak.mib - before <= MOST_ADDED_MIB, (before, peak.mib)
        staging = tmp_path / "data" / "staging"
        wait_until(lambda: not [path for path in staging.glob("*/*") if path.is_dir()], 20)
        assert asyncio.run(flood(server, audio, 1))[0].status_code == 200
