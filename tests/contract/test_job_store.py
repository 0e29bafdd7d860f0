"""The stores of jobs keep the same promises on SQLite and on PostgreSQL."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, func, select, text, update
from sqlalchemy.exc import DBAPIError

from tests.jobs_support import LANES, TENANT, Shop, open_shop
from tests.servers.process import wait_until
from tympan.domain import DecodeStats, Job, JobState, Lane, NewJob, Options, Source, SourceKind, StepKind
from tympan.errors import CorruptMedia, IdempotencyMismatch, NotFound, Overloaded, StorageUnavailable
from tympan.jobs.service import new_id
from tympan.storage import queue_bound
from tympan.storage.codec import Prepared, SectionResult
from tympan.storage.jobs import IdempotencyKey, JobFilter, JobStore
from tympan.storage.outbox import Outbox, Waiting
from tympan.storage.queue_bound import QueueBound, QueueLimits
from tympan.storage.tables import bells, events, jobs, results, steps, tenants, webhook_endpoints
from tympan.storage.upkeep import MAX_CRASHES, Worker
from tympan.storage.work import Claim, Cut, LeaseLost

_SECOND = 16_000
_DONE = SectionResult((), (("en", 1.0),), DecodeStats(), "demo", 0.1)


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return stores on a database of the test's own, which ring doorbells."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url, rings=True) as opened:
        yield opened


def _new(seconds: float = 10.0, **fields: object) -> NewJob:
    source = Source(SourceKind.STORED, "", round(seconds * 8_000))
    return NewJob(new_id("job"), source, Options(), **fields)  # type: ignore[arg-type]


def _submit(shop: Shop, seconds: float = 10.0, **fields: object) -> Job:
    return shop.store.submit(_new(seconds, **fields))[0]


def _claim(shop: Shop, owner: str = "w") -> Claim:
    claim = shop.work.claim(owner, LANES)
    assert claim is not None
    return claim


def _scalar(shop: Shop, query: object) -> object:
    return shop.database.read(lambda tx: tx.scalar(query))  # type: ignore[call-overload]


def _lapse(shop: Shop, claim: Claim) -> None:
    """Let a claim's lease have run out."""
    late = update(steps).where(steps.c.id == claim.step_id).values(lease_until=shop.database.now() - 1)
    shop.database.write(lambda tx: tx.execute(late))


def test_a_job_is_stored_as_it_was_handed_in(shop: Shop) -> None:
    """What is read is what was written, times are the database's."""
    new = _new(lane=Lane.INTERACTIVE, priority=3, deadline=time.time() + 60, metadata='{"a": "ü"}', model="m")
    stored, replayed = shop.store.submit(new)
    assert not replayed
    assert shop.store.get(TENANT, new.id) == stored
    assert (stored.state, stored.lane, stored.priority, stored.metadata) == (
        JobState.QUEUED, Lane.INTERACTIVE, 3, '{"a": "ü"}',
    )  # fmt: skip
    assert abs(stored.created_at - time.time()) < 5
    assert stored.deadline == new.deadline


def test_another_tenants_job_is_not_there(shop: Shop) -> None:
    """Reading, cancelling and erasing need the right tenant."""
    job = _submit(shop)
    for act in (shop.store.get, shop.store.cancel, shop.store.erase):
        with pytest.raises(NotFound):
            act("other", job.id)
    with pytest.raises(NotFound):
        shop.store.result("other", job.id)
    assert shop.store.page("other", JobFilter()) == []


def test_pages_are_newest_first_and_filtered(shop: Shop) -> None:
    """A page starts after the last id of the one before it."""
    made = [_submit(shop).id for _ in range(5)][::-1]
    first = [job.id for job in shop.store.page(TENANT, JobFilter(limit=2))]
    rest = [job.id for job in shop.store.page(TENANT, JobFilter(limit=9, after=first[-1]))]
    assert first + rest == made
    shop.store.cancel(TENANT, made[0])
    cancelled = shop.store.page(TENANT, JobFilter(states=(JobState.CANCELLED,)))
    assert [job.id for job in cancelled] == [made[0]]
    assert shop.store.counts()[JobState.QUEUED] == 4


def test_N1_one_key_makes_one_job_however_many_ask_at_once(shop: Shop) -> None:
    """Sixteen equal requests at the same time get the same job."""
    key = IdempotencyKey("jobs", "k1", "digest")
    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(lambda _: shop.store.submit(_new(), key), range(16)))
    assert len({job.id for job, _ in found}) == 1
    assert sum(not replayed for _, replayed in found) == 1
    assert _scalar(shop, select(text("count(*)")).select_from(jobs)) == 1


def test_N2_the_same_key_for_another_request_is_refused(shop: Shop) -> None:
    """And leaves neither job nor step nor doorbell behind."""
    shop.store.submit(_new(), IdempotencyKey("jobs", "k1", "one"))
    with pytest.raises(IdempotencyMismatch):
        shop.store.submit(_new(), IdempotencyKey("jobs", "k1", "two"))
    assert _scalar(shop, select(text("count(*)")).select_from(jobs)) == 1
    assert _scalar(shop, select(text("count(*)")).select_from(bells)) == 1


def test_claims_go_by_lane_then_priority_then_fair_order(shop: Shop) -> None:
    """Interactive work first, then what is more urgent, then whose turn it is."""
    late = _submit(shop, 100.0)
    urgent = _submit(shop, priority=5)
    quick = _submit(shop, lane=Lane.INTERACTIVE)
    assert [_claim(shop).job.id for _ in range(3)] == [quick.id, urgent.id, late.id]
    assert shop.work.claim("w", LANES) is None


def test_G3_a_tenant_with_many_jobs_does_not_keep_another_waiting(shop: Shop) -> None:
    """The one job of the second tenant comes second."""
    for _ in range(10):
        _submit(shop, 300.0, tenant="many")
    one = _submit(shop, 300.0, tenant="one")
    assert one.id in [_claim(shop).job.id for _ in range(2)]


def test_a_worker_takes_what_it_has_the_model_for(shop: Shop) -> None:
    """Jobs that name no model are for everybody, others wait for who serves theirs; nobody's turn is lost."""
    for name in ("large", None, "base"):
        _submit(shop, model=name)
    claimed = [shop.work.claim("w1", LANES, (), ("base", "tiny")) for _ in range(3)]
    assert [claim.job.model if claim else "nothing" for claim in claimed] == [None, "base", "nothing"]
    other = shop.work.claim("w2", LANES, (), ("large",))
    assert other is not None
    assert other.job.model == "large"
    _submit(shop, model="unknown")
    assert shop.work.claim("w2", LANES, (), ()) is None
    assert shop.work.claim("w3", LANES) is not None, "whoever says nothing takes all"


def test_a_job_without_a_model_keeps_the_one_it_began_with(shop: Shop) -> None:
    """Sections that run elsewhere or later are for the same one; what was asked for is never changed."""
    job = _submit(shop)
    claim = shop.work.claim("w1", LANES)
    assert claim is not None
    shop.work.settle(claim, (("en", 1.0),), "base")
    assert shop.store.get(TENANT, job.id).model == "base"
    shop.work.settle(claim, (("en", 1.0),), "tiny")
    assert shop.store.get(TENANT, job.id).model == "base"


def test_a_step_is_claimed_once_however_many_ask(shop: Shop) -> None:
    """Twenty steps, eight workers: twenty claims, none double."""
    for _ in range(20):
        _submit(shop)

    def take(owner: str) -> list[int]:
        found = []
        while (claim := shop.work.claim(owner, LANES)) is not None:
            found.append(claim.step_id)
        return found

    with ThreadPoolExecutor(8) as threads:
        taken = [step for part in threads.map(take, map(str, range(8))) for step in part]
    assert len(taken) == len(set(taken)) == 20


def test_a_job_goes_through_prepare_sections_and_finish(shop: Shop) -> None:
    """The last of prepare and sections to be handed in makes the finish claimable, whichever that is."""
    job = _submit(shop)
    prepare = _claim(shop)
    shop.work.add_section(prepare, Cut(0, 0, 5 * _SECOND))
    early = _claim(shop)
    assert (early.kind, early.index) == (StepKind.SECTION, 0)
    shop.work.commit_section(early, _DONE, "one")
    shop.work.add_section(prepare, Cut(1, 5 * _SECOND, 8 * _SECOND))
    shop.work.prepared(prepare, 2, Prepared(8 * _SECOND, 8 * _SECOND), "print")
    assert [(part.index, part.text) for part in shop.store.partial_texts(job.id)] == [(0, "one")]
    late = _claim(shop)
    shop.work.commit_section(late, _DONE, "two")
    finish = _claim(shop)
    assert finish.kind is StepKind.FINISH
    prepared, found = shop.work.results(finish)
    assert (prepared.audio_samples, len(found)) == (8 * _SECOND, 2)
    shown = shop.store.get(TENANT, job.id).progress
    assert (shown.sections_done, shown.sections_total, shown.audio_s_done) == (2, 2, 8.0)


def test_a_section_that_was_cut_before_is_kept(shop: Shop) -> None:
    """A second run of prepare adds nothing; one that cuts otherwise replaces what is behind the cut."""
    _submit(shop)
    prepare = _claim(shop)
    for _ in range(2):
        shop.work.add_section(prepare, Cut(0, 0, 100))
        shop.work.add_section(prepare, Cut(1, 100, 200))
    shop.work.commit_section(_claim(shop), _DONE, "one")
    assert shop.work.section_ends(prepare) == {100, 200}
    shop.work.add_section(prepare, Cut(0, 0, 50))
    assert shop.work.section_ends(prepare) == {50}
    progress = shop.store.get(TENANT, prepare.job.id).progress
    assert (progress.sections_done, progress.audio_s_done) == (0, 0.0)


def test_a_section_that_lost_its_audio_waits_until_it_is_cut_again(shop: Shop) -> None:
    """Nobody gets it before; the job cannot end meanwhile, and does when all of it is there."""
    job = _submit(shop)
    prepare = _claim(shop)
    cuts = [Cut(0, 0, 4 * _SECOND), Cut(1, 4 * _SECOND, 8 * _SECOND)]
    for cut in cuts:
        shop.work.add_section(prepare, cut)
    shop.work.prepared(prepare, 2, Prepared(8 * _SECOND, 8 * _SECOND), "f")
    lost = _claim(shop)
    shop.work.cut_again(lost)
    with pytest.raises(LeaseLost):
        shop.work.cut_again(lost)
    again = _claim(shop)
    assert (again.kind, again.fence) == (StepKind.PREPARE, prepare.fence + 1)
    other = _claim(shop)
    assert other.index == 1
    assert shop.work.claim("worker", LANES) is None
    shop.work.add_section(again, cuts[0])
    found = _claim(shop)
    assert (found.kind, found.index, found.retries) == (StepKind.SECTION, 0, 1)
    for claim in (found, other):
        shop.work.commit_section(claim, _DONE, "text")
    assert shop.work.claim("worker", LANES) is None
    shop.work.add_section(again, cuts[1])
    shop.work.prepared(again, 2, Prepared(8 * _SECOND, 8 * _SECOND), "f")
    assert _claim(shop).kind is StepKind.FINISH
    assert shop.store.get(TENANT, job.id).progress.sections_done == 2


def test_A4_who_lost_the_lease_can_write_nothing(shop: Shop) -> None:
    """Every write of the old holder is refused once somebody else has the step; the new one's are not."""
    _submit(shop)
    old = _claim(shop, "old")
    _lapse(shop, old)
    assert shop.upkeep.release_expired() == 1
    new = _claim(shop, "new")
    assert (new.step_id, new.fence) == (old.step_id, old.fence + 1)
    writes: tuple[Callable[[], None], ...] = (
        lambda: shop.work.add_section(old, Cut(0, 0, 1)),
        lambda: shop.work.prepared(old, 1, Prepared(1, 1), "print"),
        lambda: shop.work.commit_section(old, _DONE, "text"),
        lambda: shop.work.settle(old, (("en", 1.0),)),
        lambda: shop.work.fail(old, CorruptMedia()),
        lambda: shop.work.retry(old, 0.0),
        lambda: shop.work.release(old),
    )
    for write in writes:
        with pytest.raises(LeaseLost):
            write()
    assert shop.work.extend("old", [old.step_id]) == set()
    assert shop.work.held("new") == {new.step_id}
    shop.work.release(new)


def test_a_lease_that_has_run_out_is_no_good_even_before_it_is_given_on(shop: Shop) -> None:
    """The database's clock decides, not whether the sweeper has been."""
    _submit(shop)
    claim = _claim(shop)
    _lapse(shop, claim)
    with pytest.raises(LeaseLost):
        shop.work.release(claim)


def test_A7_a_step_that_kills_its_workers_ends_the_job(shop: Shop) -> None:
    """After so many lost leases the job has failed as quarantined, and nothing of it can be claimed."""
    job = _submit(shop)
    for _ in range(MAX_CRASHES):
        _lapse(shop, _claim(shop))
        shop.upkeep.release_expired()
    found = shop.store.get(TENANT, job.id)
    assert found.state is JobState.FAILED
    assert found.error is not None
    assert found.error.code == "quarantined"
    assert shop.work.claim("w", LANES) is None


def test_retries_are_counted_and_wait_and_releases_are_not(shop: Shop) -> None:
    """A retry is claimable after its delay, a release at once."""
    _submit(shop)
    shop.work.release(_claim(shop))
    again = _claim(shop)
    assert (again.retries, again.job.attempts) == (0, 1)
    shop.work.retry(again, 0.3)
    assert shop.work.claim("w", LANES) is None
    wait_until(lambda: (claim := shop.work.claim("w", LANES)) is not None and claim.retries == 1, 5)


def test_I3_an_ended_job_does_not_change(shop: Shop) -> None:
    """Cancelling twice, failing after that, expiring: the first ending stands, with its time."""
    job = _submit(shop, deadline=time.time() + 3600)
    claim = _claim(shop)
    first = shop.store.cancel(TENANT, job.id)
    assert first.state is JobState.CANCELLED
    with pytest.raises(LeaseLost):
        shop.work.fail(claim, CorruptMedia())
    assert shop.store.cancel(TENANT, job.id).finished_at == first.finished_at
    shop.upkeep.expire_deadlines()
    assert shop.store.get(TENANT, job.id).state is JobState.CANCELLED


def test_I3_the_database_itself_keeps_ended_jobs_ended(shop: Shop) -> None:
    """Even a statement past all our code is refused."""
    job = _submit(shop)
    shop.store.cancel(TENANT, job.id)
    revive = update(jobs).where(jobs.c.id == job.id).values(state="running")
    with pytest.raises(DBAPIError, match="the job has ended"):
        shop.database.write(lambda tx: tx.execute(revive))
    assert shop.store.get(TENANT, job.id).state is JobState.CANCELLED


def test_a_passed_deadline_ends_a_job_when_it_is_claimed_or_swept(shop: Shop) -> None:
    """Nothing starts after its deadline."""
    claimed, swept = _submit(shop, deadline=time.time() - 1), _submit(shop, deadline=time.time() - 1)
    assert shop.work.claim("w", [Lane.BATCH]) is None
    assert {shop.store.get(TENANT, job.id).state for job in (claimed, swept)} == {JobState.EXPIRED}
    third = _submit(shop, deadline=time.time() - 1)
    assert shop.upkeep.expire_deadlines() == 1
    assert shop.store.get(TENANT, third.id).state is JobState.EXPIRED


def test_a_job_that_is_erased_leaves_no_row(shop: Shop) -> None:
    """Steps, results, events and keys go with it, and the key can be used again."""
    key = IdempotencyKey("jobs", "k", "f")
    job = shop.store.submit(_new(), key)[0]
    shop.store.erase(TENANT, job.id)
    for table in (jobs, steps, results, events):
        assert _scalar(shop, select(text("count(*)")).select_from(table)) == 0
    with pytest.raises(NotFound):
        shop.store.erase(TENANT, job.id)
    assert not shop.store.submit(_new(), key)[1]


def test_I4_an_ending_writes_one_event_and_one_delivery(shop: Shop) -> None:
    """For a job with an endpoint; none for one without."""

    def endpoint(tx: Connection) -> None:
        values = {"id": "ep", "tenant": TENANT, "url": "http://x", "description": "", "state": "active"}
        more = {"secret": "s", "implicit": False, "created_at": 0.0}
        tx.execute(webhook_endpoints.insert().values(**values, **more))

    shop.database.write(endpoint)
    silent, heard = _submit(shop), _submit(shop, webhook_endpoint="ep")
    for job in (silent, heard, heard):
        shop.store.cancel(TENANT, job.id)
    found = shop.database.read(lambda tx: tx.execute(select(events.c.subject_id, events.c.type)).all())
    assert [tuple(row) for row in found] == [(heard.id, "job.cancelled")]
    assert _scalar(shop, text("select count(*) from deliveries")) == 1


def test_retention_has_the_tenants_own_days(shop: Shop) -> None:
    """Zero days: due at once, audio and text, and noted when it is gone."""
    shop.database.write(lambda tx: tx.execute(tenants.insert().values(id="brief", audio_days=0, text_days=0)))
    kept, gone = _submit(shop), _submit(shop, tenant="brief")
    shop.store.cancel(TENANT, kept.id)
    shop.store.cancel("brief", gone.id)
    wait_until(lambda: shop.upkeep.audio_due() == [gone.id], 5)
    assert [job.id for job in shop.upkeep.text_due()] == [gone.id]
    assert shop.upkeep.with_audio([kept.id, gone.id, "none"]) == {kept.id, gone.id}
    shop.upkeep.audio_gone([gone.id])
    assert shop.upkeep.with_audio([kept.id, gone.id]) == {kept.id}


@pytest.mark.parametrize("limits", [QueueLimits(max_steps=12), QueueLimits(max_audio_s=120.0)])
def test_G11_the_queue_is_never_over_its_bound(shop: Shop, limits: QueueLimits) -> None:
    """Eight who hand in at once, each with a count of its own as processes have, fill it and not more."""
    stores = [
        JobStore(shop.database, shop.store.endings, bound=QueueBound(shop.database, limits)) for _ in range(8)
    ]  # fmt: skip
    refused = []

    def fill(store: JobStore) -> int:
        count = 0
        while True:
            try:
                store.bound.check()
                store.submit(_new(10.0))
            except Overloaded as error:
                refused.append(error)
                return count
            count += 1

    with ThreadPoolExecutor(8) as clients:
        taken = sum(clients.map(fill, stores))
    assert taken == 12
    assert shop.database.read(lambda tx: tx.scalar(select(func.count()).select_from(steps))) == 12
    assert all(1.0 <= (error.retry_after_s or 0.0) <= 3600.0 for error in refused)


def test_G11_long_jobs_are_counted_from_the_start(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some dozens of them fill an empty queue faster than anybody looks again: also then it is not over its bound."""
    monkeypatch.setattr(queue_bound, "_COUNT_EVERY_S", 1_000.0)
    bounds = [QueueBound(shop.database, QueueLimits(max_audio_s=7_200_000.0)) for _ in range(8)]
    stores = [JobStore(shop.database, shop.store.endings, bound=bound) for bound in bounds]
    for bound in bounds:
        bound.check()
    taken = 0
    for store in stores:
        for _ in range(30):
            with contextlib.suppress(Overloaded):
                store.submit(_new(250_000.0))
                taken += 1
    assert taken == 28


def test_G11_the_time_to_come_back_follows_the_workers(shop: Shop) -> None:
    """What is too much, at the rate at which they work; calls that are answered at once do not count here."""
    bound = QueueBound(shop.database, QueueLimits(max_audio_s=100.0))
    store = JobStore(shop.database, shop.store.endings, bound=bound)
    shop.upkeep.seen(Worker("w", 4, 0, 0.5))
    store.submit(_new(60.0))
    with pytest.raises(Overloaded) as caught:
        store.submit(_new(60.0))
    assert caught.value.retry_after_s is not None
    store.submit(_new(60.0, lane=Lane.INTERACTIVE))
    store.submit(_new(39.0))
    shop.upkeep.seen(Worker("w", 4, 0, 0.1))
    with pytest.raises(Overloaded) as caught:
        QueueBound(shop.database, QueueLimits(max_audio_s=90.0)).check()
    assert caught.value.retry_after_s == pytest.approx((99.0 - 0.99 * 90.0) / 0.1, rel=0.01)


def test_what_waits_is_counted(shop: Shop) -> None:
    """A queue is full at its limit; a job knows its place and the work before it."""
    first, second = _submit(shop), _submit(shop)
    bound = QueueBound(shop.database, QueueLimits(max_steps=2))
    with pytest.raises(Overloaded, match="2 pieces of work"):
        bound.check()
    found = [shop.store.prospects(TENANT, job.id) for job in (first, second)]
    assert [(job.id, standing and standing.position) for job, standing in found] == [(first.id, 1), (second.id, 2)]
    assert shop.store.backlog_s() == pytest.approx(20.0)
    shop.upkeep.seen(Worker("w", 4, 0, 50.0))
    _, standing = shop.store.prospects(TENANT, first.id)
    assert standing is not None
    assert standing.rate == pytest.approx(50.0)
    shop.store.cancel(TENANT, first.id)
    job, standing = shop.store.prospects(TENANT, first.id)
    assert (job.state, standing) == (JobState.CANCELLED, None)
    assert shop.upkeep.has_workers()
    shop.upkeep.gone("w")
    assert not shop.upkeep.has_workers()


def test_a_look_at_a_job_is_one_statement(shop: Shop) -> None:
    """Whatever state it is in: a poll is what a server is asked most, and each statement costs it a millisecond."""
    said: list[str] = []

    def note(_connection: Connection, _cursor: object, statement: str, *_others: object) -> None:
        said.append(statement.split(maxsplit=1)[0].lower())

    waits, ended = _submit(shop), _submit(shop)
    shop.store.cancel(TENANT, ended.id)
    event.listen(shop.database.engine, "before_cursor_execute", note)
    try:
        for job in (waits, ended):
            said.clear()
            shop.store.prospects(TENANT, job.id)
            assert [word for word in said if word != "begin"] == ["select"]
        said.clear()
        with pytest.raises(NotFound):
            shop.store.prospects("another", waits.id)
        assert said
    finally:
        event.remove(shop.database.engine, "before_cursor_execute", note)


def test_a_doorbell_goes_out_for_each_step_that_becomes_ready(shop: Shop) -> None:
    """It is written with the step, and taken from the outbox when it was sent."""
    outbox, sent = Outbox(shop.database), list[Lane]()
    assert outbox.backlog() == Waiting(0, 0.0)
    _submit(shop)
    _submit(shop, lane=Lane.INTERACTIVE)
    assert outbox.waiting() == 2
    assert 0.0 < outbox.backlog().lag_s < 100.0
    assert outbox.publish(sent.extend) == 2
    assert sent == [Lane.BATCH, Lane.INTERACTIVE]
    assert outbox.publish(sent.extend) == outbox.waiting() == 0


def test_B1_a_doorbell_that_could_not_be_sent_stays(shop: Shop) -> None:
    """Whatever the sender raised."""
    outbox = Outbox(shop.database)
    _submit(shop)

    def broken(_: object) -> None:
        raise StorageUnavailable

    with pytest.raises(StorageUnavailable):
        outbox.publish(broken)
    assert outbox.waiting() == 1


def test_B5_lost_doorbells_are_rung_again_while_somebody_has_room(shop: Shop) -> None:
    """One for each waiting step, as far as workers have room, without those that are still to be sent."""
    outbox = Outbox(shop.database)
    for _ in range(3):
        _submit(shop)
    assert shop.upkeep.ring_idle() == 0  # Nobody is there, and three bells wait.
    outbox.publish(lambda _: None)
    assert shop.upkeep.ring_idle() == 0
    shop.upkeep.seen(Worker("w", 4, 2))
    assert shop.upkeep.ring_idle() == 2
    assert shop.upkeep.ring_idle() == 0
    assert outbox.waiting() == 2


def test_several_relays_send_a_doorbell_once(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """On PostgreSQL, which lets several publish at the same time, each takes others."""
    with open_shop(tmp_path / "shop", request.getfixturevalue("postgres").url, rings=True) as shop:
        for _ in range(10):
            _submit(shop)
        outbox, sent, both = Outbox(shop.database), list[Lane](), threading.Barrier(2, timeout=10)

        def send(lanes: Sequence[Lane]) -> None:
            both.wait()
            sent.extend(lanes)

        with ThreadPoolExecutor(2) as threads:
            counts = list(threads.map(lambda _: outbox.publish(send, 5), range(2)))
        assert (counts, len(sent), outbox.waiting()) == ([5, 5], 10, 0)


def test_a_deadlock_is_tried_again(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """C4: two transactions that lock each other's rows both succeed; PostgreSQL gives up one, which runs again."""
    with open_shop(tmp_path / "shop", request.getfixturevalue("postgres").url) as shop:
        rows = [_submit(shop).id for _ in range(2)]
        both, tries = threading.Barrier(2), []

        def lock(order: list[str]) -> None:
            tries.append(order)
            for number, job_id in enumerate(order):
                tx_now().execute(update(jobs).where(jobs.c.id == job_id).values(model="x"))
                if not number and len(tries) <= 2:
                    both.wait(10)

        local = threading.local()

        def tx_now() -> Connection:
            found: Connection = local.tx
            return found

        def work(order: list[str]) -> None:
            def inside(tx: Connection) -> None:
                local.tx = tx
                lock(order)

            shop.database.write(inside)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(work, [rows, rows[::-1]]))
        assert len(tries) == 3


def test_workers_in_parallel_leave_nothing_behind(shop: Shop) -> None:
    """Eight jobs of real audio, four workers over the made-up engine: all succeed, no step is left."""
    made = [shop.submit(12.0, seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(shop.work_off, ["a", "b", "c", "d"]))
    shop.work_off("last")  # What became ready while the others looked.
    assert {shop.get(job).state for job in made} == {JobState.SUCCEEDED}
    assert _scalar(shop, select(text("count(*)")).select_from(steps)) == 0
    assert _scalar(shop, select(text("count(*)")).select_from(results)) == 8
