"""Speakers who are known by a sample of their voice, over HTTP: calls, streams, jobs, batches, and what is refused."""

import base64
import json
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.api.support import Site, site
from tests.jobs_support import TENANT, PcmFiles
from tests.pipeline_support import HearsAll, WindowDesk, never
from tests.voices_support import NOBODY, A, B, C, Tells, spoken
from tympan.api.deps import Limits
from tympan.api.intake.samples import MAX_SAMPLE_BYTES
from tympan.domain import Options, Samples
from tympan.errors import TooLong
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.shelves import MemoryShelf
from tympan.options import MOST_KNOWN
from tympan.pipeline import Transcriber
from tympan.pipeline.introductions import Introductions
from tympan.pipeline.voices import VoiceDesk

TALK = spoken([(10, A), (10, B), (10, A)])
NAMES, SAMPLES = "known_speaker_names", "known_speaker_references"
ANN, CY, EVE = (spoken([(0.5, NOBODY), (3, who)]) for who in (A, B, C))


class Files(PcmFiles):
    """A decoder for bare samples that minds how long a file may be."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, None]:
        """Yield a file's samples."""
        if path.stat().st_size > max_audio_s * 32_000:
            raise TooLong("The audio is too long.")
        yield from super().stream(path, max_audio_s=max_audio_s, cancelled=cancelled)


class Networks(Tells):
    """Networks that count what they heard, of all requests."""

    heard = 0

    def embedding(self, features: Any) -> Any:
        """Return whose voice it is."""
        Networks.heard += 1
        return super().embedding(features)


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Site]:
    """Return a server that hears voices, over an engine that says a word every five seconds."""
    desk = VoiceDesk(Networks)
    transcriber = Transcriber(Files(), HearsAll(), WindowDesk(), max_window_s=5.0).hearing(desk)
    results = ResultCache(MemoryShelf(1_000_000), lambda _: 60.0)
    desks = {"voices": Introductions(Files(), desk), "results": results}
    with site(tmp_path, Limits(max_upload_bytes=20_000_000), transcriber, desks) as running:
        running.shop.voices = desk
        yield running
    desk.close()


def url(sample: Samples | bytes) -> str:
    """Return a sample as a data URL."""
    data = sample if isinstance(sample, bytes) else sample.tobytes()
    return f"data:audio/wav;base64,{base64.b64encode(data).decode()}"


def fields(people: Mapping[str, Samples | bytes | str], **more: str) -> dict[str, Any]:
    """Return a form that asks for speakers, of whom some are known."""
    samples = [each if isinstance(each, str) else url(each) for each in people.values()]
    return {"response_format": "diarized_json", f"{NAMES}[]": list(people), f"{SAMPLES}[]": samples, **more}


def post(at: Site, data: dict[str, Any], path: str = "/v1/audio/transcriptions", **more: Any) -> httpx.Response:
    """Send the talk."""
    return at.post(path, files={"file": ("talk", TALK.tobytes())}, data=data, **more)


def speakers(answer: httpx.Response) -> list[str]:
    """Return who speaks, turn by turn."""
    assert answer.status_code == 200, answer.text
    names = [one["speaker"] for one in answer.json()["segments"]]
    return [name for place, name in enumerate(names) if place == 0 or names[place - 1] != name]


@pytest.mark.parametrize(
    ("people", "expected"),
    [
        ({"Ann": ANN, "Cy": CY}, ["Ann", "Cy", "Ann"]),
        ({"Cy": CY, "Eve": EVE}, ["A", "Cy", "A"]),
        ({"A": CY}, ["B", "A", "B"]),
        ({"Eve": EVE}, ["A", "B", "A"]),
    ],
    ids=["both", "one, and a stranger", "a name that is a letter", "a stranger"],
)
def test_who_has_the_voice_of_a_sample_bears_its_name(
    known: Site, people: dict[str, Samples], expected: list[str]
) -> None:
    """Others have letters, in the order in which they are first heard; nobody has a letter that is a name."""
    assert speakers(post(known, fields(people))) == expected
    assert not known.staged


def test_every_format_that_names_speakers_has_the_names(known: Site) -> None:
    """Words and segments, cues, and turns."""
    ask = fields({"Ann": ANN, "Cy Twombly": CY}, diarize="true")
    verbose = post(known, ask | {"response_format": "verbose_json"}).json()
    assert {one["speaker"] for one in verbose["segments"]} == {"Ann", "Cy Twombly"}
    assert verbose["made_by"]["speakers"] == "voices"
    assert "<v Cy Twombly>" in post(known, ask | {"response_format": "vtt"}).text
    assert "Cy Twombly" in post(known, ask | {"response_format": "srt"}).text
    assert {line.split()[7] for line in post(known, ask | {"response_format": "rttm"}).text.splitlines()} == {
        "Ann", "Cy_Twombly",
    }  # fmt: skip


def test_openais_library_sends_them_as_it_does(known: Site) -> None:
    """Lists of names and of data URLs; streams tell the names too."""
    client = openai.OpenAI(base_url=f"{known.url}/v1", api_key="any", max_retries=0)
    names, references = ["Ann", "Cy"], [url(ANN), url(CY)]
    file = ("talk.wav", TALK.tobytes())
    answer = client.audio.transcriptions.create(
        file=file, model="base", response_format="diarized_json", known_speaker_names=names,
        known_speaker_references=references,
    )  # fmt: skip
    assert {one.speaker for one in answer.segments} == {"Ann", "Cy"}
    stream = client.audio.transcriptions.create(
        file=file, model="base", response_format="diarized_json", known_speaker_names=names,
        known_speaker_references=references, stream=True,
    )  # fmt: skip
    told = [event.speaker for event in stream if event.type == "transcript.text.segment"]
    assert {*told} == {"Ann", "Cy"}
    assert told == [one.speaker for one in answer.segments]


def test_a_sample_may_be_a_file_of_the_form(known: Site) -> None:
    """Which is what curl sends most easily."""
    parts = [("file", ("talk", TALK.tobytes())), (f"{SAMPLES}[]", ("cy.wav", CY.tobytes()))]
    data = {"response_format": "diarized_json", f"{NAMES}[]": ["Cy"]}
    assert speakers(known.post(files=parts, data=data)) == ["A", "Cy", "A"]


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"Ann": "x"}, "is not a data URL"),
        ({"Ann": "data:audio/wav;base64,A"}, "is not a data URL"),
        ({"Ann": "data:audio/wav;base64,"}, "is not a data URL"),
        ({"Ann": "data:audio/wav,abc"}, "is not a data URL"),
        ({"Ann": "0" * 64}, "is not a data URL"),
        ({"Ann": spoken([(1.5, A)])}, "shorter than 2 s"),
        ({"Ann": spoken([(31, A)])}, "longer than 30 s"),
        ({"Ann": spoken([(4, NOBODY)])}, "less than 1 s of speech"),
        ({"Ann": ANN, "Cy": spoken([(3, A), (3, B)])}, "Sample 2 of a voice holds more than one voice"),
        ({"Ann": ANN, "Cy": ANN}, "is not a list of different samples"),
        ({f"{n}": spoken([(2 + n / 100, A)]) for n in range(MOST_KNOWN + 1)}, f"more than {MOST_KNOWN}"),
        ({"Ann": bytes(MAX_SAMPLE_BYTES)}, "larger than 8 MB"),
    ],
    ids=["text", "no base64", "nothing", "no base64 told", "a digest", "short", "long", "silent", "two voices", "twice",
         "too many", "too large"],
)  # fmt: skip
def test_what_is_no_sample_is_refused_by_name(
    known: Site, people: dict[str, Samples | bytes | str], message: str
) -> None:
    """With the field and what to do; nothing of it stays."""
    answer = post(known, fields(people))
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert message in error["message"]
    assert (error["param"], error["type"]) == (SAMPLES, "invalid_request_error")
    assert not known.staged


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_a_job_is_not_made_with_what_is_no_sample(known: Site, path: str) -> None:
    """It is refused at the door, not hours later."""
    for people, message in (({"Ann": "x"}, "is not a data URL"), ({"Ann": spoken([(1.5, A)])}, "shorter than 2 s")):
        answer = post(known, fields(people), path)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, SAMPLES)
        assert message in answer.json()["error"]["message"]
    assert not known.staged
    assert httpx.get(f"{known.url}/v1/jobs", timeout=60).json()["data"] == []


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({f"{NAMES}[]": ["Ann", "Bob"]}, SAMPLES),
        ({f"{NAMES}[]": []}, SAMPLES),
        ({"diarize_by": "channels"}, SAMPLES),
        ({"response_format": "json"}, NAMES),
        ({f"{NAMES}[]": ["<b>"]}, NAMES),
    ],
    ids=str,
)
def test_what_contradicts_samples_is_refused_by_name(known: Site, more: dict[str, Any], param: str) -> None:
    """Before anything is heard."""
    before = Networks.heard
    answer = post(known, fields({"Ann": ANN}) | more)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert Networks.heard == before


def test_channels_do_not_matter_where_there_are_samples(known: Site) -> None:
    """Voices tell then, whatever the recording has; how many speak may be said."""
    answer = post(known, fields({"Ann": ANN}, num_speakers="2"))
    assert speakers(answer) == ["Ann", "A", "Ann"]


def jobs_options(at: Site, job_id: str) -> Options:
    """Return what a job was stored with."""
    return at.shop.service.get(TENANT, job_id).options


@pytest.mark.parametrize("kind", ["form", "json"])
def test_a_job_keeps_the_voice_and_not_the_sample(known: Site, kind: str) -> None:
    """Whoever works on it needs nothing else; the sample is gone with the request."""
    ask = fields({"Cy": CY})
    if kind == "form":
        answer = post(known, ask, "/v1/jobs")
    else:
        (known.shop.folder / "talk").write_bytes(TALK.tobytes())
        document = {name.removesuffix("[]"): value for name, value in ask.items()}
        document["audio_object"] = (known.shop.folder / "talk").as_uri()
        answer = httpx.post(f"{known.url}/v1/jobs", json=document, timeout=60)
    assert answer.status_code == 202, answer.text
    (stored,) = jobs_options(known, answer.json()["id"]).known_voices
    assert (stored.name, len(stored.voice), len(stored.sample)) == ("Cy", 512, 64)
    assert not known.staged
    known.shop.work_off()
    assert speakers(httpx.get(f"{known.url}/v1/jobs/{answer.json()['id']}/result", timeout=60)) == ["A", "Cy", "A"]


def test_a_batch_has_its_samples_once(known: Site) -> None:
    """In a form, or in the defaults of a manifest, or beside an item; each is heard once."""
    answer = post(known, fields({"Cy": CY}), "/v1/batches")
    assert answer.status_code == 202, answer.text
    for name in ("one", "two"):
        (known.shop.folder / name).write_bytes(TALK.tobytes())
    items: list[dict[str, Any]] = [{"audio_object": (known.shop.folder / name).as_uri()} for name in ("one", "two")]
    items[1] |= {NAMES: ["Ann"], SAMPLES: [url(ANN)]}
    defaults = {"response_format": "diarized_json", NAMES: ["Cy"], SAMPLES: url(CY)}
    before = Networks.heard
    answer = httpx.post(f"{known.url}/v1/batches", json={"items": items, "defaults": defaults}, timeout=60)
    assert answer.status_code == 202, answer.text
    assert Networks.heard == before + 2
    page = httpx.get(f"{known.url}/v1/jobs", params={"batch_id": answer.json()["id"]}, timeout=60).json()["data"]
    found = {each.name for job in page for each in jobs_options(known, job["id"]).known_voices}
    assert found == {"Ann", "Cy"}


def test_the_same_key_is_for_the_same_samples(known: Site) -> None:
    """Other audio is another request, another spelling of the same audio is not."""
    key = {"Idempotency-Key": "k"}
    first = post(known, fields({"Cy": CY}), "/v1/jobs", headers=key)
    spelled = url(CY).replace("audio/wav", "audio/x-wav")
    again = post(known, fields({"Cy": spelled}), "/v1/jobs", headers=key)
    assert (again.status_code, again.json()["id"]) == (202, first.json()["id"])
    other = post(known, fields({"Cy": ANN}), "/v1/jobs", headers=key)
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_mismatch")


def test_a_kept_result_serves_the_same_samples_only(known: Site) -> None:
    """And the same names; what is served is not heard again."""
    assert "tympan-cache" not in post(known, fields({"Cy": CY})).headers
    before = Networks.heard
    assert post(known, fields({"Cy": CY})).headers["tympan-cache"] == "hit"
    assert Networks.heard == before
    for people in ({"Cy": ANN}, {"Bob": CY}, {"Cy": CY, "Ann": ANN}):
        assert "tympan-cache" not in post(known, fields(people)).headers


def test_a_voice_is_shown_nowhere(known: Site) -> None:
    """Neither in what is told of a job, nor where options are written down for people."""
    post(known, fields({"Cy": CY}), "/v1/jobs")
    (job,) = httpx.get(f"{known.url}/v1/jobs", timeout=60).json()["data"]
    stored = jobs_options(known, job["id"])
    assert stored.known_voices[0].voice not in repr(stored)
    assert stored.known_voices[0].voice not in json.dumps(job)


def test_without_networks_samples_are_refused(server: Site) -> None:
    """A server that hears no voices says so, in calls and in jobs."""
    for path in ("/v1/audio/transcriptions", "/v1/jobs"):
        answer = post(server, fields({"Ann": ANN}), path)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_option", SAMPLES)


def test_other_routes_take_no_samples(known: Site) -> None:
    """By name where they are short, by length where they are long."""
    short, long = url(b"abc"), url(bytes(100_000))
    for path, name in (("/inference", "file"), ("/transcribe/async", "audio"), ("/v1/audio/detect-language", "file")):
        for sample in (short, long):
            answer = known.post(path, files={name: ("a", TALK.tobytes())}, data={SAMPLES: sample})
            assert answer.status_code == 400
            assert SAMPLES in answer.text
