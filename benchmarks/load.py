"""The HTTP client: posts encoded files as a user would, a fixed number at a time, through ``tympan.bench.client``."""

import asyncio
import time
from pathlib import Path

from benchmarks.contenders import JOB_TIMEOUT_S, BenchmarkError, Item, Job, Outcome
from tympan.bench import client as http


def target_of(base_url: str, job: Job) -> http.Target:
    """Return what every request of ``job`` says; VAD is left out when the server shall decide."""
    vad = () if job.vad is None else (("vad", "true" if job.vad else "false"),)
    return http.Target(base_url, timeout_s=JOB_TIMEOUT_S, fields=(("beam_size", str(job.beam)), *vad))


async def post(client: http.Client, item: Item) -> str:
    """Send one file and return its text; raises ``BenchmarkError`` with the server's words when it refuses."""
    data = Path(item.path).read_bytes()  # noqa: ASYNC240 - small, cached, and timed on both sides
    answer = await client.send(http.Item(Path(item.path).name, data, 0.0, item.language))
    if answer.text is None:
        raise BenchmarkError(f"{item.id}: {answer.error} {answer.detail}")
    return answer.text


async def _run(base_url: str, job: Job) -> Outcome:
    waiting, texts, latency_s = iter(job.items), dict[str, str](), dict[str, float]()
    async with http.Client(target_of(base_url, job), job.concurrency) as client:

        async def user() -> None:
            for item in waiting:
                start = time.perf_counter()
                texts[item.id] = await post(client, item)
                latency_s[item.id] = time.perf_counter() - start

        start = time.perf_counter()
        async with asyncio.TaskGroup() as users:
            for _ in range(job.concurrency):
                users.create_task(user())
        return Outcome(time.perf_counter() - start, texts, latency_s)


def run_job(base_url: str, job: Job) -> Outcome:
    """Do a job against the server at ``base_url``; ``concurrency`` simulated users take items from one list."""
    try:
        return asyncio.run(_run(base_url, job))
    except* BenchmarkError as group:
        raise group.exceptions[0] from None
