"""What a job may be asked for with: every field, every spelling, and every way to get it wrong."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.job_support import get, job_site, n_jobs, pcm, post, refusal, submit
from tests.api.support import Site
from tympan.api.fields.jobs import fields_of, fingerprint, idempotency_key, parse_job, parse_metadata, parse_object
from tympan.domain import Job, Lane, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest

URL = {"audio_url": "https://audio.example/a.wav"}


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that this module's tests share; none of them works off what it hands in."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def stored(shop: Site, **document: Any) -> Job:
    """Hand a job in as JSON and return it as it is stored."""
    answer = post(shop, json={**URL, **document})
    assert answer.status_code == 202, answer.text
    return shop.shop.service.get("default", answer.json()["id"])


def test_json_and_forms_say_the_same(shop: Site) -> None:
    """Numbers, booleans, lists and objects have the meaning of the form's text."""
    by_json = stored(
        shop,
        language="de",
        beam_size=3,
        temperature=0.5,
        temperature_fallback=False,
        vad={"threshold": 0.25},
        timestamp_granularities=["word", "segment"],
        response_format="verbose_json",
        task="translate",
        priority=-100,
        metadata={"a": "b", "ü": "ö"},
        prompt=None,
    )
    form: dict[str, Any] = {
        "language": "de", "beam_size": "3", "temperature": "0.5", "temperature_fallback": "false",
        "vad": '{"threshold": 0.25}', "timestamp_granularities[]": ["word", "segment"],
        "response_format": "verbose_json", "task": "translate", "priority": "-100", "metadata": '{"a":"b","ü":"ö"}',
    }  # fmt: skip
    by_form = shop.shop.service.get("default", submit(shop, **form)["id"])
    assert by_json.options == by_form.options
    assert (by_json.output, by_json.priority, by_json.metadata) == (by_form.output, by_form.priority, by_form.metadata)
    assert (by_json.options.vad, by_json.options.beam_size) == (VadOptions(threshold=0.25), 3)
    assert (by_json.options.task, by_json.options.language) == (Task.TRANSLATE, "de")
    assert (by_json.output.words, by_json.output.segments, by_json.output.response_format) == (
        True, True, "verbose_json",
    )  # fmt: skip
    assert (by_json.priority, by_json.lane, json.loads(by_json.metadata)) == (-100, Lane.BATCH, {"a": "b", "ü": "ö"})


@pytest.mark.parametrize("fmt", ["json", "text", "srt", "verbose_json"])
def test_times_are_always_computed(shop: Site, fmt: str) -> None:
    """The result may be read in any format later; words cost more and come when they are asked for."""
    assert stored(shop, response_format=fmt).options.timestamps is Timestamps.SEGMENT
    asked = stored(shop, response_format=fmt, word_timestamps=True)
    assert (asked.options.timestamps, asked.output.words) == (Timestamps.WORD, True)
    assert asked.output.response_format == fmt


@pytest.mark.parametrize(
    "name", ["tenant", "tenant_id", "state", "fence", "id", "attempts", "batch_id", "lane", "source_location"]
)
def test_J9_fields_of_ours_cannot_be_set(shop: Site, name: str) -> None:
    """What belongs to the server is refused by name, in JSON and in forms."""
    before = n_jobs(shop)
    assert refusal(post(shop, json={**URL, name: "x"})) == (400, "invalid_request", name)
    assert refusal(post(shop, files={"file": pcm(1)}, data={name: "x"})) == (400, "invalid_request", name)
    assert refusal(post(shop, f"/v1/jobs?{name}=x", json=URL)) == (400, "invalid_request", name)
    assert n_jobs(shop) == before


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "file"),
    ({"file": "text"}, "file"),
    ({**URL, "upload_id": "u"}, "audio_url"),
    ({**URL, "audio_object": "s3://a/b"}, "audio_url"),
    ({"audio_url": "x" * 9000}, "audio_url"),
    ({"upload_id": "x" * 100}, "upload_id"),
    ({"audio_url": "ftp://audio.example/a"}, "audio_url"),
    ({"audio_url": "no address"}, "audio_url"),
    ({**URL, "priority": 101}, "priority"),
    ({**URL, "priority": -101}, "priority"),
    ({**URL, "priority": 1.5}, "priority"),
    ({**URL, "priority": "high"}, "priority"),
    ({**URL, "priority": True}, "priority"),
    ({**URL, "priority": [1]}, "priority"),
    ({**URL, "deadline": "tomorrow"}, "deadline"),
    ({**URL, "deadline": "2030-01-01"}, "deadline"),
    ({**URL, "deadline": "2030-01-01T00:00:00"}, "deadline"),
    ({**URL, "deadline": "2030-13-01T00:00:00Z"}, "deadline"),
    ({**URL, "deadline": 1e400}, "deadline"),
    ({**URL, "deadline": 1e300}, "deadline"),
    ({**URL, "metadata": []}, "metadata"),
    ({**URL, "metadata": "x"}, "metadata"),
    ({**URL, "metadata": {"a": 1}}, "metadata"),
    ({**URL, "metadata": {"a": {"b": "c"}}}, "metadata"),
    ({**URL, "metadata": {str(n): "x" for n in range(17)}}, "metadata"),
    ({**URL, "metadata": {"a": "x" * 4096}}, "metadata"),
    ({**URL, "metadata": {"a": "\ud800"}}, "metadata"),
    ({**URL, "webhook_url": "https://a.example", "webhook_endpoint": "we_1"}, "webhook_url"),
    ({**URL, "task": "sing"}, "task"),
    ({**URL, "beam_size": 0}, "beam_size"),
    ({**URL, "language": {}}, "language"),
    ({**URL, "language": ["en"]}, "language"),
    ({**URL, "prompt": "a\0b"}, "prompt"),
    ({**URL, "prompt": "\udfff"}, "prompt"),
    ({**URL, "timestamp_granularities": ["word", 1]}, "timestamp_granularities"),
    ({**URL, "timestamp_granularities": [["word"]]}, "timestamp_granularities"),
    ({**URL, "nonsense": 1}, "nonsense"),
]


@pytest.mark.parametrize(("document", "param"), WRONG, ids=lambda value: str(value)[:60])
def test_wrong_fields_are_refused_by_name(shop: Site, document: dict[str, Any], param: str) -> None:
    """Each has an answer of its own, and nothing is stored."""
    before = n_jobs(shop)
    body = json.dumps(document).replace("Infinity", "1e400")
    answer = post(shop, content=body, headers={"content-type": "application/json"})
    status, code, named = refusal(answer)
    assert status == 400
    assert code in ("invalid_request", "address_refused", "unsupported_language")
    assert named == param
    assert n_jobs(shop) == before


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b"\xff",
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a": ' + b"9" * 9999 + b"}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_what_is_no_json_object_is_refused(shop: Site, body: bytes) -> None:
    """Broken, nested without end, or ambiguous."""
    answer = post(shop, content=body, headers={"content-type": "application/json"})
    assert refusal(answer)[:2] == (400, "invalid_request")


@pytest.mark.parametrize("kind", ["text/plain", "audio/wav", "", "application/xml"])
def test_other_kinds_of_body_are_refused(shop: Site, kind: str) -> None:
    """The answer names what is taken."""
    answer = post(shop, content=b"x", headers={"content-type": kind})
    assert refusal(answer)[:2] == (400, "invalid_request")
    assert "multipart/form-data" in answer.json()["error"]["message"]


@pytest.mark.parametrize("body", [b"a=%ff", b"audio_url=%00", b"\xff=1", b"&".join([b"a=1"] * 100)])
def test_broken_urlencoded_forms_are_refused(shop: Site, body: bytes) -> None:
    """Bytes that are no UTF-8, NUL, and too many fields."""
    answer = post(shop, content=body, headers={"content-type": "application/x-www-form-urlencoded"})
    assert refusal(answer)[:2] == (400, "invalid_request")


def test_forms_refuse_two_files_and_a_field_twice(shop: Site) -> None:
    """A job has one file; options are given once."""
    two = [("file", ("a", pcm(1))), ("file", ("b", pcm(1)))]
    assert refusal(post(shop, files=two)) == (400, "invalid_request", "file")
    twice = {"priority": ["1", "2"]}
    assert refusal(post(shop, files={"file": pcm(1)}, data=twice)) == (400, "invalid_request", "priority")
    assert refusal(post(shop, files={"file": b""})) == (400, "empty_audio", "file")
    assert refusal(post(shop, files={"file": pcm(1)}, data=URL)) == (400, "invalid_request", "audio_url")
    assert refusal(post(shop, files={"other": ("a", b"x")})) == (400, "invalid_request", "other")


def test_the_wrong_method_is_told_the_right_one(shop: Site) -> None:
    """In the same envelope as every error."""
    assert refusal(post(shop, "/v1/jobs/job_1"))[:2] == (405, "method_not_allowed")
    assert refusal(get(shop, "/v1/jobs/job_1/cancel"))[:2] == (405, "method_not_allowed")


def test_json_has_lists_and_objects_where_a_form_has_brackets() -> None:
    """Speakers, terms and how speech is found."""
    ask = parse_job(fields_of({
        **URL, "response_format": "diarized_json", "known_speaker_names": ["Ann", "Bob"], "keywords": ["eardrum"],
        "chunking_strategy": {"type": "server_vad", "threshold": 0.4},
    }), has_file=False)  # fmt: skip
    assert (ask.output.speakers, ask.options.diarize, ask.options.hotwords) == (("Ann", "Bob"), True, "eardrum")
    assert ask.options.vad is not None
    assert ask.options.vad.threshold == 0.4


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], None),
        (["abc"], "abc"),
        (['"abc"'], "abc"),
        (['"a\\"b"'], 'a"b'),
        ([" abc "], "abc"),
        (["x" * 255], "x" * 255),
    ],
)
def test_N5_keys_are_taken_with_and_without_quotes(given: list[str], expected: str | None) -> None:
    """The draft asks for quotes; many clients leave them out."""
    assert idempotency_key(given) == expected


@pytest.mark.parametrize("given", [[""], ['"'], ['"a'], ['""'], ["x" * 256], ["a b"], ["ä"], ["a\tb"], ["a", "a"]])
def test_N5_other_keys_are_refused(given: list[str]) -> None:
    """Empty, too long, not ASCII, half quoted, or two."""
    with pytest.raises(InvalidRequest, match="Idempotency-Key"):
        idempotency_key(given)


def test_fingerprints_do_not_depend_on_spelling() -> None:
    """The order of keys and brackets after a name are no difference; any value is."""
    one = {"metadata": ['{"a":"1","b":"2"}'], "timestamp_granularities[]": ["word"], "prompt": [""]}
    same = {"timestamp_granularities": ["word"], "metadata": ['{"b": "2", "a": "1"}']}
    assert fingerprint(one, ["d"]) == fingerprint(same, ["d"])
    assert fingerprint(one, ["d"]) != fingerprint(one, ["e"])
    assert fingerprint({**one, "language": ["en"]}, ["d"]) != fingerprint(one, ["d"])


def test_metadata_is_kept_as_it_came() -> None:
    """Order and characters stay; blanks between them go."""
    assert parse_metadata('{ "z": "ü", "a": "" }') == '{"z":"ü","a":""}'
    assert parse_metadata(None) == "{}"


def test_an_object_of_json_becomes_fields() -> None:
    """What is null is left out."""
    document = parse_object(b'{"audio_url": "https://a", "stream": false, "temperature": 0, "prompt": null}')
    assert fields_of(document) == {"audio_url": ["https://a"], "stream": ["false"], "temperature": ["0"]}
    assert parse_job(fields_of(document), has_file=False).source == ("audio_url", "https://a")
