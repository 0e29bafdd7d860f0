"""A herd of clients that polls: nothing is sent again that they have, and the database is asked once for many."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from tests.api.job_support import submit
from tests.api.support import Site, site
from tympan.api.deps import Limits
from tympan.api.jobs import appointments, jobs
from tympan.api.jobs.together import Together
from tympan.errors import StorageUnavailable
from tympan.jobs.service import JobView

HERD = 200


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Site]:
    """Return a server of the test's own."""
    with site(tmp_path, Limits()) as running:
        yield running


def test_G10_a_herd_that_polls_a_job_costs_a_few_looks(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody gets 304 with a time to come back, for far fewer looks at the database than questions."""
    made = submit(shop)
    path = f"{shop.url}/v1/jobs/{made['id']}"
    tag = httpx.get(path).headers["etag"]
    looks: list[str] = []
    view = shop.services.jobs.view

    def counted(tenant: str, job_id: str) -> JobView:
        looks.append(job_id)
        return view(tenant, job_id)

    monkeypatch.setattr(shop.services.jobs, "view", counted)

    async def herd() -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=HERD)) as client:
            return await asyncio.gather(*(client.get(path, headers={"if-none-match": tag}) for _ in range(HERD)))

    answers = asyncio.run(herd())
    assert {answer.status_code for answer in answers} == {304}
    assert all(int(answer.headers["retry-after"]) >= 1 and not answer.content for answer in answers)
    assert 1 <= len(looks) <= HERD // 4


def test_G10_who_is_turned_away_comes_back_by_appointment(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database cannot answer so many, they are spread over the seconds like those who were answered."""
    path = f"{shop.url}/v1/jobs/{submit(shop)['id']}"

    def away(tenant: str, job_id: str) -> JobView:
        raise StorageUnavailable("Too many wait.", retry_after_s=2.0)

    monkeypatch.setattr(shop.services.jobs, "view", away)
    monkeypatch.setattr(appointments, "PER_S", 4)
    # A calendar whose seconds do not pass: the machine may be slow.
    monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=lambda: 100.0))
    with httpx.Client() as client:
        answers = [client.get(path) for _ in range(12)]
    assert {answer.status_code for answer in answers} == {503}
    assert [int(answer.headers["retry-after"]) for answer in answers] == [2] * 4 + [3] * 4 + [4] * 4


def test_whoever_asks_sees_what_was_written_before() -> None:
    """A look that began before the question is not shared; one that has not begun is."""
    value, looks = ["old"], []

    async def look() -> str:
        seen = value[0]
        looks.append(seen)
        await asyncio.sleep(0.02)
        return seen

    async def asked() -> list[str]:
        together = Together()
        first = asyncio.create_task(together.ask("k", look))
        await asyncio.sleep(0.005)
        value[0] = "new"
        later = [asyncio.create_task(together.ask("k", look)) for _ in range(10)]
        other = asyncio.create_task(together.ask("other", look))
        found = await asyncio.gather(first, *later, other)
        assert not together._next
        assert not together._under_way
        return found

    assert asyncio.run(asked()) == ["old", *["new"] * 11]
    assert looks == ["old", "new", "new"]


def test_one_who_goes_does_not_take_the_look_from_the_others() -> None:
    """And an error reaches everybody who asked."""

    async def look() -> str:
        await asyncio.sleep(0.02)
        raise LookupError

    async def asked() -> list[object]:
        together = Together()
        tasks = [asyncio.create_task(together.ask("k", look)) for _ in range(3)]
        await asyncio.sleep(0.005)
        tasks[0].cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    found = asyncio.run(asked())
    assert isinstance(found[0], asyncio.CancelledError)
    assert [type(error) for error in found[1:]] == [LookupError, LookupError]
