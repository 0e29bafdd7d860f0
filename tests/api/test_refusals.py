"""Refusals say the true cause, name the field at fault, and name all faults at once."""

from collections.abc import Iterator

import httpx
import pytest

from tests.api.job_support import get, job_site, n_jobs, pcm, post, refusal, uploaded
from tests.api.support import Site

URL = {"audio_url": "https://audio.example/a.wav"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that this module's tests share."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def message(answer: httpx.Response) -> str:
    """Return what an error answer says."""
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize(
    ("deadline", "cause"),
    [("-1", "has passed"), ("2020-01-01T00:00:00Z", "has passed"), ("1e300", "is more than a year away"),
     ("9000-01-01T00:00:00Z", "is more than a year away")],
)  # fmt: skip
def test_a_deadline_that_is_too_far_is_not_said_to_be_past(shop: Site, deadline: str, cause: str) -> None:
    """Each of the two bounds has a cause of its own."""
    answer = post(shop, json={**URL, "deadline": deadline})
    assert refusal(answer) == (400, "invalid_request", "deadline")
    assert message(answer).startswith(f"The deadline {cause}.")


@pytest.mark.parametrize("data", [b"\xff\xfb" * 100, b"\xff\xfb" * 40_000], ids=["short", "long"])
@pytest.mark.parametrize(
    ("path", "field", "wanted"),
    [("/v1/jobs", "audio", "file"), ("/v1/audio/transcriptions", "audio", "file"), ("/v1/batches", "files", "file")],
)
def test_a_file_in_another_field_is_told_the_right_one(
    shop: Site, path: str, field: str, wanted: str, data: bytes
) -> None:
    """A frequent mistake, and its remedy is neither UTF-8 nor a shorter field."""
    answer = post(shop, path, files={field: ("talk.mp3", data)})
    assert refusal(answer) == (400, "invalid_request", field)
    assert message(answer).endswith(f"Send the audio as a file field named '{wanted}'.")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/jobs/job_%00", (404, "not_found", None)),
        ("/v1/jobs/job_%00/result", (404, "not_found", None)),
        ("/v1/batches/batch_%00", (404, "not_found", None)),
        ("/v1/jobs?after=%00", (400, "invalid_request", "after")),
        ("/v1/jobs?batch_id=%00", (400, "invalid_request", "batch_id")),
    ],
)
def test_a_nul_is_refused_before_a_database_sees_it(shop: Site, path: str, expected: tuple[int, str, str]) -> None:
    """PostgreSQL cannot even look for one: that would be a fault of the server."""
    assert refusal(get(shop, path)) == expected


def test_a_nul_in_a_field_is_refused(shop: Site) -> None:
    """The same for what would be stored."""
    assert refusal(post(shop, json={**URL, "model": "a\0b"})) == (400, "invalid_request", "model")
    assert refusal(post(shop, json={**URL, "webhook_endpoint": "whe_\0"})) == (
        400,
        "invalid_request",
        "webhook_endpoint",
    )


def test_the_other_shape_is_told_its_own_field(shop: Site) -> None:
    """The routes in another server's shape have another name for the file."""
    answer = post(shop, "/transcribe/async", files={"file": ("talk.mp3", b"\xff\xfb" * 100)})
    assert answer.status_code == 400
    assert answer.json()["detail"].endswith("Send the audio as a file field named 'audio'.")


def test_a_text_file_is_a_fields_text(shop: Site) -> None:
    """Clients that send long fields from files are understood."""
    answer = post(shop, files={"file": ("a", pcm()), "metadata": ("m.json", b'{"a": "b"}')})
    assert (answer.status_code, answer.json()["metadata"]) == (202, {"a": "b"})


def test_which_file_of_several_is_empty_is_said(shop: Site) -> None:
    """Two hundred files are many to look through."""
    files = [("file", ("a", pcm())), ("file", ("b", b"")), ("file", ("c", pcm()))]
    answer = post(shop, "/v1/batches", files=files)
    assert refusal(answer) == (400, "empty_audio", "file")
    assert "The file 2 of 3 is empty." in message(answer)


@pytest.mark.parametrize(("path", "kinds"), [("/v1/jobs", 2), ("/v1/batches", 2), ("/transcribe/async", 1)])
def test_a_body_of_another_kind_is_told_those_that_there_are(shop: Site, path: str, kinds: int) -> None:
    """JSON too, where it is taken."""
    answer = post(shop, path, content=b"x", headers={"content-type": "audio/mpeg"})
    assert answer.status_code == 400
    assert sum(kind in answer.text for kind in ("application/json", "multipart/form-data")) == kinds


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches", "/v1/audio/transcriptions"])
@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=" + "x" * 71])
def test_a_form_whose_header_was_set_by_hand_is_told_so(shop: Site, path: str, boundary: str) -> None:
    """A header without the boundary is a frequent mistake, and the body is a form all the same."""
    answer = post(shop, path, content=b"--x", headers={"content-type": f"multipart/form-data{boundary}"})
    assert refusal(answer) == (400, "invalid_request", "Content-Type")
    assert message(answer).endswith("Let the HTTP client set that header.")


def test_what_is_not_found_names_the_field(shop: Site) -> None:
    """An upload, a webhook endpoint: an id in a field is that field's fault."""
    assert refusal(post(shop, json={"upload_id": "upl_0"})) == (404, "not_found", "upload_id")
    unknown = post(shop, json={**URL, "webhook_endpoint": "we_nope"})
    assert refusal(unknown) == (404, "not_found", "webhook_endpoint")


@pytest.mark.parametrize(("path", "kind"), [("/v1/jobs", "job"), ("/v1/batches", "batch")])
@pytest.mark.parametrize("after", ["nope", "job_", "job_zz", "upl_0123456789ab", "job_0123456789ab%0a"])
def test_a_page_does_not_begin_behind_what_is_no_id(shop: Site, path: str, kind: str, after: str) -> None:
    """It would answer some page or other as if nothing were wrong."""
    answer = get(shop, f"{path}?after={after}")
    assert refusal(answer) == (400, "invalid_request", "after")
    assert kind in message(answer)


def test_a_page_may_begin_behind_what_has_gone(shop: Site) -> None:
    """The last job of a page may have been erased by the time the next one is asked for."""
    first = post(shop, json=URL).json()["id"]
    last = post(shop, json=URL).json()["id"]
    assert httpx.delete(f"{shop.url}/v1/jobs/{last}").status_code == 204
    assert get(shop, f"/v1/jobs?after={last}").json()["data"][0]["id"] == first


def test_an_unknown_field_is_not_likened_to_just_any(shop: Site) -> None:
    """A hint that leads astray is worse than none."""
    assert "hotwords" not in message(post(shop, json={**URL, "foo": 1}))
    assert "'priority'" in message(post(shop, json={**URL, "prioriti": 1}))


def test_all_faults_of_a_manifest_are_named_at_once(shop: Site) -> None:
    """Fields, deadlines and languages alike: who mends them one after another sends the manifest many times."""
    items = [URL, {}, {**URL, "deadline": -1}, {**URL, "language": "xx"}, {**URL, "model": "none"}]
    answer = post(shop, "/v1/batches", json={"items": items})
    assert refusal(answer) == (400, "invalid_request", "items[1].file")
    assert message(answer).startswith("4 of 5 items are not valid.")
    assert all(f"items[{number}]:" in message(answer) for number in (1, 2, 3, 4))


def test_a_manifest_with_an_upload_that_cannot_be_taken_names_the_item(shop: Site) -> None:
    """Nothing is stored, and the uploads before it can be used again."""
    good, before = uploaded(shop, pcm(2, seed=5)), n_jobs(shop)
    answer = post(shop, "/v1/batches", json={"items": [{"upload_id": good}, URL, {"upload_id": "upl_0"}]})
    assert refusal(answer) == (404, "not_found", "items[2].upload_id")
    assert n_jobs(shop) == before
    assert post(shop, json={"upload_id": good}).status_code == 202


def test_a_form_of_files_with_a_wrong_field_is_refused_as_for_one(shop: Site) -> None:
    """The field goes for all files, so no item is at fault."""
    answer = post(shop, "/v1/batches", files=[("file", ("a", pcm()))], data={"deadline": "-1"})
    assert refusal(answer) == (400, "invalid_request", "deadline")


def test_an_empty_upload_is_refused_like_an_empty_file(shop: Site) -> None:
    """At once, and not by a job that fails later; the upload is left alone."""
    empty = uploaded(shop, b"")
    for _ in range(2):
        assert refusal(post(shop, json={"upload_id": empty})) == (400, "empty_audio", "upload_id")
