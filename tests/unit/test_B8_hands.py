"""A message of the broker is held for a bounded time, however long the work takes that it stands for."""

import threading
import time

from tests.jobs_support import in_thread
from tests.servers.process import wait_until
from tympan.errors import StorageUnavailable
from tympan.jobs.celery_app import HOLD_S, Hands

_CONSUMER_TIMEOUT_S = 60.0
"""The shortest time that RabbitMQ lets an operator set after which it closes a consumer that holds a message."""


def test_B8_a_message_is_given_back_to_the_broker_before_it_minds() -> None:
    """Once for a free thread and once for the work: together less than a minute."""
    assert 2 * HOLD_S < _CONSUMER_TIMEOUT_S


def test_B8_long_work_goes_on_when_its_message_has_been_let_go() -> None:
    """The holder returns in time, the work ends later."""
    go_on, ended = threading.Event(), threading.Event()

    def work() -> None:
        go_on.wait(60)
        ended.set()

    hands = Hands(work, 1, hold_s=0.2)
    began = time.monotonic()
    assert hands.lend()
    assert 0.2 <= time.monotonic() - began < 30.0
    assert not ended.is_set()
    go_on.set()
    assert ended.wait(30)
    hands.let_go()


def test_B8_a_message_that_finds_all_at_work_is_let_go_too() -> None:
    """Nothing is begun beyond the slots, and who comes later finds room again."""
    go_on, running = threading.Event(), threading.Semaphore(0)

    def work() -> None:
        running.release()
        go_on.wait(60)

    hands = Hands(work, 1, hold_s=0.2)
    assert hands.lend()
    assert not hands.lend()
    assert running.acquire(timeout=5)
    assert not running.acquire(blocking=False)
    go_on.set()
    wait_until(hands.lend, 5)
    hands.let_go()


def test_a_failure_of_the_work_frees_its_place() -> None:
    """Typed or not: what is left undone is for the sweeper."""
    failures: list[Exception] = [StorageUnavailable("away"), ValueError("broken")]

    def work() -> None:
        if failures:
            raise failures.pop()

    hands = Hands(work, 1, hold_s=1.0)
    assert all(hands.lend() for _ in range(3))
    assert failures == []
    hands.let_go()


def test_O1_who_holds_a_message_returns_when_the_process_leaves() -> None:
    """However long the work still takes; and nothing more is begun."""
    go_on = threading.Event()
    hands = Hands(lambda: go_on.wait(60), 1, hold_s=10.0)
    lent: list[bool] = []
    holders = [in_thread(lambda: lent.append(hands.lend())) for _ in range(2)]
    wait_until(lambda: hands._free == 0, 5)
    hands.let_go()
    for holder in holders:
        holder.join(2)
        assert not holder.is_alive()
    assert sorted(lent) == [False, True]
    assert not hands.lend()
    go_on.set()


def test_work_is_found_without_a_bell() -> None:
    """A broker that keeps its messages to itself delays work by a look, and no longer; free hands alone look."""
    began = threading.Event()
    hands = Hands(began.set, 1)
    looking = threading.Thread(target=hands.look_around, args=(0.05,), daemon=True)
    looking.start()
    assert began.wait(5)
    hands.let_go()
    looking.join(5)
    assert not looking.is_alive()
