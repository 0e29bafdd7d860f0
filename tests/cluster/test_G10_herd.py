"""G10: two thousand clients, each of which polls a job of its own, and comes back when it is asked to.

They behave as a loop around an HTTP client does: a connection for each question, ``If-None-Match`` with the last ETag,
and a pause as long as ``Retry-After`` says. All ask for the first time in the same second.
"""

import asyncio
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cluster.conftest import Site
from tympan.api.jobs.appointments import PER_S
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.jobs.service import new_id
from tympan.storage.batches import BatchStore, NewBatch
from tympan.storage.endings import Endings
from tympan.storage.jobs import JobStore

CLIENTS = 2_000
SETTLES_S, WATCHED_S = 90.0, 30.0
_TICKS_S = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Herd:
    """The clients, and what they were answered."""

    port: int
    statuses: Counter[str] = field(default_factory=Counter)
    unasked: int = 0

    async def poll(self, job_id: str) -> None:
        """Ask for one job until the test ends."""
        tag = ""
        while True:
            status, headers = await self._ask(job_id, tag)
            self.statuses[status] += 1
            self.unasked += "retry-after" not in headers
            tag = headers.get("etag", tag)
            await asyncio.sleep(float(headers.get("retry-after", "1")))

    async def _ask(self, job_id: str, tag: str) -> tuple[str, dict[str, str]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        condition = f"If-None-Match: {tag}\r\n" if tag else ""
        writer.write(f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{condition}\r\n".encode())
        try:
            answer = (await reader.read()).decode()
        finally:
            writer.close()
        lines = re.split("\r\n", answer.partition("\r\n\r\n")[0])
        return lines[0].split(" ")[1], {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}


def _cpu_s(pid: int) -> float:
    """Return the processor time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_S


def _transactions(site: Site) -> int:
    """Return how many transactions there have been in the database of a cluster."""
    found = site.postgres.execute(
        "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()"
    )
    return int(str(found[0][0]))


def _waiting(site: Site) -> list[str]:
    """Hand in jobs that nobody works on, and return their ids."""
    store = BatchStore(JobStore(site.store, Endings(site.store, audio_days=1.0, text_days=1.0)))
    source = Source(SourceKind.OBJECT, "file:///nowhere")
    batch = NewBatch(new_id("batch"))
    members = [NewJob(new_id("job"), source, Options(), batch_id=batch.id) for _ in range(CLIENTS)]
    store.submit(batch, members, None)
    return [job.id for job in members]


@dataclass(frozen=True, slots=True)
class Watched:
    """What a while of polling came to."""

    statuses: Counter[str]
    unasked: int
    cores: float
    reads_per_s: float


async def _watch(site: Site, job_ids: list[str]) -> Watched:
    """Let the herd settle, and return what the while after that came to."""
    process = site.api.process
    assert process is not None
    herd = Herd(site.api.port)
    tasks = [asyncio.create_task(herd.poll(job_id)) for job_id in job_ids]
    try:
        await asyncio.sleep(SETTLES_S)
        before, herd.statuses, herd.unasked = (_cpu_s(process.pid), _transactions(site), time.monotonic()), Counter(), 0
        await asyncio.sleep(WATCHED_S)
        took_s = time.monotonic() - before[2]
        cores, reads = (_cpu_s(process.pid) - before[0]) / took_s, (_transactions(site) - before[1]) / took_s
        assert not any(task.done() for task in tasks)
        return Watched(herd.statuses, herd.unasked, cores, reads)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(300)
def test_G10_two_thousand_polite_clients_take_less_than_half_a_core(site: Site) -> None:
    """They are spread over the seconds: nothing is sent twice, and processor and database have their bounds."""
    for node in (site.worker, site.scheduler):
        node.freeze()
    seen = asyncio.run(_watch(site, _waiting(site)))
    assert seen.statuses["304"] >= 0.99 * seen.statuses.total(), seen
    assert seen.unasked == 0
    assert seen.statuses.total() >= 0.5 * CLIENTS * WATCHED_S / 60
    assert seen.statuses.total() <= 1.1 * PER_S * WATCHED_S
    assert PER_S / 2 <= seen.reads_per_s <= 2.5 * PER_S
    assert seen.cores <= 0.5
