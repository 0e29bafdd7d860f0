"""K7: a tenant that is erased is gone from every store of a cluster: database, bucket, Redis, broker, files, logs."""

import base64
import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from kombu import Connection, Producer

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tests.servers.s3 import S3Bucket
from tympan.egress import Egress, EgressRules
from tympan.jobs.fetching import ObjectSource, SourceGuard
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.service import JobService
from tympan.storage.endings import Endings
from tympan.storage.jobs import JobStore

TENANT = "default"
_TUS = {"tus-resumable": "1.0.0", "content-type": "application/offset+octet-stream"}


def _forms(word: str) -> list[bytes]:
    """Return the bytes of a word, plain and as they are within Base64, whatever stands before it."""
    plain = word.encode()
    return [plain, *(base64.b64encode(bytes(before) + plain + bytes(2))[4:-4] for before in range(3))]


def _in_files(words: Iterable[str], folder: Path) -> list[str]:
    """Return the files with one of ``words`` in their bytes or names."""
    forms = [form for word in words for form in _forms(word)]
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return [str(path) for path in files if any(form in path.read_bytes() + bytes(path) for form in forms)]


def _in_database(words: Iterable[str], site: Site) -> list[str]:
    """Return the lines of a dump of all tables, and of the server's log, with one of ``words``."""
    lines = (site.postgres.dump() + site.postgres.server.log_tail(10**9)).splitlines()
    return [line for line in lines if any(word in line for word in words)]


def _in_bucket(words: Iterable[str], bucket: S3Bucket) -> list[str]:
    """Return the names of objects with one of ``words`` in name, bytes or metadata."""
    found, forms = [], [form for word in words for form in _forms(word)]
    for name in bucket.names():
        held = bucket.server.client.get_object(Bucket=bucket.name, Key=name)
        if any(form in name.encode() + held["Body"].read() + repr(held["Metadata"]).encode() for form in forms):
            found.append(name)
    return found


def _in_redis(words: Iterable[str], redis: RedisServer) -> list[str]:
    """Return the file in which Redis writes down all that it holds, if there is one of ``words`` in it."""
    assert redis.ask("CONFIG", "SET", "rdbcompression", "no") == "+OK"
    assert redis.ask("SAVE") == "+OK"
    return _in_files(words, redis.folder)


def _everywhere(words: Iterable[str], site: Site, redis: RedisServer) -> dict[str, list[str]]:
    """Return in which stores there is still one of ``words``, and where in them."""
    found = {
        "database": _in_database(words, site),
        "bucket": _in_bucket(words, site.bucket),
        "redis": _in_redis(words, redis),
        "broker": _in_files(words, site.rabbitmq.server.folder),
        "processes": _in_files(words, site.cluster.folder),
    }
    return {store: hits for store, hits in found.items() if hits}


@contextmanager
def _with_redis(site: Site, load: Load, redis: RedisServer) -> Iterator[None]:
    """Let an api and a worker that use Redis take the place of those that do not."""
    api, worker = (site.cluster.add(kind, REDIS_URL=redis.url()) for kind in ("api", "worker"))
    try:
        for node in (api, worker):
            node.wait_ready()
        site.worker.freeze()
        load.api = api
        yield
    finally:
        site.worker.go_on()
        for node in (api, worker):
            node.kill()
            site.cluster.nodes.remove(node)


def _hand_in(load: Load, word: str, number: int) -> str:
    """Hand in a job that says ``word`` wherever a client can say something, and return its id."""
    sent = httpx.post(
        f"{load.api.url}/v1/jobs",
        files={"file": (f"{word}-name.wav", clip(2.0) + word.encode() * 100)},
        data={
            "vad": "false",
            "prompt": f"{word}-prompt",
            "hotwords": f"{word}-hot",
            "metadata": json.dumps({"intent": f"{word}-{number}"}),
            "webhook_url": f"https://hooks.example/{word}-url",
        },
        headers={"idempotency-key": f"{word}-key-{number}", "x-request-id": f"request-{number}"},
        timeout=30,
    )
    assert sent.status_code == 202, sent.text
    return str(sent.json()["id"])


def _begin_upload(load: Load, word: str) -> None:
    """Begin a resumable upload that will never be finished."""
    named = base64.b64encode(f"{word}-upload.wav".encode()).decode()
    made = httpx.post(
        f"{load.api.url}/v1/uploads",
        content=word.encode() * 1000,
        headers={**_TUS, "upload-length": "1000000", "upload-metadata": f"filename {named}"},
        timeout=30,
    )
    assert made.status_code == 201, made.text


def _begin_batch(load: Load, word: str) -> None:
    """Hand in a batch whose audio cannot be had."""
    manifest: dict[str, Any] = {
        "items": [{"audio_url": f"https://audio.example/{word}", "metadata": {"n": word}}],
        "metadata": {"all": word},
        "webhook_url": f"https://hooks.example/{word}-batch",
    }
    made = httpx.post(f"{load.api.url}/v1/batches", json=manifest, timeout=30)
    assert made.status_code == 202, made.text


def _service(site: Site, load: Load, cache: ResultCache | None = None) -> JobService:
    """Return what an operator erases with."""
    store = JobStore(site.store, Endings(site.store, audio_days=1.0, text_days=30.0), rings=True)
    guard = SourceGuard(Egress(EgressRules()), ObjectSource(()))
    return JobService(store, load.blobs, guard, ring=lambda: None, cache=cache)


def test_K7_a_tenant_that_is_erased_is_gone_from_every_store(site: Site, load: Load, redis: RedisServer) -> None:
    """Done, waiting and half uploaded: no byte of what was sent or heard is left, not even in the broker's files."""
    word = f"canary{uuid.uuid4().hex}"
    with _with_redis(site, load, redis):
        done = [_hand_in(load, word, number) for number in range(3)]
        wait_until(lambda: all(load.states()[job_id] == "succeeded" for job_id in done), 30, site.cluster.logs)
        heard = httpx.get(f"{load.api.url}/v1/jobs/{done[0]}/result", timeout=10).json()["text"][:40]
        load.cluster.nodes[-1].freeze()
        _hand_in(load, word, 3)
        _begin_upload(load, word)
        _begin_batch(load, word)
        words = (word, heard)
        assert {"database", "bucket"} <= _everywhere(words, site, redis).keys()
        assert all(_in_database([each], site) for each in words)
        assert _service(site, load).erase_tenant(TENANT) == 5
        load.cluster.nodes[-1].go_on()
        wait_until(lambda: not _everywhere(words, site, redis), 20, lambda: str(_everywhere(words, site, redis)))
        _prove_that_the_search_finds(word, site, redis)


def _prove_that_the_search_finds(word: str, site: Site, redis: RedisServer) -> None:
    """Put the word into the stores that never had it, and look again."""
    redis.ask("SET", "key", word)
    with Connection(site.rabbitmq.url) as connection:
        Producer(connection.channel()).publish({"said": word}, routing_key="tympan.dead", delivery_mode=2)
    note = site.cluster.folder / "note"
    note.write_text(word)
    wait_until(lambda: _everywhere([word], site, redis).keys() == {"redis", "broker", "processes"}, 10)
    note.unlink()
