"""Callers who wait, leave and come back keep the same rules on SQLite and on PostgreSQL, for all processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update

from tests.jobs_support import LANES, TENANT, Shop, open_shop
from tympan.domain import Job, JobState, Lane, NewJob, Options, Source, SourceKind
from tympan.errors import IdempotencyMismatch, NotFound
from tympan.jobs.calls import Caller
from tympan.jobs.media import media_key
from tympan.jobs.service import IdempotencyKey, new_id
from tympan.storage.calls import CALLS
from tympan.storage.tables import bells, idempotency, jobs

ROUTE = "/v1/audio/transcriptions"


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on a database of the test's own."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url, rings=True) as opened:
        yield opened


def caller(alike: str = "a", *, key: str | None = None, is_retry: bool = False, for_s: float = 60.0) -> Caller:
    """Return somebody who asks for what ``alike`` stands for."""
    made = None if key is None else IdempotencyKey(ROUTE, key, alike)
    return Caller(TENANT, alike, new_id("call"), for_s, made, is_retry)


def begin(shop: Shop, first: Caller) -> Job:
    """Hand in a job for which somebody waits."""
    path = shop.pcm(1.0)
    source = Source(SourceKind.STORED, "", path.stat().st_size)
    new = NewJob(new_id("job"), source, Options(), lane=Lane.INTERACTIVE, deadline=shop.service.now_s() + 5.0)
    job, replayed = shop.service.submit(new, path, first.key, shop.service.calls.waiting(first, new.id))
    assert not replayed
    return job


def lapse(shop: Shop) -> None:
    """Let everybody's time be over."""
    over = update(idempotency).where(idempotency.c.route.in_(CALLS)).values(expires_at=shop.database.now() - 1)
    shop.database.write(lambda tx: tx.execute(over))


def is_there(shop: Shop, job: Job) -> bool:
    """Return whether the job is, and has its audio."""
    try:
        shop.get(job)
    except NotFound:
        assert shop.blobs.size(media_key(job.id)) is None
        assert not shop.database.read(lambda tx: tx.execute(select(idempotency)).all())
        return False
    return True


def test_who_has_the_answer_leaves_nothing(shop: Shop) -> None:
    """Without a key the last one to leave takes rows and audio along at once."""
    first = caller()
    job = begin(shop, first)
    shop.service.calls.leave(first, job.id, 0.0)
    assert not is_there(shop, job)


def test_nobody_takes_up_what_somebody_waits_for_but_a_retry(shop: Shop) -> None:
    """Calls that are alike at the same time are not one; a client that says that it comes again is believed."""
    first, calls = caller(), shop.service.calls
    job = begin(shop, first)
    assert calls.take_up(caller()) is None
    assert calls.take_up(caller("b", is_retry=True)) is None
    again = caller(is_retry=True)
    found = calls.take_up(again)
    assert found is not None
    assert found.id == job.id
    calls.leave(first, job.id, 0.0)
    assert is_there(shop, job), "somebody else waits yet"
    calls.leave(again, job.id, 0.0)
    assert not is_there(shop, job)


def test_what_was_left_is_taken_up_once(shop: Shop) -> None:
    """Whoever asks the same gets it, with time of their own; the next who does is worked for separately."""
    first, calls = caller(), shop.service.calls
    job = begin(shop, first)
    calls.leave(first, job.id, 30.0)
    assert calls.take_up(caller("b")) is None
    assert calls.take_up(Caller("another", "a", new_id("call"), 60.0)) is None
    found = calls.take_up(caller(for_s=500.0))
    assert found is not None
    assert found.id == job.id
    assert (shop.get(job).deadline or 0.0) > (job.deadline or 0.0) + 400
    assert calls.take_up(caller()) is None


def test_F6_what_was_left_stands_still_until_somebody_comes_back(shop: Shop) -> None:
    """No worker takes it; who comes back rings for it."""
    first, calls = caller(), shop.service.calls
    job = begin(shop, first)
    calls.leave(first, job.id, 30.0)
    assert shop.work.claim("worker", LANES) is None
    rung = shop.database.read(lambda tx: tx.execute(select(bells)).all())
    assert calls.take_up(caller()) is not None
    assert len(shop.database.read(lambda tx: tx.execute(select(bells)).all())) == len(rung) + 1
    claim = shop.work.claim("worker", LANES)
    assert claim is not None
    assert claim.job.id == job.id


def test_two_who_come_back_at_once_do_not_share(shop: Shop) -> None:
    """The second looked before the first took it; it is told that there is nothing."""
    first, store = caller(), shop.service.calls._store
    job = begin(shop, first)
    store.leave(first, job.id, 30.0)
    assert store.take_up(caller()) is not None
    assert shop.database.write(lambda tx: store._take(tx, caller(), job.id)) is None


def test_what_nobody_came_back_for_is_dropped(shop: Shop) -> None:
    """Not before its time, nor where somebody waits; then with everything there is of it."""
    first, calls, janitor = caller(), shop.service.calls, shop.janitor()
    job = begin(shop, first)
    janitor.sweep()
    calls.leave(first, job.id, 30.0)
    janitor.sweep()
    assert is_there(shop, job)
    second = caller()
    assert calls.take_up(second) is not None
    shop.upkeep.forget_keys()
    calls.leave(second, job.id, 30.0)
    lapse(shop)
    shop.upkeep.forget_keys()  # Which leaves the rows about callers alone: they say what is to be dropped.
    assert calls.take_up(caller()) is None
    janitor.sweep()
    assert not is_there(shop, job)


def test_a_process_that_died_does_not_keep_its_callers_jobs(shop: Shop) -> None:
    """Nobody said that they left; their time is over all the same."""
    job = begin(shop, caller())
    lapse(shop)
    assert shop.service.calls.drop_abandoned() == 1
    assert not is_there(shop, job)
    assert shop.service.calls.drop_abandoned() == 0


def test_who_comes_back_while_it_is_dropped_keeps_it(shop: Shop) -> None:
    """The one who drops looks once more, behind a lock: a caller has come in the meantime."""
    first, calls = caller(), shop.service.calls
    job = begin(shop, first)
    calls.leave(first, job.id, 30.0)
    found = calls._store.abandoned()
    lapse(shop)
    found = calls._store.abandoned()
    assert found == [(TENANT, job.id)]
    assert calls.take_up(caller(is_retry=True)) is None, "its time was over"
    shop.database.write(lambda tx: calls._store.begin(tx, caller(), job.id))
    assert not calls._store.drop(*found[0])
    assert is_there(shop, job)


def test_a_key_makes_calls_one_and_is_for_one_request_only(shop: Shop) -> None:
    """Also while somebody waits, and after the answer for a while; calls without it are others."""
    first, calls = caller(key="k"), shop.service.calls
    job = begin(shop, first)
    second = caller(key="k")
    assert calls.take_up(second) is not None
    with pytest.raises(IdempotencyMismatch):
        calls.take_up(caller("b", key="k"))
    calls.leave(first, job.id, 30.0)
    calls.leave(second, job.id, 30.0)
    third = caller(key="k")
    assert calls.take_up(third) is not None
    calls.leave(third, job.id, 0.0)
    assert not is_there(shop, job)
    assert calls.take_up(caller(key="k")) is None


@pytest.mark.parametrize("key", [None, "k"])
def test_what_has_failed_is_begun_anew(shop: Shop, key: str | None) -> None:
    """Nobody gets the failure of another call; the key is free for the next."""
    first, calls = caller(key=key), shop.service.calls
    job = begin(shop, first)
    calls.leave(first, job.id, 30.0)
    failed = update(jobs).where(jobs.c.id == job.id).values(state=JobState.FAILED.value)
    shop.database.write(lambda tx: tx.execute(failed))
    again = caller(key=key)
    assert calls.take_up(again) is None
    assert begin(shop, again).id != job.id
