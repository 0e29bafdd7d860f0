"""The doorbells of a cluster: RabbitMQ quorum queues through Celery, one for each lane.

A message says that there is something to do in a lane, and nothing else: what to do is claimed from the database. So a
message that is lost, doubled or delivered out of order does no harm. Every wait for the broker is bounded: without
``read_timeout`` and ``write_timeout`` a frozen broker holds a publisher for ever, confirm timeout or not.

A message is acknowledged late, so that it stays with whoever has room, but not later than ``HOLD_S``: brokers close
the channel of a consumer that keeps one for long. Work that takes longer goes on without it.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery import Celery
from celery.signals import worker_shutting_down
from celery.worker.consumer import Consumer
from kombu import Connection, Exchange, Queue
from kombu.exceptions import KombuError

from tympan import telemetry
from tympan.background import attempt
from tympan.domain import Lane
from tympan.errors import StorageUnavailable

BROKER_WAIT_S = 5.0
"""Longest wait for one answer of the broker."""

HOLD_S = 20.0
"""Longest time that a message is kept unacknowledged: once for whoever waits for a free thread, once for the work."""

DELIVERY_LIMIT = 10
"""A message that kills its consumer this often goes to the dead letters; the sweeper rings again for the step."""

_LOG = telemetry.get_logger(__name__)
_TASK = "tympan.work"
_DEAD = "tympan.dead"
_VERSION = 1
_MAX_DEAD = 10_000
_RETRY = {"interval_start": 0.5, "interval_step": 0.5, "interval_max": 2.0}
"""How long to wait between tries to reach the broker, in seconds; Celery's own waits grow to half a minute."""


def queue_name(lane: Lane) -> str:
    """Return the name of a lane's queue."""
    return f"tympan.{lane.name.lower()}"


def make_celery(broker_url: str) -> Celery:
    """Return the Celery application; nothing is connected yet."""
    app = Celery("tympan", broker=broker_url, set_as_current=False)
    app.amqp.Connection = _EagerConnection
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
        task_acks_on_failure_or_timeout=False,  # What cannot be read goes to the dead letters.
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_queues=_queues(),
        task_default_queue=queue_name(Lane.BATCH),
        worker_consumer=f"{__name__}:BellConsumer",
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


class BrokerProbe:
    """Asks the broker whether it is there, over a connection of its own that is kept. For one thread."""

    def __init__(self, app: Celery) -> None:
        """Ask the broker of ``app``; nothing is connected yet."""
        self._app = app
        self._connection: Any = None
        probe = app.connection_for_read()
        self._errors = (OSError, KombuError, *probe.recoverable_connection_errors, *probe.recoverable_channel_errors)

    def check(self) -> None:
        """Raise ``StorageUnavailable`` unless it answers within ``BROKER_WAIT_S``, or twice that to connect."""
        try:
            if self._connection is None:
                self._connection = self._app.connection_for_read(heartbeat=0)
                self._connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=BROKER_WAIT_S)
            self._connection.default_channel.exchange_declare("amq.direct", "direct", passive=True)
        except self._errors as error:
            connection, self._connection = self._connection, None
            connection.collect(socket_timeout=0.1)
            raise StorageUnavailable("The broker does not answer.", retry_after_s=1.0) from error


def run_consumer(app: Celery, hands: "Hands", slots: int, *, look_s: float, on_stop: Callable[[], None]) -> None:
    """Consume doorbells until SIGTERM or SIGINT, in the main thread; each lends one of ``slots`` hands.

    Every ``look_s`` a free hand looks for work by itself: a broker can keep a consumer and give it nothing.
    ``on_stop`` is called when the stop begins: what runs should end soon after. A second signal ends the process.
    """
    logging.getLogger("celery").setLevel(logging.WARNING)
    threading.Thread(target=hands.look_around, args=(look_s,), name="look-around", daemon=True).start()

    @app.task(name=_TASK, acks_late=True, ignore_result=True)  # type: ignore[untyped-decorator]
    def answer(version: object = 0, **_: object) -> None:
        """Look for something to do; a bell of another version means the same."""
        if version != _VERSION:
            _LOG.info("queue_message_of_another_version")
        hands.lend()

    def stop() -> None:
        try:
            on_stop()
        finally:
            hands.let_go()

    def begin_stop(**_: object) -> None:
        threading.Thread(target=stop, name="worker-stop", daemon=True).start()

    worker_shutting_down.connect(begin_stop, weak=False)
    worker = app.Worker(pool="threads", concurrency=slots, loglevel="WARNING", quiet=True, without_gossip=True,
                        without_mingle=True, queues=[queue_name(lane) for lane in Lane])  # fmt: skip
    try:
        worker.start()
    finally:
        hands.let_go()


class Hands:
    """Threads that work, apart from those that hold messages: a message is held for a bounded time."""

    def __init__(self, work: Callable[[], object], slots: int, *, hold_s: float = HOLD_S) -> None:
        """Call ``work`` in at most ``slots`` threads at once."""
        self._work, self._hold_s, self._free = work, hold_s, slots
        self._changed = threading.Condition()
        self._leaving = False
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="hands")

    def lend(self) -> bool:
        """Return when the work is done, or when that takes too long to wait for it; whether it was begun."""
        with self._changed:
            self._changed.wait_for(lambda: self._free or self._leaving, self._hold_s)
            if self._leaving or not self._free:
                return False  # All have been at work for long; whoever ends looks for more.
            ended = self._begin()
            self._changed.wait_for(lambda: ended.is_set() or self._leaving, self._hold_s)
        return True

    def look_around(self, period_s: float) -> None:
        """Let a free hand look for work every ``period_s``, until ``let_go``."""
        with self._changed:
            while not self._changed.wait_for(lambda: self._leaving, period_s):
                if self._free:
                    self._begin()

    def let_go(self) -> None:
        """Hold no message any more, and begin nothing; what runs is left to end by itself."""
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        self._threads.shutdown(wait=False)

    def _begin(self) -> threading.Event:
        self._free -= 1
        ended = threading.Event()
        self._threads.submit(self._once, ended)
        return ended

    def _once(self, ended: threading.Event) -> None:
        try:
            attempt("step", self._work)  # What is left undone is found by the sweeper.
        finally:
            with self._changed:
                self._free += 1
                ended.set()
                self._changed.notify_all()


class BellConsumer(Consumer):  # type: ignore[misc]
    """A consumer that survives any message: what it cannot read goes to the dead letters."""

    class Blueprint(Consumer.Blueprint):  # type: ignore[misc]
        """The parts of a consumer, without the 28 queues for messages with a delay: there are none."""

        default_steps = tuple(
            step for step in Consumer.Blueprint.default_steps if "delayed_delivery" not in str(step)
        )  # fmt: skip

    def create_task_handler(self, *arguments: Any, **keywords: Any) -> Callable[[Any], None]:
        """Return what takes a message from the broker."""
        handle = super().create_task_handler(*arguments, **keywords)

        def on_message(message: Any) -> None:
            try:
                handle(message)
            except Exception as error:  # noqa: BLE001 (an odd message must not end the worker)
                self._refuse(message, error)

        return on_message

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Keep a message that is no message of Celery's."""
        self._refuse(message, exc)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Keep a message for a task that there is not."""
        self._refuse(message, exc)

    def _refuse(self, message: Any, error: Exception) -> None:
        _LOG.warning("queue_message_refused", error_type=type(error).__name__)
        message.reject_log_error(logging.getLogger("celery"), self.connection_errors)


class _EagerConnection(Connection):  # type: ignore[misc]
    """A connection that is tried again soon, so that a broker that is back is noticed."""

    def ensure_connection(self, *arguments: Any, **keywords: Any) -> Any:
        """Return a connection; see kombu."""
        return super().ensure_connection(*arguments, **{**_RETRY, **keywords})


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
