"""The engine process dies, hangs, leaks or meets audio that kills it while jobs run; they go on, or say why not."""

import os
import random
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.batching_support import running
from tests.faults.checker import check
from tests.faults.client import SETTLE_S, Client, expected_text
from tests.faults.evidence import Evidence, gather, keep_diary
from tests.faults.process import Installation, Plan, pcm
from tests.jobs_support import TENANT, open_shop
from tests.servers.process import wait_until
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.host import EngineHost, HostOptions
from tympan.batching.queue import BatchLimits
from tympan.batching.recovery import RecoveryPolicy

_POISON = 12_345  # No sample of the other audio is as loud.
_JOB_S = 22.0


@dataclass(frozen=True, slots=True)
class Works:
    """Jobs over a batcher with a real engine process, made-up words, one window at a time."""

    batcher: Batcher
    installation: Installation
    client: Client
    counter: Path

    @property
    def engine_pid(self) -> int | None:
        """The engine's process, if there is one."""
        host = self.batcher._host
        return host.pid if isinstance(host, EngineHost) else None

    @property
    def windows(self) -> int:
        """How many windows engines have begun, dead ones included."""
        return self.counter.stat().st_size

    @property
    def windows_needed(self) -> int:
        """How many windows all results together consist of."""
        service = self.installation._shop.service
        told = [promise.told[-1] for promise in self.client.history.promises.values()]
        return sum(service.transcript(TENANT, job_id)[1].stats.windows for job_id in told)

    def kill_engine(self) -> None:
        """Do what a system short of memory does."""
        wait_until(lambda: self.engine_pid is not None and self.batcher.ready, SETTLE_S)
        os.kill(self.engine_pid or 0, signal.SIGKILL)

    def judge(self) -> Evidence:
        """Return what is there once every promise has been found kept."""
        shop = self.installation._shop
        found = gather(shop.database, shop.blobs)
        assert check(self.client.history, found) == []
        return found


@contextmanager
def works(
    folder: Path, knobs: Mapping[str, str], recovery: RecoveryPolicy | None = None, host: HostOptions | None = None
) -> Iterator[Works]:
    """Yield works in ``folder``."""
    counter = folder / "counter"
    options = BatcherOptions(
        batch=BatchLimits(max_windows=1),
        recovery=recovery or RecoveryPolicy(backoff_s=0.05),
        host=host or HostOptions(),
    )
    with open_shop(folder) as shop, running(options, {"counter": str(counter), **knobs}) as batcher:
        keep_diary(shop.database)
        installation = Installation(Plan(folder, slots=3), shop, folder, batcher)
        installation.start()
        try:
            yield Works(batcher, installation, Client(installation), counter)
        finally:
            installation.close()


def test_A1_an_engine_killed_in_a_window_costs_that_window(tmp_path: Path) -> None:
    """Six kills at random moments; the step that was running goes on by itself."""
    _kill_engines(tmp_path, 6)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_A1_fifty_engines_killed_in_a_window_cost_fifty_windows(tmp_path: Path) -> None:
    """As above."""
    _kill_engines(tmp_path, 50)


def _kill_engines(folder: Path, kills: int) -> None:
    draw = random.Random(kills)  # noqa: S311
    with works(folder, {"ms_per_window": "40"}) as place:
        client = place.client
        for number in range(kills):
            promise = client.submit(f"job {number}", pcm(_JOB_S, number), text=expected_text(_JOB_S, number))
            begun = place.windows if place.counter.exists() else 0
            wait_until(lambda begun=begun: place.counter.exists() and place.windows > begun, SETTLE_S)  # type: ignore[misc]
            time.sleep(draw.uniform(0.0, 0.1))
            place.kill_engine()
            client.wait(promise, lambda _, __: False)
        found = place.judge()
        assert place.batcher.stats().restarts == kills
        # No step was given to another worker for it, and nothing but the window in hand was begun again.
        assert {entry.fence for entry in found.entries("claim")} == {1}
        assert place.windows <= place.windows_needed + kills


def test_A3_the_death_of_the_engine_is_noticed_within_a_second(tmp_path: Path) -> None:
    """Also when nothing was asked of it."""
    with works(tmp_path, {}) as place:
        place.kill_engine()
        killed = time.monotonic()
        wait_until(lambda: place.batcher.stats().restarts == 1, SETTLE_S)
        assert time.monotonic() - killed < 1.0
        place.client.submit("after", pcm(4.0, 1), text=expected_text(4.0, 1))
        place.client.settle()
        place.judge()


def test_A5_a_job_whose_engine_hangs_ends_well(tmp_path: Path) -> None:
    """The hanging process is killed in its time, and its window goes to the next one."""
    knobs = {"hang_at": "2", "load_delay_s": "2"}  # Slow to come, so that nobody can miss that there is none.
    with works(tmp_path, knobs, host=HostOptions(hang_floor_s=0.5)) as place:
        wait_until(lambda: place.batcher.ready, SETTLE_S)
        started = time.monotonic()
        place.client.submit("one", pcm(_JOB_S, 1), text=expected_text(_JOB_S, 1))
        wait_until(lambda: place.batcher.stats().restarts == 1, SETTLE_S)
        assert time.monotonic() - started < 10
        assert not place.batcher.ready
        place.client.settle()
        assert {entry.fence for entry in place.judge().entries("claim")} == {1}


def test_A6_an_engine_that_leaks_is_replaced_between_windows(tmp_path: Path) -> None:
    """It never holds more than its limit and what one window leaks, and no job suffers."""
    leak_mb, room_mb = 20, 70
    with works(tmp_path, {}) as place:
        wait_until(lambda: (place.batcher.memory_bytes or 0) > 0, SETTLE_S)
        limit = (place.batcher.memory_bytes or 0) + (room_mb << 20)
    policy = RecoveryPolicy(backoff_s=0.05, max_memory_bytes=limit)
    (tmp_path / "leaky").mkdir()
    with works(tmp_path / "leaky", {"leak_mb": str(leak_mb), "ms_per_window": "20"}, policy) as place:
        for number in range(6):
            place.client.submit(f"job {number}", pcm(8.0, number), text=expected_text(8.0, number))
        most = 0
        while place.installation.open_jobs():
            most = max(most, place.batcher.memory_bytes or 0)
            time.sleep(0.005)
        place.client.settle()
        place.judge()
        assert place.batcher.stats().restarts >= 2
        assert limit - (leak_mb << 20) < most <= limit + ((leak_mb + 20) << 20)


def test_A7_audio_that_kills_every_engine_is_given_up_and_its_neighbours_are_not(tmp_path: Path) -> None:
    """Three engines die of it, no more; its job says why it failed, and the others end as if it had not been."""
    audio = np.frombuffer(pcm(8.0, 99), dtype=np.int16).copy()
    audio[16_000] = _POISON
    with works(tmp_path, {"poison": str(_POISON), "poison_does": "abort", "ms_per_window": "20"}) as place:
        client = place.client
        for number in range(3):
            client.submit(f"before {number}", pcm(12.0, number), text=expected_text(12.0, number))
        client.submit("poison", audio.tobytes(), ends=frozenset({"failed"}), error_code="audio_quarantined")
        for number in range(3, 6):
            client.submit(f"after {number}", pcm(12.0, number), text=expected_text(12.0, number))
        client.settle()
        found = place.judge()
        assert place.batcher.stats().restarts == 3
        assert {entry.fence for entry in found.entries("claim")} == {1}
        assert not found.entries("lapse")
