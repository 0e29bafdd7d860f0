"""Form fields: what each means, and that no content of any of them can break the server."""

import contextlib
import json
from collections.abc import Iterator

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.api.support import CLIP, Site
from tympan.api.fields.transcription import PARAMETERS, TranscriptionRequest, parse_form, require_language
from tympan.domain import Shape, Suppression, Task, Timestamps, VadOptions
from tympan.errors import InvalidRequest, TympanError, UnsupportedLanguage


def parse(**fields: str) -> TranscriptionRequest:
    """Parse single-valued fields."""
    return parse_form({name: [value] for name, value in fields.items()}, Task.TRANSCRIBE)


def test_no_fields_mean_the_defaults() -> None:
    """Beam 5, detection, voice activity detection, no times for plain JSON."""
    asked = parse()
    assert (asked.response_format, asked.model, asked.words, asked.segments) == ("json", None, False, True)
    assert asked.options.beam_size == 5
    assert asked.options.vad == VadOptions()
    assert asked.options.language is None
    assert asked.options.timestamps is Timestamps.NONE


@pytest.mark.parametrize("spelling", ["en", "EN", "en-US", "en_GB", "English", " english "])
def test_languages_are_taken_in_every_usual_spelling(spelling: str) -> None:
    """Codes, regional tags and names."""
    assert parse(language=spelling).options.language == "en"


@pytest.mark.parametrize("spelling", ["", " ", "auto"])
def test_no_language_means_detection(spelling: str) -> None:
    """Empty fields count as left out, because form libraries send them."""
    assert parse(language=spelling).options.language is None


def test_presets_choose_the_beam_and_beam_size_wins() -> None:
    """The fast preset is greedy; an explicit beam overrides it."""
    assert parse(preset="fast").options.beam_size == 1
    assert parse(preset="accurate").options.beam_size == 5
    assert parse(preset="fast", beam_size="3").options.beam_size == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("true", VadOptions()),
        ("0", None),
        ("False", None),
        ("{}", VadOptions()),
        ('{"threshold": 0.2, "speech_pad_ms": 50}', VadOptions(threshold=0.2, speech_pad_ms=50)),
    ],
)
def test_vad_is_a_switch_or_an_object(value: str, expected: VadOptions | None) -> None:
    """A boolean in any usual spelling, or JSON that changes some of the fields."""
    assert parse(vad=value).options.vad == expected


@pytest.mark.parametrize(
    ("fmt", "granularity", "expected"),
    [
        ("text", None, Timestamps.NONE),
        ("srt", None, Timestamps.SEGMENT),
        ("vtt", None, Timestamps.SEGMENT),
        ("tsv", None, Timestamps.SEGMENT),
        ("verbose_json", None, Timestamps.SEGMENT),
        ("verbose_json", "segment", Timestamps.SEGMENT),
        ("verbose_json", "word", Timestamps.WORD),
        ("verbose_json", "word,segment", Timestamps.WORD),
    ],
)
def test_only_the_times_that_are_shown_are_computed(fmt: str, granularity: str | None, expected: Timestamps) -> None:
    """Times cost work, so the format and the granularities decide."""
    fields = {"response_format": fmt} | ({"timestamp_granularities[]": granularity} if granularity else {})
    assert parse(**fields).options.timestamps is expected


def test_word_timestamps_add_words_beside_the_segments() -> None:
    """Our switch keeps the segments, unlike OpenAI's ["word"]."""
    asked = parse(response_format="verbose_json", word_timestamps="true")
    assert (asked.words, asked.segments) == (True, True)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "nan"),
        ("temperature", "-0.1"),
        ("temperature", "warm"),
        ("beam_size", "0"),
        ("beam_size", "11"),
        ("beam_size", "2.5"),
        ("best_of", "1e9"),
        ("vad", "maybe"),
        ("vad", "[1]"),
        ("vad", '{"threshold": 2}'),
        ("vad", '{"threshold": true}'),
        ("vad", '{"speed": 1}'),
        ("vad", "[" * 9_000),
        ("preset", "best"),
        ("stream", "perhaps"),
        ("prompt", "p" * 10_001),
        ("hotwords", "h" * 2_001),
        ("word_timestamps", "true"),
        ("timestamp_granularities", "sentence"),
        ("chunking_strategy", "none"),
        ("chunking_strategy", '{"threshold": 0.5}'),
        ("chunking_strategy", '{"type": "server_vad", "speed": 1}'),
        ("chunking_strategy", '{"type": "server_vad", "silence_duration_ms": -1}'),
        ("keywords[]", "x" * 2_001),
        ("keywords[]", "a\0b"),
        ("diarize", "true"),
        ("known_speaker_names[]", "a" * 65),
        ("known_speaker_names[]", "<b>"),
    ],
)
def test_a_bad_value_names_its_field_and_the_remedy(field: str, value: str) -> None:
    """Every refusal is typed and actionable."""
    with pytest.raises(InvalidRequest) as caught:
        parse(**{field: value})
    assert caught.value.param == field.removesuffix("[]")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"vad": "false", "chunking_strategy": '{"type": "server_vad"}'}, "chunking_strategy"),
        ({"chunking_strategy": '{"type": "server_vad"}', "chunking_strategy[threshold]": "0.5"}, "chunking_strategy"),
        ({"chunking_strategy[type]": "semantic_vad"}, "chunking_strategy"),
        ({"response_format": "diarized_json", "diarize": "false"}, "diarize"),
        ({"response_format": "diarized_json", "timestamp_granularities[]": "word"}, "timestamp_granularities"),
        ({"hotwords": "h" * 1_999, "keywords[]": "more"}, "keywords"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, str], param: str) -> None:
    """By the name of the one to change."""
    with pytest.raises(InvalidRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_chunking_is_another_name_for_voice_detection() -> None:
    """Auto is the default; an object changes some of it, in whichever way it is sent."""
    assert parse(chunking_strategy="auto").options.vad == VadOptions()
    assert parse(chunking_strategy="auto", vad="false").options.vad is None
    expected = VadOptions(threshold=0.25, min_silence_ms=300)
    text = '{"type": "server_vad", "threshold": 0.25, "silence_duration_ms": 300}'
    assert parse(chunking_strategy=text).options.vad == expected
    nested = {"type": "server_vad", "threshold": "0.25", "silence_duration_ms": "300"}
    assert parse(**{f"chunking_strategy[{name}]": value for name, value in nested.items()}).options.vad == expected


def test_two_names_for_one_speaker_are_refused() -> None:
    """And more names than OpenAI takes are refused as there."""
    form = {"response_format": ["diarized_json"], "known_speaker_names[]": ["Ann", "Ann"]}
    with pytest.raises(InvalidRequest, match="different"):
        parse_form(form, Task.TRANSCRIBE)
    with pytest.raises(InvalidRequest, match="at most 10"):
        parse_form({**form, "known_speaker_names[]": list("abcdefghijk")}, Task.TRANSCRIBE)


def test_a_translation_is_not_diarized() -> None:
    """OpenAI's format is of transcripts; another may name speakers all the same."""
    with pytest.raises(InvalidRequest, match="verbose_json"):
        parse_form({"response_format": ["diarized_json"]}, Task.TRANSLATE)
    assert parse_form({"response_format": ["vtt"], "diarize": ["true"]}, Task.TRANSLATE).options.diarize


def test_an_unknown_field_names_the_nearest() -> None:
    """A typing mistake is not ignored silently."""
    with pytest.raises(InvalidRequest, match=r"no field 'temprature'.*'temperature'"):
        parse(temprature="0.2")


def test_a_language_the_model_lacks_is_refused() -> None:
    """An English-only model says so instead of writing English from German speech."""
    require_language("en", ("en",))
    require_language(None, ("en",))
    with pytest.raises(UnsupportedLanguage, match="knows en"):
        require_language("de", ("en",))


def test_an_endless_number_is_refused_as_a_value() -> None:
    """JSON integers of any length do not break the range check."""
    with pytest.raises(InvalidRequest):
        parse(vad=json.dumps({"min_speech_ms": 10**400}))


@pytest.fixture(scope="module")
def http(server: Site) -> Iterator[TestClient]:
    """Return an in-process client that turns an unhandled exception into a failed test."""
    with TestClient(server.app, raise_server_exceptions=True) as client:
        yield client


_NAMES = st.sampled_from([p.name for p in PARAMETERS if p.name != "file"])
_HARD = st.sampled_from(
    ["\0", "\u202eabc", "x" * 10_001, "-1", "1e999", "NaN", "{}", "null", "[]", "en", "true", "\r\n"]
)
_FIELDS = st.dictionaries(_NAMES | st.text(max_size=12), _HARD | st.text(max_size=60), max_size=5)


@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(fields=_FIELDS)
def test_H7_no_field_of_any_content_makes_a_500(http: TestClient, fields: dict[str, str]) -> None:
    """Over 1,000 forms with hostile names and values: an answer or a typed 4xx, never a server error."""
    encoded = {k.encode("utf-8", "replace").decode(): v.encode("utf-8", "replace") for k, v in fields.items()}
    response = http.post("/v1/audio/transcriptions", files={"file": ("a", CLIP)}, data=encoded)
    assert response.status_code in (200, 400, 404), response.text
    if response.status_code != 200:
        assert response.json()["error"]["code"]


@settings(max_examples=300, deadline=None)
@given(fields=st.dictionaries(_NAMES | st.text(), st.lists(_HARD | st.text(), max_size=3), max_size=5))
def test_H7_parsing_raises_only_typed_errors(fields: dict[str, list[str]]) -> None:
    """The parser itself, without HTTP around it."""
    with contextlib.suppress(TympanError):
        asked = parse_form(fields, Task.TRANSLATE)
        assert asked.options.task is Task.TRANSLATE
        assert 1 <= asked.options.beam_size <= 10


def test_the_openapi_document_lists_every_field(server: Site) -> None:
    """Clients generated from the document know all of them."""
    document = httpx.get(f"{server.url}/openapi.json").json()
    body = document["paths"]["/v1/audio/transcriptions"]["post"]["requestBody"]
    properties = body["content"]["multipart/form-data"]["schema"]["properties"]
    assert list(properties) == [parameter.name for parameter in PARAMETERS]


# -------------------------------------------------------------------------------------------------------- subtitles


def test_any_field_about_subtitles_turns_the_others_on() -> None:
    """With their defaults, and with the times of words; a limit of words alone means one line."""
    asked = parse_form({"response_format": ["srt"], "max_line_width": ["30"]}, Task.TRANSCRIBE)
    assert (asked.shape, asked.options.timestamps, asked.words) == (Shape(max_line_width=30), Timestamps.WORD, False)
    few = parse_form({"response_format": ["vtt"], "max_words_per_line": ["2"], "min_cue_s": ["0"]}, Task.TRANSCRIBE)
    assert few.shape == Shape(max_words_per_line=2, max_line_count=1, min_cue_s=0.0)
    assert parse_form({"response_format": ["srt"]}, Task.TRANSCRIBE).shape is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_line_width": "30"}, "max_line_width"),
        ({"response_format": "verbose_json", "max_cue_s": "3"}, "max_cue_s"),
        ({"response_format": "srt", "max_line_width": "3"}, "max_line_width"),
        ({"response_format": "srt", "max_line_count": "0"}, "max_line_count"),
        ({"response_format": "srt", "max_words_per_line": "1.5"}, "max_words_per_line"),
        ({"response_format": "srt", "min_cue_s": "9"}, "min_cue_s"),
        ({"response_format": "srt", "max_chars_per_s": "nan"}, "max_chars_per_s"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_by_name(fields: dict[str, str], param: str) -> None:
    """Out of range, in contradiction, or for a format without cues."""
    with pytest.raises(InvalidRequest) as caught:
        parse_form({name: [value] for name, value in fields.items()}, Task.TRANSCRIBE)
    assert caught.value.param == param
    assert caught.value.remedy


# ------------------------------------------------------------------------------------------ languages and tokens


def test_languages_and_tokens_are_lists_in_one_field_or_several() -> None:
    """Commas and repetition both do; numbers are sorted, and -1 is the list that is left out anyway."""
    fields = {"languages": ["en, German", "fr"], "suppress_tokens[]": ["30,13", "-1"], "multilingual": ["true"]}
    options = parse_form(fields, Task.TRANSCRIBE).options
    assert (options.languages, options.multilingual) == (("en", "de", "fr"), True)
    assert options.suppression == Suppression(tokens=(13, 30))
    off = parse_form({"suppress_blank": ["false"], "suppress_numerals": ["1"]}, Task.TRANSCRIBE).options
    assert off.suppression == Suppression(blank=False, numerals=True)
    assert parse_form({}, Task.TRANSCRIBE).options.suppression == Suppression()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("languages", "en,xx-unknown"),
        ("languages", ",".join(["en"] * 101)),
        ("suppress_tokens", "1,two"),
        ("suppress_tokens", "1234567"),
        ("suppress_tokens", ",".join(map(str, range(1001)))),
        ("multilingual", "perhaps"),
    ],
)
def test_bad_lists_are_refused_by_name(field: str, value: str) -> None:
    """Unknown languages, words for numbers, and lists without end."""
    with pytest.raises(TympanError) as caught:
        parse_form({field: [value]}, Task.TRANSCRIBE)
    assert caught.value.remedy
