"""A cluster on real servers that runs for all tests, and is mended after each."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest
from amqp.exceptions import AMQPError, NotFound
from kombu import Connection

from tests.cluster.diary import forget_everything, keep_diary
from tests.cluster.load import Load
from tests.cluster.support import Cluster, Node, open_cluster
from tests.collector import Collector, collecting
from tests.servers.postgres import Database, PostgresServer
from tests.servers.proxy import Proxy
from tests.servers.rabbitmq import RabbitServer, VirtualHost
from tests.servers.s3 import KEYS, S3Bucket, S3Server
from tests.webhook_receiver import Receiver
from tests.webhook_receiver import receiver as receiving
from tympan.domain import Lane
from tympan.jobs.celery_app import queue_name
from tympan.storage.blobs import open_blobs
from tympan.storage.database import Database as Store

_ANSWER_S = 3.0


@dataclass(frozen=True, slots=True)
class Site:
    """A running cluster, the proxies between its processes and the servers, and what takes its traces and events.

    Traces are recorded where a caller says so.
    """

    cluster: Cluster
    api: Node
    scheduler: Node
    worker: Node
    postgres: Database
    rabbitmq: VirtualHost
    bucket: S3Bucket
    to_postgres: Proxy
    to_rabbitmq: Proxy
    to_s3: Proxy
    store: Store
    collector: Collector
    receiver: Receiver


@pytest.fixture(scope="session")
def site_of_session(
    tmp_path_factory: pytest.TempPathFactory,
    postgres_server: PostgresServer,
    rabbitmq_server: RabbitServer,
    s3_server: S3Server,
) -> Iterator[Site]:
    """Yield a cluster with one process of each kind."""
    name = "shared-site"
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        # Spans are told twice a second, not every five.
        for key, value in {**KEYS, "OTEL_BSP_SCHEDULE_DELAY": "500"}.items():
            patch.setenv(key, value)
        postgres = Database(postgres_server, f"{name}-db")
        stack.callback(postgres.drop)
        rabbitmq = VirtualHost(rabbitmq_server, name)
        stack.callback(rabbitmq.drop)
        bucket = S3Bucket(s3_server, f"{name}-bucket")
        servers = (postgres_server, rabbitmq_server, s3_server)
        to_postgres, to_rabbitmq, to_s3 = (stack.enter_context(Proxy(server.port)) for server in servers)
        collector, receiver = stack.enter_context(collecting()), stack.enter_context(receiving())
        settings = {
            "OTLP_ENDPOINT": collector.url,
            "TRACE_SHARE": "0",
            "EGRESS_ALLOW": json.dumps([f"127.0.0.1:{receiver.port}"]),
            "DATABASE_URL": postgres.url_at(to_postgres.port),
            "BROKER_URL": rabbitmq.url_at(to_rabbitmq.port),
            "STORAGE_URL": bucket.url(endpoint=f"http://127.0.0.1:{to_s3.port}"),
            "RESULT_TTL_S": "0",
            "ENGINE_OPTIONS": '{"ms_per_audio_s": "50"}',
            "MODELS": '[{"name": "second", "engine": "fake"}]',
        }
        store = Store(postgres.url)
        stack.callback(store.close)
        for server in servers:
            stack.callback(server.ensure)
        running = stack.enter_context(open_cluster(tmp_path_factory.mktemp(name), settings))
        keep_diary(store)
        api, scheduler, worker = (running.add(kind) for kind in ("api", "scheduler", "worker"))
        proxies = (to_postgres, to_rabbitmq, to_s3)
        yield Site(running, api, scheduler, worker, postgres, rabbitmq, bucket, *proxies, store, collector, receiver)


@pytest.fixture
def site(site_of_session: Site) -> Iterator[Site]:
    """Return the running cluster, ready, with nothing in its stores; what a test broke is mended afterwards."""
    _mend(site_of_session)
    for node in (site_of_session.worker, site_of_session.scheduler, site_of_session.api):
        node.wait_ready()
    forget_everything(site_of_session.store)
    for name in site_of_session.bucket.names():
        site_of_session.bucket.server.client.delete_object(Bucket=site_of_session.bucket.name, Key=name)
    yield site_of_session
    _mend(site_of_session)


@pytest.fixture
def load(site: Site) -> Load:
    """Return work for the running cluster."""
    blobs = open_blobs(site.bucket.url(), site.cluster.folder)
    return Load(site.cluster, site.api, site.store, blobs)


def _mend(site: Site) -> None:
    for node in (site.worker, site.scheduler, site.api):
        node.go_on()
    for proxy in (site.to_postgres, site.to_rabbitmq, site.to_s3):
        proxy.heal()
    for server in (site.postgres.server, site.rabbitmq.server, site.bucket.server):
        server.ensure()
    site.bucket.ensure()
    # Killed within seconds of a queue's making, RabbitMQ 3.10 comes back with one that never answers, restart or not.
    # That is not what is tested.
    if not _queues_answer(site):
        site.rabbitmq.lose_everything()


def _queues_answer(site: Site) -> bool:
    """Return whether every queue that is there gives an answer; a dead letter that a test left is taken out."""
    try:
        with Connection(site.rabbitmq.url, transport_options={"read_timeout": _ANSWER_S}) as connection:
            channel = connection.channel()
            while channel.basic_get("tympan.dead", no_ack=True) is not None:
                pass
            for lane in Lane:
                found = channel.basic_get(queue_name(lane))
                if found is not None:
                    channel.basic_reject(found.delivery_tag, requeue=True)
    except NotFound:
        return True  # The cluster has not made them yet, or a test has deleted one.
    except (OSError, AMQPError):
        return False
    return True
