"""Voices of made-up people: which are one person's, whatever the channel, and how many people there are."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tympan.diarize import clustering
from tympan.diarize.base import STEP_FRAMES, Track
from tympan.diarize.clustering import ALIKE, UNLIKE, Crowd, grouped, threshold

SIZE, FRAMES = 64, 589
ANY = Crowd()
Vectors = NDArray[np.float64]


def people(n: int, seed: int, channel: float = 0.0) -> Vectors:
    """Return voices of so many people; a ``channel`` above 0 makes all of them alike."""
    drawn = np.random.default_rng(seed).normal(size=(n + 1, SIZE))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    found: Vectors = drawn[:n] + channel * drawn[n]
    return found


def said(person: Vectors, rng: np.random.Generator, noise: float = 0.2) -> NDArray[np.float32]:
    """Return a voice as a network hears it: the person's, and something of the moment."""
    heard = person + noise * rng.normal(size=SIZE) / np.sqrt(SIZE)
    found: NDArray[np.float32] = (heard / np.linalg.norm(heard)).astype(np.float32)
    return found


def active(first: int, last: int) -> NDArray[np.bool_]:
    """Return the frames of a window in which somebody speaks."""
    frames = np.zeros(FRAMES, np.bool_)
    frames[first:last] = True
    return frames


def track(window: int, voice: NDArray[np.float32], first: int = 0, last: int = 200, local: int = 0) -> Track:
    """Return a track of one who speaks alone."""
    return Track(window, local, active(first, last), (last - first) * 0.016875, voice)


def conversation(voices: Vectors, n_windows: int, seed: int, noise: float = 0.2) -> tuple[list[Track], list[int]]:
    """Return tracks and who they are of: two people a window, of whom the second is the next one's first."""
    rng = np.random.default_rng(seed)
    order = [int(rng.integers(len(voices)))]
    while len(order) <= n_windows:
        order.append(int((order[-1] + rng.integers(1, len(voices))) % len(voices)) if len(voices) > 1 else 0)
    tracks, who = [], []
    for window in range(n_windows):
        first, second = order[window], order[window + 1]
        tracks.append(track(window, said(voices[first], rng, noise), 0, 280))
        tracks.append(track(window, said(voices[second], rng, noise), STEP_FRAMES, STEP_FRAMES + 280, 1))
        who += [first, second]
    return tracks, who


def same_partition(found: Sequence[int], wanted: Sequence[int]) -> bool:
    """Return whether both put the same together."""
    return len(set(zip(found, wanted, strict=True))) == len(set(found)) == len(set(wanted))


@pytest.mark.parametrize("n", [2, 3, 5, 8])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_people_are_told_apart_and_counted(n: int, seed: int) -> None:
    """Without being told how many there are."""
    tracks, who = conversation(people(n, seed), 40, seed)
    assert same_partition(grouped(tracks, ANY), who)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_voices_on_the_telephone_are_alike_and_are_told_apart_all_the_same(seed: int) -> None:
    """Two people are as alike there as the fixed threshold takes one person to be: windows tell what to expect."""
    tracks, who = conversation(people(3, seed, channel=1.2), 40, seed, noise=0.15)
    different = [tracks[n].voice @ tracks[n + 1].voice for n in range(0, len(tracks), 2)]
    assert float(np.median(different)) > 0.5 * (ALIKE + UNLIKE)
    assert threshold(tracks) > float(np.median(different))
    assert same_partition(grouped(tracks, ANY), who)


def test_one_person_is_one() -> None:
    """Windows that never have two speakers leave the threshold near its usual place."""
    rng = np.random.default_rng(1)
    (voice,) = people(1, 1)
    tracks = [track(window, said(voice, rng), 0, FRAMES) for window in range(30)]
    assert set(grouped(tracks, ANY)) == {0}
    assert threshold(tracks) == pytest.approx(0.5 * (ALIKE + UNLIKE), abs=0.06)


def test_how_many_is_obeyed() -> None:
    """Exactly, at least, at most; never more than there are tracks."""
    tracks, who = conversation(people(4, 5), 30, 5)
    assert [len(set(grouped(tracks, Crowd.of(n)))) for n in (1, 2, 4, 6)] == [1, 2, 4, 6]
    assert len(set(grouped(tracks, Crowd(1, 3)))) == 3
    assert len(set(grouped(tracks, Crowd(6, 9)))) == 6
    assert same_partition(grouped(tracks, Crowd.of(4)), who)
    assert grouped(tracks[:2], Crowd.of(5)) == [0, 1]
    assert grouped([], ANY) == []


def test_who_says_next_to_nothing_is_taken_for_the_one_most_alike() -> None:
    """A second of a third voice is no third speaker, unless three are asked for."""
    voices = people(3, 7)
    tracks, who = conversation(voices[:2], 20, 7)
    odd = said(voices[0] + 2.0 * voices[2], np.random.default_rng(7))
    tracks.append(track(20, odd, 0, 60))
    assert same_partition(grouped(tracks, ANY), [*who, 0])
    assert same_partition(grouped(tracks, Crowd.of(3)), [*who, 2])
    assert same_partition(grouped(tracks, Crowd(3, 5)), [*who, 2])


def test_equal_voices_end() -> None:
    """All as alike as can be: chains of nearest neighbours must not run in circles."""
    voice = said(people(1, 3)[0], np.random.default_rng(0))
    assert set(grouped([track(window, voice) for window in range(50)], ANY)) == {0}


@given(st.integers(2, 12), st.integers(0, 10_000))
def test_the_tree_is_that_of_joining_the_closest_two_each_time(n: int, seed: int) -> None:
    """Average linkage, written down as it is defined."""
    rng = np.random.default_rng(seed)
    voices = np.stack([said(each, rng, noise=1.0) for each in people(n, seed)])
    groups = [[index] for index in range(n)]
    wanted = []
    while len(groups) > 1:
        pairs = [(a, b) for a in range(len(groups)) for b in range(a)]
        alike = [float(np.mean([voices[i] @ voices[j] for i in groups[a] for j in groups[b]])) for a, b in pairs]
        best = int(np.argmax(alike))
        a, b = pairs[best]
        wanted.append((alike[best], frozenset(groups[a] + groups[b])))
        groups = [group for index, group in enumerate(groups) if index not in {a, b}] + [groups[a] + groups[b]]
    found = clustering._tree(voices)
    assert [join.similarity for join in found] == pytest.approx([each[0] for each in wanted], abs=1e-5)
    for n_groups in range(1, n):
        labels = clustering._cut(found, n, n_groups)
        last = wanted[n - n_groups - 1][1]
        assert len(set(labels)) == n_groups
        assert len({labels[member] for member in last}) == 1
