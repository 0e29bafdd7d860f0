"""What decoder steps attend to: the pooled tail of silence, and the upkeep of windows and rows."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.engine.onnx.eight_bit import Bytes, Reals
from tympan.engine.onnx.memory import DIGITS, Heard, Past, Stored, Tail, stay_or_fill

HEADS, WIDTH, LAYERS, POOL = 2, 4, 2, 5
SILENCE, EXACT = 30, 7
"""Positions of silence in these tests, where a model has 1500: four times five are pooled, ten are left."""

SIGNED: Bytes = np.zeros(0, np.int8)
UNSIGNED: Bytes = np.zeros(0, np.uint8)


def noise(seed: int, *shape: int) -> Reals:
    """Return numbers that are the same for the same seed."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def layers_of(seed: int, positions: int, *, level: bool = False) -> list[Stored]:
    """Return keys (unsigned) and values (signed) in turn; ``level`` makes positions that are pooled equal."""
    found = []
    for number in range(2 * LAYERS):
        values = noise(seed + number, HEADS, positions, WIDTH)
        if level:
            values = np.repeat(values[:, ::POOL], POOL, axis=1)[:, :positions]
        found.append(Stored.of(values, SIGNED if number % 2 else UNSIGNED))
    return found


def window_of(heard: Heard, window: int, number: int) -> Reals:
    """Return keys or values of one window as they are meant, ``[heads, positions, width]``."""
    scales = heard.scales[number][window]
    if number % 2:
        scales = scales * heard.peaks[number // 2][window, ..., :1]
    return Stored(heard.numbers[number][window], scales).real()


def attend(query: Reals, key: Reals, value: Reals, bias: Reals | float = 0.0) -> Reals:
    """Return plain attention of ``[heads, width]`` over one window."""
    scores = np.einsum("hw,hpw->hp", query, key) + bias
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    found: Reals = np.einsum("hp,hpw->hw", shares, value)
    return found


def listen(heard: Heard, window: int, layer: int, query: Reals) -> Reals:
    """Return what a query hears in one window."""
    key, value = (window_of(heard, window, 2 * layer + part) for part in (0, 1))
    return attend(query, key, value, heard.bias[window, 0])


def heard_of(positions: Sequence[int]) -> Heard:
    """Return filled windows of these lengths; window ``i`` holds ``layers_of(1000 * i, ...)``."""
    heard = Heard(positions, Tail(layers_of(7, SILENCE), POOL, EXACT))
    for window, count in enumerate(positions):
        heard.fill(window, layers_of(1000 * window, count))
    return heard


# ----------------------------------------------------------------------------------------------------------- stored


@pytest.mark.parametrize("like", ["signed", "unsigned"])
def test_numbers_are_stored_in_eight_bits_row_by_row(like: str) -> None:
    """Each position of each head is scaled to its own largest number, and is right to half a step of it."""
    values = noise(1, HEADS, 9, WIDTH) * np.logspace(-3, 3, 9, dtype=np.float32)[:, None]
    kind = SIGNED if like == "signed" else UNSIGNED
    stored = Stored.of(values, kind)
    assert stored.numbers.dtype == kind.dtype
    assert stored.scales.shape == (HEADS, 1, 9)
    assert stored.scales[:, 0] == pytest.approx(np.abs(values).max(axis=2) / 127)
    assert (np.abs(stored.real() - values) <= 0.501 * stored.scales.swapaxes(1, 2)).all()
    assert np.array_equal(Stored.of(values, SIGNED).real(), Stored.of(values, UNSIGNED).real())


# ------------------------------------------------------------------------------------------------------------- tail


@given(speech=st.integers(1, SILENCE), seed=st.integers(0, 1000))
def test_a_pooled_position_weighs_as_much_as_its_members(speech: int, seed: int) -> None:
    """Where neighbours are equal, attention over pooled positions is attention over all of them.

    Silence starts with the first position, pooled or not, that lies wholly after the speech.
    """
    silence = layers_of(7, SILENCE, level=True)
    heard = Heard([speech], Tail(silence, POOL, EXACT))
    spoken = layers_of(seed, speech)
    heard.fill(0, spoken)
    query = noise(seed + 99, HEADS, WIDTH)
    begin = min(-(-speech // POOL) * POOL, max(20, speech))
    for layer in range(LAYERS):
        key, value = (
            np.concatenate([spoken[2 * layer + part].real(), silence[2 * layer + part].real()[:, begin:]], axis=1)
            for part in (0, 1)
        )
        assert listen(heard, 0, layer, query) == pytest.approx(attend(query, key, value), abs=1e-4)


def test_a_pooled_position_is_the_mean_of_its_members_and_the_end_stays_as_it_is() -> None:
    """Of 33 positions, 25 make five of five each; the last seven, and the one that fits nowhere, are kept."""
    stored = layers_of(3, 33)
    tail = Tail(stored, POOL, EXACT)
    assert tail.length == 13
    assert tail.weights == pytest.approx([np.log(POOL)] * 5 + [0.0] * 8)
    for part, one in zip(tail.parts, stored, strict=True):
        assert part.numbers.shape == (HEADS, 13, WIDTH)
        assert part.numbers.dtype == one.numbers.dtype
        assert part.real()[:, 2] == pytest.approx(one.real()[:, 10:15].mean(axis=1), abs=0.02)
        assert np.array_equal(part.real()[:, 5:], one.real()[:, 25:])


def test_a_silence_shorter_than_what_is_kept_is_not_pooled() -> None:
    """Nor does it become longer."""
    stored = layers_of(3, EXACT - 1)
    tail = Tail(stored, POOL, EXACT)
    assert not tail.weights.any()
    for part, one in zip(tail.parts, stored, strict=True):
        assert np.array_equal(part.real(), one.real())


@pytest.mark.parametrize(
    ("positions", "first"),
    [(0, 0), (1, 1), (5, 1), (6, 2), (19, 4), (20, 4), (21, 5), (29, 13), (30, 14), (99, 14)],
)
def test_the_tail_starts_after_the_speech(positions: int, first: int) -> None:
    """A pooled position that the speech reaches into is left out; where there is nothing left, the tail is empty."""
    assert Tail(layers_of(7, SILENCE), POOL, EXACT).first(positions) == first


# ------------------------------------------------------------------------------------------------------------ heard


def test_padding_is_never_heard() -> None:
    """Beside a longer window, a short one hears what it hears alone."""
    heard, short = heard_of([3, 140]), heard_of([3])
    query = noise(1, HEADS, WIDTH)
    for layer in range(LAYERS):
        alone = listen(short, 0, layer, query)
        assert listen(heard, 0, layer, query) == pytest.approx(alone, abs=1e-6)
        assert np.abs(alone).max() > 0.01
    for number in range(2 * LAYERS):
        assert not window_of(heard, 0, number)[:, 64:].any()


@pytest.mark.parametrize(
    ("positions", "length"), [([1], 64), ([63], 64), ([64], 64), ([65], 128), ([1, 65], 128), ([10], 64)]
)
def test_the_length_is_a_multiple_of_64(positions: list[int], length: int) -> None:
    """So that sums over it are cut in the same places in every batch."""
    heard = heard_of(positions)
    assert {array.shape[2] for array in heard.numbers} == {array.shape[3] for array in heard.scales} == {length}
    assert heard.bias.shape == (len(positions), 1, 1, length)


def test_a_window_alone_is_the_same_memory() -> None:
    """Nothing is copied, and the others stay as they are."""
    heard = heard_of([3, 12])
    alone = heard.alone(1)
    assert len(alone) == 1
    assert alone.positions == [12]
    query = noise(1, HEADS, WIDTH)
    assert np.array_equal(listen(alone, 0, 0, query), listen(heard, 1, 0, query))
    assert all(np.shares_memory(mine, whole) for mine, whole in zip(alone.numbers, heard.numbers, strict=True))
    assert len(heard) == 2


def test_scales_of_values_fit_two_digits() -> None:
    """A share of at most 1 times a scale is at most the base, in every window and head, also where all is zero."""
    heard = heard_of([3, 140])
    for scales in heard.scales[1::2]:
        assert scales.max(axis=-1) == pytest.approx(DIGITS)
    nothing = Stored.of(np.zeros((HEADS, SILENCE, WIDTH), np.float32), SIGNED)
    silent = Heard([2], Tail([nothing] * 2 * LAYERS, POOL, EXACT))
    silent.fill(0, [Stored(one.numbers[:, :2], one.scales[..., :2]) for one in [nothing] * 2 * LAYERS])
    assert all(np.isfinite(array).all() for array in (*silent.scales, *silent.peaks))
    assert not window_of(silent, 0, 1).any()


@given(data=st.data(), windows=st.integers(1, 8))
def test_windows_that_are_kept_are_kept_whole(data: st.DataObject, windows: int) -> None:
    """After any number of departures, each window left has its own keys, values and biases, in the order told."""
    lengths = [1 + 11 * window for window in range(windows)]
    heard, untouched = heard_of(lengths), heard_of(lengths)
    left = list(range(windows))
    while len(left) > 1:
        alive = sorted(data.draw(st.sets(st.sampled_from(range(len(left))), min_size=1)))
        if len(alive) == len(left):
            break
        order = stay_or_fill(alive)
        heard.keep(order)
        left = [left[i] for i in order]
    assert len(heard) == len(left)
    for name in ("numbers", "scales", "peaks"):
        for mine, theirs in zip(getattr(heard, name), getattr(untouched, name), strict=True):
            assert np.array_equal(mine, theirs[left])
    assert np.array_equal(heard.bias, untouched.bias[left])
    assert heard.positions == [lengths[window] for window in left]


@given(data=st.data(), count=st.integers(1, 40))
def test_those_that_stay_keep_their_place_and_the_last_fill_the_gaps(data: st.DataObject, count: int) -> None:
    """The order has everyone once, moves only those from beyond the new end, and never onto one still to be moved."""
    alive = sorted(data.draw(st.sets(st.integers(0, count - 1), min_size=1)))
    order = stay_or_fill(alive)
    assert sorted(order) == alive
    assert all(source in {place, *range(len(alive), count)} for place, source in enumerate(order))


def test_nobody_moves_when_all_stay() -> None:
    """Nor when only the last ones go."""
    assert stay_or_fill([0, 1, 2]) == [0, 1, 2]
    assert stay_or_fill([2, 5, 7]) == [5, 7, 2]
    assert stay_or_fill([]) == []


# ------------------------------------------------------------------------------------------------------------- past


def stored_for(row: int, tokens: Sequence[int]) -> Reals:
    """Return what a model stores for the last of some tokens: it depends on all of them, and on the row's window."""
    return noise(hash((row, tuple(tokens))) % 2**32, 4, HEADS, WIDTH)


def past_of(texts: Sequence[Sequence[int]], windows: Sequence[int], room: int = 2) -> Past:
    """Return a past in which every row, of some window, has stored a text; what lies behind is unset."""
    length = len(texts[0])
    past = Past((4, len(texts), HEADS, length + room, WIDTH))
    past.store.fill(np.nan)
    for row, (text, window) in enumerate(zip(texts, windows, strict=True)):
        for i in range(length):
            past.store[:, row, :, i] = stored_for(window, text[: i + 1])
    past.add(texts)
    return past


def short_texts(data: st.DataObject, rows: int) -> list[list[int]]:
    """Return texts of one length, many of which begin alike."""
    length = data.draw(st.integers(1, 5))
    return data.draw(
        st.lists(st.lists(st.integers(0, 1), min_size=length, max_size=length), min_size=rows, max_size=rows)
    )


@given(data=st.data(), rows=st.integers(1, 6))
def test_rows_of_a_window_go_on_from_their_parents(data: st.DataObject, rows: int) -> None:
    """Any row may continue any other, several of them the same one, however they are crossed, time and again."""
    past = past_of(short_texts(data, rows), [0] * rows)
    for _ in range(2):
        before = past.store.copy()
        parents = data.draw(st.lists(st.integers(0, rows - 1), min_size=rows, max_size=rows))
        past.reorder(parents)
        assert np.array_equal(past.store[:, :, :, : past.length], before[:, parents, :, : past.length])
    assert past.rows == rows


@given(data=st.data(), rows=st.integers(1, 6))
def test_kept_rows_take_the_first_places(data: st.DataObject, rows: int) -> None:
    """Rows of different windows move with all they have stored, also where their texts begin alike."""
    past = past_of(short_texts(data, rows), range(rows))
    before = past.store.copy()
    kept = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=rows, unique=True))
    past.keep(kept)
    assert past.rows == len(kept)
    for number in range(4):
        layer = past.layer(number)
        assert layer.shape[0] == len(kept)
        assert np.array_equal(layer[:, :, : past.length], before[number, kept, :, : past.length])
        assert layer.flags.c_contiguous
        assert np.shares_memory(layer, past.store)


@given(rows=st.integers(1, 4), times=st.integers(1, 4), length=st.integers(1, 5))
def test_spread_rows_lie_side_by_side(rows: int, times: int, length: int) -> None:
    """Every row becomes ``times`` neighbours with its past and the new room; the old past is left as it is."""
    past = past_of([[row] * length for row in range(rows)], range(rows))
    wide = past.spread(times, 9)
    assert (wide.rows, wide.length, wide.store.shape[3]) == (rows * times, length, 9)
    for row in range(rows * times):
        assert np.array_equal(wide.store[:, row, :, :length], past.store[:, row // times, :, :length])
    assert (past.rows, past.length) == (rows, length)
