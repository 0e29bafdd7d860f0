"""Subtitles that can be read: what the limits promise, for any text, checked with other people's parsers."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
import srt
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import Accounting, Segment, Shape, Task, Transcript, Word
from tympan.formats import render
from tympan.subtitles import MIN_CUE_S, Cue, columns, shaped

END_S = 10_000.0
SENTENCE = (
    " It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness."
)


def spoken(text: str, start_s: float = 0.0, word_s: float = 0.3) -> Segment:
    """Return a segment with a time for every word."""
    parts = text.split()
    words = tuple(
        Word(f" {part}", start_s + n * word_s, start_s + (n + 1) * word_s, 0.9) for n, part in enumerate(parts)
    )
    return Segment(0, start_s, start_s + len(parts) * word_s, text, words=words)


def cut(*segments: Segment, shape: Shape | None = None) -> list[Cue]:
    """Return the cues of these segments."""
    return list(shaped(segments, shape or Shape(), END_S))


def letters(texts: Sequence[str]) -> str:
    """Return all that is to be read, without spaces."""
    return "".join("".join(texts).split())


def transcript(*segments: Segment) -> Transcript:
    """Return a transcript of these segments."""
    accounting = Accounting(END_S, END_S, 0.0, END_S)
    return Transcript("", segments, Task.TRANSCRIBE, "en", 1.0, (), accounting, "base")


# ------------------------------------------------------------------------------------------------------- properties

some_words = st.lists(
    st.sampled_from(["a", "and", "wonderful", "Donaudampfschiff,", "x" * 60, "yes.", "好"]), min_size=1
)
chinese = st.text(st.sampled_from("今天天气很好。我们，去看"), min_size=1, max_size=80)
texts = some_words.map(" ".join) | chinese
shapes = st.builds(
    Shape,
    max_line_width=st.integers(4, 60),
    max_line_count=st.integers(1, 3),
    max_words_per_line=st.none() | st.integers(1, 6),
    min_cue_s=st.sampled_from([0.0, 1.0]),
    max_cue_s=st.sampled_from([2.0, 7.0]),
    max_chars_per_s=st.sampled_from([10.0, 20.0]),
)


@st.composite
def talks(draw: st.DrawFn) -> list[Segment]:
    """Draw segments in order, with and without word times, some of which touch or have no length."""
    segments, at_s = [], 0.0
    for text in draw(st.lists(texts, max_size=6)):
        segment = spoken(text, at_s, draw(st.sampled_from([0.0, 0.05, 0.4])))
        segments.append(segment if draw(st.booleans()) else Segment(0, segment.start_s, segment.end_s, text))
        at_s = segment.end_s + draw(st.sampled_from([0.0, 0.2, 3.0]))
    return segments


@given(segments=talks(), shape=shapes)
def test_no_text_is_lost_and_nothing_overlaps(segments: list[Segment], shape: Shape) -> None:
    """Every letter is there once, in order; times rise; every cue has lines, and every line has something to read."""
    cues = cut(*segments, shape=shape)
    assert letters([line for cue in cues for line in cue.lines]) == letters([segment.text for segment in segments])
    assert all(cue.end_s - cue.start_s >= MIN_CUE_S / 2 for cue in cues)
    assert all(one.end_s <= other.start_s for one, other in pairwise(cues))
    assert all(cue.lines and all(line == line.strip() != "" for line in cue.lines) for cue in cues)


@given(segments=talks(), shape=shapes)
def test_lines_keep_to_their_limits(segments: list[Segment], shape: Shape) -> None:
    """As wide as allowed unless one word is wider, or one character with its mark; as many, and with as many words."""
    for cue in cut(*segments, shape=shape):
        assert len(cue.lines) <= shape.max_line_count
        for line in cue.lines:
            assert columns(line) <= shape.max_line_width or " " not in line
            if any("\u4e00" <= char <= "\u9fff" for char in line) and "x" not in line and "D" not in line:
                assert columns(line) <= shape.max_line_width + 2 * columns("，")
            assert shape.max_words_per_line is None or len(line.split()) <= shape.max_words_per_line


@given(segments=talks(), shape=shapes)
def test_other_peoples_parsers_read_the_same(segments: list[Segment], shape: Shape) -> None:
    """Both formats give back every line, and no cue overlaps after rounding to milliseconds."""
    whole = transcript(*segments)
    read = list(srt.parse(render(whole, "srt", shape=shape)))
    also = webvtt.from_string(render(whole, "vtt", shape=shape)).captions
    assert letters([cue.content for cue in read]) == letters([segment.text for segment in segments])
    assert len(read) == len(also)
    assert all(one.start < one.end <= other.start for one, other in pairwise(read))


# ----------------------------------------------------------------------------------------------------------- by example


def test_a_long_sentence_becomes_short_cues_cut_at_pauses() -> None:
    """Two lines of 42 columns at most; where there is a comma in the later half, the cue ends there."""
    cues = cut(spoken(SENTENCE))
    assert [cue.lines for cue in cues] == [
        ("It was the best of times, it was the", "worst of times, it was the age of wisdom,"),
        ("it was the age of foolishness.",),
    ]
    assert cues[1].start_s == pytest.approx(18 * 0.3)


def test_lines_of_a_cue_are_even() -> None:
    """A short rest is not left alone on the second line."""
    (cue,) = cut(spoken("one two three four five six seven eight nine ten"))
    assert cue.lines == ("one two three four five", "six seven eight nine ten")


def test_words_of_a_line_can_be_limited() -> None:
    """One word at a time, as short videos have them."""
    shape = Shape(max_words_per_line=1, max_line_count=1, min_cue_s=0.0)
    assert [cue.lines for cue in cut(spoken("One at a time"), shape=shape)] == [("One",), ("at",), ("a",), ("time",)]


def test_a_cue_is_no_longer_than_allowed() -> None:
    """Slow speech is cut by time, though the text would fit."""
    cues = cut(spoken("very slow speech indeed", word_s=3.0), shape=Shape(max_cue_s=7.0))
    assert [cue.lines for cue in cues] == [("very slow",), ("speech indeed",)]


def test_a_cue_is_shown_long_enough_to_be_read() -> None:
    """At least a second, and a second for twenty letters, where what follows leaves room."""
    alone, crowded = spoken("Yes.", 0.0, 0.1), spoken("No.", 0.4, 0.1)
    assert [(cue.start_s, cue.end_s) for cue in cut(alone, crowded)] == [(0.0, 0.4), (0.4, 1.4)]
    (fast,) = cut(spoken("x" * 40, 0.0, 0.5))
    assert fast.end_s == pytest.approx(2.0)


def test_a_cue_does_not_outlast_the_audio() -> None:
    """The last one is stretched to the end at most."""
    (cue,) = shaped([spoken("Yes.", 1.0, 0.1)], Shape(), 1.3)
    assert (cue.start_s, cue.end_s) == (1.0, 1.3)


def test_wide_characters_take_two_columns() -> None:
    """Twelve of them are two lines of twelve columns, and a mark never starts a line."""
    (cue,) = cut(Segment(0, 0.0, 3.0, "今天天气很好，我们去看看"), shape=Shape(max_line_width=14))
    assert [columns(line) for line in cue.lines] == [14, 10]
    assert not cue.lines[1].startswith("，")


def test_without_word_times_a_segment_is_shared_out_by_width() -> None:
    """The second half of the letters is shown in the second half of the time."""
    text = "aaaa bbbb cccc dddd"
    cues = cut(Segment(0, 10.0, 20.0, text), shape=Shape(max_line_width=9, max_line_count=1, max_cue_s=60.0))
    assert [cue.lines for cue in cues] == [("aaaa bbbb",), ("cccc dddd",)]
    assert cues[1].start_s == pytest.approx(15.0, abs=0.3)


def test_words_that_do_not_spell_the_text_are_not_used() -> None:
    """What is shown is the segment's text, whatever its words say."""
    segment = Segment(0, 0.0, 2.0, " Hello there.", words=(Word(" Bye", 0.0, 1.0, 0.9),))
    assert [cue.lines for cue in cut(segment)] == [("Hello there.",)]


def test_without_a_shape_a_segment_is_a_cue() -> None:
    """The output of those who ask for nothing is one line for each segment, as it is over OpenAI's interface."""
    whole = transcript(spoken(SENTENCE))
    (cue,) = srt.parse(render(whole, "srt"))
    assert cue.content == SENTENCE.strip()
    assert render(whole, "srt", shape=Shape(max_line_width=200, max_cue_s=60.0, max_chars_per_s=1000.0)) == render(
        whole, "srt"
    )
