"""Many items through one function: bounded, independent, stoppable."""

import time
from collections.abc import Iterator
from threading import Barrier, Event, Lock, Timer

import pytest

from tympan.cli import batch_run
from tympan.cli.batch_run import Outcome, in_order, run_many
from tympan.errors import Cancelled, CorruptMedia, TympanError

WAIT_S = 10.0


def test_every_item_has_one_outcome_and_errors_stay_their_own() -> None:
    """A failing item is reported by name and the others are done."""

    def work(item: int) -> int:
        if item % 3 == 0:
            raise CorruptMedia(f"item {item}")
        return item * 2

    outcomes = sorted(run_many(range(20), work, workers=4, stop=Event()), key=lambda outcome: outcome.index)
    assert [outcome.item for outcome in outcomes] == list(range(20))
    for outcome in outcomes:
        if outcome.item % 3 == 0:
            assert outcome.error is not None
            assert (outcome.result, outcome.error.code) == (None, "corrupt_media")
        else:
            assert (outcome.result, outcome.error) == (outcome.item * 2, None)


def test_items_run_at_the_same_time_and_no_more_than_asked() -> None:
    """``workers`` items are in flight together, never one more."""
    together = Barrier(3)
    lock = Lock()
    now = peak = 0

    def work(_item: int) -> None:
        nonlocal now, peak
        with lock:
            now += 1
            peak = max(peak, now)
        together.wait(WAIT_S)
        with lock:
            now -= 1

    outcomes = list(run_many(range(9), work, workers=3, stop=Event()))
    assert [outcome.error for outcome in outcomes] == [None] * 9
    assert peak == 3


def test_a_bug_in_one_item_is_an_internal_error_of_that_item() -> None:
    """An exception nobody foresaw is shown with its kind and does not end the run."""

    def work(item: int) -> float:
        return 1 / item

    failed, done = sorted(run_many([0, 1], work, workers=1, stop=Event()), key=lambda outcome: outcome.index)
    assert isinstance(failed.error, TympanError)
    assert failed.error.code == "internal_error"
    assert "ZeroDivisionError" in failed.error.message
    assert done.result == 1.0


def test_stop_begins_nothing_new_and_keeps_what_is_done() -> None:
    """After ``stop``, running items end as they like, waiting ones are never begun."""
    stop = Event()
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 2:
            stop.set()
            raise Cancelled
        return item

    outcomes = list(run_many(range(50), work, workers=1, stop=stop))
    assert begun == [0, 1, 2]
    assert [outcome.result for outcome in outcomes] == [0, 1, None]


def test_stop_from_outside_ends_a_running_item() -> None:
    """An item that watches ``stop`` is not waited for longer than it takes to notice."""
    stop = Event()

    def work(_item: int) -> None:
        if not stop.wait(WAIT_S):
            pytest.fail("nobody stopped it")
        raise Cancelled

    timer = Timer(0.05, stop.set)
    timer.start()
    started = time.monotonic()
    outcomes = list(run_many(range(3), work, workers=2, stop=stop))
    assert [type(outcome.error) for outcome in outcomes] == [Cancelled, Cancelled]
    assert time.monotonic() - started < WAIT_S / 2
    timer.join()


def test_fail_fast_stops_at_the_first_failure() -> None:
    """With ``fail_fast`` the first failure is the last item begun."""
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise CorruptMedia

    stop = Event()
    outcomes = list(run_many(range(50), work, workers=1, stop=stop, fail_fast=True))
    assert len(outcomes) == len(begun)
    assert 2 <= len(begun) <= 3
    assert stop.is_set()


def test_a_consumer_that_fails_stops_the_workers() -> None:
    """When results cannot be taken (a closed pipe), running items are told to stop."""
    stop = Event()

    def work(item: int) -> None:
        if item and not stop.wait(WAIT_S):
            pytest.fail("nobody stopped it")

    outcomes = run_many(range(5), work, workers=2, stop=stop)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert stop.is_set()


def test_no_file_gets_too_far_ahead_of_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits to be printed behind a slow first file is bounded."""
    monkeypatch.setattr(batch_run, "MAX_LEAD", 5)
    release = Event()
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        if item == 0:
            assert release.wait(WAIT_S)

    seen: list[int] = []
    for outcome in run_many(range(30), work, workers=2, stop=Event()):
        seen.append(outcome.index)
        if len(seen) == 4:
            time.sleep(0.3)
            assert max(begun) <= 5
            release.set()
    assert sorted(seen) == list(range(30))


def test_in_order_restores_the_order() -> None:
    """Outcomes come out by index, as early as possible, and none is lost behind a gap."""

    def outcome(index: int) -> Outcome[int, int]:
        return Outcome(index, index, index, None, 0.0)

    taken: list[int] = []

    def feed() -> Iterator[Outcome[int, int]]:
        for index in (1, 0, 4, 2, 6):
            taken.append(index)
            yield outcome(index)

    seen = [(item.index, len(taken)) for item in in_order(feed())]
    assert seen == [(0, 2), (1, 2), (2, 4), (4, 5), (6, 5)]
