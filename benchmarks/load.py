"""The HTTP client: posts encoded files as a user would, a fixed number at a time."""

import asyncio
import time
from pathlib import Path

import httpx

from benchmarks.contenders import JOB_TIMEOUT_S, BenchmarkError, Item, Job, Outcome


def form_of(item: Item, job: Job) -> dict[str, str]:
    """Return the form fields of one request; VAD and language are left out when the server shall decide."""
    form = {"model": "whisper-1", "response_format": "json", "beam_size": str(job.beam)}
    if item.language is not None:
        form["language"] = item.language
    if job.vad is not None:
        form["vad"] = "true" if job.vad else "false"
    return form


async def post(client: httpx.AsyncClient, item: Item, data: bytes, job: Job) -> str:
    """Send one file's bytes and return its text; raises ``BenchmarkError`` with the server's words when it refuses."""
    files = {"file": (Path(item.path).name, data)}
    response = await client.post("/v1/audio/transcriptions", files=files, data=form_of(item, job))
    if response.status_code != httpx.codes.OK:
        raise BenchmarkError(f"{item.id}: HTTP {response.status_code} {response.text[:300]}")
    return str(response.json()["text"]).strip()


async def _run(base_url: str, job: Job) -> Outcome:
    waiting, texts, latency_s = iter(job.items), dict[str, str](), dict[str, float]()
    limits = httpx.Limits(max_connections=job.concurrency, max_keepalive_connections=job.concurrency)
    async with httpx.AsyncClient(base_url=base_url, timeout=JOB_TIMEOUT_S, limits=limits, trust_env=False) as client:

        async def user() -> None:
            for item in waiting:
                start = time.perf_counter()
                data = Path(item.path).read_bytes()  # noqa: ASYNC240 - small, cached, and timed on both sides
                texts[item.id] = await post(client, item, data, job)
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
