"""A request that is sent twice makes one job, whoever sends it and however it goes wrong in between."""

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.job_support import blobs_of, job_of, job_site, n_jobs, pcm, post, refusal, submit, uploaded
from tests.api.support import Site
from tympan.api.fields.jobs import digest_of
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.errors import Overloaded, StorageUnavailable
from tympan.jobs.service import IdempotencyKey, new_id

BASE: dict[str, Any] = {"language": "en", "prompt": "one", "metadata": '{"a": "1"}', "priority": "1"}
CHANGES: list[dict[str, Any]] = [
    {"model": "whisper-1"}, {"language": "de"}, {"prompt": "two"}, {"hotwords": "x"}, {"response_format": "srt"},
    {"temperature": "0.5"}, {"timestamp_granularities[]": "word"}, {"word_timestamps": "true"}, {"beam_size": "2"},
    {"best_of": "2"}, {"vad": "false"}, {"vad": '{"threshold": 0.1}'}, {"temperature_fallback": "false"},
    {"preset": "fast"}, {"task": "translate"}, {"priority": "2"}, {"deadline": "60"}, {"metadata": '{"a": "2"}'},
    {"webhook_url": "https://a.example"}, {"language": ""}, {"chunking_strategy": "auto"},
]  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that this module's tests share."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def test_N1_a_hundred_equal_requests_at_once_make_one_job(shop: Site) -> None:
    """All of them are answered with it; all but one say that it was there; one copy of the audio is kept."""
    before, kept, data = n_jobs(shop), len(blobs_of(shop)), pcm(2)

    async def send_all() -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=100)
        async with httpx.AsyncClient(timeout=60, trust_env=False, limits=limits) as client:
            requests = [
                client.post(shop.url + "/v1/jobs", files={"file": data}, data=BASE, headers={"Idempotency-Key": "n1"})
                for _ in range(100)
            ]
            return await asyncio.gather(*requests)

    answers = asyncio.run(send_all())
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum(answer.headers.get("idempotent-replayed") == "true" for answer in answers) == 99
    assert n_jobs(shop) == before + 1
    assert len(blobs_of(shop)) == kept + 1
    assert not shop.staged


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_N2_another_request_with_the_key_is_a_conflict(shop: Site, change: dict[str, Any]) -> None:
    """Whichever field it is that changed."""
    key = {"Idempotency-Key": f"n2-{digest_of(change)}"}
    submit(shop, headers=key, **BASE)
    before, kept = n_jobs(shop), blobs_of(shop)
    answer = post(shop, files={"file": pcm()}, data={**BASE, **change}, headers=key)
    assert refusal(answer) == (409, "idempotency_mismatch", "Idempotency-Key")
    assert (n_jobs(shop), blobs_of(shop)) == (before, kept)


def test_N2_other_audio_with_the_key_is_a_conflict(shop: Site) -> None:
    """One byte is enough."""
    submit(shop, pcm(1), headers={"Idempotency-Key": "n2-audio"})
    answer = post(shop, files={"file": pcm(1)[:-1] + b"x"}, headers={"Idempotency-Key": "n2-audio"})
    assert refusal(answer)[:2] == (409, "idempotency_mismatch")


def test_a_replay_shows_the_job_as_it_stands(shop: Site) -> None:
    """Not as it was when it was made."""
    key = {"Idempotency-Key": '"replay"'}
    made = submit(shop, headers=key)
    post(shop, f"/v1/jobs/{made['id']}/cancel")
    again = post(shop, files={"file": pcm()}, headers={"Idempotency-Key": "replay"})
    assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, made["id"], "cancelled")
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"].endswith(made["id"])
    assert job_of(shop, made["id"])["state"] == "cancelled"


def test_the_key_goes_with_the_job(shop: Site) -> None:
    """After it is erased the same request makes a new one."""
    made = submit(shop, headers={"Idempotency-Key": "erased"})
    httpx.delete(f"{shop.url}/v1/jobs/{made['id']}", timeout=20)
    assert submit(shop, headers={"Idempotency-Key": "erased"})["id"] != made["id"]


def test_N4_tenants_and_routes_do_not_share_keys(shop: Site) -> None:
    """The same key for two tenants on two routes makes four jobs; over HTTP, jobs and batches do not meet."""
    service, before = shop.shop.service, n_jobs(shop)
    for tenant in ("one", "two"):
        for route in ("POST /v1/jobs", "POST /other"):
            new = NewJob(new_id("job"), Source(SourceKind.URL, "https://a.example/a"), Options(), tenant=tenant)
            assert service.submit(new, key=IdempotencyKey(route, "n4", f"{tenant}{route}"))[1] is False
    assert n_jobs(shop) == before + 4
    key = {"Idempotency-Key": "n4"}
    url = {"audio_url": "https://a.example/a"}
    assert post(shop, json=url, headers=key).status_code == 202
    assert post(shop, "/v1/batches", json={"items": [url]}, headers=key).status_code == 202


def test_N5_a_key_is_forgotten_after_a_day(shop: Site) -> None:
    """Then the request is new."""
    made = submit(shop, headers={"Idempotency-Key": "n5"})
    with shop.shop.database.engine.begin() as connection:
        left = connection.exec_driver_sql(
            "select expires_at - (julianday('now') - 2440587.5) * 86400.0 from idempotency where key = 'n5'"
        ).scalar()
        assert 86_300 < float(left or 0) <= 86_400
        connection.exec_driver_sql("update idempotency set expires_at = 1 where key = 'n5'")
    assert submit(shop, headers={"Idempotency-Key": "n5"})["id"] != made["id"]


@pytest.mark.parametrize("key", ["x" * 256, "ä".encode(), '"half', "two words", ""])
def test_N5_bad_keys_are_refused_before_the_body_is_stored(shop: Site, key: str | bytes) -> None:
    """As a wrong parameter."""
    before = n_jobs(shop)
    answer = post(shop, files={"file": pcm(1)}, headers={"Idempotency-Key": key})
    assert refusal(answer) == (400, "invalid_request", "Idempotency-Key")
    assert n_jobs(shop) == before


@pytest.mark.parametrize("failure", ["400", "503", "full", "413"])
def test_N6_refusals_are_not_remembered(shop: Site, failure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was wrong, the same key works once it is right."""
    key, before = {"Idempotency-Key": f"n6-{failure}"}, n_jobs(shop)

    def fail(*_: object) -> None:
        raise Overloaded if failure == "full" else StorageUnavailable(retry_after_s=1)

    with monkeypatch.context() as patch:
        if failure == "full":
            patch.setattr(shop.shop.store.bound, "check", fail)
        if failure == "503":
            patch.setattr(shop.shop.store, "_submit", fail)
        fields = {"beam_size": "0"} if failure == "400" else {}
        data = pcm(1) if failure != "413" else bytes(100_000_001)
        refused = post(shop, files={"file": data}, data=fields, headers=key)
    assert refused.status_code == {"400": 400, "503": 503, "full": 503, "413": 413}[failure]
    made = submit(shop, pcm(1), headers=key)
    assert submit(shop, pcm(1), headers=key)["id"] == made["id"]
    assert n_jobs(shop) == before + 1


def test_N9_without_a_key_equal_requests_make_two_jobs(shop: Site) -> None:
    """Each with audio of its own."""
    before, kept = n_jobs(shop), len(blobs_of(shop))
    assert submit(shop, pcm(1))["id"] != submit(shop, pcm(1))["id"]
    assert (n_jobs(shop), len(blobs_of(shop))) == (before + 2, kept + 2)


def test_a_repeated_request_finds_its_upload_used_and_its_job_made(shop: Site) -> None:
    """The upload has gone with the first request; the key leads to the job all the same."""
    upload_id, before = uploaded(shop, pcm(2)), n_jobs(shop)
    key = {"Idempotency-Key": "upload"}
    answers = [post(shop, json={"upload_id": upload_id}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert n_jobs(shop) == before + 1
    other = post(shop, json={"upload_id": upload_id, "priority": 2}, headers=key)
    assert refusal(other)[:2] == (409, "idempotency_mismatch")


def test_a_job_that_cannot_be_stored_gives_its_upload_back(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next request can use it."""
    upload_id = uploaded(shop, pcm(2))

    def fail(*_: object) -> None:
        raise StorageUnavailable(retry_after_s=1)

    with monkeypatch.context() as patch:
        patch.setattr(shop.shop.store, "_submit", fail)
        assert post(shop, json={"upload_id": upload_id}).status_code == 503
    assert post(shop, json={"upload_id": upload_id}).status_code == 202
