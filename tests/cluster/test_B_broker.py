"""A broker that is away, frozen, blocked, emptied or odd delays work and loses none of it."""

import random
import time
from contextlib import suppress

import pytest
from amqp.exceptions import NotFound
from kombu import Connection, Producer

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip, consumers_of, during, metric
from tests.servers.process import wait_until
from tympan.domain import Lane
from tympan.errors import StorageUnavailable
from tympan.jobs.celery_app import BellPublisher, make_celery, queue_name

RELAY_S = 15.0
"""Longest time that one attempt to publish may take."""

_BACK_S = 20.0
"""Longest time until everybody has noticed that a broker is back: the tenth of a minute, and two slow cores."""

_A, _B = clip(2.0, 440.0), clip(3.0, 660.0)
_BATCH = queue_name(Lane.BATCH)


def test_B1_jobs_are_taken_while_there_is_no_broker_and_done_once_there_is(site: Site, load: Load) -> None:
    """Every request is answered as usual, health stays good, and all is worked off; workers also look by themselves."""
    load.text_of(_A)
    site.rabbitmq.server.kill()
    for number in range(20):
        load.submit(f"job {number}", _A)
    assert set(load.statuses) == {202}
    assert max(load.took_s) < 5.0
    answer = load.ask("GET", "/readyz")
    assert answer is not None
    assert answer.status_code == 200
    site.rabbitmq.server.start()
    load.prove(_BACK_S + 20)


def test_B2_a_broker_that_is_killed_in_flight_costs_no_job_and_doubles_none(site: Site, load: Load) -> None:
    """Bells are delivered again or rung again; steps that were done are not."""
    load.text_of(_B)
    for number in range(12):
        load.submit(f"job {number}", _B)
    wait_until(lambda: "succeeded" in load.states().values(), 20)
    site.rabbitmq.server.kill()
    load.submit("in between", _B)
    site.rabbitmq.server.start()
    load.prove(_BACK_S + 20)


def test_B3_a_frozen_broker_holds_the_relay_for_a_bounded_time_and_the_api_not_at_all(site: Site, load: Load) -> None:
    """An attempt to publish ends in 15 s, with an open connection and without one; requests are as fast as ever."""
    publisher = BellPublisher(make_celery(site.rabbitmq.url))
    publisher.ring([Lane.BATCH])
    site.rabbitmq.server.stop()
    for number in range(2):
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            publisher.ring([Lane.BATCH])
        assert time.monotonic() - began < RELAY_S
        for part in range(5):
            load.submit(f"job {number}.{part}", _A)
    publisher.close()
    assert set(load.statuses) == {202}
    assert max(load.took_s) < 5.0
    site.rabbitmq.server.cont()
    load.prove(_BACK_S + 20)


def test_B4_a_broker_that_takes_nothing_shows_in_a_metric_and_clears(site: Site, load: Load) -> None:
    """With its alarm about memory raised it reads no more from publishers; jobs are taken all the same."""
    nodes = (site.api, site.scheduler, site.worker)
    site.rabbitmq.server.block_publishers()
    try:
        load.submit("blocked", _A)
        wait_until(lambda: any(metric(node, "tympan_broker_blocked") == 1 for node in nodes), 30)
    finally:
        site.rabbitmq.server.unblock_publishers()
    load.prove()
    wait_until(lambda: all(metric(node, "tympan_broker_blocked") == 0 for node in nodes), _BACK_S)


@pytest.mark.parametrize("loss", ["messages", "everything"])
def test_B5_doorbells_that_the_broker_lost_are_rung_again(site: Site, load: Load, loss: str) -> None:
    """What was not heard yet is purged, or all of the broker's disk is wiped, queues included: the sweeper rings."""
    site.worker.freeze()
    for number in range(5):
        load.submit(f"job {number}", _A)
    wait_until(lambda: _bells_waiting(load) == 0, 10)
    if loss == "messages":
        site.rabbitmq.server.api("DELETE", f"/api/queues/{site.rabbitmq.name}/{_BATCH}/contents")
    else:
        site.rabbitmq.lose_everything()
    wait_until(lambda: _has_bells(site), _BACK_S)
    site.worker.go_on()
    load.prove(_BACK_S + 20)
    assert consumers_of(site.rabbitmq, _BACK_S)


def _has_bells(site: Site) -> bool:
    """Return whether a doorbell waits at the broker just now; the management interface would be a second late."""
    with Connection(site.rabbitmq.url) as connection, suppress(NotFound):
        return bool(connection.channel().queue_declare(_BATCH, passive=True).message_count)
    return False


def _bells_waiting(load: Load) -> int:
    """Return how many doorbells the broker does not have yet."""
    return int(load.database.read(lambda tx: tx.exec_driver_sql("select count(*) from bells").scalar()) or 0)


def test_B6_doorbells_that_come_three_times_and_in_any_order_double_nothing(site: Site, load: Load) -> None:
    """A bell without work is heard and forgotten."""
    publisher = BellPublisher(make_celery(site.rabbitmq.url))
    lanes = [lane for lane in Lane for _ in range(15)]
    random.Random(6).shuffle(lanes)  # noqa: S311 (repeatable, not secret)
    for number in range(5):
        load.submit(f"job {number}", _A)
        publisher.ring(lanes[number * 9 : number * 9 + 9])
    publisher.close()
    load.prove()


def test_B7_connections_that_break_all_the_time_are_made_anew(site: Site, load: Load) -> None:
    """Resets each second, and a connection that has died without a word, for a tenth of two minutes or so."""
    numbers = iter(range(1000))

    def disturb() -> None:
        load.submit(f"job {next(numbers)}", _A)
        site.to_rabbitmq.cut()

    during(5.0, disturb, 0.7)
    site.to_rabbitmq.set("both", swallow=True)
    during(3.0, lambda: load.submit(f"job {next(numbers)}", _A), 1.0)
    site.to_rabbitmq.heal()
    site.to_rabbitmq.cut()
    load.prove(_BACK_S + 30)


@pytest.mark.parametrize("kind", ["garbage", "odd headers", "unknown task", "arguments", "version", "large"])
def test_B9_a_poisonous_message_is_kept_apart_and_the_consumer_lives(site: Site, load: Load, kind: str) -> None:
    """What cannot be read lands in the dead letters, what means nothing is dropped, and the next job is done."""
    consumers = consumers_of(site.rabbitmq)
    good = {"id": "1", "task": "tympan.work", "lang": "py", "argsrepr": "", "kwargsrepr": ""}
    body, headers = {
        "garbage": ("\x00garbage", {}),
        "odd headers": ("[[], {}, {}]", {"task": ["a list"], "id": None}),
        "unknown task": ("[[], {}, {}]", {**good, "task": "other.task"}),
        "arguments": ("[[1, 2, 3, 4], {}, {}]", good),
        "version": ('[[], {"version": 99, "lane": "x", "more": 1}, {}]', good),
        "large": ('[[], {"more": "' + "x" * 10_000_000 + '"}, {}]', good),
    }[kind]
    with Connection(site.rabbitmq.url) as connection:
        Producer(connection.channel()).publish(
            body,
            routing_key=_BATCH,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
        )
    if kind not in ("version", "large"):
        wait_until(lambda: _dead_letter(site) == body.encode(), 10)
    load.submit("after it", _A)
    load.prove()
    assert _dead_letter(site) is None
    assert consumers_of(site.rabbitmq) == consumers
    assert site.worker.is_ready()


def _dead_letter(site: Site) -> bytes | None:
    """Take one message from the dead letters."""
    with Connection(site.rabbitmq.url) as connection:
        found = connection.channel().basic_get("tympan.dead", no_ack=True)
        return None if found is None else str(found.body).encode()


def test_B10_a_queue_that_was_deleted_is_noticed_and_made_again(site: Site, load: Load) -> None:
    """The broker returns what it cannot route, which is no success; within 10 s all is as it was."""
    publisher = BellPublisher(make_celery(site.rabbitmq.url))
    publisher.ring([Lane.INTERACTIVE])
    site.worker.freeze()
    for lane in Lane:
        site.rabbitmq.server.api("DELETE", f"/api/queues/{site.rabbitmq.name}/{queue_name(lane)}")
    with pytest.raises(StorageUnavailable):
        publisher.ring([Lane.INTERACTIVE])
    publisher.ring([Lane.INTERACTIVE])
    publisher.close()
    site.worker.go_on()
    load.submit("after it", _A)
    load.prove(10.0)
