"""From samples to turns, with networks that see speakers in the samples themselves."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.voices_support import NOBODY, A, B, C, Tells, spoken
from tympan.diarize.assembly import turns
from tympan.diarize.base import (
    FRAME_S,
    FRAME_SAMPLES,
    STEP_FRAMES,
    WINDOW_SAMPLES,
    Heard,
    Track,
)
from tympan.diarize.clustering import Crowd
from tympan.diarize.recording import Recording
from tympan.diarize.tracks import Tracker, _stretches
from tympan.domain import SAMPLE_RATE_HZ, Samples, Turn

FRAMES = 589
RATE = SAMPLE_RATE_HZ


def heard(samples: Samples, block: int = RATE) -> list[Turn]:
    """Return the turns of a recording that comes in blocks."""
    recording = Recording(Tells())
    for at in range(0, len(samples), block):
        recording.push(samples[at : at + block])
    assert recording.audio_s == len(samples) / RATE
    return recording.finish(Crowd())


def close(found: Sequence[Turn], wanted: Sequence[tuple[float, float, int]]) -> bool:
    """Return whether the turns are these, to a frame."""
    return len(found) == len(wanted) and all(
        turn.speaker == who and abs(turn.start_s - start) <= FRAME_S and abs(turn.end_s - end) <= FRAME_S
        for turn, (start, end, who) in zip(found, wanted, strict=True)
    )


def test_turns_have_their_times_across_windows_and_when_two_speak_at_once() -> None:
    """A speaks, B falls into the word, and after a silence C speaks for longer than two windows."""
    samples = spoken([(1, NOBODY), (6, A), (2, A | B), (5, B), (3, NOBODY), (24, C), (1, NOBODY)])
    assert close(heard(samples), [(1, 9, 0), (7, 14, 1), (17, 41, 2)])


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.floats(2.2, 9.0), st.sampled_from([NOBODY, A, B, C, A | B, B | C])), min_size=1, max_size=9)
)
def test_speech_is_found_whatever_the_order_and_the_blocks_it_comes_in(parts: list[tuple[float, int]]) -> None:
    """Frame by frame the speakers are as many as there are, and a recording in other blocks has the same turns."""
    samples = spoken(parts)
    found = heard(samples)
    assert found == heard(samples, 7_777)
    for frame in range(3, len(samples) // FRAME_SAMPLES - 40, 7):
        middle = frame * FRAME_SAMPLES + FRAME_SAMPLES // 2
        nearby = samples[max(0, middle - 6_000) : middle + 6_000]
        if len(set(nearby.tolist())) == 1:  # Pauses may be filled, and edges are a frame off.
            speaking = {turn.speaker for turn in found if turn.start_s <= middle / RATE <= turn.end_s}
            assert len(speaking) == int(nearby[0] // 1000).bit_count()


@pytest.mark.parametrize("seconds", [0.0, 0.1, 3.0, 9.99, 10.0, 10.01, 14.95, 15.0, 60.0])
def test_every_length_is_heard_to_its_end(seconds: float) -> None:
    """No turn ends behind the recording, and one who speaks all the time has one turn."""
    found = heard(spoken([(seconds, A)]))
    if seconds <= 0.1:
        assert found == []
        return
    (turn,) = found
    assert turn.start_s <= 0.03
    assert seconds - 0.06 <= turn.end_s <= seconds


def test_windows_overlap_by_half_and_the_end_is_heard_once() -> None:
    """16 s are three windows, the last filled up with silence; 10 s are one."""
    voices = Tells()
    tracker = Tracker(voices)
    tracker.push(spoken([(16, A)]))
    assert tracker.finish().n_windows == len(voices.windows) == 3
    assert {len(window) for window in voices.windows} == {WINDOW_SAMPLES}
    assert voices.windows[2][-1] == 0
    tracker = Tracker(whole := Tells())
    tracker.push(spoken([(10, A)]))
    assert (tracker.finish().n_windows, len(whole.windows)) == (1, 1)


def test_a_local_speaker_is_heard_stretch_by_stretch() -> None:
    """Two people who never meet may be one to the network: a long stretch has a voice, a short one its neighbour's."""
    active = np.zeros(FRAMES, np.bool_)
    for first_s, last_s in ((0.5, 2.5), (2.6, 3.0), (3.5, 3.8), (5.0, 7.0), (7.5, 7.8)):
        active[round(first_s / FRAME_S) : round(last_s / FRAME_S)] = True
    found = [_edges_s(mask) for mask in _stretches(active, np.ones(FRAMES, np.bool_))]
    assert found == [[(0.5, 2.5), (2.6, 3.0), (3.5, 3.8)], [(5.0, 7.0), (7.5, 7.8)]]
    short = np.zeros(FRAMES, np.bool_)
    short[10:30] = short[60:80] = True
    assert [mask.tolist() for mask in _stretches(short, short)] == [short.tolist()]
    assert list(_stretches(np.zeros(FRAMES, np.bool_), active)) == []


def _edges_s(mask: NDArray[np.bool_]) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0)) * FRAME_S
    return [(round(first, 1), round(last, 1)) for first, last in edges.reshape(-1, 2)]


def test_ten_hours_take_as_much_memory_as_what_was_found() -> None:
    """No more than two windows of audio are kept."""
    tracker = Tracker(Tells())
    for _ in range(200):
        tracker.push(spoken([(1.0, A)]))
        assert len(tracker._rest) <= 2 * WINDOW_SAMPLES


def one(window: int, frames: slice, group: int) -> tuple[Track, int]:
    """Return a track that speaks in these frames, and who it is."""
    active: NDArray[np.bool_] = np.zeros(FRAMES, np.bool_)
    active[frames] = True
    return Track(window, group, active, 1.0, np.zeros(3, np.float32)), group


def assembled(n_windows: int, *tracks: tuple[Track, int]) -> list[Turn]:
    """Return the turns of these tracks in a recording of so many windows."""
    audio_s = (n_windows * STEP_FRAMES + FRAMES) * FRAME_S
    return turns(Heard(tuple(track for track, _ in tracks), n_windows, audio_s), [group for _, group in tracks])


def test_where_windows_differ_the_one_whose_middle_is_nearer_is_right() -> None:
    """The second half of one window is the first half of the next: who is named changes in the middle of that."""
    found = assembled(2, one(0, slice(STEP_FRAMES, FRAMES), 0), one(1, slice(0, STEP_FRAMES), 1))
    assert [turn.speaker for turn in found] == [0, 1]
    middle_s = (1.5 * STEP_FRAMES) * FRAME_S
    assert found[0].end_s == pytest.approx(middle_s, abs=0.05)
    assert found[1].start_s == pytest.approx(middle_s, abs=0.05)


def test_two_tracks_of_one_person_in_a_window_are_one_turn() -> None:
    """Which a network may do to a voice that changes."""
    found = assembled(1, one(0, slice(10, 100), 0), one(0, slice(90, 200), 0))
    assert [(turn.speaker, round(turn.start_s / FRAME_S) - 1) for turn in found] == [(0, 10)]


def test_nobody_is_nobody() -> None:
    """A recording without tracks has no turns."""
    assert turns(Heard((), 3, 20.0), []) == []
    assert all(after.start_s >= before.start_s for before, after in pairwise(heard(spoken([(5, A), (5, B), (5, A)]))))
