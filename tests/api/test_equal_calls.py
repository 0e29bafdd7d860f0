"""A call that is equal to an earlier one is answered with what was made then, where results are kept."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.api.support import CLIP, Facts, ScriptedTranscriber, Site, make_transcript, site, wait_for
from tests.api.test_G7_limits import Books
from tympan.access.usage import UsageMeter
from tympan.api.deps import Limits
from tympan.domain import Options, Timestamps, Transcript
from tympan.errors import EngineDeviceLost
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.shelves import MemoryShelf
from tympan.telemetry import REGISTRY

FORMATS = ("json", "text", "srt", "verbose_json", "vtt", "tsv", "diarized_json", "rttm")
OTHERS: tuple[dict[str, str], ...] = (
    {"language": "de"},
    {"prompt": "Dear"},
    {"hotwords": "Tympan"},
    {"beam_size": "1"},
    {"best_of": "2"},
    {"temperature": "0.2"},
    {"temperature_fallback": "false"},
    {"vad": "false"},
    {"response_format": "srt"},
    {"diarize": "true", "response_format": "verbose_json"},
    {"multilingual": "true"},
    {"languages": "en,de"},
    {"suppress_tokens": "13"},
    {"suppress_numerals": "true"},
    {"include[]": "logprobs"},
)


@pytest.fixture
def books() -> Books:
    """Return where usage is counted."""
    return Books()


@pytest.fixture
def make(tmp_path: Path, books: Books) -> Iterator[Callable[..., Site]]:
    """Return a function that starts a server that keeps results for a minute."""
    with ExitStack() as stack:

        def start(transcriber: ScriptedTranscriber | None = None, **limits: float) -> Site:
            desks = {"results": ResultCache(MemoryShelf(1_000_000), lambda _: 60.0), "meter": UsageMeter(books)}
            return stack.enter_context(site(tmp_path, Limits(**limits), transcriber, desks))  # type: ignore[arg-type]

        yield start


def test_the_answer_is_the_same_to_the_byte(make: Callable[..., Site]) -> None:
    """In every format, with the time that the work took; it says that it was not worked on again."""
    at = make()
    for number, fmt in enumerate(FORMATS):
        data = {"response_format": fmt, "prompt": fmt}  # Or one would serve another.
        first, again = (at.post(data=data) for _ in range(2))
        assert (first.status_code, again.status_code) == (200, 200)
        assert again.content == first.content
        assert again.headers["content-type"] == first.headers["content-type"]
        assert (first.headers.get("tympan-cache"), again.headers["tympan-cache"]) == (None, "hit")
        assert len(at.transcriber.calls) == number + 1
    wait_for(lambda: not at.services.house.count and not at.staged)


def test_one_result_serves_every_format_with_the_same_times(make: Callable[..., Site]) -> None:
    """Subtitles after a table: rendering is no work."""
    at = make()
    assert at.post(data={"response_format": "tsv"}).status_code == 200
    assert at.post(data={"response_format": "srt"}).headers["tympan-cache"] == "hit"
    assert at.post(data={"response_format": "json"}).headers.get("tympan-cache") is None  # It has no times.
    assert [calls[1].timestamps for calls in at.transcriber.calls] == [Timestamps.SEGMENT, Timestamps.NONE]
    told = [at.post("/v1/audio/translations").headers.get("tympan-cache") for _ in range(2)]
    assert told == [None, "hit"]


def test_what_differs_in_anything_is_worked_on(make: Callable[..., Site]) -> None:
    """Other bytes, any other field, another task."""
    at = make()
    answers = [at.post(), at.post(files={"file": ("a", CLIP + b"x")}), at.post("/v1/audio/translations")]
    answers += [at.post(data=data) for data in OTHERS]
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    assert [answer.headers.get("tympan-cache") for answer in answers] == [None] * len(answers)
    assert len(at.transcriber.calls) == 3 + len(OTHERS)


def test_another_model_or_runtime_is_worked_on(make: Callable[..., Site]) -> None:
    """As after a restart with other settings, or when another engine has taken over."""
    at = make()
    assert at.post().status_code == 200
    at.transcriber.info = Facts(compute_type="float32")
    assert at.post().headers.get("tympan-cache") is None
    at.transcriber.info = Facts()
    assert at.post().headers["tympan-cache"] == "hit"


def test_an_engine_that_was_replaced_meanwhile_leaves_nothing(make: Callable[..., Site]) -> None:
    """Nobody knows which of the two made the text."""
    at = make()

    def replaced(options: Options) -> Transcript:
        at.transcriber.info = Facts(device="cuda")
        return make_transcript(options)

    at.transcriber.script = replaced
    assert at.post().status_code == 200
    at.transcriber.info = Facts()
    assert at.post().headers.get("tympan-cache") is None


def test_a_stream_tells_the_same_text(make: Callable[..., Site]) -> None:
    """In fewer deltas; and what was streamed serves a call that is not."""
    at = make(ScriptedTranscriber(tells=2), reattach_s=5.0)
    told = [at.post(data={"stream": "true"}) for _ in range(2)]
    assert [answer.headers.get("tympan-cache") for answer in told] == [None, "hit"]
    events = [[json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
              for answer in told]  # fmt: skip
    texts = ["".join(event.get("delta", "") for event in each) for each in events]
    assert texts[0] == texts[1] == events[0][-1]["text"]
    assert events[0][-1] == events[1][-1]
    assert at.post().headers["tympan-cache"] == "hit"
    assert len(at.transcriber.calls) == 1


def test_a_failure_is_not_kept(make: Callable[..., Site]) -> None:
    """Whatever went wrong may go well the next time."""
    at = make(ScriptedTranscriber(error=EngineDeviceLost()))
    assert at.post().status_code == 503
    at.transcriber.error = None
    answer = at.post()
    assert (answer.status_code, answer.headers.get("tympan-cache")) == (200, None)


def test_a_key_for_another_request_is_refused_all_the_same(make: Callable[..., Site]) -> None:
    """Although there is a result for that one."""
    at = make(reattach_s=5.0)
    assert at.post(data={"language": "de"}).status_code == 200
    assert at.post(headers={"idempotency-key": "k"}).status_code == 200
    wrong = at.post(headers={"idempotency-key": "k"}, data={"language": "de"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (409, "idempotency_mismatch")
    assert at.post(headers={"idempotency-key": "k"}).headers["tympan-reattached"] == "true"
    wait_for(lambda: not at.staged)


def test_a_hit_costs_its_audio_and_no_work(make: Callable[..., Site], books: Books) -> None:
    """The tenant is charged as for any answer; nothing counts as decoded."""
    at = make()
    before = REGISTRY.get_sample_value("tympan_windows_total", {"model": "base"}) or 0.0
    for _ in range(3):
        assert at.post().status_code == 200

    def are_counted() -> bool:
        at.services.desks.meter.flush()
        return ("sync", "base") in books.rows and books.rows["sync", "base"].requests == 3

    wait_for(are_counted)
    used = books.rows["sync", "base"]
    assert used.audio_s == pytest.approx(3 * 4.2)
    assert used.processing_s == pytest.approx(0.125)
    assert (REGISTRY.get_sample_value("tympan_windows_total", {"model": "base"}) or 0.0) == before + 1


def test_a_recording_over_a_new_limit_is_not_answered(make: Callable[..., Site]) -> None:
    """It is worked on, and refused by who counts its seconds."""
    at = make()
    assert at.post().status_code == 200
    at.app.state.services = replace(at.services, limits=replace(at.services.limits, max_audio_s=3.0))
    assert at.post().headers.get("tympan-cache") is None
    assert len(at.transcriber.calls) == 2


def test_nothing_is_kept_unless_an_operator_says_so(make_site: Callable[..., Site]) -> None:
    """Equal calls are worked on each time, as a measurement expects."""
    at = make_site(reattach_s=1.0)
    assert [at.post().headers.get("tympan-cache") for _ in range(2)] == [None, None]
    assert len(at.transcriber.calls) == 2
