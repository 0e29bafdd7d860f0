"""Speakers who are known by a sample: whom of a recording a voice is, and what a sample comes to."""

import numpy as np
import pytest

from tympan.diarize.base import Embedding, Heard, Track
from tympan.diarize.embedding_graph import SIZE
from tympan.diarize.known import _TELEPHONE, ALIKE, Known, packed, recognised, sampled, unpacked

ACTIVE = np.ones(200, np.bool_)


def voice(axis: int, share: float = 1.0, other: int = SIZE - 1) -> Embedding:
    """Return a voice along an axis, of which only a ``share`` is left beside another one."""
    found = np.zeros(SIZE, np.float32)
    found[axis], found[other] = share, np.sqrt(1 - share**2)
    return found


def track(found: Embedding, n_frames: int = 200, window: int = 0, local: int = 0) -> Track:
    """Return somebody who speaks for so many frames."""
    return Track(window, local, ACTIVE[:n_frames], n_frames * 0.016875, found)


def test_each_group_is_called_by_the_sample_that_is_like_it() -> None:
    """Whoever is like none has no name, and a sample that nobody is like names nobody."""
    tracks = [track(voice(0)), track(voice(1)), track(voice(2)), track(voice(0))]
    known = [Known("Cy", voice(2)), Known("Ann", voice(0)), Known("Eve", voice(7))]
    assert recognised(tracks, [0, 1, 2, 0], known) == {0: "Ann", 2: "Cy"}
    assert recognised(tracks, [0, 1, 2, 0], []) == {}
    assert recognised([], [], known) == {}


def test_a_name_goes_to_one_group_and_a_group_has_one_name() -> None:
    """The most alike first: the second best keeps its letter, or has the name that is left."""
    tracks = [track(voice(0, 0.9)), track(voice(0))]
    assert recognised(tracks, [0, 1], [Known("Ann", voice(0))]) == {1: "Ann"}
    both = [Known("Ann", voice(0)), Known("Bob", voice(0, 0.8, 5))]
    assert recognised(tracks, [0, 1], both) == {1: "Ann", 0: "Bob"}
    assert recognised(tracks[1:], [0], both) == {0: "Ann"}


@pytest.mark.parametrize(("share", "names"), [(ALIKE + 0.05, {0: "Ann"}), (ALIKE - 0.05, {})])
def test_who_is_less_alike_than_the_threshold_is_somebody_else(share: float, names: dict[int, str]) -> None:
    """However alone they are."""
    assert recognised([track(voice(0, share, 3))], [0], [Known("Ann", voice(0))]) == names


def test_longer_speech_says_more_about_a_voice() -> None:
    """A second of somebody else in a group does not change whose it is."""
    tracks = [track(voice(0), 190), track(voice(9), 60)]
    assert recognised(tracks, [0, 0], [Known("Ann", voice(0))]) == {0: "Ann"}
    assert recognised(tracks, [0, 0], [Known("Bob", voice(9))]) == {}


def test_what_a_telephone_does_to_voices_does_not_make_them_alike() -> None:
    """Two strangers on the telephone share a direction, which is taken off; so does one on it and one who is not."""
    telephone = unpacked(_TELEPHONE)
    heard, stranger = (unit(voice(axis) + 1.5 * telephone) for axis in (0, 1))
    assert float(heard @ stranger) > ALIKE
    assert recognised([track(heard)], [0], [Known("Stranger", stranger)]) == {}
    faint = unit(voice(0) + 3 * telephone)
    assert float(faint @ voice(0)) < ALIKE
    assert recognised([track(faint)], [0], [Known("Ann", voice(0))]) == {0: "Ann"}


def unit(vector: Embedding) -> Embedding:
    """Return a vector of length 1."""
    found: Embedding = vector / np.linalg.norm(vector)
    return found


def test_a_voice_is_text_and_back() -> None:
    """Short text, exact enough."""
    drawn = unit(np.random.default_rng(3).normal(size=SIZE).astype(np.float32))
    text = packed(drawn)
    assert len(text) == 512
    assert float(unpacked(text) @ drawn) == pytest.approx(1.0, abs=1e-5)
    assert packed(unpacked(text)) == packed(unpacked(packed(unpacked(text))))


def test_a_sample_is_the_voice_that_speaks_most_in_it() -> None:
    """With its share of the speech, by which one with two voices is told."""
    found = sampled(Heard((track(voice(0), 180), track(voice(1), 60, local=1), track(voice(0), 200, 1)), 2, 10.0))
    assert found.voice is not None
    assert float(found.voice @ voice(0)) == pytest.approx(1.0, abs=1e-4)
    assert (round(found.speech_s, 1), round(found.share, 2)) == (6.4, 0.86)
    assert sampled(Heard((), 1, 5.0)).voice is None
