"""The silence-tail splice: how much is encoded, and what follows it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import MAX_WINDOW_SAMPLES, SAMPLE_RATE_HZ, Samples
from tympan.engine.features import MAX_FRAMES
from tympan.engine.splice import MARGIN_S, MAX_POSITIONS, POSITIONS_PER_S, Splice, with_tail


def silent(duration_s: float) -> Samples:
    """Return that much silence; only its length matters here."""
    return np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.int16)


@pytest.mark.parametrize(
    ("duration_s", "frames"), [(0.0, 300), (0.01, 350), (0.5, 350), (0.51, 400), (4.2, 750), (26.6, 3000), (27.0, 3000)]
)
def test_speech_and_margin_are_encoded_in_half_second_steps(duration_s: float, frames: int) -> None:
    """The default is the speech plus three seconds, rounded up to half a second, and never beyond 30 s."""
    assert Splice().frames(silent(duration_s), full_context=False) == frames


def test_full_context_is_all_thirty_seconds() -> None:
    """Asked for full context, or switched off, the splice encodes everything however short the speech is."""
    assert Splice().frames(silent(1.0), full_context=True) == MAX_FRAMES
    assert Splice(enabled=False).frames(silent(1.0), full_context=False) == MAX_FRAMES


def test_the_margin_can_be_chosen() -> None:
    """Each second of margin is a hundred frames."""
    assert [Splice(margin_s=m).frames(silent(2.0), full_context=False) for m in (0.0, 1.0, 5.0)] == [200, 300, 700]


@given(
    n_samples=st.integers(0, MAX_WINDOW_SAMPLES),
    margin_s=st.floats(0.0, 30.0),
    bucket_s=st.floats(0.0, 5.0),
)
def test_frames_cover_the_speech_and_fit_the_encoder(n_samples: int, margin_s: float, bucket_s: float) -> None:
    """For any setting: even, at most 30 s, no speech cut, the margin there, at most a bucket more than needed."""
    frames = Splice(margin_s, bucket_s).frames(np.zeros(n_samples, np.int16), full_context=False)
    assert frames % 2 == 0
    assert frames <= MAX_FRAMES
    assert frames * 160 >= n_samples
    assert frames == MAX_FRAMES or frames >= n_samples / 160 + margin_s * 100 - 0.51
    assert frames <= n_samples / 160 + margin_s * 100 + max(2.0, bucket_s * 100 + 1) + 2


@given(first=st.integers(0, MAX_WINDOW_SAMPLES), second=st.integers(0, MAX_WINDOW_SAMPLES))
def test_more_speech_never_means_fewer_frames(first: int, second: int) -> None:
    """The number of frames rises with the length."""
    less, more = sorted((first, second))
    splice = Splice()
    assert splice.frames(np.zeros(less, np.int16), full_context=False) <= splice.frames(
        np.zeros(more, np.int16), full_context=False
    )


def encoded(positions: int, value: float) -> "np.ndarray[tuple[int, int], np.dtype[np.float32]]":
    """Return an encoding that says where each of its positions came from."""
    return np.stack([np.full(positions, value), np.arange(positions)], axis=1).astype(np.float32)


@given(positions=st.integers(0, 20))
def test_the_tail_continues_where_the_speech_ends(positions: int) -> None:
    """Position n is the speech's own up to its end, and from there silence's position n, not its beginning."""
    whole = with_tail(encoded(positions, 1.0), encoded(20, 0.0))
    assert whole.shape == (20, 2)
    assert whole.dtype == np.float32
    np.testing.assert_array_equal(whole[:, 1], np.arange(20))
    np.testing.assert_array_equal(whole[:, 0], [1.0] * positions + [0.0] * (20 - positions))


def test_a_complete_encoding_is_returned_as_it_is() -> None:
    """Thirty seconds of speech need no tail, and no copy."""
    full = encoded(20, 1.0)
    assert with_tail(full, encoded(20, 0.0)) is full


def test_splicing_leaves_the_shared_silence_alone() -> None:
    """The encoding of silence is made once per model, so nobody may write to it."""
    silence = encoded(20, 0.0)
    whole = with_tail(encoded(5, 1.0), silence)
    whole[:] = 9.0
    np.testing.assert_array_equal(silence, encoded(20, 0.0))


def test_positions_are_those_of_whisper() -> None:
    """Fifty positions a second, 1500 in all; the margin is a whole number of buckets."""
    assert (POSITIONS_PER_S, MAX_POSITIONS) == (50, 1500)
    assert MARGIN_S % Splice().bucket_s == 0.0
