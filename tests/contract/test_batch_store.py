"""Batches on both databases: all or none, counted down once, ended and erased while workers do the same."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.jobs_support import LANES, TENANT, Shop, in_thread, open_shop
from tympan.domain import SAMPLE_RATE_HZ, Job, JobState, NewJob, Options, Source, SourceKind
from tympan.errors import IdempotencyMismatch, NotFound
from tympan.jobs.batches import NewBatch
from tympan.jobs.service import IdempotencyKey, new_id


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on each database."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url, rings=request.param == "postgres") as opened:
        yield opened


def members(batch_id: str, n_jobs: int, seconds: float = 2.0) -> list[NewJob]:
    """Return new jobs of a batch, their audio in files of their own."""
    ids = sorted(new_id("job") for _ in range(n_jobs))
    source = Source(SourceKind.STORED, "", round(seconds * SAMPLE_RATE_HZ) * 2)
    return [NewJob(job_id, source, Options(), batch_id=batch_id) for job_id in ids]


def hand_in(shop: Shop, n_jobs: int, seconds: float = 2.0) -> tuple[str, list[Job]]:
    """Hand in a batch; return its id and its jobs."""
    new = NewBatch(new_id("batch"))
    jobs = members(new.id, n_jobs, seconds)
    media = {job.id: shop.pcm(seconds) for job in jobs}
    shop.service.batches.submit(new, jobs, media)
    return new.id, shop.service.batches.members(TENANT, new.id, n_jobs, "")


def test_a_batch_is_worked_off_in_the_order_of_its_items(shop: Shop) -> None:
    """And ends with its last job, at the database's time."""
    batch_id, jobs = hand_in(shop, 4)
    running = shop.service.batches.get(TENANT, batch_id)
    assert (running.total, running.pending, running.finished_at) == (4, 4, None)
    shop.work_off()
    ended = [shop.get(job) for job in jobs]
    assert {job.state for job in ended} == {JobState.SUCCEEDED}
    starts = [job.started_at or 0 for job in ended]
    assert starts == sorted(starts)
    done = shop.service.batches.get(TENANT, batch_id)
    assert (done.pending, done.counts[JobState.SUCCEEDED], done.audio_s_done) == (0, 4, 8.0)
    assert done.finished_at is not None
    assert done.finished_at >= max(job.finished_at or 0 for job in ended)


def test_bulk_insertion_charges_like_single_ones(shop: Shop) -> None:
    """A tenant's jobs get the same places in the fair order either way."""
    _, jobs = hand_in(shop, 3)
    for _ in range(3):
        shop.submit(2.0)
    tags = shop.database.read(lambda tx: [row[0] for row in tx.exec_driver_sql("select tag_s from steps order by id")])
    gaps = [later - earlier for earlier, later in pairwise(tags)]
    assert len(jobs) == 3
    assert gaps == pytest.approx([gaps[0]] * 5)
    assert gaps[0] > 0


def test_nothing_is_stored_when_one_job_cannot_be(shop: Shop) -> None:
    """A duplicate id in the middle undoes the batch and every other job."""
    new = NewBatch(new_id("batch"))
    jobs = members(new.id, 3)
    with pytest.raises(NotFound):  # The second try after a broken commit would find the batch; here there is none.
        shop.service.batches.submit(new, [*jobs, jobs[0]], {})
    assert sum(shop.service.counts().values()) == 0
    assert shop.service.batches.page(TENANT, 10, None) == []


def test_a_key_leads_to_the_batch(shop: Shop) -> None:
    """For one tenant and one request."""
    key = IdempotencyKey("POST /v1/batches", "k", "f")
    first = NewBatch(new_id("batch"))
    assert shop.service.batches.submit(first, members(first.id, 2), {}, key)[1] is False
    second = NewBatch(new_id("batch"))
    found, replayed = shop.service.batches.submit(second, members(second.id, 2), {}, key)
    assert (found.id, replayed) == (first.id, True)
    with pytest.raises(IdempotencyMismatch):
        shop.service.batches.earlier(TENANT, IdempotencyKey("POST /v1/batches", "k", "other"))
    shop.service.batches.erase(TENANT, first.id)
    assert shop.service.batches.earlier(TENANT, key) is None


def test_batches_of_other_tenants_are_not_found(shop: Shop) -> None:
    """To look at, cancel or erase."""
    batch_id, _ = hand_in(shop, 1)
    for action in (shop.service.batches.get, shop.service.batches.cancel, shop.service.batches.erase):
        with pytest.raises(NotFound):
            action("other", batch_id)
    assert shop.service.batches.members("other", batch_id, 10, "") == []
    assert shop.service.batches.page("other", 10, None) == []


@pytest.mark.parametrize("action", ["cancel", "erase"])
def test_batches_end_while_workers_end_their_jobs(shop: Shop, action: str) -> None:
    """Neither waits for the other for ever, and every job is counted once."""
    batch_id, _ = hand_in(shop, 120, 1.0)
    bench = shop.bench("busy")
    stopped: list[int] = []

    def work() -> None:
        done = 0
        while bench.work_once(LANES):
            done += 1
        stopped.append(done)

    threads = [in_thread(work) for _ in range(2)]
    getattr(shop.service.batches, action)(TENANT, batch_id)
    for thread in threads:
        thread.join(60)
    assert len(stopped) == 2
    shop.work_off("other")
    if action == "erase":
        assert sum(shop.service.counts().values()) == 0
        return
    done = shop.service.batches.get(TENANT, batch_id)
    assert (done.pending, sum(done.counts.values())) == (0, 120)
    assert done.counts[JobState.CANCELLED] + done.counts[JobState.SUCCEEDED] == 120
    assert done.finished_at is not None
