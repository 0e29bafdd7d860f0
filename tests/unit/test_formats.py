"""Every output format, read back by somebody else's parser where there is one."""

import csv
import io
import json
import math
from dataclasses import replace
from typing import get_args

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import (
    SPEAKER_TURN,
    Accounting,
    Output,
    Provenance,
    ResponseFormat,
    Segment,
    Shape,
    Task,
    TokenChance,
    Transcript,
    Turn,
    Word,
)
from tympan.formats import MEDIA_TYPES, media_type, render, rendered


def transcript(*segments: Segment, text: str = "", task: Task = Task.TRANSCRIBE, audio_s: float = 10.0) -> Transcript:
    """Return a German transcript of these segments."""
    return Transcript(
        text=text or " ".join(segment.text.strip() for segment in segments),
        segments=segments,
        task=task,
        language="de",
        language_probability=0.9,
        languages=(("de", 0.9), ("nl", 0.05)),
        accounting=Accounting(audio_s, 8.0, 2.0, 7.5),
        model="base",
        processing_s=0.5,
        provenance=Provenance("onnx", "abc", "int8", "cpu", "1.2"),
    )


GERMAN = transcript(
    Segment(0, 0.0, 1.5, " Guten Tag.", (1, 2), 0.0, -0.25, 1.2, 0.01, (Word(" Guten", 0.0, 0.5, 0.9),), 0.77, 0.02),
    Segment(1, 3661.007, 3662.0, " Größe\n<b>&</b> -->", (3,)),
)


def test_every_format_has_a_media_type_and_renders() -> None:
    """The table of media types names all formats, and each of them gives text."""
    assert set(MEDIA_TYPES) == set(get_args(ResponseFormat))
    spoken = replace(GERMAN, segments=tuple(replace(one, speaker="A") for one in GERMAN.segments))
    for fmt in MEDIA_TYPES:
        assert render(spoken, fmt)
        assert "/" in media_type(fmt)


def test_rttm_has_the_turns_or_else_the_segments_by_speaker() -> None:
    """Turns may overlap; of segments those of one speaker after another are one; nobody is nothing."""
    said = (("A", 0.0, 1.0), ("A", 1.5, 2.0), ("B", 2.0, 3.0), (None, 3.0, 4.0), ("A", 5.0, 6.0))
    told = transcript(*(Segment(n, start, end, " x", speaker=who) for n, (who, start, end) in enumerate(said)))

    def lines(one: Transcript, *names: str) -> list[list[str]]:
        found = rendered(one, Output("rttm", speakers=names)).splitlines()
        return [[line.split()[n] for n in (0, 3, 4, 7)] for line in found]

    assert lines(told) == [
        ["SPEAKER", "0.000", "2.000", "A"], ["SPEAKER", "2.000", "1.000", "B"], ["SPEAKER", "5.000", "1.000", "A"],
    ]  # fmt: skip
    heard = replace(told, turns=(Turn(0.0, 2.5, 0), Turn(2.0, 3.0, 1)))
    assert lines(heard, "Dr. Ann") == [["SPEAKER", "0.000", "2.500", "Dr._Ann"], ["SPEAKER", "2.000", "1.000", "B"]]
    assert rendered(replace(GERMAN, segments=()), Output("rttm")) == ""


def test_json_is_text_and_usage() -> None:
    """And the language heard; usage counts whole seconds, rounded up."""
    usage = {"type": "duration", "seconds": 10}
    expected = {"text": GERMAN.text, "languages": [{"code": "de"}], "usage": usage}
    assert json.loads(render(GERMAN, "json")) == expected


def test_tokens_within_a_character_keep_their_bytes() -> None:
    """What is shown of a part of a character is a mark; the bytes joined are the text, without the spaces around it."""
    octets = " d\u00fcnn ".encode()
    chances = tuple(TokenChance(tuple(octets[at : at + 1]), -0.5) for at in range(len(octets)))
    said = transcript(replace(Segment(0, 0.0, 1.0, " d\u00fcnn "), token_chances=chances))
    listed = json.loads(rendered(said, Output(token_chances=True)))["logprobs"]
    assert bytes(octet for one in listed for octet in one["bytes"]).decode() == "d\u00fcnn"
    assert [one["token"] for one in listed] == ["d", "\ufffd", "\ufffd", "n", "n"]
    assert "logprobs" not in json.loads(rendered(said, Output()))


def test_verbose_json_has_openais_fields_and_ours() -> None:
    """The exact set of keys, at the top and in a segment."""
    found = json.loads(render(GERMAN, "verbose_json", words=True))
    assert {key: found[key] for key in ("task", "language", "duration")} == {
        "task": "transcribe",
        "language": "german",
        "duration": 10.0,
    }
    assert found["segments"][0] == {
        "id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": " Guten Tag.", "tokens": [1, 2], "temperature": 0.0,
        "avg_logprob": -0.25, "compression_ratio": 1.2, "no_speech_prob": 0.01, "confidence": 0.77,
        "hallucination_score": 0.02,
    }  # fmt: skip
    assert found["words"] == [{"word": "Guten", "start": 0.0, "end": 0.5, "probability": 0.9}]
    assert found["speech"] == {"audio_s": 10.0, "speech_s": 8.0, "dropped_s": 2.0, "covered_s": 7.5}
    assert found["languages"] == [{"code": "de", "probability": 0.9}, {"code": "nl", "probability": 0.05}]
    assert (found["processing_time_ms"], found["audio_duration_s"], found["language_code"]) == (500.0, 10.0, "de")
    made_by = {"engine": "onnx", "revision": "abc", "compute_type": "int8", "device": "cpu", "version": "1.2"}
    assert (found["model"], found["made_by"]) == ("base", {**made_by, "speakers": ""})


def test_a_result_from_before_there_was_confidence_says_null() -> None:
    """The names are always there; unknown is not zero."""
    second = json.loads(render(GERMAN, "verbose_json"))["segments"][1]
    assert (second["confidence"], second["hallucination_score"]) == (None, None)


@pytest.mark.parametrize(("words", "segments"), [(False, True), (True, False), (True, True)])
def test_verbose_json_lists_only_what_was_asked_for(*, words: bool, segments: bool) -> None:
    """A list that was not asked for is absent, not empty."""
    found = json.loads(render(GERMAN, "verbose_json", words=words, segments=segments))
    assert ("words" in found, "segments" in found) == (words, segments)


def test_a_translations_language_is_english() -> None:
    """The language is that of the text; the language heard has its own field."""
    found = json.loads(render(transcript(task=Task.TRANSLATE), "verbose_json"))
    assert (found["task"], found["language"], found["language_code"]) == ("translate", "english", "de")


def test_numbers_that_json_cannot_say_become_zero() -> None:
    """Infinite log-probabilities and the like do not break the answer."""
    segment = Segment(0, 0.0, 1.0, "x", avg_logprob=-math.inf, compression_ratio=math.nan)
    found = json.loads(render(transcript(segment), "verbose_json"))
    assert found["segments"][0]["avg_logprob"] == 0.0
    assert found["segments"][0]["compression_ratio"] == 0.0


def test_srt_is_read_by_a_subtitle_parser() -> None:
    """Numbers, times beyond an hour, one line of text, no arrow inside it."""
    cues = list(srt.parse(render(GERMAN, "srt")))
    assert [cue.index for cue in cues] == [1, 2]
    assert cues[0].end.total_seconds() == 1.5
    assert cues[1].start.total_seconds() == 3661.007
    assert cues[1].content == "Größe <b>&</b> ->"


def test_vtt_is_read_by_a_caption_parser() -> None:
    """Markup characters are escaped, so that a player shows what was said."""
    text = render(GERMAN, "vtt")
    captions = webvtt.from_string(text).captions
    assert [(c.start, c.end) for c in captions] == [("00:00:00.000", "00:00:01.500"), ("01:01:01.007", "01:01:02.000")]
    assert "Größe &lt;b&gt;&amp;&lt;/b&gt; --&gt;" in text


SPOKEN = transcript(
    Segment(0, 0.0, 1.0, " Is it?", words=(Word(" Is", 0.0, 0.5, 0.9), Word(" it?", 0.5, 1.0, 0.9)), speaker="A"),
    Segment(1, 1.0, 2.0, " <It> is.", words=(Word(" <It> is.", 1.0, 2.0, 0.9),), speaker="B"),
    Segment(2, 2.0, 3.0, " Hm."),
)


def test_speakers_are_named_where_they_are_known() -> None:
    """By segments and by words; nothing is said where nobody knows."""
    found = json.loads(render(SPOKEN, "verbose_json", words=True))
    assert [one.get("speaker") for one in found["segments"]] == ["A", "B", None]
    assert [one.get("speaker") for one in found["words"]] == ["A", "A", "B"]
    assert "speaker" not in found["segments"][2]


def test_a_turn_of_speakers_is_told_where_one_was_marked() -> None:
    """Under whisper.cpp's name for it."""
    marked = transcript(Segment(0, 0.0, 1.0, f" Is it?{SPEAKER_TURN}"), Segment(1, 1.0, 2.0, " It is."))
    found = json.loads(render(marked, "verbose_json"))["segments"]
    assert [one.get("speaker_turn_next") for one in found] == [True, None]


@pytest.mark.parametrize("shape", [None, Shape()])
def test_captions_name_the_voice(shape: Shape | None) -> None:
    """As WebVTT has it, cut to a shape or not; subtitles have no voices, so the name stands before the text."""
    captions = webvtt.from_string(render(SPOKEN, "vtt", shape=shape)).captions
    assert [(caption.voice, caption.text) for caption in captions] == [
        ("A", "Is it?"),
        ("B", "&lt;It&gt; is."),
        (None, "Hm."),
    ]
    cues = srt.parse(render(SPOKEN, "srt", shape=shape))
    assert [cue.content for cue in cues] == ["A: Is it?", "B: <It> is.", "Hm."]


def test_known_speakers_have_their_names_in_every_format_that_names_them() -> None:
    """In the order of the letters; a letter without a name stays."""

    def made(fmt: ResponseFormat, *names: str) -> str:
        return rendered(SPOKEN, Output(fmt, words=True, speakers=names))

    assert [caption.voice for caption in webvtt.from_string(made("vtt", "Ann", "Bob")).captions] == ["Ann", "Bob", None]
    assert next(srt.parse(made("srt", "Ann"))).content == "Ann: Is it?"
    verbose = json.loads(made("verbose_json", "Ann"))
    assert [one.get("speaker") for one in verbose["segments"]] == ["Ann", "B", None]


def test_diarized_json_has_openais_fields() -> None:
    """The exact set of keys; where nobody is known to speak, it says so, since a client expects somebody."""
    found = json.loads(rendered(SPOKEN, Output("diarized_json", speakers=("Ann", "Bob"))))
    assert set(found) == {"task", "duration", "text", "segments", "usage"}
    first = {"type": "transcript.text.segment", "id": "seg_0", "start": 0.0, "end": 1.0}
    assert found["segments"][0] == {**first, "speaker": "Ann", "text": "Is it?"}
    assert [one["speaker"] for one in found["segments"]] == ["Ann", "Bob", "unknown"]


def test_tsv_is_read_as_a_table_and_holds_no_formula() -> None:
    """Milliseconds and text; a text that a spreadsheet would calculate is shifted by a space."""
    table = render(transcript(Segment(0, 0.25, 1.0, "=1+1\tx"), Segment(1, 1.0, 2.0, "plain")), "tsv")
    assert list(csv.reader(io.StringIO(table), delimiter="\t")) == [
        ["start", "end", "text"],
        ["250", "1000", " =1+1 x"],
        ["1000", "2000", "plain"],
    ]


def test_silence_is_an_empty_but_valid_file() -> None:
    """No speech gives no cues, and still something every parser accepts."""
    silent = transcript()
    assert render(silent, "text") == "\n"
    assert list(srt.parse(render(silent, "srt"))) == []
    assert webvtt.from_string(render(silent, "vtt")).captions == []
    assert json.loads(render(silent, "verbose_json"))["segments"] == []


_TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=40)
_TIMES = st.floats(0, 40_000)


@given(st.lists(st.tuples(_TIMES, _TIMES, _TEXTS), max_size=5))
def test_subtitles_of_any_text_have_one_cue_for_each_readable_segment(rows: list[tuple[float, float, str]]) -> None:
    """Whatever was said, the number of cues is right and each lasts longer than nothing."""
    made = transcript(*(Segment(i, a, b, text) for i, (a, b, text) in enumerate(rows)))
    readable = [text for _, _, text in rows if text.split()]
    cues = list(srt.parse(render(made, "srt"), ignore_errors=False))
    assert len(cues) == len(readable)
    assert all(cue.end > cue.start for cue in cues)
    assert render(made, "vtt").count(" --> ") == len(readable)
    assert render(made, "tsv").count("\n") == len(readable) + 1
