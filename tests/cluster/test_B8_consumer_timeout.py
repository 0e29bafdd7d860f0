"""B8: RabbitMQ takes the channel from whoever keeps a message for too long. Work that takes longer keeps none."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from amqp.exceptions import PreconditionFailed
from kombu import Connection, Consumer, Producer, Queue

from tests.cluster import slow_consumer
from tests.cluster.load import clip, consumers_of
from tests.cluster.support import open_cluster
from tests.servers.postgres import Database
from tests.servers.process import wait_until
from tests.servers.rabbitmq import VirtualHost
from tests.servers.s3 import S3Bucket
from tympan.domain import Lane
from tympan.jobs.celery_app import BellPublisher, make_celery, queue_name

_TIMEOUT_S, _HOLD_S, _WORK_S = 3.0, 1.0, 5.0
"""A twentieth of the times of the long test: of a minute, of ``HOLD_S``, and of work that takes longer than both."""

_QUEUE = queue_name(Lane.BATCH)


def _ring(host: VirtualHost, times: int) -> None:
    publisher = BellPublisher(make_celery(host.url))
    publisher.ring([Lane.BATCH] * times)
    publisher.close()


def _keep_a_message(host: VirtualHost) -> None:
    """Consume a message and do not acknowledge it, until the broker closes the channel for that."""
    with Connection(host.url) as connection:
        channel = connection.channel()
        queue = Queue("kept", durable=True, queue_arguments={"x-queue-type": "quorum"}, channel=channel)
        queue.declare()
        Producer(channel).publish("a message", routing_key="kept")
        with Consumer(channel, [queue], callbacks=[lambda *_: None]):
            while True:
                connection.drain_events(timeout=90)


def _has_heard(host: VirtualHost, times: int) -> bool:
    """Return whether so many bells were acknowledged. No more may have been delivered, nor any of them again."""
    found = host.deliveries(_QUEUE)
    assert found["redeliver"] == 0, found
    assert found["deliver"] <= times, found
    return found["ack"] == times


@contextmanager
def _slow_consumer(host: VirtualHost, log: Path) -> Iterator[None]:
    command = [sys.executable, "-m", slow_consumer.__name__, host.url, str(_HOLD_S), str(_WORK_S)]
    with log.open("wb") as file, subprocess.Popen(command, stdout=file, stderr=file) as process:
        try:
            yield
        finally:
            process.kill()


@pytest.mark.long
def test_B8_who_works_for_longer_than_the_broker_waits_keeps_its_channel(
    impatient_rabbitmq: Callable[[float], VirtualHost], tmp_path: Path
) -> None:
    """Meanwhile the channel of one that just keeps its message is closed; what is rung afterwards is heard."""
    host, log = impatient_rabbitmq(_TIMEOUT_S), tmp_path / "log"
    with _slow_consumer(host, log):
        consumers = consumers_of(host)
        _ring(host, 3)
        with pytest.raises(PreconditionFailed, match="timed out"):
            _keep_a_message(host)
        wait_until(lambda: "done" in log.read_text(), 30, log.read_text)
        _ring(host, 1)
        wait_until(lambda: _has_heard(host, 4), 10, lambda: str(host.deliveries(_QUEUE)))
        assert consumers_of(host) == consumers


@pytest.mark.long
@pytest.mark.timeout(400)
def test_B8_jobs_that_take_longer_than_the_broker_waits(
    impatient_rabbitmq: Callable[[float], VirtualHost], tmp_path: Path, postgres: Database, s3_bucket: S3Bucket
) -> None:
    """The same with a worker, in true times: a minute, and a job of nearly two."""
    host = impatient_rabbitmq(60.0)
    settings = {"DATABASE_URL": postgres.url, "BROKER_URL": host.url, "STORAGE_URL": s3_bucket.url()}
    slow = {"ENGINE_OPTIONS": '{"ms_per_audio_s": "200"}', "JOB_SLOTS": "1"}
    with open_cluster(tmp_path, {**settings, **slow}) as cluster:
        api, _, worker = cluster.add("api"), cluster.add("scheduler"), cluster.add("worker")
        for node in (worker, api):
            node.wait_ready()
        consumers = consumers_of(host)
        files, options = {"file": clip(500.0)}, {"vad": "false", "language": "en"}
        job = httpx.post(f"{api.url}/v1/jobs", files=files, data=options, timeout=60).json()["id"]
        with pytest.raises(PreconditionFailed, match="timed out"):
            _keep_a_message(host)
        wait_until(lambda: _job(api.url, job)["state"] == "succeeded", 200, cluster.logs)
        assert _job(api.url, job)["attempts"] == 1
        assert _lasted_s(postgres) > 90.0
        wait_until(lambda: _all_heard(host), 60, lambda: str(host.deliveries(_QUEUE)))
        assert consumers_of(host) == consumers


def _job(api: str, job_id: str) -> dict[str, object]:
    found: dict[str, object] = httpx.get(f"{api}/v1/jobs/{job_id}", timeout=10).json()
    return found


def _lasted_s(postgres: Database) -> float:
    return float(str(postgres.execute("select finished_at - started_at from jobs")[0][0]))


def _all_heard(host: VirtualHost) -> bool:
    """Return whether every bell that was delivered was acknowledged; none may have been delivered again."""
    found = host.deliveries(_QUEUE)
    assert found["redeliver"] == 0, found
    return found["deliver"] == found["ack"] > 0
