"""Turns: joined across pauses, numbered as they are heard, and written as RTTM."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tympan.diarize.turns import PAUSE_S, smoothed
from tympan.domain import Turn
from tympan.turns import names, rttm

_TURNS = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(1, 300), st.integers(0, 4)).map(
        lambda drawn: Turn(drawn[0] / 10, (drawn[0] + drawn[1]) / 10, drawn[2])
    )
)


def test_a_pause_does_not_end_a_turn_and_another_speaker_does_not_either() -> None:
    """A goes on after 0.25 s, B talks meanwhile; after 0.4 s it is another turn."""
    turns = [Turn(0.0, 1.0, 3), Turn(1.25, 2.0, 3), Turn(0.9, 1.4, 1), Turn(2.4, 3.0, 3)]
    assert smoothed(turns) == [Turn(0.0, 2.0, 0), Turn(0.9, 1.4, 1), Turn(2.4, 3.0, 0)]


@given(_TURNS)
def test_smoothing_keeps_order_and_leaves_no_pause_that_is_none(turns: list[Turn]) -> None:
    """Speakers are numbered by their first turn, and what was speech stays speech."""
    found = smoothed(turns)
    assert found == sorted(found, key=lambda turn: (turn.start_s, turn.end_s))
    firsts = list(dict.fromkeys(turn.speaker for turn in found))
    assert firsts == list(range(len(firsts)))
    for speaker in firsts:
        own = [turn for turn in found if turn.speaker == speaker]
        assert all(after.start_s - before.end_s > PAUSE_S for before, after in itertools.pairwise(own))
    assert all(any(one.start_s <= turn.start_s and turn.end_s <= one.end_s for one in found) for turn in turns)


def test_rttm_is_one_line_a_turn() -> None:
    """Ten fields: type, recording, channel, begin, length, two unknown, speaker, two unknown."""
    written = rttm([Turn(1.25, 3.5, 0), Turn(3.0, 4.0, 1)], "board meeting\t1")
    assert written.splitlines() == [
        "SPEAKER board_meeting_1 1 1.250 2.250 <NA> <NA> A <NA> <NA>",
        "SPEAKER board_meeting_1 1 3.000 1.000 <NA> <NA> B <NA> <NA>",
    ]
    assert rttm([], "x") == ""


def test_there_are_names_for_more_speakers_than_letters() -> None:
    """They differ, whoever many they are."""
    found = names([Turn(0.0, 1.0, 29)])
    assert (found[0], found[25], found[26], len(set(found))) == ("A", "Z", "S27", 30)
    assert names([]) == []
