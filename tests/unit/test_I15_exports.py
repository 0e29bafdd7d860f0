"""I15: what was said, and what a caller calls a speaker, does no harm in any export."""

import csv
import io
import json

import pytest
import srt
import webvtt

from tympan.domain import Accounting, DecodeStats, Output, Segment, Shape, Task, Transcript
from tympan.formats import rendered

SAID = (
    "<script>alert(1)</script>",
    "=HYPERLINK(1)",
    "+1",
    "-1+1",
    "@SUM(1)",
    "1\n\n2\n00:00:00,000 --> 00:00:09,000\nforged",
    "a\r\n\r\nNOTE forged",
    "WEBVTT\n\nSTYLE\n::cue { color: red }",
    "a --> b",
    "\u2028x\u2029\x0b\x0c\x1c\x85y",
    "\x00\x1b[31m",
    "\ud800",
    "a\tb",
    "&lt;b&gt;",
    '"quoted", and more',
)
NAMES = ("<b>=1+1</b>", "a --> b")


def hostile(*, speakers: bool) -> Transcript:
    """Return a transcript in which all of it was said, by two people in turn where they are told apart."""
    segments = tuple(
        Segment(number, float(number), number + 0.9, f" {text}", speaker="AB"[number % 2] if speakers else None)
        for number, text in enumerate(SAID)
    )
    return Transcript(
        text=" ".join(SAID),
        segments=segments,
        task=Task.TRANSCRIBE,
        language="en",
        language_probability=0.9,
        languages=(("en", 0.9),),
        accounting=Accounting(20.0, 20.0, 0.0, 20.0),
        model="base",
        stats=DecodeStats(windows=1),
        processing_s=0.1,
    )


def made(fmt: str, *, speakers: bool = False, shape: Shape | None = None) -> str:
    """Return it in a format, with names for the speakers where they are told apart."""
    names = NAMES if speakers else ()
    output = Output(fmt, words=False, speakers=names, shape=shape)  # type: ignore[arg-type]
    return rendered(hostile(speakers=speakers), output)


@pytest.mark.parametrize("speakers", [False, True])
@pytest.mark.parametrize("shape", [None, Shape()])
def test_I15_no_text_makes_a_cue_of_its_own(*, speakers: bool, shape: Shape | None) -> None:
    """Cues are those of the transcript: no text ends one, begins one, or adds a time, a note or a style."""
    for cue in srt.parse(made("srt", speakers=speakers, shape=shape)):
        assert "-->" not in cue.content
        assert cue.end.total_seconds() <= len(SAID)
        assert "\n\n" not in cue.content
    lines = made("vtt", speakers=speakers, shape=shape).splitlines()
    captions = webvtt.from_string(made("vtt", speakers=speakers, shape=shape)).captions
    assert sum("-->" in line for line in lines) == len(captions)
    assert not [line for line in lines if line.startswith(("NOTE", "STYLE", "REGION"))]
    assert lines.count("WEBVTT") == 1
    if shape is None:
        assert len(captions) <= len(SAID)
        assert "<script" not in made("vtt", speakers=speakers)


def test_I15_a_table_has_one_row_for_each_segment_and_no_formula() -> None:
    """No text adds a row or a column, and a spreadsheet calculates nothing."""
    rows = list(csv.reader(io.StringIO(made("tsv")), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert {len(row) for row in rows} == {3}
    assert len(rows) == 1 + len(SAID)
    assert not [row for row in rows if row[2][:1] in ("=", "+", "-", "@")]


@pytest.mark.parametrize("fmt", ["json", "verbose_json", "diarized_json"])
def test_I15_json_says_exactly_what_was_said(fmt: str) -> None:
    """Everything is quoted; the text comes back as it was, apart from what no encoding can hold."""
    found = json.loads(made(fmt, speakers=True).encode("utf-8", "replace"))
    assert SAID[0] in found["text"]
    assert "\x1b" in found["text"]
