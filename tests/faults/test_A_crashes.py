"""Workers that die, freeze or are replaced while jobs run: bare processes on one database."""

import random
import time
from pathlib import Path

import pytest

from tests.faults.checker import check, left_over
from tests.faults.client import SETTLE_S, Client, expected_text
from tests.faults.evidence import Evidence, Remains
from tests.faults.house import ENDPOINT, House, Worker, open_house
from tests.faults.process import BAD, pcm
from tests.servers.keeper import family
from tests.servers.process import wait_until

_LENGTHS_S = (3.0, 6.0, 12.0, 22.0)


@pytest.mark.parametrize("wakes", ["while another does it", "when all is over"])
def test_A4_a_frozen_worker_that_wakes_up_writes_nothing(wakes: str, tmp_path: Path) -> None:
    """It holds a finished section when it is frozen; another worker does it again, and the late one is refused."""
    with open_house(tmp_path, slots=1) as house:
        client = Client(house, endpoint=ENDPOINT)
        # Frozen in the middle of a write, by another of its threads, it would hold SQLite's lock against everybody.
        frozen = house.start(fault="section.decoded:stop", takes_over=False, heartbeat_s=60.0, tidies=False)
        client.submit("one", pcm(22.0, 1), text=expected_text(22.0, 1))
        wait_until(lambda: _is_frozen(frozen), SETTLE_S)
        house.start(takes_over=False, window_ms=700.0 if wakes == "while another does it" else 5.0)
        if wakes == "while another does it":
            wait_until(lambda: 2 in _fences_of_first(house, "claim"), SETTLE_S)
        else:
            client.settle()
        frozen.cont()
        wait_until(lambda: "fence_rejected" in frozen.log(), SETTLE_S)
        client.settle()
        wait_until(lambda: frozen.ask("held")["busy"] == 0, SETTLE_S)
        assert frozen.log().count("fence_rejected") == 1
        house.ask("tidy")
        assert check(client.history, house.evidence()) == []
        # Two claims of one section, and the hand-in of the second alone.
        assert _fences_of_first(house, "claim") == [1, 2]
        assert _fences_of_first(house, "done") == [2]


def _fences_of_first(house: House, what: str) -> list[int | None]:
    return [entry.fence for entry in house.evidence().entries(what, "section") if entry.idx == 0]


def test_A4_a_worker_that_wakes_up_in_time_goes_on(tmp_path: Path) -> None:
    """A short freeze costs nothing: the lease is still good, and nobody does the work again."""
    with open_house(tmp_path, slots=1, lease_s=20.0, heartbeat_s=5.0) as house:
        client = Client(house)
        frozen = house.start(fault="section.decoded:stop")
        client.submit("one", pcm(8.0, 1), text=expected_text(8.0, 1))
        wait_until(lambda: _is_frozen(frozen), SETTLE_S)
        frozen.cont()
        client.settle()
        assert check(client.history, house.evidence()) == []
        assert [entry.fence for entry in house.evidence().entries("claim", "section")] == [1]


@pytest.mark.long
def test_A10_a_hundred_jobs_survive_random_kills_of_three_workers(tmp_path: Path) -> None:
    """Each ends once with its own text, and little is done twice."""
    _chaos(tmp_path, jobs=100, every=10)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_A10_a_thousand_jobs_survive_random_kills_of_three_workers(tmp_path: Path) -> None:
    """As above, with a hundred kills."""
    _chaos(tmp_path, jobs=1000, every=10)


def test_A11_a_worker_holds_no_more_after_many_jobs_than_after_a_few(tmp_path: Path) -> None:
    """Files, threads and children stay as many as they were, whatever the jobs came to."""
    with open_house(tmp_path, window_ms=0.0) as house:
        client = Client(house)
        worker = house.start()
        _all_sorts(client, range(10))
        warm = worker.ask("held")
        _all_sorts(client, range(10, 60))
        wait_until(lambda: worker.ask("held")["busy"] == 0, SETTLE_S)
        held = worker.ask("held")
        family_now = family(worker.pid)
        assert family_now == [worker.pid]
        remains = Remains(
            fds=held["fds"], fresh_fds=warm["fds"], threads=held["threads"], fresh_threads=warm["threads"]
        )
        assert list(left_over(remains)) == []
        assert check(client.history, house.evidence()) == []


def _all_sorts(client: Client, numbers: range) -> None:
    for number in numbers:
        if number % 5 == 0:
            client.submit(f"job {number}", BAD, ends=frozenset({"failed"}))
        elif number % 5 == 1:
            client.cancel(client.submit(f"job {number}", pcm(9.0, number), ends=frozenset({"cancelled"})))
        else:
            client.submit(f"job {number}", pcm(3.0, number))
    client.settle()


def _chaos(folder: Path, jobs: int, every: int) -> None:
    """Kill a worker each time that so many jobs have ended: by work done, so that a slow machine has no more of it."""
    draw = random.Random(jobs)  # noqa: S311
    with open_house(folder, slots=1, window_ms=25.0) as house:
        clients = Client(house, endpoint=ENDPOINT)
        taker = house.start(slots=0)  # It takes orders and does no work; it is not killed.
        for number in range(jobs):
            seconds = draw.choice(_LENGTHS_S)
            clients.submit(f"job {number}", pcm(seconds, number), text=expected_text(seconds, number))
        workers = [house.start() for _ in range(3)]
        house.workers.sort(key=lambda worker: worker is taker)  # The last one is asked.
        kills = _kill_until_done(house, workers, draw, every)
        clients.settle()
        house.ask("tidy")
        found = house.evidence()
        assert check(clients.history, found) == []
        assert len(clients.history.promises) == len(found.results) == jobs
        assert kills >= 3
        assert _repeated(found) <= 0.15


def _kill_until_done(house: House, workers: list[Worker], draw: random.Random, every: int) -> int:
    """Kill one worker after the other and start another in its place, until few are left to do."""
    kills = 0
    left: int = house.ask("open_jobs")
    deadline = time.monotonic() + 100 + 0.8 * left
    while left > every and time.monotonic() < deadline:
        wait_until(lambda goal=left - every: house.ask("open_jobs") <= goal, 100)  # type: ignore[misc]
        left = house.ask("open_jobs")
        victim = draw.randrange(len(workers))
        house.replace(workers[victim])
        workers[victim] = house.workers[0]
        kills += 1
    return kills


def _repeated(found: Evidence) -> float:
    """Return which share of the sections was transcribed again."""
    claims, done = len(found.entries("claim", "section")), len(found.entries("done", "section"))
    return (claims - done) / done


def _is_frozen(worker: Worker) -> bool:
    return Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
