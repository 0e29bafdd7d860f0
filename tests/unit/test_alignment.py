"""Alignments to word times."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.engine.alignment import word_times
from tympan.engine.tokens import WordTokens

HELLO = WordTokens(" Hello", (1, 2))
WORLD = WordTokens(" world.", (3, 4, 5))


def test_a_word_lasts_from_its_first_token_to_the_next_word() -> None:
    """Positions of 20 ms become seconds; a token that spans several positions counts from its first."""
    path = [(0, 10), (0, 11), (0, 12), (1, 20), (2, 30), (3, 31), (3, 40), (4, 50), (5, 75), (5, 80)]
    words = word_times([HELLO, WORLD], path, [0.5, 0.7, 0.9, 0.6, 0.3], 2.0)
    assert [(word.text, word.start_s, word.end_s) for word in words] == [(" Hello", 0.2, 0.6), (" world.", 0.6, 1.5)]
    assert [word.probability for word in words] == pytest.approx([0.6, 0.6])
    assert [word.tokens for word in words] == [(1, 2), (3, 4, 5)]


def test_a_token_without_time_of_its_own_shares_its_neighbours() -> None:
    """Where the path goes up without going on, both tokens have the same position."""
    words = word_times([WordTokens(" a", (1,)), WordTokens(" b", (2,))], [(0, 5), (1, 5), (2, 9)], [1.0, 1.0], 1.0)
    assert [(word.start_s, word.end_s) for word in words] == [(0.1, 0.1), (0.1, 0.18)]


def test_times_end_with_the_window() -> None:
    """A path that leads into the padding is cut at the window's end, for starts and ends alike."""
    path = [(0, 10), (1, 20), (2, 90), (3, 95), (4, 99), (5, 120)]
    words = word_times([HELLO, WORLD], path, [0.5] * 5, 1.0)
    assert [(word.start_s, word.end_s) for word in words] == [(0.2, 1.0), (1.0, 1.0)]


def test_a_path_that_ends_early_gives_the_rest_the_end_of_the_window() -> None:
    """Every word gets times, even those whose tokens the path does not reach."""
    words = word_times([HELLO, WORLD], [(0, 10), (1, 20)], [0.5, 0.5], 1.0)
    assert [(word.start_s, word.end_s) for word in words] == [(0.2, 1.0), (1.0, 1.0)]
    assert words[1].probability == 0.0


def test_no_words_or_no_path_give_no_times() -> None:
    """Nothing said, or nothing aligned: no words rather than invented ones."""
    assert word_times([], [(0, 1)], [], 1.0) == ()
    assert word_times([HELLO], [], [0.5, 0.5], 1.0) == ()


@st.composite
def aligned(draw: st.DrawFn) -> tuple[list[WordTokens], list[tuple[int, int]], list[float], float]:
    """Return words and a monotone path over their tokens and the end token, as time warping gives it."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=1, max_size=12))
    edges = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    words = [WordTokens(f" w{i}", tuple(range(begin, end))) for i, (begin, end) in enumerate(pairwise(edges))]
    path, position = [(0, 0)], 0
    for token in range(edges[-1] + 1):
        for _ in range(draw(st.integers(0, 3))):
            position += 1
            path.append((token, position))
        if token < edges[-1]:
            position += draw(st.integers(0, 1))
            path.append((token + 1, position))
    chances = draw(st.lists(st.floats(0.0, 1.0), min_size=edges[-1], max_size=edges[-1]))
    return words, path, chances, draw(st.floats(0.02, 3.0))


@given(aligned())
def test_any_monotone_path_gives_ordered_words_inside_the_window(
    case: tuple[list[WordTokens], list[tuple[int, int]], list[float], float],
) -> None:
    """All words, in order, without gaps or overlaps, between 0 and the window's end, with the mean probability."""
    words, path, chances, duration_s = case
    found = word_times(words, path, chances, duration_s)
    assert [word.text for word in found] == [word.text for word in words]
    times = [moment for word in found for moment in (word.start_s, word.end_s)]
    assert times == sorted(times)
    assert times[0] >= 0.0
    assert times[-1] <= duration_s
    assert all(before.end_s == after.start_s for before, after in pairwise(found))
    for word, spelled in zip(found, words, strict=True):
        own = [chances[token] for token in spelled.tokens]
        assert word.probability == pytest.approx(sum(own) / len(own))
