"""Jobs and synchronous calls that are equal: who serves whom, and what is erased with what."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.access_support import entry
from tests.api.support import make_transcript
from tests.jobs_support import TENANT, Shop, open_shop
from tests.pipeline_support import INFO
from tympan import config
from tympan.bootstrap.results import make_cache, tidy_cache
from tympan.domain import Job, JobState, Lane, NewJob, Options, Source, SourceKind, Transcript
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.service import new_id
from tympan.jobs.shelves import MemoryShelf
from tympan.storage.audit import AuditStore
from tympan.storage.batches import NewBatch

_CLUSTER = {
    "mode": "cluster",
    "database_url": "postgresql://u:p@127.0.0.1:1/d",
    "broker_url": "amqp://127.0.0.1:1",
    "storage_url": "s3://bucket",
    "secret_key": "k" * 32,
    "result_cache_mb": 8,
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return everything about jobs, with a shelf for results."""
    cache = ResultCache(MemoryShelf(1_000_000), lambda _: 60.0)
    with open_shop(tmp_path / "shop", cache=cache) as opened:
        yield opened


def _key(shop: Shop, seconds: float = 8.0, seed: int = 1) -> str:
    sha256 = hashlib.sha256(shop.pcm(seconds, seed).read_bytes()).hexdigest()
    return shop.cache.key(sha256, Options(), INFO)


def _kept(shop: Shop, seed: int = 1) -> Transcript | None:
    return shop.cache.find(TENANT, _key(shop, seed=seed), 100.0)


def _called(shop: Shop, seed: int = 1) -> None:
    """Do what a synchronous call on a worker of a cluster does."""
    job = shop.submit(8.0, seed, lane=Lane.INTERACTIVE)
    shop.work_off()
    assert shop.get(job).state is JobState.SUCCEEDED
    shop.service.discard(TENANT, job.id)


def _job(shop: Shop, seed: int = 1) -> tuple[Job, int]:
    """Return a job that was worked off, and how many windows were decoded for it."""
    decoded = len(shop.desk.tasks)
    job = shop.submit(8.0, seed)
    shop.work_off()
    return job, len(shop.desk.tasks) - decoded


def test_a_job_takes_the_result_of_its_synchronous_twin(shop: Shop) -> None:
    """At once, for its own tenant alone; its transcript says that it was not worked on."""
    _called(shop)
    job, decoded = _job(shop)
    found = shop.service.transcript(TENANT, job.id)[1]
    assert (decoded, found.is_cached, found.model) == (0, True, INFO.model)
    assert _job(shop, seed=2)[1] > 0
    before = len(shop.desk.tasks)
    shop.submit(8.0, tenant="another")
    shop.work_off()
    assert len(shop.desk.tasks) > before


def test_a_synchronous_call_takes_the_result_of_another(shop: Shop) -> None:
    """Whose job has been discarded long since; and it takes that of a job."""
    _called(shop)
    decoded = len(shop.desk.tasks)
    _called(shop)
    assert len(shop.desk.tasks) == decoded
    _job(shop, seed=2)
    decoded = len(shop.desk.tasks)
    _called(shop, seed=2)
    assert len(shop.desk.tasks) == decoded


def test_a_job_of_its_own_is_kept_with_the_job_alone(shop: Shop) -> None:
    """So nothing has to be erased in two places."""
    _job(shop)
    assert _kept(shop) is None


def test_what_other_weights_made_is_not_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker that prepared the call had another engine than the one that answered it."""
    fingerprint = shop.work.fingerprint
    monkeypatch.setattr(shop.work, "fingerprint", lambda claim: f"{(fingerprint(claim) or '')[:32]}{'e' * 32}")
    _called(shop)
    assert _kept(shop) is None


def test_K7_an_erased_job_takes_what_is_equal_with_it(shop: Shop) -> None:
    """Whether it made its text itself, or was given that of a call; a batch's jobs as well."""
    _called(shop)
    served, decoded = _job(shop)
    assert decoded == 0
    assert _kept(shop) is not None
    shop.service.erase(TENANT, served.id)
    assert _kept(shop) is None

    own, decoded = _job(shop, seed=2)
    assert decoded > 0
    shop.cache.keep(TENANT, _key(shop, seed=2), INFO, shop.service.transcript(TENANT, own.id)[1])
    assert _kept(shop, seed=2) is not None
    shop.service.erase(TENANT, own.id)
    assert _kept(shop, seed=2) is None

    _called(shop, seed=3)
    path = shop.pcm(8.0, 3)
    member = NewJob(new_id("job"), Source(SourceKind.STORED, "", path.stat().st_size), Options(), batch_id="bat_1")
    shop.service.batches.submit(NewBatch("bat_1", TENANT), [member], {member.id: path})
    shop.work_off()
    assert _kept(shop, seed=3) is not None
    shop.service.batches.erase(TENANT, "bat_1")
    assert _kept(shop, seed=3) is None


def test_K7_an_erased_tenant_leaves_nothing_behind(shop: Shop) -> None:
    """Its neighbour's stays."""
    _called(shop)
    transcript = _kept(shop)
    assert transcript is not None
    _called(shop, seed=2)
    theirs = shop.submit(8.0, 2, lane=Lane.INTERACTIVE, tenant="neighbour")
    shop.work_off()
    shop.service.discard("neighbour", theirs.id)
    shop.service.erase_tenant(TENANT)
    assert (_kept(shop), _kept(shop, seed=2)) == (None, None)
    assert shop.cache.find("neighbour", _key(shop, seed=2), 100.0) is not None


def test_K7_a_tenant_that_another_process_erased_is_gone_with_the_next_sweep(shop: Shop) -> None:
    """The command line works on the database; the server reads in the audit log that it did, for ten minutes."""
    audit = AuditStore(shop.database)
    _called(shop)
    audit.record(entry("tenant.retain").about(TENANT, TENANT))
    audit.record(entry("tenant.erase").about("neighbour", "neighbour"))
    tidy_cache(shop.cache, audit)
    assert _kept(shop) is not None
    audit.record(entry("tenant.erase").about(TENANT, TENANT))
    tidy_cache(shop.cache, audit)
    assert _kept(shop) is None
    _called(shop)
    assert audit.tenants_of("tenant.erase", 0.0) == []
    assert set(audit.tenants_of("tenant.erase", 600.0)) == {TENANT, "neighbour"}


@pytest.mark.parametrize(
    ("settings", "text_days", "kept"),
    [
        ({}, None, False),
        ({"result_cache_mb": 8}, None, True),
        ({"result_cache_mb": 8, "result_ttl_s": 0}, None, False),
        ({"result_cache_mb": 8}, 0.0, False),
        ({"result_cache_mb": 8, "retain_text_days": 0}, None, False),
        ({"result_cache_mb": 8, "retain_text_days": 0}, 1.0, True),
        (_CLUSTER, None, False),
    ],
)
def test_text_is_kept_if_the_operator_says_so_and_the_tenant_s_days_allow_it(
    settings: Mapping[str, object], text_days: float | None, *, kept: bool
) -> None:
    """Nothing by default; nothing of who wants no text kept; nothing in a cluster without Redis, which is said."""
    chosen = config.load(settings)
    cache = make_cache(chosen, lambda _tenant: text_days)
    key = cache.key("0" * 64, Options(), INFO)
    cache.keep(TENANT, key, INFO, replace(make_transcript(Options()), model=INFO.model))
    assert (cache.find(TENANT, key, 100.0) is not None) is kept
    assert any("REDIS_URL" in note for note in config.notes(chosen)) is (chosen.mode == "cluster")


def test_another_version_or_other_knobs_of_an_engine_make_other_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what was made before an upgrade serves nobody after it."""

    def key(**settings: object) -> str:
        return make_cache(config.load(settings), lambda _tenant: None).key("0" * 64, Options(), INFO)

    keys = {key(), key(engine_options={"splice": "off"}), key(models=("tiny.en",))}
    monkeypatch.setattr("tympan.bootstrap.results.__version__", "0.0.0")
    assert len({*keys, key()}) == 4
