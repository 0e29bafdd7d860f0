"""A job's life over HTTP, on real sockets, a real database and the real pipeline over a made-up engine."""

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from tests.api.job_support import blobs_of, get, job_of, job_site, n_jobs, pcm, post, refusal, submit, uploaded
from tests.api.support import Site, wait_for
from tympan import disk
from tympan.api.deps import ModelCard
from tympan.domain import JobState, Lane
from tympan.errors import UnsupportedLanguage

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
FIELDS = {
    "id", "object", "state", "progress", "queue_position", "eta_s", "attempts", "error", "created_at", "started_at",
    "finished_at", "deadline", "metadata", "priority", "model", "language", "batch_id", "retry_of", "webhook_endpoint",
    "partial_text", "restarts",
}  # fmt: skip


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server of this test's own."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def test_a_jobs_full_life(shop: Site) -> None:
    """Handed in, waiting, done, read, erased: every step is visible, and nothing stays behind."""
    answer = post(shop, files={"file": ("a", pcm(50))}, data={"metadata": '{"order": "7"}', "priority": "3"})
    made = answer.json()
    assert answer.status_code == 202
    assert answer.headers["location"] == f"/v1/jobs/{made['id']}"
    assert set(made) == FIELDS
    assert (made["object"], made["state"], made["priority"], made["metadata"]) == ("job", "queued", 3, {"order": "7"})
    waiting = job_of(shop, made["id"])
    assert (waiting["state"], waiting["queue_position"], waiting["partial_text"]) == ("queued", 1, None)
    assert shop.shop.work_off() == 5
    done = job_of(shop, made["id"])
    assert (done["state"], done["attempts"], done["language"], done["error"]) == ("succeeded", 1, "en", None)
    assert done["progress"] == {"sections_done": 3, "sections_total": 3, "audio_s_done": 50.0, "audio_s_total": 50.0}
    result = get(shop, f"/v1/jobs/{made['id']}/result")
    assert result.json()["text"].startswith("w0. w1. ")
    assert erase(shop, made["id"]).status_code == 204
    for path in ("", "/result", "/events"):
        assert refusal(get(shop, f"/v1/jobs/{made['id']}{path}")) == (404, "not_found", None)
    assert erase(shop, made["id"]).status_code == 404
    assert blobs_of(shop) == set()
    assert not shop.staged


def erase(running: Site, job_id: str) -> httpx.Response:
    """Erase a job."""
    return httpx.delete(f"{running.url}/v1/jobs/{job_id}", timeout=20)


def test_a_running_job_shows_its_text_so_far(shop: Site) -> None:
    """After two of three sections, two sections' words are there; the place in the queue is not."""
    made = submit(shop, pcm(50))
    bench = shop.shop.bench()
    for _ in range(3):
        assert bench.work_once(tuple(Lane))
    running = job_of(shop, made["id"])
    assert (running["state"], running["queue_position"]) == ("running", None)
    assert running["progress"]["sections_done"] == 2
    assert running["partial_text"].split()[0] == "w0."
    shop.shop.work_off()
    whole = get(shop, f"/v1/jobs/{made['id']}/result?format=text").text.strip()
    assert whole.startswith(running["partial_text"])
    assert len(whole) > len(running["partial_text"])


@pytest.mark.parametrize("how", ["file", "json", "form", "upload", "object"])
def test_audio_may_come_in_every_way_there_is(shop: Site, how: str) -> None:
    """A file, an address in JSON or in a form, a resumable upload, a file in a folder of the operator's."""
    data = pcm(6)
    if how == "upload":
        answer = post(shop, json={"upload_id": uploaded(shop, data)})
    elif how == "object":
        (shop.shop.folder / "kept.raw").write_bytes(data)
        answer = post(shop, json={"audio_object": (shop.shop.folder / "kept.raw").as_uri()})
    elif how == "file":
        answer = post(shop, files={"file": ("x", data)})
    else:
        url = {"audio_url": "https://audio.example/a.wav"}
        answer = post(shop, json=url) if how == "json" else post(shop, data=url)
    assert answer.status_code == 202, answer.text
    job = shop.shop.service.get("default", answer.json()["id"])
    if how in ("json", "form"):
        assert (job.source.kind, job.source.location) == ("url", "https://audio.example/a.wav")
        return
    shop.shop.work_off()
    assert get(shop, f"/v1/jobs/{job.id}/result?format=text").text.strip() == "w0. w1."
    if how in ("file", "upload"):
        assert job.source.sha256 is not None
        assert job.source.n_bytes == len(data)
    assert not [key for key in blobs_of(shop) if key.startswith("uploads/")]


def test_an_upload_that_is_not_finished_is_refused_and_can_go_on(shop: Site) -> None:
    """The job does not come to be, and the upload is free again; one that is unknown is named."""
    upload_id = uploaded(shop, pcm(2), whole=False)
    assert refusal(post(shop, json={"upload_id": upload_id}))[:2] == (409, "conflict")
    assert refusal(post(shop, json={"upload_id": "upload_nope"}))[:2] == (404, "not_found")
    assert n_jobs(shop) == 0


def test_an_upload_serves_one_job(shop: Site) -> None:
    """It goes with the job that took it."""
    upload_id = uploaded(shop, pcm(2))
    assert post(shop, json={"upload_id": upload_id}).status_code == 202
    assert refusal(post(shop, json={"upload_id": upload_id}))[:2] == (404, "not_found")


def test_P4_all_times_are_in_utc(shop: Site) -> None:
    """Times have three decimals and end in Z; a deadline in another zone is turned."""
    later = datetime.now(timezone(timedelta(hours=1))).replace(microsecond=500_000) + timedelta(days=10)
    made = submit(shop, deadline=later.isoformat(timespec="milliseconds"))
    shop.shop.work_off()
    done = job_of(shop, made["id"])
    assert done["deadline"] == later.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.500Z")
    times = [done[name] for name in ("created_at", "started_at", "finished_at")]
    assert all(TIME.fullmatch(text) for text in times)
    assert times == sorted(times)


@pytest.mark.parametrize("deadline", ["-1", "0", "2001-01-01T00:00:00Z", "1e9", "9999-12-31T23:59:59Z"])
def test_a_deadline_lies_ahead(shop: Site, deadline: str) -> None:
    """In the past, now, or beyond a year: refused by name."""
    assert refusal(post(shop, files={"file": pcm(1)}, data={"deadline": deadline})) == (
        400, "invalid_request", "deadline",
    )  # fmt: skip


def test_a_deadline_counts_from_now(shop: Site) -> None:
    """As a number of JSON, too; the job expires and says why."""
    made = post(shop, json={"audio_url": "https://audio.example/a", "deadline": 0.05}).json()
    time.sleep(0.1)
    assert shop.shop.upkeep.expire_deadlines() == 1
    ended = job_of(shop, made["id"])
    assert (ended["state"], ended["error"]["code"]) == ("expired", "deadline_passed")
    assert ended["error"]["remedy"]


def test_an_unchanged_job_is_not_sent_again(shop: Site) -> None:
    """The ETag answers 304, until something happens."""
    made = submit(shop)
    first = get(shop, f"/v1/jobs/{made['id']}")
    assert int(first.headers["retry-after"]) >= 1
    tag = first.headers["etag"]
    for known in (tag, f'"x", W/{tag}', "*"):
        again = get(shop, f"/v1/jobs/{made['id']}", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    shop.shop.work_off()
    changed = get(shop, f"/v1/jobs/{made['id']}", headers={"if-none-match": tag})
    assert (changed.status_code, changed.json()["state"]) == (200, "succeeded")
    assert "retry-after" not in changed.headers


def test_lists_come_in_pages_newest_first(shop: Site) -> None:
    """Every job once, by state if wanted; the last page says that it is the last."""
    made = [submit(shop, pcm(1))["id"] for _ in range(5)]
    post(shop, f"/v1/jobs/{made[0]}/cancel")
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = get(shop, "/v1/jobs", params={"limit": 2, **after}).json()
        seen += [job["id"] for job in page["data"]]
        assert page["object"] == "list"
        if not page["has_more"]:
            break
        after = {"after": page["next"]}
    assert page["next"] is None
    assert sorted(seen) == sorted(made)
    assert seen == sorted(seen, reverse=True)
    assert [job["id"] for job in get(shop, "/v1/jobs?state=cancelled").json()["data"]] == [made[0]]
    assert len(get(shop, "/v1/jobs?state=cancelled&state=queued").json()["data"]) == 5
    assert get(shop, "/v1/jobs?batch_id=batch_none").json()["data"] == []


@pytest.mark.parametrize(
    ("query", "param"),
    [("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("state=done", "state"),
     ("tenant=a", "tenant"), ("limit=1&limit=2", "limit"), ("after=" + "x" * 65, "after")],
)  # fmt: skip
def test_lists_refuse_what_they_do_not_know(shop: Site, query: str, param: str) -> None:
    """A filter that was misspelled must not be ignored."""
    assert refusal(get(shop, f"/v1/jobs?{query}")) == (400, "invalid_request", param)


def test_cancel_keeps_the_job_and_retry_makes_another(shop: Site) -> None:
    """A cancelled job stays; its retry is a new job for the same audio; a finished one cannot be retried."""
    made = submit(shop, pcm(6), metadata='{"a": "b"}')
    cancelled = post(shop, f"/v1/jobs/{made['id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert refusal(get(shop, f"/v1/jobs/{made['id']}/result"))[:2] == (409, "job_not_finished")
    answer = post(shop, f"/v1/jobs/{made['id']}/retry")
    again = answer.json()
    assert (answer.status_code, again["state"], again["retry_of"]) == (202, "queued", made["id"])
    assert (again["metadata"], answer.headers["location"]) == ({"a": "b"}, f"/v1/jobs/{again['id']}")
    shop.shop.work_off()
    assert job_of(shop, again["id"])["state"] == "succeeded"
    assert job_of(shop, made["id"])["state"] == "cancelled"
    assert refusal(post(shop, f"/v1/jobs/{again['id']}/retry"))[:2] == (409, "job_not_retryable")
    assert post(shop, f"/v1/jobs/{again['id']}/cancel").json()["state"] == "succeeded"


@pytest.mark.parametrize("action", ["cancel", "retry"])
def test_unknown_jobs_are_not_found(shop: Site, action: str) -> None:
    """For every action alike."""
    assert refusal(post(shop, f"/v1/jobs/job_nope/{action}")) == (404, "not_found", None)


def test_a_failed_job_says_why(shop: Site) -> None:
    """Code, message and remedy are those of the error that ended it."""
    shop.shop.desk.refusals[1] = UnsupportedLanguage("Nobody here speaks it.", remedy="Ask elsewhere.")
    made = submit(shop, pcm(6))
    shop.shop.work_off()
    ended = job_of(shop, made["id"])
    assert ended["state"] == "failed"
    assert ended["error"] == {
        "code": "unsupported_language", "message": "Nobody here speaks it.", "remedy": "Ask elsewhere.",
    }  # fmt: skip
    status, code, _ = refusal(get(shop, f"/v1/jobs/{made['id']}/result"))
    assert (status, code) == (409, "job_not_finished")


def test_jobs_are_taken_while_the_model_is_loading(shop: Site) -> None:
    """Nothing is known about models then, so any name is taken."""
    shop.services.backend._registry = None
    assert submit(shop, model="anything", language="sw")["model"] == "anything"


def test_models_and_languages_that_are_not_served_are_refused(shop: Site) -> None:
    """Once the model is known, a job for another one would only fail later."""
    assert submit(shop, model="whisper-1")["model"] == "base"
    assert refusal(post(shop, files={"file": pcm(1)}, data={"model": "tiny"})) == (404, "model_not_found", "model")
    shop.services.backend.arrive(shop.transcriber, ModelCard("base.en"))
    shop.transcriber.info = type("Facts", (), {"languages": ("en",)})()
    assert refusal(post(shop, files={"file": pcm(1)}, data={"language": "de"})) == (
        400, "unsupported_language", "language",
    )  # fmt: skip


def test_a_draining_server_takes_no_jobs(shop: Site) -> None:
    """It says when to come back; what is there can still be asked about."""
    made = submit(shop)
    shop.services.house.draining = True
    answer = post(shop, files={"file": pcm(1)})
    assert refusal(answer)[:2] == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert job_of(shop, made["id"])["state"] == "queued"


def test_a_full_disk_takes_no_jobs(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one without a body to speak of: its audio would have to go somewhere."""
    monkeypatch.setattr(disk, "LEAST_FREE_BYTES", 10**18)
    assert refusal(post(shop, json={"audio_url": "https://a.example/a"}))[:2] == (507, "insufficient_storage")


def test_a_place_in_the_house_is_held_only_while_the_body_comes_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    """With one place, one job after another gets in."""
    with job_site(tmp_path_factory.mktemp("one"), max_requests=1) as small:
        for _ in range(3):
            submit(small, pcm(1))
        wait_for(lambda: not small.services.house.count)


def test_a_file_above_the_limit_is_too_large(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Nothing of it stays."""
    with job_site(tmp_path_factory.mktemp("small"), max_upload_bytes=100_000) as small:
        assert refusal(post(small, files={"file": bytes(100_001)})) == (413, "too_large", "file")
        assert refusal(post(small, content=b"{" + b" " * 4_300_000, headers={"content-type": "application/json"}))[
            :2
        ] == (413, "too_large")
        wait_for(lambda: not small.staged)
        assert n_jobs(small) == 0


def test_webhooks_are_looked_up(shop: Site) -> None:
    """An address becomes an endpoint; an endpoint has to be there."""
    made = submit(shop, pcm(1), webhook_url="https://hooks.example/x")
    assert made["webhook_endpoint"] == "we_0"
    assert submit(shop, pcm(1), webhook_endpoint="we_0")["webhook_endpoint"] == "we_0"
    assert refusal(post(shop, files={"file": pcm(1)}, data={"webhook_endpoint": "we_9"}))[:2] == (404, "not_found")


@pytest.mark.parametrize(
    ("source", "param"),
    [({"audio_url": "http://10.0.0.1/a.wav"}, "audio_url"), ({"audio_object": "s3://elsewhere/a.wav"}, "audio_object")],
)
def test_what_is_refused_leaves_no_endpoint(shop: Site, source: dict[str, str], param: str) -> None:
    """An address that may not be read is named, before an endpoint is made for it."""
    answer = post(shop, json={**source, "webhook_url": "https://hooks.example/x"})
    assert refusal(answer) == (400, "address_refused", param)
    assert submit(shop, pcm(1), webhook_url="https://hooks.example/y")["webhook_endpoint"] == "we_0"


def test_what_is_not_set_up_is_refused_by_name(shop: Site) -> None:
    """A server without webhooks or resumable uploads says so."""
    shop.app.state.services = shop.services
    for field, value in (("webhook_url", "https://a.example"), ("webhook_endpoint", "we_1")):
        answer = post(shop, json={"audio_url": "https://a.example/a", field: value})
        assert refusal(answer) == (400, "unsupported_option", field)
    assert refusal(post(shop, json={"upload_id": "upload_1"})) == (400, "unsupported_option", "upload_id")


def test_every_route_is_described(shop: Site) -> None:
    """OpenAPI has a summary and an answer for each, and the job's shape."""
    described: dict[str, Any] = get(shop, "/openapi.json").json()
    routes = {
        (path, method): operation
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
        if path.startswith(("/v1/jobs", "/v1/batches", "/transcribe"))
    }
    assert len(routes) == 22
    for place, operation in routes.items():
        assert operation["description"], place
        assert any(status.startswith("2") for status in operation["responses"]), place
    assert set(described["components"]["schemas"]["JobBody"]["properties"]) == FIELDS
    fields = routes["/v1/jobs", "post"]["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {"file", "audio_url", "deadline", "metadata", "beam_size"} <= set(fields)
    taken = {place: {one["name"] for one in operation.get("parameters", ())} for place, operation in routes.items()}
    for path in ("/v1/jobs", "/v1/batches"):
        assert "Idempotency-Key" in taken[path, "post"]
        assert {"limit", "after"} <= taken[path, "get"]


def test_states_on_the_wire_are_the_contracts() -> None:
    """Clients compare with these words."""
    assert [state.value for state in JobState] == ["queued", "running", "succeeded", "failed", "cancelled", "expired"]
