"""Signals through Redis: heard in every process while it is there, and no loss but a little time when it is not."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer
from tympan.jobs.redis_signals import RedisSignals
from tympan.jobs.signals import LocalSignals, Signals

_SLOW_S = 0.06
"""What announcing may add while Redis has not yet been left alone: its 50 ms, and a little."""

_A = clip(2.0, 440.0)


@contextmanager
def _signals(*urls: str) -> Iterator[list[RedisSignals]]:
    with ExitStack() as stack:
        opened = [RedisSignals(url, open_s=0.5) for url in urls]
        for signals in opened:
            signals.start()
            stack.callback(signals.stop)
        yield opened


def _hears(signals: Signals, announce: Callable[[str], None]) -> bool:
    heard: list[bool] = []
    listener = threading.Thread(target=lambda: heard.append(signals.wait("job_1", 0.5)))
    listener.start()
    while listener.is_alive():
        announce("job_1")
        announce("job_2")
        time.sleep(0.02)
    return heard[0]


def test_within_a_process_a_signal_wakes_who_waits_for_that_job() -> None:
    """Another job's does not, and without one the wait ends in its time."""
    signals = LocalSignals()
    assert _hears(signals, signals.announce)
    assert not _hears(signals, lambda _: signals.announce("job_3"))
    assert signals._waiting == {}


def test_a_signal_reaches_other_processes(redis: RedisServer) -> None:
    """Through Redis, both ways."""
    with _signals(redis.url(), redis.url()) as (one, other):
        wait_until(lambda: _hears(other, one.announce), 10)
        wait_until(lambda: _hears(one, other.announce), 10)


@pytest.mark.alone
@pytest.mark.parametrize("fault", ["kill", "stop", "full"])
def test_D1_D2_D3_a_redis_that_is_away_costs_50_ms_now_and_then(redis: RedisServer, fault: str) -> None:
    """Killed, frozen or out of memory: announcing is bounded, then free, and works again when Redis does."""
    with _signals(redis.url(), redis.url()) as (one, other):

        def costs_little() -> bool:
            """Let Redis be away once; a machine that was busy elsewhere just then gets another chance."""
            wait_until(lambda: _hears(other, one.announce), 15)
            with _away(redis, fault):
                took = sorted(_took_s(one) for _ in range(200))
                assert _hears(one, one.announce)  # This process is heard all the same.
            return took[-1] < 2 * _SLOW_S and took[-5] < 0.002  # All but the first few: Redis is left alone.

        wait_until(costs_little, 30)
        wait_until(lambda: _hears(other, one.announce), 15)


@contextmanager
def _away(redis: RedisServer, fault: str) -> Iterator[None]:
    if fault == "full":
        redis.ask("CONFIG", "SET", "maxmemory", "1mb")
    else:
        getattr(redis, fault)()
    yield
    if fault == "full":
        redis.ask("CONFIG", "SET", "maxmemory", "0")
    redis.ensure()


def _took_s(signals: RedisSignals) -> float:
    began = time.monotonic()
    signals.announce("job_1")
    return time.monotonic() - began


def test_D1_a_cluster_works_with_a_redis_that_dies(site: Site, load: Load, redis: RedisServer) -> None:
    """A synchronous call and a job are answered before, while it is dead, and after."""
    api = site.cluster.add("api", REDIS_URL=redis.url())
    worker = site.cluster.add("worker", REDIS_URL=redis.url())
    try:
        for node in (api, worker):
            node.wait_ready()
        site.worker.freeze()
        load.api = api
        load.text_of(_A)
        redis.kill()
        load.submit("while dead", _A)
        load.texts.clear()
        load.text_of(_A)
        redis.start()
        load.submit("afterwards", _A)
        load.prove()
        assert set(load.statuses) == {202}
    finally:
        site.worker.go_on()
        for node in (api, worker):
            node.kill()
            site.cluster.nodes.remove(node)
