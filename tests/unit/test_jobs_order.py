"""The fair order: long files and busy tenants hold nobody up for more than a section."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.jobs_support import LANES, TENANT, Shop, in_thread, open_shop
from tests.servers.process import wait_until
from tympan.domain import JobState, StepKind
from tympan.jobs.service import JobFilter


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return a shop on SQLite."""
    with open_shop(tmp_path) as opened:
        yield opened


def test_Q5_a_short_job_waits_for_one_section_of_a_long_one(shop: Shop) -> None:
    """It comes in while the long file is worked on and goes next."""
    shop.submit(200.0)
    shop.work_off(limit=3)
    short = shop.submit(2.0)
    claim = shop.work.claim("w", LANES)
    assert claim is not None
    if claim.job.id != short.id:
        claim = shop.work.claim("w", LANES)
    assert claim is not None
    assert claim.job.id == short.id


def test_G3_a_tenant_with_many_jobs_does_not_delay_another(shop: Shop) -> None:
    """A hundred jobs of one tenant wait; the other's only one is among the next two."""
    for number in range(100):
        shop.submit(1.0, seed=number, tenant="busy")
    shop.work_off(limit=30)
    rare = shop.submit(1.0, tenant="rare")
    taken = [shop.work.claim("w", (*LANES,)) for _ in range(4)]
    fresh = [claim.job.id for claim in taken if claim and claim.kind is StepKind.PREPARE]
    assert rare.id in fresh[:2]


def test_jobs_of_one_tenant_keep_their_order(shop: Shop) -> None:
    """First come, first served, where nothing else decides."""
    ids = [shop.submit(1.0, seed=number).id for number in range(10)]
    taken = [shop.work.claim("w", LANES) for _ in ids]
    assert [claim.job.id for claim in taken if claim] == ids


def test_a_job_knows_its_place_and_how_long_it_will_take(shop: Shop) -> None:
    """Position among those that wait; seconds once a rate has been measured."""
    first, second = shop.submit(8.0), shop.submit(8.0, seed=2)
    assert [shop.service.view(TENANT, job.id).position for job in (first, second)] == [1, 2]
    assert shop.service.view(TENANT, first.id).eta_s is None
    bench = shop.bench()
    while bench.work_once(LANES):
        pass
    third = shop.submit(8.0, seed=3)
    bench._beat()
    assert shop.service.view(TENANT, third.id).eta_s is not None
    assert shop.service.view(TENANT, first.id).position is None


def test_a_running_job_shows_its_text_so_far(shop: Shop) -> None:
    """Sections that are done, as far as none is missing between them."""
    job = shop.submit(100.0)
    shop.work_off(limit=3)
    view = shop.service.view(TENANT, job.id)
    assert view.job.state is JobState.RUNNING
    assert view.partial_text is not None
    assert view.partial_text.startswith("w0.")
    assert 0 < view.job.progress.audio_s_done < 100.0
    shop.work_off()
    assert shop.service.view(TENANT, job.id).partial_text is None


def test_pages_are_newest_first_and_complete(shop: Shop) -> None:
    """Following ``after`` visits every job of the tenant once, and nobody else's."""
    mine = [shop.submit(1.0, seed=number).id for number in range(7)]
    shop.submit(1.0, tenant="other")
    seen: list[str] = []
    after = None
    while page := shop.service.page(TENANT, JobFilter(after=after, limit=3)):
        seen += [job.id for job in page]
        after = seen[-1]
    assert seen == mine[::-1]
    shop.work_off(limit=7)
    assert len(shop.service.page(TENANT, JobFilter(states=(JobState.QUEUED,)))) < 7


def test_progress_shows_within_a_section(shop: Shop) -> None:
    """A file of one section is not at nothing until it is done: the worker tells with every heartbeat."""
    job = shop.submit(15.0)
    shop.work_off(limit=1)
    shop.desk.hold = True
    bench = shop.bench()
    worker = in_thread(lambda: bench.work_once(LANES))
    wait_until(lambda: shop.desk.open > 0, 10.0)
    shop.desk.release([0])
    wait_until(lambda: any(running.done_samples for running in bench._running.values()), 10.0)
    bench._beat()
    done_s = shop.service.view(TENANT, job.id).job.progress.audio_s_done
    assert 0.0 < done_s < 15.0
    shop.desk.hold = False
    shop.desk.release()
    worker.join(10)
    assert shop.get(job).progress.audio_s_done == 15.0
