"""How fast jobs are taken in and handed out on one machine: ``python -m benchmarks.jobs``.

The engine is the fake one, so nothing is transcribed. Four figures: jobs accepted per second over HTTP, each on disk
when it is answered, and none lost; the time of a claim with a thousand, ten thousand and a hundred thousand jobs
waiting; what a section costs beside its transcription; how much of that the database takes.
"""

import argparse
import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Connection, insert

from benchmarks.facts import provenance
from benchmarks.server import Server
from tests.jobs_support import LANES, Shop, open_shop
from tests.media import tone, wav
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.jobs.service import new_id
from tympan.storage.rows import values_of
from tympan.storage.tables import jobs, steps

DEPTHS = (1_000, 10_000, 100_000)
CLAIMS = 200
SECTIONS = 60
SUBMITTED = 4_000
CLIENTS = 8
CLIP_S = 1.0
PAGE = 100

_BULK = 1_000
_STORED = "| reading, checking and storing a section beside its transcription: median | {ms} ms | none |"


def submission(work: Path) -> dict[str, Any]:
    """Return jobs accepted per second by a server whose worker is off, and how many of them are there afterwards."""
    settings = {"TYMPAN_ENGINE": "fake", "TYMPAN_JOB_SLOTS": "0", "TYMPAN_DATA_DIR": str(work / "data")}
    clip = wav(tone(CLIP_S), 16_000)
    with Server(settings, work / "server.log") as server:
        took_s, ids = _submit_all(server.base_url, clip)
        listed = _list_all(server.base_url)
    return {
        "jobs": SUBMITTED,
        "clients": CLIENTS,
        "clip_bytes": len(clip),
        "jobs_per_s": round(SUBMITTED / took_s, 1),
        "lost": len(ids - listed),
        "duplicates": SUBMITTED - len(ids),
    }


def _submit_all(url: str, clip: bytes) -> tuple[float, set[str]]:
    """Hand in all jobs and return how long that took. The client does little: it shares the cores with the server."""
    ids: set[str] = set()
    waiting = iter(range(SUBMITTED))
    body = b"\r\n".join(
        (b"--x", b'Content-Disposition: form-data; name="file"; filename="a"', b"", clip, b"--x--", b"")
    )
    headers = {"Content-Type": "multipart/form-data; boundary=x"}

    def user() -> None:
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
        for _ in waiting:
            connection.request("POST", "/v1/jobs", body, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == HTTPStatus.ACCEPTED, text
            ids.add(json.loads(text)["id"])

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as users:
        for ended in [users.submit(user) for _ in range(CLIENTS)]:
            ended.result()
    return time.perf_counter() - started, ids


def _list_all(url: str) -> set[str]:
    found: set[str] = set()
    after: str | None = None
    while True:
        query = {"limit": str(PAGE), **({"after": after} if after else {})}
        page = httpx.get(f"{url}/v1/jobs", params=query, timeout=60, trust_env=False).json()
        found |= {job["id"] for job in page["data"]}
        if not page["has_more"]:
            return found
        after = page["next"]


def claim_times(work: Path) -> list[dict[str, Any]]:
    """Return the time of a claim, transaction and all, by the number of jobs that wait."""
    rows = []
    for depth in DEPTHS:
        with open_shop(work / f"claims{depth}", lease_s=600.0) as shop:
            _fill(shop, depth)
            rows.append({"waiting": depth, **_spread(lambda: shop.work.claim("bench", LANES), CLAIMS)})
    return rows


def section_overhead(work: Path) -> dict[str, Any]:
    """Return the time of a whole section step over an engine that answers at once: claim, fetch, store."""
    with open_shop(work / "sections") as shop:
        shop.section_s = 5.0
        shop.submit(10.0 * SECTIONS)
        bench = shop.bench()
        bench.work_once(LANES)
        return _spread(lambda: bench.work_once(LANES), SECTIONS)


def _fill(shop: Shop, count: int) -> None:
    """Write jobs as ``submit`` does, but many in one transaction."""
    now = time.time()
    for start in range(0, count, _BULK):
        new = [NewJob(new_id("job"), Source(SourceKind.STORED), Options()) for _ in range(min(_BULK, count - start))]
        of_job = [{**values_of(job), "state": "queued", "created_at": now} for job in new]
        step = {"kind": "prepare", "idx": 0, "state": "ready", "lane": 2, "rank": 0, "run_at": now}
        of_steps = [{**step, "job_id": job.id, "tag_s": float(start + n)} for n, job in enumerate(new)]
        shop.database.write(partial(_insert, of_job=of_job, of_steps=of_steps))


def _insert(tx: Connection, of_job: list[dict[str, Any]], of_steps: list[dict[str, Any]]) -> None:
    tx.execute(insert(jobs), of_job)
    tx.execute(insert(steps), of_steps)


def _spread(call: Callable[[], object], times: int) -> dict[str, float]:
    took_ms = []
    for _ in range(times):
        started = time.perf_counter()
        assert call(), "there was nothing to do"
        took_ms.append((time.perf_counter() - started) * 1000)
    ordered = sorted(took_ms)
    return {
        "median_ms": round(statistics.median(ordered), 2),
        "p95_ms": round(ordered[int(0.95 * len(ordered))], 2),
    }


def page(document: dict[str, Any], cluster: dict[str, Any] | None) -> str:
    """Return the page about these figures; ``cluster`` is what ``benchmarks.jobs_cluster`` printed."""
    machine, taken = document["machine"], document["submission"]
    lines = [
        "# Jobs",
        "",
        "What jobs cost beside the transcription. The engine is the fake one. Written by `python -m benchmarks.jobs`;",
        "the cluster's figures by `python -m benchmarks.jobs_cluster`.",
        "",
        (
            f"Machine: {machine['cpu']}, {machine['cores']} cores. {document['date'][:10]}, commit "
            f"{document['git_commit'][:7]}."
        ),
        "",
        "## One machine: SQLite and files",
        "",
        "| figure | value | goal |",
        "|---|---|---|",
        f"| jobs accepted over HTTP, each on disk when answered | {taken['jobs_per_s']}/s | 200/s |",
        (
            f"| of {taken['jobs']} from {taken['clients']} clients: lost, doubled "
            f"| {taken['lost']}, {taken['duplicates']} | 0, 0 |"
        ),
        (
            f"| a section beside its transcription: median, 95th percentile | {document['section']['median_ms']} ms, "
            f"{document['section']['p95_ms']} ms | 50 ms |"
        ),
    ]
    lines += [
        f"| a claim with {row['waiting']:,} jobs waiting: median, 95th percentile | {row['median_ms']} ms, "
        f"{row['p95_ms']} ms | flat |"
        for row in document["claims"]
    ]
    if cluster is not None:
        lines += [
            "",
            "## Cluster: PostgreSQL, RabbitMQ and an S3 service on the same two cores",
            "",
            "| figure | value | goal |",
            "|---|---|---|",
            f"| {cluster['audio_s'] / 3600:g} h of audio on two workers against one | {cluster['speedup']}x | 1.8x |",
            f"| in the queue, between two sections: median | {cluster['queue_median_ms']} ms | 50 ms |",
            _STORED.format(ms=cluster["section_overhead_median_ms"]),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write ``jobs.json`` and its page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jobs", description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("docs/benchmarks/results"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        document = {
            "name": "jobs",
            **provenance(),
            "command": "python -m benchmarks.jobs",
            "submission": submission(work),
            "claims": claim_times(work),
            "section": section_overhead(work),
        }
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "jobs.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    beside = given.results / "jobs_cluster.json"
    cluster = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else None
    (given.results.parent / "jobs.md").write_text(page(document, cluster), encoding="utf-8")
    print(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
