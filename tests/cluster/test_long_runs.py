"""Minutes of trouble: workers killed at random, a broker that restarts all the time; and what a second worker brings.

`CHAOS_S` and `SOAK_S` in the environment shorten or lengthen the two runs.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Sequence

import pytest

from benchmarks import jobs_cluster
from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip, file_count, zombies
from tests.cluster.support import Node
from tests.faults.checker import TERMINAL
from tests.servers.process import wait_until

_CHAOS_S = float(os.environ.get("CHAOS_S", "180"))
_SOAK_S = float(os.environ.get("SOAK_S", "1800"))
_KILL_EVERY_S = 2.0
_RESTART_EVERY_S = 60.0
_CALM_S = min(60.0, _SOAK_S / 3)
_IN_FLIGHT = 8
_FILES = 5
_A, _B = clip(2.0, 440.0), clip(3.0, 550.0)
_C = clip(20.0, 660.0)  # Takes the worker of all tests a second.

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]


def test_A10_A11_workers_that_are_killed_all_the_time_finish_every_job_once(site: Site, load: Load) -> None:
    """Three of them, one killed every other second; what is done twice is less than 15 % of the work.

    Those that are not killed have no more open files afterwards than before, and no zombies.
    """
    lasting = (site.api, site.scheduler, site.worker)
    for audio in (_A, _B):
        load.text_of(audio)
    chance = random.Random(10)  # noqa: S311 (repeatable, not secret)
    before = list(map(file_count, lasting))
    workers = [site.cluster.add("worker", ENGINE_OPTIONS="{}") for _ in range(3)]
    for node in workers:
        node.wait_ready()
    deadline, number, next_kill = time.monotonic() + _CHAOS_S, 0, 0.0
    try:
        while time.monotonic() < deadline:
            if load.unfinished() < 6 * _IN_FLIGHT:
                for _ in range(_IN_FLIGHT):
                    load.submit(f"job {(number := number + 1)}", chance.choice((_A, _B)))
            if time.monotonic() > next_kill:
                next_kill = time.monotonic() + _KILL_EVERY_S
                victim = chance.choice(workers)
                victim.kill()
                victim.start(ENGINE_OPTIONS="{}")
            time.sleep(0.1)
    finally:
        for node in workers:
            node.kill()
            site.cluster.nodes.remove(node)
    load.prove(180.0)
    wait_until(lambda: _are_few(lasting, before), 30, lambda: f"{before} became {list(map(file_count, lasting))}")
    assert not any(map(zombies, lasting))
    entries = Counter(entry.what for entry in load.evidence().diary)
    assert number >= _CHAOS_S / 2
    assert entries["claim"] - entries["done"] <= 0.15 * entries["done"] + _CHAOS_S / _KILL_EVERY_S, entries


def _are_few(nodes: Sequence[Node], before: Sequence[int]) -> bool:
    """Return whether each process has about as many open files as ``before``."""
    return all(abs(file_count(node) - files) <= _FILES for node, files in zip(nodes, before, strict=True))


def test_B11_a_broker_that_restarts_every_minute_costs_little_throughput(site: Site, load: Load) -> None:
    """At the end the consumers live, and at least 80 % of what a calm cluster does has been done."""
    load.text_of(_C)
    calm = _jobs_per_s(site, load, _CALM_S, "calm", restarts=False)
    rough = _jobs_per_s(site, load, _SOAK_S, "rough", restarts=True)
    load.prove(120.0)
    assert site.worker.is_ready()
    assert rough >= 0.8 * calm, (calm, rough)


def _jobs_per_s(site: Site, load: Load, for_s: float, name: str, *, restarts: bool) -> float:
    """Keep some jobs in flight, and return how many end per second."""
    began, number, restarted = time.monotonic(), 0, time.monotonic()
    before = sum(state in TERMINAL for state in load.states().values())
    while (elapsed_s := time.monotonic() - began) < for_s:
        if restarts and time.monotonic() - restarted > min(_RESTART_EVERY_S, _SOAK_S / 3):
            restarted = time.monotonic()
            site.rabbitmq.server.kill()
            site.rabbitmq.server.start()
        if load.unfinished() < _IN_FLIGHT:
            load.submit(f"{name} {(number := number + 1)}", _C)
        else:
            time.sleep(0.05)
    return (sum(state in TERMINAL for state in load.states().values()) - before) / elapsed_s


def test_an_hour_of_audio_is_done_sooner_by_two_workers() -> None:
    """The queue adds little to a section. Loose bounds: the machine of the tests has two cores for all processes."""
    found = jobs_cluster.measure()
    assert found["queue_median_ms"] <= 100, found
    assert found["speedup"] >= 1.5, found
