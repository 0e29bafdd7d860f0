"""``/inference`` and ``/load``: what clients of whisper.cpp's server send and read, and its README's commands."""

import json
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import srt
import webvtt

from tests.api.support import CLIP, ScriptedTranscriber, Site
from tests.api.test_asr import TwoVoices
from tympan.api.deps import ModelCard
from tympan.api.elsewhere.inference import LOADED, LoadedModels
from tympan.api.elsewhere.inference_answers import cut
from tympan.api.fields.inference import FIXED, PARAMETERS, parse_inference
from tympan.api.model_names import names_of
from tympan.api.registry import ModelView
from tympan.domain import Options, Segment, Task, Timestamps, VadOptions, Word
from tympan.errors import ModelNotFound, TympanError, UnsupportedOption

JSON_TEXT = " Hello there.\n A < B & C --> D.\n"


def ask(site: Site, **fields: Any) -> httpx.Response:
    """Send the clip."""
    return site.post("/inference", data=fields)


def parse(**fields: str) -> Options:
    """Return what single-valued fields mean."""
    return parse_inference({name: [value] for name, value in fields.items()}).options


def test_json_is_a_text_of_lines(server: Site) -> None:
    """A line for each segment, as the model writes it, and nothing else."""
    answer = ask(server)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {"text": JSON_TEXT}
    assert not server.staged


def test_text_is_html_that_runs_nothing(server: Site) -> None:
    """The media type of that server, under a policy by which a browser loads and runs nothing of it."""
    answer = ask(server, response_format="text")
    assert (answer.text, answer.headers["content-type"]) == (JSON_TEXT, "text/html; charset=utf-8")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_subtitles_are_read_by_other_parsers(server: Site) -> None:
    """With that server's media types; ``offset_n`` moves the numbers."""
    answer = ask(server, response_format="srt", offset_n="10")
    assert answer.headers["content-type"] == "application/x-subrip"
    cues = list(srt.parse(answer.text))
    assert [(cue.index, cue.content) for cue in cues] == [(11, "Hello there."), (12, "A < B & C -> D.")]
    answer = ask(server, response_format="vtt")
    assert answer.headers["content-type"] == "text/vtt"
    assert [cue.start for cue in webvtt.from_buffer(BytesIO(answer.content)).captions] == [
        "00:00:00.500",
        "00:00:02.000",
    ]


def test_verbose_json_has_that_servers_fields(server: Site) -> None:
    """Segments with tokens and words, and what was heard of the language."""
    found = ask(server, response_format="verbose_json").json()
    assert (found["task"], found["language"], found["duration"], found["text"]) == (
        "transcribe",
        "english",
        4.2,
        JSON_TEXT,
    )
    assert (found["detected_language"], found["detected_language_probability"]) == ("english", 0.93)
    assert found["language_probabilities"] == {"en": 0.93, "de": 0.04}
    first = found["segments"][0]
    assert first["words"][0] == {"word": " Hello", "start": 0.5, "end": 0.9, "t_dtw": -1, "probability": 0.98}
    del first["words"]
    assert first == {
        "id": 0,
        "text": " Hello there.",
        "start": 0.5,
        "end": 1.4,
        "tokens": [1, 2],
        "temperature": 0.0,
        "avg_logprob": -0.2,
        "no_speech_prob": 0.01,
    }


def test_verbose_json_leaves_out_what_is_not_wanted(server: Site) -> None:
    """Times, words, and probabilities of languages; those are not known either where the language was given."""
    fields = {"no_timestamps": "true", "token_timestamps": "false", "no_language_probabilities": "true"}
    found = ask(server, response_format="verbose_json", **fields).json()
    assert not {"start", "end", "words"} & set(found["segments"][0])
    assert "detected_language" not in found
    given = ask(server, response_format="verbose_json", language="de").json()
    assert (given["language"], "language_probabilities" in given) == ("german", False)
    words = ask(server, response_format="verbose_json", no_timestamps="true").json()["segments"][0]["words"]
    assert words[0] == {"word": " Hello", "probability": 0.98}


def test_speakers_are_those_of_channels(make_site: Callable[..., Site]) -> None:
    """In the text, in voices of WebVTT, and by number in verbose_json."""
    site = make_site(TwoVoices())
    assert ask(site, diarize="true").json()["text"].startswith("(speaker 0) Hello there.\n(speaker 1)")
    assert "<v Speaker1>A &lt; B" in ask(site, diarize="true", response_format="vtt").text
    found = ask(site, diarize="true", response_format="verbose_json").json()
    assert [segment["speaker"] for segment in found["segments"]] == ["0", "1"]
    assert all(options.diarize for _, options in site.transcriber.calls)


def test_detecting_the_language_writes_no_text(server: Site) -> None:
    """As there: the language, and no segments."""
    found = ask(server, detect_language="true", response_format="verbose_json").json()
    assert (found["text"], found["segments"], found["detected_language"]) == ("", [], "english")
    assert ask(server, detect_language="true").json() == {"text": ""}


def test_no_fields_mean_that_servers_defaults() -> None:
    """Greedy, two samples above temperature 0, fallback; but silence is left out and the language detected."""
    options = parse()
    assert (options.beam_size, options.best_of, options.temperature, options.temperature_fallback) == (1, 2, 0.0, True)
    assert (options.task, options.language, options.vad) == (Task.TRANSCRIBE, None, VadOptions())
    assert (options.start_s, options.length_s, options.timestamps) == (0.0, None, Timestamps.NONE)


def test_every_field_is_honoured() -> None:
    """Those that say something about decoding, one by one."""
    assert parse(offset_t="1500", duration="2000").start_s == 1.5
    assert parse(duration="2000").length_s == 2.0
    assert parse(beam_size="4", best_of="3").beam_size == 4
    assert parse(best_of="3").best_of == 3
    assert parse(temperature="0.4", temperature_inc="0").temperature_fallback is False
    assert parse(temperature="0.4").temperature == 0.4
    assert parse(logprob_thold="-0.5").logprob_threshold == -0.5
    assert parse(no_speech_thold="0.3").no_speech_threshold == 0.3
    assert parse(translate="true").task is Task.TRANSLATE
    assert parse(language="auto").language is None
    assert parse(language="german", prompt="Names.").prompt == "Names."
    assert parse(prompt="Names.", max_context="0").prompt is None
    assert parse(prompt="Names.", max_context="-1").prompt == "Names."
    assert parse(vad="false").vad is None
    assert parse(vad="true", vad_threshold="0.2", vad_speech_pad_ms="30").vad == VadOptions(0.2, speech_pad_ms=30)
    assert parse(vad_min_speech_duration_ms="9", vad_min_silence_duration_ms="8").vad == VadOptions(
        min_speech_ms=9, min_silence_ms=8
    )
    assert parse(tinydiarize="true").speaker_turns
    assert parse(response_format="verbose_json").timestamps is Timestamps.WORD
    assert parse(response_format="srt").timestamps is Timestamps.SEGMENT
    assert parse(response_format="srt", max_len="40").timestamps is Timestamps.WORD
    assert parse(detect_language="true", language="de").language is None


def test_a_client_that_sends_every_default_is_served() -> None:
    """Each field with the value that it has there when nobody says anything, booleans as that server spells them."""
    there = {
        "offset_t": "0", "offset_n": "0", "duration": "0", "max_context": "-1", "max_len": "0", "best_of": "2",
        "beam_size": "-1", "audio_ctx": "0", "word_thold": "0.01", "entropy_thold": "2.40", "logprob_thold": "-1.00",
        "no_speech_thold": "0.6", "debug_mode": "false", "translate": "false", "diarize": "false",
        "tinydiarize": "false", "split_on_word": "false", "no_timestamps": "false", "token_timestamps": "true",
        "language": "en", "detect_language": "false", "prompt": "", "carry_initial_prompt": "false",
        "response_format": "json", "temperature": "0.0", "temperature_inc": "0.2", "suppress_non_speech": "false",
        "suppress_nst": "false", "vad": "false", "vad_threshold": "0.5", "vad_min_speech_duration_ms": "250",
        "vad_min_silence_duration_ms": "100", "vad_max_speech_duration_s": "3.4e38", "vad_speech_pad_ms": "30",
        "vad_samples_overlap": "0.1", "no_language_probabilities": "false", "model": "",
    }  # fmt: skip
    assert set(there) == {parameter.name for parameter in PARAMETERS} - {"file"}
    assert parse(**there).language == "en"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, "0.77") for name in FIXED),
        ("debug_mode", "true"),
        ("beam_size", "50"),
        ("offset_t", "-5"),
        ("offset_t", "nan"),
        ("max_len", "1.5"),
        ("suppress_nst", "perhaps"),
        ("response_format", "csv"),
        ("language", "xx"),
        ("vad_max_speech_duration_s", "5"),
        ("processors", "4"),
    ],
)
def test_what_cannot_be_done_is_named(server: Site, field: str, value: str) -> None:
    """In that server's shape, beside our code."""
    answer = ask(server, **{field: value})
    assert answer.status_code == 400, answer.text
    assert set(answer.json()) == {"error", "code"}
    assert field in answer.json()["error"] or field == "language"


def test_a_prompt_cannot_be_shortened() -> None:
    """A bound on the prompt that nobody could keep is refused, without a prompt it is kept."""
    with pytest.raises(UnsupportedOption, match="max_context"):
        parse(prompt="Names.", max_context="16")
    assert parse(max_context="16").prompt is None


def test_errors_of_the_form_and_the_server_have_that_shape(make_site: Callable[..., Site]) -> None:
    """No file, too large a file, a server that stops, a method that is none; and fields are named as they are there."""
    site = make_site(max_upload_bytes=100_000)
    refused = [
        site.post("/inference", files={"audio": CLIP}),
        site.post("/inference", files={"file": bytes(2_000_000)}),
        httpx.get(f"{site.url}/inference"),
    ]
    site.services.house.draining = True
    refused.append(ask(site))
    assert [answer.status_code for answer in refused] == [400, 413, 405, 503]
    assert [set(answer.json()) for answer in refused] == [{"error", "code"}] * 4
    cannot = ScriptedTranscriber(
        error=UnsupportedOption(
            "No times.", param="timestamp_granularities", remedy="Leave timestamp_granularities out."
        )
    )
    answer = ask(make_site(cannot), response_format="verbose_json")
    assert answer.json()["error"] == "No times. Leave token_timestamps out."


def test_long_segments_are_cut_between_words() -> None:
    """Each with its share of words and tokens; a word longer than the limit stays whole; no words, no cuts."""
    words = tuple(Word(f" {text}", i, i + 0.5, 0.9, (i,)) for i, text in enumerate(("one", "two", "threefour", "five")))
    segment = Segment(0, 0.0, 4.0, " one two threefour five", (0, 1, 2, 3), words=words)
    parts = list(cut([segment, Segment(1, 5.0, 6.0, " as it is")], 8))
    assert [(part.id, part.text) for part in parts] == [
        (0, " one two"),
        (1, " threefour"),
        (2, " five"),
        (3, " as it is"),
    ]
    assert [(part.start_s, part.end_s, part.tokens) for part in parts[:2]] == [(0, 1.5, (0, 1)), (2, 2.5, (2,))]


# --------------------------------------------------------------------------------------------------------------- load


class Shelf:
    """Three models: one loaded, one that loads when asked, one that cannot be loaded."""

    ready = settled = True

    def __init__(self, transcriber: ScriptedTranscriber) -> None:
        """Serve ``transcriber`` under every name."""
        self.cards = {name: ModelCard(name) for name in ("base", "small", "broken")}
        self.states = {"base": "loaded", "small": "unloaded", "broken": "unloaded"}
        self.transcriber = transcriber
        self.picked: list[str | None] = []

    def stats(self) -> object:
        """Return an empty queue."""
        return self.transcriber.stats()

    def pick(self, name: str | None) -> tuple[ScriptedTranscriber, ModelCard]:
        """Return the one transcriber, and remember who was asked."""
        self.picked.append(name)
        return self.transcriber, self._card(name or "base")

    def candidate(self, name: str | None, key: str) -> str | None:
        """Return nobody: nothing is on trial."""
        return None

    def views(self) -> list[ModelView]:
        """Return all."""
        return [self.view(name) for name in self.cards]

    def view(self, name: str) -> ModelView:
        """Return one as it stands."""
        card = self._card(name)
        return ModelView(card, self.states[card.id], error="It is torn." if self.states[card.id] == "failed" else None)

    def load(self, name: str) -> ModelView:
        """Begin to load, and fail or succeed soon."""
        card = self._card(name)
        end = "failed" if card.id == "broken" else "loaded"
        self.states[card.id] = "loading"
        threading.Timer(0.1, lambda: self.states.update({card.id: end})).start()
        return self.view(name)

    def _card(self, name: str) -> ModelCard:
        if name not in names_of(list(self.cards.values())):
            raise ModelNotFound(f"The model {name!r} is not served here.", remedy="Use 'base'.")
        return self.cards[names_of(list(self.cards.values()))[name]]


@pytest.fixture
def shelf(make_site: Callable[..., Site]) -> tuple[Site, Shelf]:
    """Return a server with three models."""
    site = make_site()
    shelf = Shelf(site.transcriber)
    site.services.backend.arrive_all(shelf)  # type: ignore[arg-type]
    return site, shelf


def load(site: Site, name: str) -> httpx.Response:
    """Ask for a model as that server's clients do."""
    return httpx.post(f"{site.url}/load", files={"model": (None, name)}, timeout=60)


def test_load_chooses_what_inference_uses(shelf: tuple[Site, Shelf]) -> None:
    """Once it is loaded; a request that names a model still gets that one."""
    site, models = shelf
    ask(site)
    answer = load(site, "small")
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (200, LOADED, "application/text")
    ask(site)
    ask(site, model="base")
    site.post()
    assert models.picked == [None, "small", "base", None], "the other routes keep the default"


@pytest.mark.parametrize(("name", "status", "code"), [("broken", 503, "unavailable"), ("../etc/passwd", 400, None)])
def test_a_failed_load_leaves_the_old_model(
    shelf: tuple[Site, Shelf], name: str, status: int, code: str | None
) -> None:
    """What cannot be loaded, or is no model's name but a path, changes nothing."""
    site, models = shelf
    assert load(site, "small").status_code == 200
    answer = load(site, name)
    assert (answer.status_code, answer.json()["code"]) == (status, code or "invalid_request")
    assert set(answer.json()) == {"error", "code"}
    assert ask(site).status_code == 200
    assert models.picked[-1] == "small"


def test_load_needs_a_name_and_nothing_else(shelf: tuple[Site, Shelf]) -> None:
    """As there, an error in words."""
    site, _ = shelf
    answer = httpx.post(f"{site.url}/load", files={"file": CLIP})
    assert (answer.status_code, "model" in answer.json()["error"]) == (400, True)
    answer = httpx.post(f"{site.url}/load", data={"model": "base", "gpu": "1"})
    assert (answer.status_code, "gpu" in answer.json()["error"]) == (400, True)


def test_choices_are_each_tenants_own_and_bounded() -> None:
    """One tenant's load changes nothing for another; who chose longest ago is forgotten first."""
    loaded = LoadedModels()
    loaded.choose("a", "small")
    assert (loaded.of("a"), loaded.of("b")) == ("small", None)
    for n in range(1_000):
        loaded.choose(f"t{n}", "base")
    assert (loaded.of("a"), loaded.of("t0"), loaded.of("t999")) == (None, "base", "base")


# --------------------------------------------------------------------------------------------------------------- curl

README_INFERENCE = """
curl 127.0.0.1:8080/inference \\
-H "Content-Type: multipart/form-data" \\
-F file="@<file-path>" \\
-F temperature="0.0" \\
-F temperature_inc="0.2" \\
-F response_format="json"
"""
README_LOAD = """
curl 127.0.0.1:8080/load \\
-H "Content-Type: multipart/form-data" \\
-F model="<path-to-model-file>"
"""


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_commands_of_the_readme_work_word_for_word(shelf: tuple[Site, Shelf], tmp_path: Path) -> None:
    """But for the port, the file, and a model's name where they have a path on the server."""
    site, _ = shelf
    (tmp_path / "a.wav").write_bytes(CLIP)
    address = site.url.removeprefix("http://")

    def run(command: str, placeholder: str, value: str) -> str:
        line = command.replace("127.0.0.1:8080", address).replace(placeholder, value)
        return subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True, timeout=20).stdout

    assert json.loads(run(README_INFERENCE, "<file-path>", str(tmp_path / "a.wav"))) == {"text": JSON_TEXT}
    assert run(README_LOAD, "<path-to-model-file>", "small") == LOADED
    assert '"error"' in run(README_LOAD, "<path-to-model-file>", "models/ggml-base.en.bin")


def test_no_field_breaks_the_parser() -> None:
    """Odd contents of every field end in a typed error or a request."""
    for parameter in PARAMETERS:
        for value in ("", "0", "-1", "1e309", "nan", "true", "\N{SNOWMAN}", "x" * 20_000, "0x10", "1_0"):
            try:
                found = parse_inference({parameter.name: [value]})
            except TympanError:
                continue
            assert replace(found) == found
