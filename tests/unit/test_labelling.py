"""Who said a word, where turns tell who spoke when."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline_support import answer
from tympan.domain import (
    SAMPLE_RATE_HZ,
    DecodeParams,
    Options,
    Piece,
    Samples,
    Timestamps,
    Turn,
    Window,
    WindowResult,
    WindowTask,
    Word,
)
from tympan.labelling import NEAR_S, Labeller
from tympan.transcript import Totals, assemble

TURNS = (Turn(1.0, 3.0, 0), Turn(3.2, 6.0, 1), Turn(5.5, 5.9, 2), Turn(12.0, 14.0, 0))


def word(start_s: float, end_s: float) -> Word:
    """Return a word at a time."""
    return Word(" word", start_s, end_s, 0.9)


@pytest.mark.parametrize(
    ("start_s", "end_s", "who", "why"),
    [
        (1.0, 2.0, "A", "A speaks."),
        (2.8, 3.9, "B", "B speaks most of it."),
        (2.0, 3.3, "A", "A does."),
        (5.6, 5.8, "B", "C falls into B's turn, which is longer."),
        (3.05, 3.1, "A", "Between both, A is nearer."),
        (11.6, 11.8, "A", "A is about to speak."),
        (0.0, 0.1, "A", "Nobody has spoken: whoever does next."),
        (90.0, 91.0, "A", "Nobody has spoken: whoever did last."),
    ],
)
def test_a_word_is_said_by_whoever_speaks_then(start_s: float, end_s: float, who: str, why: str) -> None:
    """By the time that is shared, then by the longer turn, then by nearness."""
    assert Labeller(TURNS).name(start_s, end_s) == who, why


def test_far_from_any_turn_the_last_speaker_goes_on() -> None:
    """However near the next turn is to be found beyond the gap."""
    found = Labeller(TURNS).names([word(4.0, 5.0), word(6.6, 7.0), word(11.0, 11.3), word(11.7, 11.9)])
    assert found == ("B", "B", "B", "A")


def test_without_turns_nobody_is_named() -> None:
    """The networks heard nobody: nothing is invented."""
    assert Labeller(()).names([word(0.0, 1.0), word(1.0, 2.0)]) == (None, None)


_TURNS = st.lists(
    st.tuples(st.integers(0, 300), st.integers(1, 80), st.integers(0, 3)).map(
        lambda drawn: Turn(drawn[0] / 10, (drawn[0] + drawn[1]) / 10, drawn[2])
    ),
    min_size=1,
)


@given(_TURNS, st.integers(0, 400), st.integers(1, 30))
def test_nobody_who_does_not_speak_then_is_named_where_somebody_does(turns: list[Turn], at: int, length: int) -> None:
    """The same as looking at all turns, in any order they are given."""
    start_s, end_s = at / 10, (at + length) / 10
    found = Labeller(turns).name(start_s, end_s)
    assert found == Labeller(list(reversed(turns))).name(start_s, end_s)
    shared = {
        "ABCD"[who]: sum(
            max(0.0, min(turn.end_s, end_s) - max(turn.start_s, start_s)) for turn in turns if turn.speaker == who
        )
        for who in range(4)
    }
    if max(shared.values()) > 0:
        assert shared[found or ""] == pytest.approx(max(shared.values()), abs=2e-3)
    else:
        nearest = min(max(turn.start_s - end_s, start_s - turn.end_s) for turn in turns)
        assert any(
            "ABCD"[turn.speaker] == found and max(turn.start_s - end_s, start_s - turn.end_s) <= nearest + 1e-9
            for turn in turns
        )
    assert NEAR_S < 1.0


def _heard(*words: Word, diarize: bool = True) -> tuple[list[tuple[Window, WindowResult]], Options]:
    samples: Samples = np.zeros(10 * SAMPLE_RATE_HZ, np.int16)
    window = Window(0, samples, (Piece(0, 100 * SAMPLE_RATE_HZ, len(samples)),))
    result = answer(WindowTask(window, DecodeParams()))
    text = "".join(one.text for one in words) or " Nobody's."
    return [(window, dataclasses.replace(result, text=text, words=words))], Options(
        diarize=diarize, timestamps=Timestamps.WORD
    )


def test_segments_end_where_the_speaker_changes() -> None:
    """Times are those of the source, and the transcript says what told the speakers apart."""
    parts, options = _heard(Word(" So", 0.0, 0.4, 0.9), Word(" what?", 0.5, 0.9, 0.9), Word(" This.", 1.0, 1.5, 0.9))
    totals = Totals(0, 0, "demo")
    turns = (Turn(100.0, 100.45, 0), Turn(100.45, 101.6, 1))
    found = assemble(parts, (), options, totals, turns)
    assert [(one.speaker, one.text) for one in found.segments] == [("A", " So"), ("B", " what?"), ("B", " This.")]
    assert (found.provenance.speakers, found.turns) == ("voices", turns)
    without = assemble(parts, (), options, totals)
    assert {one.speaker for one in without.segments} == {None}
    assert (without.provenance.speakers, without.turns) == ("channels", ())
    assert assemble(parts, (), dataclasses.replace(options, diarize=False), totals).provenance.speakers == ""


def test_a_text_without_words_has_the_speaker_of_most_of_it() -> None:
    """As engines write it that do not tell when words are said."""
    parts, options = _heard()
    found = assemble(parts, (), options, Totals(0, 0, "demo"), (Turn(100.0, 103.0, 0), Turn(103.0, 110.0, 1)))
    assert [one.speaker for one in found.segments] == ["B"]
