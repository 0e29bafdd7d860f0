"""Object storage that fails, crawls, lies or is gone: jobs wait for it, and wrong audio is never transcribed."""

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip, during
from tests.servers.process import wait_until

_A = clip(2.0, 440.0)
_B = clip(4.0, 550.0)


def test_E6_storage_that_refuses_connections_is_waited_for(site: Site, load: Load) -> None:
    """New jobs are refused for the moment, those that wait are done when it is back, uncharged."""
    load.text_of(_B)
    site.worker.freeze()
    for number in range(4):
        load.submit(f"before {number}", _B)
    site.to_s3.refuse()
    site.worker.go_on()
    wait_until(lambda: bool(load.evidence().entries("claim")), 20)
    answer = load.post_job("while away", _A)
    assert answer is not None
    assert answer.status_code == 503
    site.to_s3.heal()
    load.submit("while away", _A)
    load.prove()
    assert site.postgres.execute("select max(attempts) from jobs") == [(1,)]


def test_E6_storage_that_breaks_and_crawls_is_borne(site: Site, load: Load) -> None:
    """Cut connections are tried again, a slow line is slow."""
    load.text_of(_A)
    numbers = iter(range(100))

    def disturb() -> None:
        load.submit(f"job {next(numbers)}", _A)
        site.to_s3.cut()

    during(4.0, disturb, 0.5)
    site.to_s3.set("down", bytes_per_s=100_000, latency_s=0.02)
    load.submit("slow", _A)
    load.prove()


def test_E7_audio_that_was_cut_short_fails_the_job_at_once(site: Site, load: Load) -> None:
    """What is stored is not what was uploaded: no text is made of it, and it is not tried for ever."""
    site.worker.freeze()
    promise = load.submit("cut short", _A, ends=frozenset({"failed"}), error_code="media_changed")
    name = f"jobs/{promise.told[0]}/media"
    client = site.bucket.server.client
    before = client.get_object(Bucket=site.bucket.name, Key=name)
    data = before["Body"].read()
    client.put_object(Bucket=site.bucket.name, Key=name, Body=data[: len(data) // 2], Metadata=before["Metadata"])
    site.worker.go_on()
    load.settle()
    job = load.ask("GET", f"/v1/jobs/{promise.told[0]}")
    assert job is not None
    assert job.json()["attempts"] <= 2
    assert load.verdict() == []


def test_E7_audio_that_is_gone_fails_the_job_at_once(site: Site, load: Load) -> None:
    """After a restore the database may know audio that the storage does not have."""
    site.worker.freeze()
    promise = load.submit("gone", _A, ends=frozenset({"failed"}), error_code="media_missing")
    site.bucket.server.client.delete_object(Bucket=site.bucket.name, Key=f"jobs/{promise.told[0]}/media")
    site.worker.go_on()
    load.settle()
    job = load.ask("GET", f"/v1/jobs/{promise.told[0]}")
    assert job is not None
    assert (job.json()["state"], job.json()["error"]["code"]) == ("failed", "media_missing")
    assert job.json()["attempts"] <= 2
