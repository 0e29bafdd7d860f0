"""Dynamic time warping over attention, against slow and plain versions of it."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.engine.onnx.warping import Attention, _median, cheapest_path, follow, shares

Path = list[tuple[int, int]]


def noise(seed: int, *shape: int) -> Attention:
    """Return numbers between 0 and 1."""
    return np.random.default_rng(seed).random(shape, np.float32)


def slow_path(cost: Attention) -> Path:
    """Return the cheapest path, found by asking for the best way to each cell."""
    best: dict[tuple[int, int], tuple[float, tuple[int, int] | None]] = {}
    rows, columns = cost.shape
    for i in range(rows):
        for j in range(columns):
            ways = [(best[place][0], place) for place in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if place in best]
            before, origin = min(ways, default=(0.0, None))
            best[i, j] = before + float(cost[i, j]), origin
    path: Path = []
    place: tuple[int, int] | None = (rows - 1, columns - 1)
    while place is not None:
        path.append(place)
        place = best[place][1]
    return path[::-1]


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 9), columns=st.integers(1, 12))
def test_the_path_is_the_cheapest(seed: int, rows: int, columns: int) -> None:
    """For any shape, also a single row or column, and costs of either sign."""
    cost = noise(seed, rows, columns) - np.float32(0.5)
    assert cheapest_path(cost) == slow_path(cost)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 9), columns=st.integers(1, 12), digits=st.integers(0, 1))
def test_the_path_leads_from_corner_to_corner_step_by_step(seed: int, rows: int, columns: int, digits: int) -> None:
    """Also where many ways cost the same."""
    path = cheapest_path(np.round(noise(seed, rows, columns), digits))
    assert path[0] == (0, 0)
    assert path[-1] == (rows - 1, columns - 1)
    steps = {(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(path)}
    assert steps <= {(0, 1), (1, 0), (1, 1)}


def test_costs_given_are_left_as_they_are() -> None:
    """The totals are counted in a copy."""
    cost = noise(1, 5, 6)
    before = cost.copy()
    cheapest_path(cost)
    assert np.array_equal(cost, before)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 3), columns=st.integers(4, 30))
def test_the_median_of_seven_is_numpys(seed: int, rows: int, columns: int) -> None:
    """With the ends mirrored, ties included."""
    values = np.round(noise(seed, 2, rows, columns), 1)
    padded = np.pad(values, [(0, 0), (0, 0), (3, 3)], mode="reflect")
    expected = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7, axis=2), axis=3)
    assert np.array_equal(_median(values), expected)


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_what_is_too_short_to_mirror_is_not_smoothed(columns: int) -> None:
    """Three positions have no seven neighbours."""
    values = noise(2, 2, 3, columns)
    assert np.array_equal(_median(values), values)


def test_attention_is_compared_between_tokens_and_averaged_over_heads() -> None:
    """Each position is normalised over the tokens, so a position that all tokens like says nothing."""
    attention = noise(3, 4, 6, 20)
    attention[:, :, 11] += 10.0
    padded = np.pad(
        (attention - attention.mean(1, keepdims=True)) / attention.std(1, keepdims=True), [(0,), (0,), (3,)], "reflect"
    )
    expected = np.median(np.lib.stride_tricks.sliding_window_view(padded, 7, axis=2), axis=3).mean(axis=0)
    assert follow(attention) == pytest.approx(expected, abs=1e-5)


def test_positions_that_all_tokens_like_alike_do_no_harm() -> None:
    """No spread means no preference, not a division by zero."""
    found = follow(np.full((2, 3, 10), 0.1, np.float32))
    assert found == pytest.approx(np.zeros((3, 10)), abs=1e-5)


def test_the_path_follows_the_attention() -> None:
    """Three tokens that look at three stretches get them, through noise and an outlier."""
    attention = 0.01 * noise(4, 2, 3, 30)
    for token in range(3):
        attention[:, token, 10 * token : 10 * token + 10] += 0.5
    attention[0, 2, 4] = 5.0
    path = cheapest_path(-follow(attention))
    first = [next(position for token, position in path if token == wanted) for wanted in range(3)]
    assert first == pytest.approx([0, 10, 20], abs=1)


def test_attention_to_a_part_becomes_shares_of_it() -> None:
    """They sum to one for every token, in the same proportions; where there is none at all, nothing is divided."""
    attention = noise(3, 2, 4, 6)
    attention[1, 2] = 0.0
    found = shares(attention)
    sums = found.sum(axis=-1)
    assert sums[1, 2] == 0.0
    assert np.delete(sums.ravel(), 6) == pytest.approx(np.ones(7))
    assert found[0, 0] * attention[0, 0].sum() == pytest.approx(attention[0, 0])
