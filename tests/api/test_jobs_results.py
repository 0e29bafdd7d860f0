"""Results over HTTP: every format, and large ones without large memory."""

import gc
import json
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.api.job_support import HTTP, TENANT, get, job_site, pcm, post, refusal, submit
from tests.api.support import Site, make_transcript, wait_for
from tests.results import large, plant
from tympan.api.jobs import results as job_results
from tympan.api.jobs.results import Spool
from tympan.api.wire import streaming
from tympan.domain import Options, Output, ResponseFormat, Segment, Shape, Timestamps, Transcript, Word
from tympan.errors import InsufficientStorage
from tympan.formats import MEDIA_TYPES, pieces, render
from tympan.jobs.service import StoredResult


@pytest.fixture
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server of this test's own."""
    with job_site(tmp_path_factory.mktemp("jobs")) as running:
        yield running


def finish(shop: Site, transcript: Transcript, **fields: Any) -> str:
    """Return the id of a job that has succeeded with ``transcript``."""
    made = submit(shop, pcm(1), **fields)
    shop.shop.work_off()
    plant(shop.shop.database, made["id"], transcript)
    return str(made["id"])


def stored(shop: Site, transcript: Transcript) -> StoredResult:
    """Return the stored result of a job that has succeeded with ``transcript``."""
    return shop.shop.service.result(TENANT, finish(shop, transcript))[1]


@pytest.mark.parametrize("fmt", MEDIA_TYPES)
def test_results_are_what_a_synchronous_call_returns(shop: Site, fmt: ResponseFormat) -> None:
    """In every format; JSON tells a little more."""
    options = Options(diarize=fmt in {"diarized_json", "rttm"})
    job_id = finish(shop, make_transcript(options), diarize="true" if options.diarize else "false")
    answer = get(shop, f"/v1/jobs/{job_id}/result", params={"format": fmt})
    expected = render(make_transcript(options), fmt)
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPES[fmt])
    if fmt not in {"json", "diarized_json"}:
        assert answer.text == expected
        return
    assert answer.json() == {
        **json.loads(expected),
        "processing_time_ms": 125.0,
        "audio_duration_s": 4.2,
        "speech": {"audio_s": 4.2, "speech_s": 2.5, "dropped_s": 1.7, "covered_s": 2.5},
    }


def test_the_default_is_what_the_job_asked_for(shop: Site) -> None:
    """Format and lists alike; another format may be asked for all the same."""
    words = make_transcript(Options(timestamps=Timestamps.WORD))
    fields = {"response_format": "verbose_json", "timestamp_granularities[]": "word"}
    job_id = finish(shop, words, **fields)
    found = get(shop, f"/v1/jobs/{job_id}/result").json()
    assert "segments" not in found
    assert [word["word"] for word in found["words"]] == ["Hello", "there."]
    assert get(shop, f"/v1/jobs/{job_id}/result?format=text").text == render(words, "text")
    srt = finish(shop, words, response_format="srt")
    assert get(shop, f"/v1/jobs/{srt}/result").headers["content-type"] == MEDIA_TYPES["srt"]


@pytest.mark.parametrize(("query", "code", "param"), [
    ("format=doc", "invalid_request", "format"),
    ("fmt=srt", "invalid_request", "fmt"), ("format=srt&format=vtt", "invalid_request", "format"),
])  # fmt: skip
def test_formats_that_there_are_not_are_refused(shop: Site, query: str, code: str, param: str) -> None:
    """By name, whether the job has ended or not."""
    made = submit(shop, pcm(1))
    assert refusal(get(shop, f"/v1/jobs/{made['id']}/result?{query}")) == (400, code, param)


def test_a_job_without_speakers_has_no_diarized_result(shop: Site) -> None:
    """The error says how to get one."""
    job_id = finish(shop, make_transcript(Options()))
    answer = get(shop, f"/v1/jobs/{job_id}/result?format=diarized_json")
    assert refusal(answer) == (400, "invalid_request", "format")
    assert "diarize=true" in answer.text
    assert refusal(get(shop, f"/v1/jobs/{job_id}/result?format=rttm")) == (400, "invalid_request", "format")


def test_a_job_keeps_the_names_of_its_speakers(shop: Site) -> None:
    """They were given with the job, as a list in JSON or a field that repeats."""
    options = Options(diarize=True)
    fields = {"response_format": "diarized_json", "known_speaker_names[]": "Ann"}
    job_id = finish(shop, make_transcript(options), **fields)
    found = get(shop, f"/v1/jobs/{job_id}/result").json()
    assert [one["speaker"] for one in found["segments"]] == ["Ann", "B"]


def test_a_job_keeps_the_chances_of_its_tokens(shop: Site) -> None:
    """They are in its plain JSON, as in a synchronous answer."""
    options = Options(token_chances=True)
    job_id = finish(shop, make_transcript(options), **{"include[]": "logprobs"})
    found = get(shop, f"/v1/jobs/{job_id}/result").json()["logprobs"]
    assert [(one["token"], one["logprob"]) for one in found][:2] == [("Hello", -0.25), (" there", -0.5)]
    assert "logprobs" not in get(shop, f"/v1/jobs/{job_id}/result?format=verbose_json").json()


def test_a_job_that_waits_has_no_result(shop: Site) -> None:
    """The answer says when to ask again."""
    made = submit(shop, pcm(1))
    assert refusal(get(shop, f"/v1/jobs/{made['id']}/result")) == (409, "job_not_finished", None)


def test_a_result_that_is_no_longer_kept_is_not_found(shop: Site) -> None:
    """The job is still there; its text has gone."""
    job_id = finish(shop, make_transcript(Options()))
    with shop.shop.database.engine.begin() as connection:
        connection.exec_driver_sql("delete from results")
    assert refusal(get(shop, f"/v1/jobs/{job_id}/result"))[:2] == (404, "not_found")


@pytest.mark.parametrize("words", [False, True])
@pytest.mark.parametrize("segments", [False, True])
def test_pieces_make_the_same_text_as_the_whole(shop: Site, *, words: bool, segments: bool) -> None:
    """However text and lists are cut, joined they are ``render``'s."""
    word = Word(" x", 0.0, 0.5, 0.9)
    many = tuple(Segment(n, n, n + 1, f" ü{n}", (n,), words=(word,) if n % 300 > 270 else ()) for n in range(700))
    transcript = replace(make_transcript(Options()), segments=many, text='"Grüße" \\ \n\u2028 𝄞' * 200)
    found = list(pieces(stored(shop, transcript), Output("verbose_json", words, segments)))
    assert "".join(found) == render(transcript, "verbose_json", words=words, segments=segments)
    assert max(len(piece) for piece in found) < 100_000


@pytest.mark.parametrize("fmt", MEDIA_TYPES)
def test_a_result_in_parts_reads_like_a_whole_one(shop: Site, fmt: ResponseFormat) -> None:
    """In every format, at the seams of the parts too."""
    transcript = large(1000)
    assert "".join(pieces(stored(shop, transcript), Output(fmt))) == render(transcript, fmt)


def test_a_result_that_goes_while_it_is_rendered_is_not_found(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever erases it does not wait for its readers, who are told, with no half answer, in either shape."""
    job_id = finish(shop, large(1000))
    read = StoredResult.texts

    def erase_first(self: StoredResult) -> Iterator[str]:
        shop.shop.service.erase(TENANT, job_id)
        return read(self)

    with monkeypatch.context() as patch:
        patch.setattr(StoredResult, "texts", erase_first)
        assert refusal(get(shop, f"/v1/jobs/{job_id}/result"))[:2] == (404, "not_found")
        job_id = finish(shop, large(1000))
        answer = get(shop, f"/transcribe/{job_id}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_Q6_rendering_takes_little_memory(shop: Site, tmp_path: Path) -> None:
    """Far less than the result, most of which goes through a file; nothing of that is left."""
    result = stored(shop, large(30_000))
    gc.collect()
    tracemalloc.start()
    try:
        spool = Spool(tmp_path, pieces(result, Output("verbose_json")))
        n_bytes = sum(len(piece) for piece in iter(spool.read, b""))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    spool.close()
    assert n_bytes > 6e6
    assert peak < 2 << 20
    assert list(tmp_path.iterdir()) == []


def test_Q6_a_20_mb_result_leaves_the_server_awake(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is rendered away from the event loop; health checks are answered meanwhile; what arrives is whole."""
    transcript = large(100_000)
    job_id = finish(shop, transcript)
    threads: list[str] = []

    def watched(*arguments: Any, timed: bool) -> Iterator[str]:
        threads.append(threading.current_thread().name)
        yield from pieces(*arguments, timed=timed)

    monkeypatch.setattr(job_results, "pieces", watched)
    received: list[int] = []
    fetching = threading.Thread(target=lambda: received.extend(_fetch(shop, job_id)))
    fetching.start()
    answered = 0
    while fetching.is_alive():
        answered += get(shop, "/livez").status_code == 200
    assert sum(received) == len(render(transcript, "verbose_json").encode())
    assert answered > 10
    assert [name.split("_")[0] for name in threads] == ["chores"]
    wait_for(lambda: not shop.app.state.streams.count)
    assert not shop.staged


def _fetch(shop: Site, job_id: str) -> list[int]:
    with HTTP.stream("GET", f"{shop.url}/v1/jobs/{job_id}/result?format=verbose_json") as answer:
        assert answer.headers["transfer-encoding"] == "chunked"
        return [len(piece) for piece in answer.iter_raw()]


def test_a_reader_who_leaves_frees_everything(shop: Site) -> None:
    """In the middle of a large result."""
    job_id = finish(shop, large(20_000))
    with HTTP.stream("GET", f"{shop.url}/v1/jobs/{job_id}/result?format=verbose_json") as answer:
        pieces = answer.iter_raw()  # Held: a generator that is dropped closes the connection.
        next(pieces)
        assert shop.app.state.streams.count == 1
    wait_for(lambda: not shop.app.state.streams.count)


def test_a_reader_who_does_not_read_is_let_go(shop: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a limit on one piece, the place is free for another."""
    monkeypatch.setattr(streaming, "SEND_S", 0.3)
    job_id = finish(shop, large(60_000))
    with HTTP.stream("GET", f"{shop.url}/v1/jobs/{job_id}/result?format=verbose_json") as answer:
        assert answer.status_code == 200
        wait_for(lambda: not shop.app.state.streams.count)


def test_too_many_streams_are_refused(shop: Site) -> None:
    """With the time to come back; small results need no stream."""
    shop.app.state.streams.limit = 0
    job_id = finish(shop, large(5_000))
    answer = get(shop, f"/v1/jobs/{job_id}/result?format=verbose_json")
    assert refusal(answer)[:2] == (503, "overloaded")
    assert int(answer.headers["retry-after"]) > 0
    assert get(shop, f"/v1/jobs/{job_id}/result?format=tsv").status_code == 200
    assert not shop.staged


def test_E1_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large result has nowhere to go; nothing stays open."""
    monkeypatch.setattr(job_results, "IN_MEMORY_BYTES", 10)
    with pytest.raises(InsufficientStorage):
        Spool(tmp_path / "gone", iter(["x" * 100]))


def test_results_are_read_by_get_alone(shop: Site) -> None:
    """Other methods are told so."""
    assert refusal(post(shop, "/v1/jobs/job_1/result"))[:2] == (405, "method_not_allowed")


SPOKEN = " It was the best of times, it was the worst of times, it was the age of wisdom."


def test_a_result_is_cut_as_the_reader_or_the_job_says(shop: Site) -> None:
    """The query goes before the job's own fields, and without either a segment is a cue."""
    made = replace(make_transcript(Options()), segments=(Segment(0, 0.0, 6.0, SPOKEN),))
    plain, cut = finish(shop, made), finish(shop, made, response_format="srt", max_line_width="40")
    shape = Shape(max_line_width=40)
    assert get(shop, f"/v1/jobs/{plain}/result", params={"format": "srt"}).text == render(made, "srt")
    assert get(shop, f"/v1/jobs/{cut}/result").text == render(made, "srt", shape=shape) != render(made, "srt")
    asked = {"format": "vtt", "max_line_width": "20", "max_line_count": "1"}
    narrow = get(shop, f"/v1/jobs/{cut}/result", params=asked).text
    assert narrow == render(made, "vtt", shape=Shape(max_line_width=20, max_line_count=1))


def test_a_shape_that_cannot_be_is_refused_in_a_query(shop: Site) -> None:
    """With the name of the parameter."""
    job_id = finish(shop, make_transcript(Options()))
    answer = get(shop, f"/v1/jobs/{job_id}/result", params={"format": "srt", "max_line_width": "x"})
    assert refusal(answer) == (400, "invalid_request", "max_line_width")
