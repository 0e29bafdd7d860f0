"""What a cluster adds to the work itself: ``python -m benchmarks.jobs_cluster`` prints JSON.

The engine is the fake one, which sleeps as long as a real one would work. PostgreSQL, RabbitMQ and an S3 service run on
the same machine. Two figures: what a section costs beside its transcription, and how much sooner an hour of audio is
done by two workers than by one.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import text

from benchmarks.facts import provenance
from tests.cluster.diary import forget_everything, keep_diary
from tests.cluster.support import Node, open_cluster
from tests.media import tone, wav
from tests.servers import provision
from tests.servers.postgres import Database, PostgresServer
from tests.servers.process import Keeper
from tests.servers.rabbitmq import RabbitServer, VirtualHost
from tests.servers.s3 import KEYS, S3Bucket, S3Server
from tympan.storage.database import Database as Store

HOUR_S = 3600.0
_RATE_HZ = 8_000
_MS_PER_AUDIO_S = 10
_LIMIT_S = 300.0
_POLL_S = 0.2
_LANES = {"JOB_SLOTS": "1", "RESULT_TTL_S": "0", "MAX_UPLOAD_MB": "200"}
_FIELDS = {"vad": "false", "language": "en"}


@contextmanager
def servers(name: str = "bench") -> Iterator[tuple[dict[str, str], Store]]:
    """Yield the settings of a cluster on servers of its own, and its database."""
    found = {kind: provision.find(kind) for kind in ("postgres", "rabbitmq")}
    if None in found.values():
        raise SystemExit("PostgreSQL and RabbitMQ are needed: python -m tests.servers.provision")
    os.environ.update(KEYS)
    with ExitStack() as stack:
        keeper = Keeper()
        stack.callback(keeper.close)
        postgres = PostgresServer(keeper, found["postgres"])  # type: ignore[arg-type]
        rabbit = RabbitServer(keeper, found["rabbitmq"])  # type: ignore[arg-type]
        s3 = S3Server(keeper)
        for server in (postgres, rabbit, s3):
            stack.callback(server.kill)
            server.start()
        database = Database(postgres, name)
        urls = {
            "DATABASE_URL": database.url,
            "BROKER_URL": VirtualHost(rabbit, name).url,
            "STORAGE_URL": S3Bucket(s3, name).url(),
        }
        store = Store(database.url)
        stack.callback(store.close)
        yield urls, store


def measure(seconds: float = HOUR_S) -> dict[str, Any]:
    """Return both figures, for a file of ``seconds``."""
    with servers() as (urls, store), tempfile.TemporaryDirectory() as folder:
        audio = wav(tone(seconds, _RATE_HZ), _RATE_HZ)
        options = json.dumps({"ms_per_audio_s": str(_MS_PER_AUDIO_S)})
        settings = {**urls, **_LANES, "ENGINE_OPTIONS": options}
        with open_cluster(Path(folder), settings) as cluster:
            keep_diary(store)
            api, _, first = (cluster.add(kind) for kind in ("api", "scheduler", "worker"))
            first.wait_ready()
            alone_s = _run(api, store, audio)
            overhead = _overhead(store)
            cluster.add("worker").wait_ready()
            forget_everything(store)
            together_s = _run(api, store, audio)
            shares = _shares(store)
    return {
        "audio_s": seconds,
        "engine_ms_per_audio_s": _MS_PER_AUDIO_S,
        **overhead,
        "one_worker_s": round(alone_s, 2),
        "two_workers_s": round(together_s, 2),
        "speedup": round(alone_s / together_s, 2),
        "sections_by_worker": shares,
    }


def _run(api: Node, store: Store, audio: bytes) -> float:
    """Return the seconds from a job's acceptance to its end, by the database's clock."""
    api.wait_ready()
    answer = httpx.post(f"{api.url}/v1/jobs", files={"file": audio}, data=_FIELDS, timeout=120)
    assert answer.status_code == 202, answer.text
    job_id, deadline = answer.json()["id"], time.monotonic() + _LIMIT_S
    while (job := httpx.get(f"{api.url}/v1/jobs/{job_id}", timeout=10).json())["state"] in ("queued", "running"):
        assert time.monotonic() < deadline, job
        time.sleep(_POLL_S)
    assert job["state"] == "succeeded", job
    query = text("select finished_at - created_at from jobs where id = :id").bindparams(id=job_id)
    return float(store.read(lambda tx: tx.scalar(query)) or 0.0)


def _overhead(store: Store) -> dict[str, Any]:
    """Return what each section took beside the engine's sleep, and how long the worker was without one in between."""
    query = text("select what, step_id, at from diary where kind = 'section' order by id")
    rows = store.read(lambda tx: tx.execute(query).all())
    lengths = text("select audio_s_total from jobs")
    audio_s = float(store.read(lambda tx: tx.scalar(lengths)) or 0.0)
    claims = [row.at for row in rows if row.what == "claim"]
    ends = [row.at for row in rows if row.what == "done"]
    engine_s = audio_s * _MS_PER_AUDIO_S / 1000 / len(ends)
    # The first and last section have other lengths than those between.
    inside = [end - claim - engine_s for claim, end in zip(claims, ends, strict=True)][1:-1]
    between = [claim - end for claim, end in zip(claims[1:], ends, strict=False)]
    return {
        "sections": len(ends),
        "section_overhead_median_ms": round(1000 * statistics.median(inside), 1),
        "queue_median_ms": round(1000 * statistics.median(between), 1),
        "queue_max_ms": round(1000 * max(between), 1),
    }


def _shares(store: Store) -> list[int]:
    query = text("select count(*) from diary where what = 'claim' and kind = 'section' group by was order by 1")
    return store.read(lambda tx: list(tx.scalars(query)))


def main() -> None:
    """Print the figures."""
    print(json.dumps({**measure(), "provenance": provenance()}, indent=1))


if __name__ == "__main__":
    main()
