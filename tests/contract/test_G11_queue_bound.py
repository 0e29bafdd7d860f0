"""G11: eight processes hand in jobs until they are refused. What waits is never beyond the bound, at no moment."""

import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs_support import Shop, open_shop
from tests.operations.support import rows
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.errors import Overloaded, StorageUnavailable
from tympan.jobs.service import new_id
from tympan.storage.database import Database, sqlite_url
from tympan.storage.endings import Endings
from tympan.storage.jobs import JobStore
from tympan.storage.queue_bound import ASSUMED_BYTES_PER_S, QueueBound, QueueLimits

PROCESSES = 8
REFUSALS = 20
LOOK_S = 0.1
LIMIT_S = 240.0
WAITING = "select count(*), coalesce(sum(source_bytes), 0) from jobs join steps on steps.job_id = jobs.id"


def _fill(url: str, limits: QueueLimits, seconds: float) -> None:
    """Hand in jobs of so many ``seconds``, as an api process does, until it has been refused often enough."""
    database = Database(url)
    bound = QueueBound(database, limits)
    store = JobStore(database, Endings(database, audio_days=1.0, text_days=1.0), bound=bound)
    source = Source(SourceKind.STORED, "", round(seconds * ASSUMED_BYTES_PER_S))
    refused = 0
    while refused < REFUSALS:
        try:
            bound.check()
            store.submit(NewJob(new_id("job"), source, Options()))
        except Overloaded:
            refused += 1
            time.sleep(LOOK_S / 2)
        except StorageUnavailable:  # SQLite has one writer at a time: another had its turn for too long.
            time.sleep(LOOK_S)
    database.close()


@contextlib.contextmanager
def _filling(*arguments: object) -> Iterator[list[multiprocessing.context.SpawnProcess]]:
    """Let eight processes fill the queue."""
    spawn = multiprocessing.get_context("spawn")
    clients = [spawn.Process(target=_fill, args=arguments) for _ in range(PROCESSES)]
    try:
        for client in clients:
            client.start()
        yield clients
    finally:
        for client in clients:
            client.kill()
            client.join(10)


def _looks(shop: Shop, clients: list[multiprocessing.context.SpawnProcess]) -> list[tuple[int, float]]:
    """Return how many steps and seconds of audio waited, looked at ten times a second until all were refused."""
    found, deadline = [], time.monotonic() + LIMIT_S
    while any(client.is_alive() for client in clients):
        count, n_bytes = rows(shop, WAITING)[0]
        found.append((int(str(count)), int(str(n_bytes)) / ASSUMED_BYTES_PER_S))
        assert time.monotonic() < deadline, found[-1]
        time.sleep(LOOK_S)
    assert [client.exitcode for client in clients] == [0] * PROCESSES
    return found


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        (QueueLimits(max_steps=1_000), 60.0),
        (QueueLimits(max_audio_s=60_000.0), 60.0),
        (QueueLimits(max_audio_s=7_200_000.0), 3_600.0),
    ],
    ids=["rows", "minutes", "hours"],
)
@pytest.mark.parametrize("kind", ["sqlite", "postgres"])
def test_G11_eight_processes_fill_the_queue_and_not_more(
    kind: str, limits: QueueLimits, seconds: float, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A look each tenth of a second never finds more than the bound and one; in the end it is full."""
    url = sqlite_url(tmp_path / "t.db") if kind == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path, url) as shop, _filling(url, limits, seconds) as clients:
        looks = _looks(shop, clients)
    most_steps, most_s = (max(one) for one in zip(*looks, strict=True))
    assert most_steps <= limits.max_steps + 1
    assert most_s <= limits.max_audio_s + seconds
    assert len(looks) >= 10
    assert looks[-1][0] == min(limits.max_steps, limits.max_audio_s // seconds)
