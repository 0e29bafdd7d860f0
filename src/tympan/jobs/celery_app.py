"""The doorbells of a cluster: RabbitMQ quorum queues through Celery, one for each lane.

A message says that there is something to do in a lane, and nothing else: what to do is claimed from the database. So a
message that is lost, doubled or delivered out of order does no harm. Every wait for the broker is bounded: without
``read_timeout`` and ``write_timeout`` a frozen broker holds a publisher for ever, confirm timeout or not.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down
from kombu import Exchange, Queue
from kombu.exceptions import KombuError

from tympan import telemetry
from tympan.domain import Lane
from tympan.errors import StorageUnavailable

BROKER_WAIT_S = 5.0
"""Longest wait for one answer of the broker."""

DELIVERY_LIMIT = 10
"""A message that kills its consumer this often goes to the dead letters; the sweeper rings again for the step."""

_LOG = telemetry.get_logger(__name__)
_TASK = "tympan.work"
_DEAD = "tympan.dead"
_VERSION = 1
_MAX_DEAD = 10_000


def queue_name(lane: Lane) -> str:
    """Return the name of a lane's queue."""
    return f"tympan.{lane.name.lower()}"


def make_celery(broker_url: str) -> Celery:
    """Return the Celery application; nothing is connected yet."""
    app = Celery("tympan", broker=broker_url, set_as_current=False)
    app.conf.update(
        broker_connection_timeout=BROKER_WAIT_S,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        broker_heartbeat=10,
        broker_transport_options={
            "confirm_publish": True,
            "read_timeout": BROKER_WAIT_S,
            "write_timeout": BROKER_WAIT_S,
            "max_retries": 1,
        },
        task_acks_late=True,
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_queues=_queues(),
        task_default_queue=queue_name(Lane.BATCH),
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_prefetch_count_reduction=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_redirect_stdouts=False,
        worker_send_task_events=False,
    )
    return app


class BellPublisher:
    """Publishes doorbells; confirmed, and never without a queue to go to. For one thread."""

    def __init__(self, app: Celery) -> None:
        """Publish to the broker of ``app``."""
        self._app = app
        self._connection: Any = None
        self._producer: Any = None
        probe = app.connection_for_write()
        self._broker_errors = (
            OSError,
            KombuError,
            *probe.recoverable_connection_errors,
            *probe.recoverable_channel_errors,
            *probe.channel_errors,
        )

    def ring(self, lanes: Sequence[Lane]) -> None:
        """Publish one doorbell for each of ``lanes``. Raises ``StorageUnavailable`` when one was not taken."""
        try:
            producer = self._open()
            for lane in lanes:
                self._app.send_task(
                    _TASK,
                    kwargs={"version": _VERSION, "lane": int(lane)},
                    queue=queue_name(lane),
                    producer=producer,
                    mandatory=True,
                    retry=False,
                    delivery_mode=2,
                )
        except self._broker_errors as error:
            self.close()
            raise StorageUnavailable("The broker takes no messages.", retry_after_s=1.0) from error

    def close(self) -> None:
        """Drop the connection without waiting for the broker's farewell: it may be frozen."""
        connection, self._connection, self._producer = self._connection, None, None
        if connection is not None:
            connection.collect(socket_timeout=0.1)

    def _open(self) -> Any:
        if self._producer is None:
            self._connection = self._app.connection_for_write()
            self._connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=BROKER_WAIT_S)
            channel = self._connection.default_channel
            for queue in _queues():
                queue.bind(channel).declare()
            self._producer = self._app.amqp.Producer(self._connection, auto_declare=False)
        return self._producer


def run_consumer(app: Celery, work: Callable[[Lane], object], slots: int, *, on_stop: Callable[[], None]) -> None:
    """Consume doorbells until SIGTERM or SIGINT, in the main thread; ``work`` is called in one of ``slots`` threads.

    ``on_stop`` is called when the stop begins: what runs should end soon after. A second signal ends the process.
    """
    logging.getLogger("celery").setLevel(logging.WARNING)

    @app.task(name=_TASK, acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
    def answer(version: int = 0, lane: int = int(Lane.BATCH), **_: object) -> None:
        """Do what there is to do in a lane; a bell of another version means the same."""
        if version != _VERSION:
            _LOG.info("bell_of_another_version", version=version)
        work(Lane(lane) if lane in list(Lane) else Lane.BATCH)

    def begin_stop(**_: object) -> None:
        threading.Thread(target=on_stop, name="worker-stop", daemon=True).start()

    worker_shutting_down.connect(begin_stop, weak=False)
    worker = app.Worker(pool="threads", concurrency=slots, loglevel="WARNING", quiet=True, without_gossip=True,
                        without_mingle=True,
        without_heartbeat=True, queues=[queue_name(lane) for lane in Lane])  # fmt: skip
    worker.start()


def _queues() -> list[Queue]:
    """Return the queues: durable, replicated where the broker is, unreadable messages kept apart and bounded."""
    direct = Exchange("tympan", type="direct", durable=True)
    arguments = {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": _DEAD,
    }
    lanes = [
        Queue(queue_name(lane), direct, routing_key=queue_name(lane), durable=True, queue_arguments=arguments)
        for lane in Lane
    ]
    dead = Queue(
        _DEAD,
        direct,
        routing_key=_DEAD,
        durable=True,
        queue_arguments={"x-queue-type": "quorum", "x-max-length": _MAX_DEAD},
    )
    return [*lanes, dead]
