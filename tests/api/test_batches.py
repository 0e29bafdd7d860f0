"""Batches over HTTP: all jobs or none, counted down, and their results in one answer."""

import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from tests.api.job_support import HTTP, blobs_of, get, job_site, n_jobs, pcm, post, refusal, uploaded
from tests.api.support import Site, wait_for
from tests.results import large, plant
from tympan.api.jobs.batch_results import ENDINGS
from tympan.domain import ResponseFormat, Segment
from tympan.errors import StorageUnavailable, UnsupportedLanguage
from tympan.jobs.service import StoredResult
from tympan.storage.tables import result_parts

URL = {"audio_url": "https://audio.example/a.wav"}


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server of this test's own."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def batch_of(shop: Site, *files: bytes, headers: dict[str, str] | None = None, **fields: str) -> Any:
    """Hand in a batch of files and return it as it was answered."""
    parts = [("file", ("x", data)) for data in files]
    answer = post(shop, "/v1/batches", files=parts, data=fields, headers=headers)
    assert answer.status_code == 202, answer.text
    return answer.json()


def lines_of(shop: Site, batch_id: str, query: str = "") -> list[Any]:
    """Return the results of a batch, line by line."""
    answer = get(shop, f"/v1/batches/{batch_id}/results{query}")
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_three_files_one_of_which_fails(shop: Site) -> None:
    """The batch ends all the same: two results, one cause, in the order of the files."""
    made = batch_of(shop, pcm(6), pcm(12), pcm(17), response_format="text", metadata='{"a": "b"}')
    assert (made["object"], made["state"], made["total"], made["metadata"]) == ("batch", "running", 3, {"a": "b"})
    assert refusal(get(shop, f"/v1/batches/{made['id']}/results"))[:2] == (409, "job_not_finished")
    shop.shop.desk.refusals[3] = UnsupportedLanguage("Nobody here speaks it.", remedy="Ask elsewhere.")
    shop.shop.work_off()
    done = get(shop, f"/v1/batches/{made['id']}").json()
    assert done["state"] == "finished"
    assert done["finished_at"].endswith("Z")
    assert {state: n for state, n in done["counts"].items() if n} == {"succeeded": 2, "failed": 1}
    assert done["progress"] == {"jobs_done": 3, "jobs_total": 3, "audio_s_done": 23.0, "audio_s_total": 35.0}
    lines = lines_of(shop, made["id"])
    assert [line["id"] for line in lines] == sorted(line["id"] for line in lines)
    assert [line["state"] for line in lines] == ["succeeded", "failed", "succeeded"]
    assert lines[0]["result"] == "w0. w1.\n"
    assert lines[1]["error"]["code"] == "unsupported_language"
    assert len(lines[2]["result"].split()) > 3
    as_json = lines_of(shop, made["id"], "?format=jsonl&result_format=verbose_json")
    assert [len(line["result"]["segments"]) for line in (as_json[0], as_json[2])] == [2, 5]


def test_an_archive_has_a_file_for_each_job(shop: Site) -> None:
    """Named after ids, readable by any zip program, made while it is sent."""
    made = batch_of(shop, pcm(6), pcm(12))
    shop.shop.desk.refusals[1] = UnsupportedLanguage("Nobody here speaks it.")
    shop.shop.work_off()
    answer = get(shop, f"/v1/batches/{made['id']}/results?format=zip&result_format=srt")
    assert answer.headers["content-type"] == "application/zip"
    assert made["id"] in answer.headers["content-disposition"]
    ids = [job["id"] for job in get(shop, f"/v1/jobs?batch_id={made['id']}").json()["data"]][::-1]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{ids[0]}.error.json", f"{ids[1]}.srt"]
        assert json.loads(archive.read(f"{ids[0]}.error.json"))["error"]["code"] == "unsupported_language"
        assert archive.read(f"{ids[1]}.srt").startswith(b"1\n00:00:00,000 --> ")
        assert archive.infolist()[0].date_time[0] >= 2024


def test_a_manifest_names_audio_in_every_way(shop: Site) -> None:
    """Defaults go for all, items may differ; the webhook is the batch's, told once."""
    kept = shop.shop.folder / "kept.raw"
    kept.write_bytes(pcm(6))
    upload_id = uploaded(shop, pcm(12))
    manifest = {
        "items": [
            {"upload_id": upload_id, "metadata": {"n": "0"}, "language": "de"},
            {"audio_object": kept.as_uri(), "priority": 5},
            URL,
        ],
        "defaults": {"language": "en", "beam_size": 2, "metadata": {"n": "?"}},
        "webhook_url": "https://hooks.example/x",
        "metadata": {"all": "yes"},
    }
    made = post(shop, "/v1/batches", json=manifest).json()
    assert (made["total"], made["webhook_endpoint"], made["metadata"]) == (3, "we_0", {"all": "yes"})
    first, second, third = shop.shop.service.batches.members("default", made["id"], 10, "")
    assert (first.options.language, second.options.language) == ("de", "en")
    assert {job.options.beam_size for job in (first, second, third)} == {2}
    assert (first.source.kind, second.source.kind, third.source.kind) == ("stored", "object", "url")
    assert [json.loads(job.metadata) for job in (first, second)] == [{"n": "0"}, {"n": "?"}]
    assert (second.priority, third.webhook_endpoint) == (5, None)
    assert not [key for key in blobs_of(shop) if key.startswith("uploads/")]


def test_every_item_at_fault_is_named(shop: Site) -> None:
    """By its number and cause; nothing of the batch is stored."""
    items: list[Any] = [dict(URL) for _ in range(60)]
    items[3] = {}
    items[7] = {**URL, "beam_size": 99}
    items[9] = "text"
    items[11] = {**URL, "tenant_id": "x"}
    items[13] = {**URL, "language": "xx"}
    answer = post(shop, "/v1/batches", json={"items": items})
    assert refusal(answer) == (400, "invalid_request", "items[3].file")
    message = answer.json()["error"]["message"]
    assert message.startswith("5 of 60 items")
    for cause in ("items[3]: There is no audio", "items[7]: beam_size", "items[9]: ", "items[11]: ", "items[13]: "):
        assert cause in message
    items = [{**URL, "priority": "x"}] * 50
    assert "And 30 more." in post(shop, "/v1/batches", json={"items": items}).json()["error"]["message"]
    assert n_jobs(shop) == 0


@pytest.mark.parametrize(
    ("manifest", "param"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"items": {}}, "items"),
        ({"items": [URL] * 10_001}, "items"),
        ({"items": [URL], "nonsense": 1}, "nonsense"),
        ({"items": [URL], "defaults": []}, None),
        ({"items": [URL], "defaults": "x"}, "defaults"),
        ({"items": [URL], "defaults": URL}, "defaults"),
        ({"items": [URL], "defaults": {"beam_size": 0}}, "defaults.beam_size"),
        ({"items": [URL], "metadata": {"a": 1}}, "metadata"),
        ({"items": [URL], "webhook_url": "https://a", "webhook_endpoint": "b"}, "webhook_url"),
        ({"items": [{**URL, "webhook_url": "https://a"}]}, "items[0].webhook_url"),
        ({"items": [{"audio_url": "http://127.0.0.1/x"}]}, "items[0].audio_url"),
        ({"items": [{**URL, "deadline": -1}]}, "items[0].deadline"),
        ({"items": [{**URL, "model": "other"}]}, "items[0].model"),
        ({"items": [{"upload_id": "u"}, {"upload_id": "u"}]}, "items[1].upload_id"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_wrong_manifests_are_refused_by_name(shop: Site, manifest: Any, param: str | None) -> None:
    """And nothing is stored; an empty list of defaults is as good as none."""
    answer = post(shop, "/v1/batches", json=manifest)
    if param is None:
        assert answer.status_code == 202
        return
    assert refusal(answer) == (400, "invalid_request", param)
    assert n_jobs(shop) == 0
    assert get(shop, "/v1/batches").json()["data"] == []


def test_a_form_needs_files_and_not_too_many(shop: Site) -> None:
    """Up to 200, none of them empty or too large; single-file routes still take one."""
    assert refusal(post(shop, "/v1/batches", data={"language": "en"})) == (400, "invalid_request", "file")
    many = [("file", ("x", b"ab"))] * 201
    assert refusal(post(shop, "/v1/batches", files=many)) == (400, "invalid_request", "file")
    assert refusal(post(shop, "/v1/batches", files=[("file", b"ab"), ("file", b"")])) == (400, "empty_audio", "file")
    assert refusal(post(shop, "/v1/batches", files=[("file", b"ab")], data=URL))[:2] == (400, "invalid_request")
    assert n_jobs(shop) == 0
    wait_for(lambda: not shop.staged)
    assert batch_of(shop, *[b"ab"] * 200)["total"] == 200
    assert n_jobs(shop) == 200


def test_files_are_bounded_each_and_together(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each by the limit of an upload, all by ten times that."""
    with job_site(tmp_path_factory.mktemp("small"), max_upload_bytes=200_000) as small:
        too_large = [("file", ("x", bytes(200_001))), ("file", ("y", b"ab"))]
        assert refusal(post(small, "/v1/batches", files=too_large))[:2] == (413, "too_large")
        too_many = [("file", ("x", bytes(200_000)))] * 16
        assert refusal(post(small, "/v1/batches", files=too_many))[:2] == (413, "too_large")
        assert n_jobs(small) == 0
        wait_for(lambda: not small.staged)
        assert batch_of(small, *[bytes(200_000)] * 9)["total"] == 9


def test_ten_thousand_items_are_stored_at_once(shop: Site) -> None:
    """In one transaction of a few statements, and in the order in which they were sent."""
    items = [{"audio_url": f"https://audio.example/{n}"} for n in range(10_000)]
    made = post(shop, "/v1/batches", json={"items": items, "defaults": {"language": "en"}}).json()
    assert (made["total"], made["counts"]["queued"]) == (10_000, 10_000)
    jobs = shop.shop.service.batches.members("default", made["id"], 10_000, "")
    assert [job.source.location for job in jobs] == [item["audio_url"] for item in items]
    tags = shop.shop.database.read(
        lambda tx: [row[0] for row in tx.exec_driver_sql("select tag_s from steps order by job_id")]
    )
    assert tags == sorted(tags)
    assert len(set(tags)) == 10_000


def test_many_jobs_are_cancelled_and_erased(shop: Site) -> None:
    """More than one transaction ends at a time."""
    made = post(shop, "/v1/batches", json={"items": [URL] * 320}).json()
    cancelled = post(shop, f"/v1/batches/{made['id']}/cancel").json()
    assert (cancelled["state"], cancelled["counts"]["cancelled"]) == ("finished", 320)
    assert httpx.delete(f"{shop.url}/v1/batches/{made['id']}", timeout=60).status_code == 204
    assert n_jobs(shop) == 0


def test_cancel_stops_what_has_not_ended(shop: Site) -> None:
    """What is done stays done; a second time changes nothing."""
    made = batch_of(shop, pcm(3), pcm(3), pcm(3))
    jobs = shop.shop.service.batches.members("default", made["id"], 10, "")
    post(shop, f"/v1/jobs/{jobs[0].id}/cancel")
    bench = shop.shop.bench()
    while shop.shop.get(jobs[1]).state != "succeeded":
        bench.work_once(tuple(jobs[1].lane for _ in range(1)))
    for _ in range(2):
        stopped = post(shop, f"/v1/batches/{made['id']}/cancel").json()
        assert (stopped["state"], stopped["counts"]["cancelled"]) == ("finished", 2)
    lines = lines_of(shop, made["id"])
    assert [line["state"] for line in lines] == ["cancelled", "succeeded", "cancelled"]
    assert lines[0]["error"] is None


def test_delete_removes_everything(shop: Site) -> None:
    """Running or not: jobs, audio, the batch itself."""
    made = batch_of(shop, pcm(3), pcm(3))
    keep = batch_of(shop, pcm(3))
    shop.shop.bench().work_once((2,))  # type: ignore[arg-type]
    assert httpx.delete(f"{shop.url}/v1/batches/{made['id']}", timeout=20).status_code == 204
    for path in ("", "/results"):
        assert refusal(get(shop, f"/v1/batches/{made['id']}{path}"))[:2] == (404, "not_found")
    assert httpx.delete(f"{shop.url}/v1/batches/{made['id']}", timeout=20).status_code == 404
    assert refusal(post(shop, f"/v1/batches/{made['id']}/cancel"))[:2] == (404, "not_found")
    assert n_jobs(shop) == 1
    assert len(blobs_of(shop)) == 1
    assert get(shop, f"/v1/batches/{keep['id']}").json()["state"] == "running"


def test_erasing_the_last_job_that_runs_ends_the_batch(shop: Site) -> None:
    """A batch does not wait for a job that nobody can find any more."""
    made = batch_of(shop, pcm(3), pcm(3))
    jobs = shop.shop.service.batches.members("default", made["id"], 10, "")
    shop.shop.service.cancel("default", jobs[0].id)
    httpx.delete(f"{shop.url}/v1/jobs/{jobs[1].id}", timeout=20)
    found = get(shop, f"/v1/batches/{made['id']}").json()
    assert (found["state"], found["total"], found["counts"]["cancelled"]) == ("finished", 2, 1)
    assert found["finished_at"] is not None
    assert len(lines_of(shop, made["id"])) == 1


def test_the_end_of_a_batch_is_told_once(shop: Site) -> None:
    """One event, when the last of its jobs has ended."""
    fields: dict[str, Any] = {"webhook_url": "https://hooks.example/x"}
    with shop.shop.database.engine.begin() as connection:
        connection.exec_driver_sql(
            "insert into webhook_endpoints (id, tenant, url, description, state, secret, implicit, created_at)"
            " values ('we_0', 'default', 'x', '', 'active', '', 0, 0)"
        )
    made = batch_of(shop, pcm(3), pcm(3), **fields)
    shop.shop.work_off()
    with shop.shop.database.engine.begin() as connection:
        told = connection.exec_driver_sql("select subject_id, type from events").all()
    assert [tuple(row) for row in told] == [(made["id"], "batch.finished")]


def test_lists_of_batches_come_in_pages(shop: Site) -> None:
    """Newest first, each with its own counts."""
    made = [batch_of(shop, *[b"ab"] * n)["id"] for n in (1, 2, 3)]
    first = get(shop, "/v1/batches?limit=2").json()
    assert first["has_more"] is True
    rest = get(shop, f"/v1/batches?limit=2&after={first['next']}").json()
    found = first["data"] + rest["data"]
    assert [batch["id"] for batch in found] == sorted(made, reverse=True)
    assert sorted(batch["counts"]["queued"] for batch in found) == [1, 2, 3]
    assert (rest["has_more"], rest["next"]) == (False, None)
    assert refusal(get(shop, "/v1/batches?state=running")) == (400, "invalid_request", "state")


def test_N1_a_batch_is_made_once_for_a_key(shop: Site) -> None:
    """Whether its audio comes as files, uploads or addresses; another request with the key is a conflict."""
    upload_id, key = uploaded(shop, pcm(2)), {"Idempotency-Key": "uploads"}
    manifest = {"items": [{"upload_id": upload_id}, URL]}
    answers = [post(shop, "/v1/batches", json=manifest, headers=key) for _ in range(2)]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert [answer.headers.get("idempotent-replayed") for answer in answers] == [None, "true"]
    other = {"items": [URL]}
    assert refusal(post(shop, "/v1/batches", json=other, headers=key))[:2] == (409, "idempotency_mismatch")
    made = [batch_of(shop, pcm(1), pcm(2), headers={"Idempotency-Key": "files"})["id"] for _ in range(2)]
    assert made[0] == made[1]
    changed = post(
        shop, "/v1/batches", files=[("file", pcm(2)), ("file", pcm(1))], headers={"Idempotency-Key": "files"}
    )
    assert refusal(changed)[:2] == (409, "idempotency_mismatch")
    assert n_jobs(shop) == 4
    assert len(blobs_of(shop)) == 3


def test_a_batch_that_cannot_be_stored_leaves_nothing(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uploads can be used again; no job is half there; the key is free."""
    uploads = [uploaded(shop, pcm(1)), uploaded(shop, pcm(1), whole=False)]
    key = {"Idempotency-Key": "again"}
    manifest = {"items": [{"upload_id": one} for one in uploads]}
    assert refusal(post(shop, "/v1/batches", json=manifest, headers=key))[:2] == (409, "conflict")

    def fail(*_: object) -> None:
        raise StorageUnavailable(retry_after_s=1)

    with monkeypatch.context() as patch:
        patch.setattr(shop.shop.store, "insert_many", fail)
        refused = post(shop, "/v1/batches", json={"items": [{"upload_id": uploads[0]}, URL]}, headers=key)
        assert refusal(refused)[:2] == (503, "storage_unavailable")
    assert n_jobs(shop) == 0
    assert get(shop, "/v1/batches").json()["data"] == []
    stored = post(shop, "/v1/batches", json={"items": [{"upload_id": uploads[0]}, URL]}, headers=key)
    assert stored.status_code == 202


def test_results_of_a_batch_can_be_left_in_the_middle(shop: Site) -> None:
    """The stream is free again."""
    made = batch_of(shop, *[pcm(6)] * 60)
    shop.shop.work_off()
    with HTTP.stream("GET", f"{shop.url}/v1/batches/{made['id']}/results") as answer:
        pieces = answer.iter_raw()  # Held: a generator that is dropped closes the connection.
        next(pieces)
    wait_for(lambda: not shop.app.state.streams.count)
    assert len(lines_of(shop, made["id"])) == 60
    assert refusal(get(shop, f"/v1/batches/{made['id']}/results?format=tar")) == (400, "invalid_request", "format")
    bad = get(shop, f"/v1/batches/{made['id']}/results?result_format=doc")
    assert refusal(bad) == (400, "invalid_request", "result_format")


def test_jobs_without_speakers_say_so_in_their_lines(shop: Site) -> None:
    """A format that takes speakers has them of some jobs and not of others."""
    made = batch_of(shop, pcm(2))
    shop.shop.work_off()
    answer = get(shop, f"/v1/batches/{made['id']}/results?result_format=diarized_json")
    (line,) = [json.loads(text) for text in answer.text.splitlines()]
    assert line["error"]["code"] == "invalid_request"
    assert "diarize=true" in line["error"]["remedy"]


def test_a_result_that_is_no_longer_kept_is_named(shop: Site) -> None:
    """In its line; the others are there."""
    made = batch_of(shop, pcm(2), pcm(2))
    shop.shop.work_off()
    first = shop.shop.service.batches.members("default", made["id"], 1, "")[0]
    with shop.shop.database.engine.begin() as connection:
        connection.exec_driver_sql("delete from results where job_id = ?", (first.id,))
    lines = lines_of(shop, made["id"])
    assert lines[0]["error"]["code"] == "not_found"
    assert "result" in lines[1]


@pytest.mark.parametrize("fmt", ["json", "verbose_json", "srt"])
def test_a_long_result_is_whole_in_lines_and_archives(shop: Site, fmt: ResponseFormat) -> None:
    """What its own job's route gives, as JSON, as a JSON string, and as a file."""
    made = batch_of(shop, pcm(2))
    shop.shop.work_off()
    (job,) = shop.shop.service.batches.members("default", made["id"], 1, "")
    plant(shop.shop.database, job.id, large(8000))
    expected = get(shop, f"/v1/jobs/{job.id}/result?format={fmt}").text
    (line,) = lines_of(shop, made["id"], f"?result_format={fmt}")
    assert line["result"] == (expected if fmt == "srt" else json.loads(expected))
    archived = get(shop, f"/v1/batches/{made['id']}/results?format=zip&result_format={fmt}")
    with zipfile.ZipFile(io.BytesIO(archived.content)) as archive:
        assert archive.read(f"{job.id}.{ENDINGS[fmt]}").decode() == expected


def test_a_result_that_goes_while_it_is_read_is_named(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """No half result, in a line or in a file."""
    made = batch_of(shop, pcm(2))
    shop.shop.work_off()
    (job,) = shop.shop.service.batches.members("default", made["id"], 1, "")
    plant(shop.shop.database, job.id, large(1000))
    read = StoredResult.groups

    def lose_one(self: StoredResult) -> Iterator[tuple[Segment, ...]]:
        for place, group in enumerate(read(self)):
            if place == 1:
                shop.shop.database.write(lambda tx: tx.execute(delete(result_parts)))
            yield group

    monkeypatch.setattr(StoredResult, "groups", lose_one)
    query = f"/v1/batches/{made['id']}/results?result_format=verbose_json"
    (line,) = lines_of(shop, made["id"], "?result_format=verbose_json")
    assert (line["id"], line["error"]["code"]) == (job.id, "not_found")
    assert "result" not in line
    with zipfile.ZipFile(io.BytesIO(get(shop, f"{query}&format=zip").content)) as archive:
        assert json.loads(archive.read(f"{job.id}.error.json"))["error"]["code"] == "not_found"
        assert len(archive.namelist()) == 1
