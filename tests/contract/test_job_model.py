"""A job's sections come from one model, on SQLite and on PostgreSQL: what another one of its name did is done anew."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Select, select, update

from tests.jobs_support import LANES, TENANT, Shop, open_shop
from tympan.domain import DecodeStats, Job, JobState, NewJob, Options, Source, SourceKind, StepKind
from tympan.errors import ModelError
from tympan.jobs.service import new_id
from tympan.storage.anew import MAX_RESTARTS, BegunAnew, LeftToOthers
from tympan.storage.codec import Prepared, SectionResult
from tympan.storage.queue_bound import SEEN_WITHIN_S
from tympan.storage.tables import jobs, steps, workers
from tympan.storage.upkeep import Worker
from tympan.storage.work import Claim, Cut, LeaseLost, WorkStore

_SECOND = 16_000
_DONE = SectionResult((), (("en", 1.0),), DecodeStats(), "demo", 0.1)
_CUTS = [Cut(n, 4 * n * _SECOND, 4 * (n + 1) * _SECOND) for n in range(3)]


@pytest.fixture(params=["sqlite", "postgres"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """Return stores on a database of the test's own."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url, rings=True) as opened:
        yield opened


def _other(shop: Shop) -> WorkStore:
    """Return the store of another process."""
    return WorkStore(shop.database, shop.store.endings, lease_s=60.0, rings=True)


def _claim(work: WorkStore, owner: str = "w") -> Claim:
    claim = work.claim(owner, LANES)
    assert claim is not None
    return claim


def _cut(shop: Shop) -> Job:
    """Return a job of three sections, none of them begun."""
    source = Source(SourceKind.STORED, "", 64_000)
    job = shop.store.submit(NewJob(new_id("job"), source, Options()))[0]
    prepare = _claim(shop.work)
    shop.work.settle(prepare, (("en", 1.0),), "demo")
    _cut_with(shop.work, prepare)
    return job


def _cut_with(work: WorkStore, prepare: Claim) -> None:
    assert prepare.kind is StepKind.PREPARE
    for cut in _CUTS:
        work.add_section(prepare, cut)
    work.prepared(prepare, 3, Prepared(12 * _SECOND, 12 * _SECOND), "f")


def _do(work: WorkStore, digest: str, text: str = "text") -> Claim:
    claim = _claim(work)
    work.bind(claim, "demo", digest)
    work.commit_section(claim, _DONE, text)
    return claim


def _texts(tx: Connection, query: Select[tuple[str | None]]) -> list[str | None]:
    return list(tx.scalars(query))


def _get(shop: Shop, job: Job) -> Job:
    return shop.store.get(TENANT, job.id)


def test_a_job_belongs_to_the_model_that_its_first_section_met(shop: Shop) -> None:
    """From then on it says so, and sections by that model are nothing special."""
    job = _cut(shop)
    assert _get(shop, job).weights is None
    for _ in _CUTS:
        _do(shop.work, "a" * 32)
    assert _claim(shop.work).kind is StepKind.FINISH
    assert (_get(shop, job).weights, _get(shop, job).restarts) == ("a" * 32, 0)


def test_finished_sections_of_another_model_are_done_anew(shop: Shop) -> None:
    """Their texts go, their audio is cut again first, and the job says how often that happened."""
    job = _cut(shop)
    _do(shop.work, "a", "by a")
    _do(shop.work, "a", "by a")
    late, other = _claim(_other(shop)), _other(shop)
    with pytest.raises(BegunAnew):
        other.bind(late, "demo", "b")
    begun = _get(shop, job)
    assert (begun.weights, begun.restarts, begun.language, begun.state) == ("b", 1, None, JobState.RUNNING)
    assert (begun.progress.sections_done, begun.progress.sections_total, begun.progress.audio_s_done) == (0, None, 0.0)
    assert shop.store.partial_texts(job.id) == []
    with pytest.raises(LeaseLost):
        other.commit_section(late, _DONE, "by b, too late")
    prepare = _claim(other)
    assert other.claim("w", LANES) is None
    _cut_with(other, prepare)
    for _ in _CUTS:
        _do(other, "b", "by b")
    assert {section.text for section in shop.store.partial_texts(job.id)} == {"by b"}
    assert _claim(other).kind is StepKind.FINISH
    assert _get(shop, job).progress.sections_done == 3


def test_a_section_that_another_model_is_at_is_taken_away(shop: Shop) -> None:
    """Nothing was finished, so nothing is cut again; who was at work finds that its lease is gone."""
    job = _cut(shop)
    first, other = _claim(shop.work), _other(shop)
    shop.work.bind(first, "demo", "a")
    second = _claim(other)
    other.bind(second, "demo", "b")
    other.commit_section(second, _DONE, "by b")
    with pytest.raises(LeaseLost):
        shop.work.commit_section(first, _DONE, "by a")
    with pytest.raises(LeaseLost):
        shop.work.bind(first, "demo", "a")
    assert (_get(shop, job).weights, _get(shop, job).restarts) == ("b", 0)
    assert {_do(other, "b").index, _do(other, "b").index} == {0, 2}


def test_sections_are_left_to_a_living_worker_that_has_the_model(shop: Shop) -> None:
    """However much room others have; when it has not been seen for a while, they begin anew."""
    job = _cut(shop)
    shop.upkeep.seen(Worker("holder", 4, 0))
    claim = _claim(shop.work, "holder")
    shop.work.bind(claim, "demo", "a" * 32)
    other = _other(shop)
    met = _claim(other, "other")
    with pytest.raises(LeftToOthers):
        other.bind(met, "demo", "b" * 32)
    assert other.claim("other", LANES) is None
    with pytest.raises(LeaseLost):
        other.commit_section(met, _DONE, "by b")
    assert _claim(shop.work, "holder").index == met.index == 1
    silent = update(workers).values(seen_at=shop.database.now() - SEEN_WITHIN_S - 1)
    shop.database.write(lambda tx: tx.execute(silent))
    late = _claim(other, "other")
    assert late.index == 2
    other.bind(late, "demo", "b" * 32)
    assert _get(shop, job).weights == "b" * 32


def test_a_worker_that_has_the_model_too_helps_at_once(shop: Shop) -> None:
    """It need not have transcribed anything before, and whoever else has the model may live or not."""
    _cut(shop)
    shop.upkeep.seen(Worker("holder", 4, 0))
    shop.work.bind(_claim(shop.work, "holder"), "demo", "a")
    other = _other(shop)
    claim = _claim(other, "other")
    other.bind(claim, "demo", "a")
    other.commit_section(claim, _DONE, "by a")


def test_a_model_that_is_loaded_later_is_ours_from_then_on(shop: Shop) -> None:
    """A worker that once left jobs of a model to others takes them when it has that model itself."""
    _cut(shop)
    shop.upkeep.seen(Worker("holder", 4, 0))
    shop.work.bind(_claim(shop.work, "holder"), "demo", "a")
    other = _other(shop)
    with pytest.raises(LeftToOthers):
        other.bind(_claim(other, "other"), "demo", "b")
    assert other.claim("other", LANES) is None
    other._weights.learn("demo", "a")
    assert _claim(other, "other").index == 1


def test_a_worker_s_heartbeat_says_what_it_has(shop: Shop) -> None:
    """So does the first section of a job; one that has gone, or cannot be alive, has nothing."""
    _cut(shop)
    bench = shop.bench("holder")
    bench._beat()
    shop.work.bind(_claim(shop.work, "holder"), "demo", "a")
    shop.work.bind(_claim(shop.work, "holder"), "other", "b")
    told = select(workers.c.weights)
    assert shop.database.read(lambda tx: tx.scalar(told)) == "a b"
    shop.database.write(lambda tx: tx.execute(update(workers).values(weights="")))
    bench._beat()
    assert shop.database.read(lambda tx: tx.scalar(told)) == "a b"
    shop.upkeep.disown()
    assert shop.database.read(lambda tx: tx.scalar(told)) is None


def test_a_job_whose_model_changes_again_and_again_is_given_up(shop: Shop) -> None:
    """The error names the cause and the remedy."""
    job = _cut(shop)
    many = update(jobs).values(restarts=MAX_RESTARTS)
    shop.database.write(lambda tx: tx.execute(many))
    _do(shop.work, "a")
    other = _other(shop)
    with pytest.raises(ModelError, match="changed 6 times") as caught:
        other.bind(_claim(other), "demo", "b")
    assert "number format" in str(caught.value.remedy)
    assert (_get(shop, job).weights, _get(shop, job).progress.sections_done) == ("a", 1)


def test_two_models_that_begin_at_once_do_not_both_stay(shop: Shop) -> None:
    """Five times: whoever is second takes over or is refused, and what is stored comes from one of them."""
    for _ in range(5):
        job = _cut(shop)
        works = {"a": shop.work, "b": _other(shop)}
        claims = {digest: _claim(work, digest) for digest, work in works.items()}
        assert {claim.job.id for claim in claims.values()} == {job.id}
        gate, stored = threading.Barrier(2), set[str]()

        def begin(digest: str, works: dict[str, WorkStore] = works, claims: dict[str, Claim] = claims,
                  gate: threading.Barrier = gate, stored: set[str] = stored) -> None:  # fmt: skip
            gate.wait(5)
            try:
                works[digest].bind(claims[digest], "demo", digest)
                works[digest].commit_section(claims[digest], _DONE, digest)
            except LeaseLost:
                return
            stored.add(digest)

        with ThreadPoolExecutor(2) as threads:
            list(threads.map(begin, works))
        mine = select(steps.c.text).where(steps.c.job_id == job.id, steps.c.state == "done", steps.c.kind == "section")
        texts = set(shop.database.read(partial(_texts, query=mine)))
        assert len(texts) <= 1
        assert texts <= {_get(shop, job).weights}
        shop.store.cancel(TENANT, job.id)
