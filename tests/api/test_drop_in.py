"""The job routes in the shape that other servers have."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.job_support import HTTP, get, job_site, n_jobs, pcm, post
from tests.api.support import Site, wait_for
from tympan.domain import Lane, Timestamps
from tympan.errors import UnsupportedLanguage


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server of this test's own."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def send(shop: Site, data: bytes, **fields: str) -> httpx.Response:
    """Send audio."""
    return post(shop, "/transcribe/async", files={"audio": ("a.wav", data)}, data=fields)


def poll(shop: Site, job_id: str) -> Any:
    """Ask for a job."""
    answer = get(shop, f"/transcribe/{job_id}")
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_from_a_file_to_a_result(shop: Site) -> None:
    """Queued, processing, completed; the result has the fields that clients of other servers read."""
    answer = send(shop, pcm(50), language="en")
    made = answer.json()
    assert answer.status_code == 202
    assert made == {"job_id": made["job_id"], "status": "queued"}
    assert (poll(shop, made["job_id"])["status"], poll(shop, made["job_id"])["result"]) == ("queued", None)
    shop.shop.bench().work_once(tuple(Lane))
    assert poll(shop, made["job_id"])["status"] == "processing"
    shop.shop.work_off()
    done = poll(shop, made["job_id"])
    assert done["status"] == "completed"
    assert set(done["result"]) == {"text", "language", "language_probability", "segments"}
    assert done["result"]["language"] == "en"
    assert done["result"]["text"].startswith("w0. w1.")
    first = done["result"]["segments"][0]
    assert first == {"start": 0.0, "end": 0.5, "text": " w0."}


def test_options_are_honoured(shop: Site) -> None:
    """Words, beam and speech detection under the names that are used elsewhere."""
    fields = {"word_timestamps": "true", "beam_size": "2", "vad_filter": "false", "language": "de"}
    job_id = send(shop, pcm(6), **fields).json()["job_id"]
    options = shop.shop.service.get("default", job_id).options
    assert (options.beam_size, options.vad, options.language) == (2, None, "de")
    assert options.timestamps is Timestamps.WORD
    shop.shop.work_off()
    segments = poll(shop, job_id)["result"]["segments"]
    assert segments[0]["words"] == [{"word": "w0.", "start": 0.0, "end": 0.5, "probability": 0.9}]
    assert [word["word"] for segment in segments for word in segment["words"]] == ["w0.", "w1."]


@pytest.mark.parametrize("end", ["fail", "cancel"])
def test_what_has_no_result_failed(shop: Site, end: str) -> None:
    """With the cause in words."""
    shop.shop.desk.refusals[1] = UnsupportedLanguage("Nobody here speaks it.")
    job_id = send(shop, pcm(6)).json()["job_id"]
    if end == "cancel":
        post(shop, f"/v1/jobs/{job_id}/cancel")
    shop.shop.work_off()
    found = poll(shop, job_id)
    assert (found["status"], found["result"]) == ("failed", None)
    assert found["error"] == ("It was cancelled." if end == "cancel" else "Nobody here speaks it.")


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        ({"files": {"file": ("a", b"x")}}, 400, "invalid_request"),
        ({"files": {"audio": ("a", b"")}}, 400, "empty_audio"),
        ({"files": [("audio", b"x"), ("audio", b"y")]}, 400, "invalid_request"),
        ({"files": {"audio": b"x"}, "data": {"tinydiarize": "true"}}, 400, "invalid_request"),
        ({"files": {"audio": b"x"}, "data": {"language": "xx"}}, 400, "unsupported_language"),
        ({"files": {"audio": b"x"}, "data": {"beam_size": "0"}}, 400, "invalid_request"),
        ({"data": {"language": "en"}}, 400, "invalid_request"),
        ({"json": {}}, 400, "invalid_request"),
    ],
    ids=str,
)
def test_errors_are_plain(shop: Site, request_: Any, status: int, code: str) -> None:
    """A detail and our code, not OpenAI's envelope."""
    answer = post(shop, "/transcribe/async", **request_)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert set(answer.json()) == {"detail", "code"}
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert n_jobs(shop) == 0


def test_unknown_and_oversize(tmp_path_factory: pytest.TempPathFactory) -> None:
    """404 and 413, in the same plain shape; a client that writes on still reads the answer."""
    with job_site(tmp_path_factory.mktemp("small"), max_upload_bytes=100_000) as small:
        unknown = get(small, "/transcribe/job_nope")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
        for size in (100_001, 20_000_000):
            refused = send(small, bytes(size))
            assert (refused.status_code, refused.json()["code"]) == (413, "too_large")
        wait_for(lambda: not small.staged)


def test_a_stopping_server_says_when_to_come_back(shop: Site) -> None:
    """In the header that every client knows."""
    shop.services.house.draining = True
    refused = send(shop, pcm(1))
    assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
    assert int(refused.headers["retry-after"]) > 0


def test_jobs_of_both_interfaces_are_the_same(shop: Site) -> None:
    """What one hands in the other can read, in any format."""
    job_id = send(shop, pcm(6)).json()["job_id"]
    shop.shop.work_off()
    assert HTTP.get(f"{shop.url}/v1/jobs/{job_id}/result?format=text").text == "w0. w1.\n"
