"""Edited versions over HTTP: read, saved by revision, rendered in every format, refused by name, gone with the job."""

import io
import json
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest

from tests.api.job_support import HTTP, TENANT, get, job_site, pcm, refusal, submit
from tests.api.support import Site, make_transcript
from tests.results import plant
from tympan.api.fields import edits as fields
from tympan.domain import Options, Timestamps

FIRST = {"if-none-match": "*"}
SEGMENTS = [
    {"id": 0, "start": 0.5, "end": 1.4, "text": "Hello there.", "speaker": "A"},
    {"id": 1, "start": 2.0, "end": 3.25, "text": "a < b & c --> d \u05e9\u05dc\u05d5\u05dd.", "speaker": "B"},
    {"id": 2, "start": 3.3, "end": 4.0, "text": "=1+1", "speaker": None},
]
EDIT = {"speakers": {"A": "Dr. Weber", "B": "Ms. <Roth>"}, "segments": SEGMENTS}
W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that this file's tests share."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def finished(shop: Site, **form: Any) -> str:
    """Return where a job is that has succeeded with two segments."""
    made = submit(shop, pcm(1), **form)
    shop.shop.work_off()
    plant(shop.shop.database, made["id"], make_transcript(Options(timestamps=Timestamps.WORD)))
    return f"/v1/jobs/{made['id']}"


@pytest.fixture(scope="module")
def untouched(shop: Site) -> str:
    """Return where a job is that nobody manages to edit."""
    return finished(shop)


def put(shop: Site, job: str, body: Any = EDIT, **headers: str) -> httpx.Response:
    """Save a version."""
    names = {name.replace("_", "-"): value for name, value in headers.items()} or FIRST
    return HTTP.put(f"{shop.url}{job}/edited", json=body, headers=names)


def rendered(shop: Site, job: str, fmt: str, version: str = "edited") -> httpx.Response:
    """Return a result."""
    answer = get(shop, f"{job}/result", params={"format": fmt, "version": version})
    assert answer.status_code == 200, answer.text
    return answer


def test_a_version_is_saved_read_and_erased(shop: Site) -> None:
    """Each save has a revision, which is its ETag; the original stays whatever happens."""
    job = finished(shop)
    original = get(shop, f"{job}/result?format=verbose_json").json()
    assert refusal(get(shop, f"{job}/edited"))[:2] == (404, "not_found")
    assert refusal(get(shop, f"{job}/result?version=edited"))[:2] == (404, "not_found")
    saved = put(shop, job)
    assert (saved.status_code, saved.headers["etag"]) == (200, '"1"')
    found = get(shop, f"{job}/edited")
    assert found.json() == saved.json()
    assert found.headers["etag"] == '"1"'
    body = found.json()
    assert (body["object"], body["job_id"], body["revision"]) == ("transcript.edited", job.rsplit("/", 1)[1], 1)
    assert (body["speakers"], body["segments"]) == (EDIT["speakers"], SEGMENTS)
    assert abs(body["edited_at"] - shop.shop.store.now_s()) < 60
    assert get(shop, f"{job}/edited", headers={"if-none-match": '"1"'}).status_code == 304
    assert put(shop, job, found.json(), if_match='"1"').json()["revision"] == 2
    assert get(shop, f"{job}/result?format=verbose_json").json() == original
    assert HTTP.delete(f"{shop.url}{job}/edited").status_code == 204
    assert get(shop, f"{job}/edited").status_code == 404
    assert HTTP.delete(f"{shop.url}{job}/edited").status_code == 404
    assert get(shop, f"{job}/result?format=verbose_json").json() == original
    assert put(shop, job).json()["revision"] == 4


def test_who_saves_says_what_is_replaced(shop: Site) -> None:
    """Neither header, both, or no revision: 400 that names the header."""
    job = finished(shop)
    place = f"{shop.url}{job}/edited"
    for headers, param in (
        ({}, "If-Match"),
        ({"if-match": '"1"', "if-none-match": "*"}, "If-Match"),
        ({"if-match": "*"}, "If-Match"),
        ({"if-match": "1"}, "If-Match"),
        ({"if-match": '"1", "2"'}, "If-Match"),
        ({"if-match": '"-1"'}, "If-Match"),
        ({"if-none-match": '"1"'}, "If-None-Match"),
    ):
        assert refusal(HTTP.put(place, json=EDIT, headers=headers)) == (400, "invalid_request", param), headers
    assert refusal(HTTP.delete(place, headers={"if-match": "x"}))[2] == "If-Match"
    assert get(shop, f"{job}/edited").status_code == 404


def test_of_two_writers_one_is_told(shop: Site) -> None:
    """409 for whoever comes second, at the first save, at later ones, and where the version was erased."""
    job = finished(shop)
    assert refusal(put(shop, job, if_match='"1"'))[:2] == (409, "conflict")
    put(shop, job)
    assert "Revision 1" in put(shop, job).json()["error"]["message"]
    for headers in ({"if_match": '"1"'}, {"if_match": 'W/"2"'}):
        with ThreadPoolExecutor(4) as pool:
            ends = [answer.status_code for answer in pool.map(lambda _: put(shop, job, **headers), range(4))]  # noqa: B023
        assert sorted(ends) == [200, 409, 409, 409]
    assert HTTP.delete(f"{shop.url}{job}/edited", headers={"if-match": '"2"'}).status_code == 409
    assert HTTP.delete(f"{shop.url}{job}/edited", headers={"if-match": '"3"'}).status_code == 204
    assert put(shop, job, if_match='"3"').status_code == 409


def _with(**changes: Any) -> dict[str, Any]:
    return {"segments": [{"start": 0, "end": 1, "text": "x"} | changes]}


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "segments"),
        ({"segments": None}, "segments"),
        ({"segments": {}}, "segments"),
        ({"segments": ["x"]}, "segments.0"),
        ({"segments": [{}]}, "segments.0.start"),
        (_with(start="0"), "segments.0.start"),
        (_with(start=True), "segments.0.start"),
        (_with(start=-0.1), "segments.0.start"),
        (_with(start=2), "segments.0.end"),
        (_with(end=1e300), "segments.0.end"),
        (_with(end=4.8), "segments.0.end"),
        (_with(text=5), "segments.0.text"),
        (_with(text="x" * (fields.MAX_TEXT_CHARS + 1)), "segments.0.text"),
        (_with(text="\ud800"), "segments.0.text"),
        (_with(speaker="C"), "segments.0.speaker"),
        (_with(speaker=""), "segments.0.speaker"),
        (_with(speaker=["A"]), "segments.0.speaker"),
        (_with(id=-1), "segments.0.id"),
        (_with(id=1.5), "segments.0.id"),
        (_with(word="x"), "segments.0.word"),
        (_with() | {"more": 1}, "more"),
        (_with() | {"speakers": {"A": ""}}, "speakers.A"),
        (_with() | {"speakers": {"A": "x" * 65}}, "speakers.A"),
        (_with() | {"speakers": {"A": "line\nline"}}, "speakers.A"),
        (_with() | {"speakers": {str(n): "x" for n in range(101)}}, "speakers"),
        (_with() | {"speakers": []}, "speakers"),
        ({"segments": [{"start": 1, "end": 2, "text": "x"}, {"start": 0, "end": 2, "text": "y"}]}, "segments.1.start"),
        (
            {"segments": [{"id": 1, "start": 0, "end": 2, "text": "x"}, {"start": 0, "end": 2, "text": "y"}]},
            "segments.1.id",
        ),
    ],
)
def test_what_is_wrong_is_named(shop: Site, untouched: str, body: Any, param: str) -> None:
    """The segment by its place, and the field; nothing is stored."""
    job = untouched
    answer = HTTP.put(
        f"{shop.url}{job}/edited", content=json.dumps(body), headers={**FIRST, "content-type": "application/json"}
    )
    assert refusal(answer) == (400, "invalid_request", param), answer.text
    assert get(shop, f"{job}/edited").status_code == 404


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"segments": [NaN]}', "application/json", 400),
        (b'{"segments": [], "segments": []}', "application/json", 400),
        (b'{"segments": ' + b"[" * 100_000, "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"segments": []}', "text/plain", 400),
        (b'{"segments": []}', "multipart/form-data; boundary=x", 400),
        (b'{"segments": [], "object": "' + b"x" * fields.MAX_BODY_BYTES + b'"}', "application/json", 413),
    ],
)
def test_a_hostile_body_is_refused(shop: Site, untouched: str, content: bytes, kind: str, status: int) -> None:
    """Of any shape and depth, at the length that is too much; the server lives on."""
    answer = HTTP.put(f"{shop.url}{untouched}/edited", content=content, headers={**FIRST, "content-type": kind})
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["message"]


def test_many_segments_are_taken_and_no_more_than_that(shop: Site) -> None:
    """The bound on their number holds before anything is stored."""
    job = finished(shop)
    many = [{"start": 1, "end": 1, "text": "x"}] * fields.MAX_SEGMENTS
    assert refusal(put(shop, job, {"segments": [*many, many[0]]}))[2] == "segments"
    assert put(shop, job, {"segments": many}).json()["segments"][-1]["id"] == fields.MAX_SEGMENTS - 1
    assert len(get(shop, f"{job}/edited").json()["segments"]) == fields.MAX_SEGMENTS
    assert len(rendered(shop, job, "srt").text) > 1_000_000


def test_only_a_finished_job_is_edited(shop: Site) -> None:
    """Before that 409, as for its result."""
    made = submit(shop, pcm(1))
    assert refusal(put(shop, f"/v1/jobs/{made['id']}"))[:2] == (409, "job_not_finished")
    assert refusal(put(shop, "/v1/jobs/job_000000000000"))[:2] == (404, "not_found")


def test_every_format_has_the_edited_version(shop: Site) -> None:
    """Names instead of labels, the corrected text, and nothing of it where the original is asked for."""
    job = finished(shop)
    put(shop, job)
    joined = "Hello there. a < b & c --> d \u05e9\u05dc\u05d5\u05dd. =1+1"
    assert rendered(shop, job, "text").text == f"{joined}\n"
    assert rendered(shop, job, "json").json()["text"] == joined
    verbose = rendered(shop, job, "verbose_json").json()
    assert [one["speaker"] for one in verbose["segments"][:2]] == ["Dr. Weber", "Ms. <Roth>"]
    assert "speaker" not in verbose["segments"][2]
    assert verbose["language"] == "english"
    diarized = rendered(shop, job, "diarized_json").json()
    assert [one["speaker"] for one in diarized["segments"]] == ["Dr. Weber", "Ms. <Roth>", "unknown"]
    srt = rendered(shop, job, "srt").text
    assert "Dr. Weber: Hello there." in srt
    assert srt.count("-->") == 3
    vtt = rendered(shop, job, "vtt").text
    assert "<v Ms. &lt;Roth&gt;>a &lt; b &amp; c --&gt; d" in vtt
    assert rendered(shop, job, "tsv").text.splitlines()[-1] == "3300\t4000\t =1+1"
    assert get(shop, f"{job}/result?version=edited").json()["text"] == joined
    assert "Weber" not in rendered(shop, job, "srt", "original").text
    assert refusal(get(shop, f"{job}/result?format=diarized_json"))[2] == "format"
    assert refusal(get(shop, f"{job}/result?version=mine"))[2] == "version"


def test_subtitles_of_an_edited_version_are_cut_to_shape(shop: Site) -> None:
    """As those of the original are."""
    job = finished(shop)
    put(shop, job, {"segments": [{"start": 0, "end": 4, "text": "one two three four five six seven eight nine ten"}]})
    answer = get(shop, f"{job}/result", params={"format": "srt", "version": "edited", "max_line_width": 12})
    assert max(map(len, answer.text.splitlines())) <= 29
    assert answer.text.count("-->") > 1


def test_a_document_can_be_had_of_either_version(shop: Site) -> None:
    """Named after the job, titled by its metadata; with the names of speakers that were given."""
    job = finished(shop, metadata=json.dumps({"filename": "Visit & <talk>.mp3"}))
    put(shop, job)
    for version, said in (
        ("edited", "[00:00:02] Ms. <Roth>: a < b & c"),
        ("original", "Hello there. A < B & C --> D."),
    ):
        answer = rendered(shop, job, "docx", version)
        assert answer.headers["content-type"].endswith("wordprocessingml.document")
        assert answer.headers["content-disposition"] == f'attachment; filename="{job.rsplit("/", 1)[1]}.docx"'
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            document = ET.fromstring(archive.read("word/document.xml"))  # noqa: S314 (our own)
        lines = ["".join(text.text or "" for text in one.iter(f"{W}t")) for one in document.iter(f"{W}p")]
        assert lines[0] == "Visit & <talk>.mp3"
        assert any(said in line for line in lines[1:]), lines
        assert rendered(shop, job, "docx", version).content == answer.content


def test_a_document_is_a_result_and_no_format_of_a_call(shop: Site) -> None:
    """Calls and jobs are asked for text."""
    form = {"files": {"file": ("a.raw", pcm(1))}, "data": {"response_format": "docx"}}
    for path in ("/v1/jobs", "/v1/audio/transcriptions"):
        assert refusal(HTTP.post(shop.url + path, **form))[2] == "response_format"  # type: ignore[arg-type]


def test_K7_a_version_goes_with_its_job(shop: Site) -> None:
    """And with its tenant."""
    job, other = finished(shop), finished(shop)
    for one in (job, other):
        assert put(shop, one).status_code == 200
    assert HTTP.delete(shop.url + job).status_code == 204
    assert get(shop, f"{job}/edited").status_code == 404
    assert put(shop, job, if_match='"1"').status_code == 404
    assert get(shop, f"{other}/edited").status_code == 200
    shop.shop.service.erase_tenant(TENANT)
    assert get(shop, f"{other}/edited").status_code == 404
