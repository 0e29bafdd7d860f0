"""Spans packed into windows, and the buffer that their samples are cut from."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tympan.audio.windows import SampleBuffer, WindowPacker
from tympan.domain import SAMPLE_RATE_HZ, Piece, Samples, Span, Window

MAX_WINDOW_S, MAX_GAP_S = 10.0, 2.0


def ramp(n_samples: int, first: int = 0) -> Samples:
    """Return samples that say where they are, modulo 2**15."""
    return (np.arange(first, first + n_samples) % 2**15).astype(np.int16)


def span(start_s: float, end_s: float, peak: float = 1.0) -> Span:
    """Return a span given in seconds."""
    return Span(round(start_s * SAMPLE_RATE_HZ), round(end_s * SAMPLE_RATE_HZ), peak)


def pack(spans: list[Span], source_s: float = 120.0) -> list[Window]:
    """Return the windows of spans of a ramp."""
    buffer, packer = SampleBuffer(), WindowPacker(MAX_WINDOW_S, MAX_GAP_S)
    buffer.push(ramp(round(source_s * SAMPLE_RATE_HZ)))
    return packer.add(spans, buffer) + packer.finish()


def bounds(windows: list[Window]) -> list[list[tuple[float, float]]]:
    """Return for each window where its pieces lie in the source, in seconds."""
    return [
        [
            (piece.source_sample / SAMPLE_RATE_HZ, (piece.source_sample + piece.n_samples) / SAMPLE_RATE_HZ)
            for piece in window.pieces
        ]
        for window in windows
    ]


def test_a_cut_gives_the_samples_of_the_span_whatever_was_forgotten() -> None:
    """Positions are the source's, before and after the buffer lets go of its beginning."""
    buffer = SampleBuffer()
    for first in range(0, 5000, 1000):
        buffer.push(ramp(1000, first))
    np.testing.assert_array_equal(buffer.cut(Span(1500, 3500)), ramp(2000, 1500))
    buffer.forget(1500)
    np.testing.assert_array_equal(buffer.cut(Span(1500, 3500)), ramp(2000, 1500))
    assert buffer.end_sample == 5000


def test_a_cut_beyond_the_end_gives_what_exists() -> None:
    """The last span may end in the padding of the last frame."""
    buffer = SampleBuffer()
    buffer.push(ramp(1000))
    np.testing.assert_array_equal(buffer.cut(Span(900, 1024)), ramp(100, 900))
    assert not len(buffer.cut(Span(1000, 1024)))


def test_a_cut_is_a_copy() -> None:
    """A window does not keep the whole buffer alive."""
    buffer = SampleBuffer()
    buffer.push(ramp(100_000))
    assert buffer.cut(Span(0, 10)).base is None


def test_forgetting_too_much_or_backwards_is_harmless() -> None:
    """The buffer's end stays the count of samples pushed."""
    buffer = SampleBuffer()
    buffer.push(ramp(1000))
    buffer.forget(5000)
    buffer.forget(10)
    assert buffer.end_sample == 1000
    buffer.push(ramp(1000, 1000))
    np.testing.assert_array_equal(buffer.cut(Span(1200, 1400)), ramp(200, 1200))


def test_neighbours_share_a_window_while_there_is_room() -> None:
    """Three seconds, four and three make ten; silence between them is not counted."""
    windows = pack([span(0, 3), span(4, 8), span(9, 12), span(13, 14)])
    assert bounds(windows) == [[(0, 3), (4, 8), (9, 12)], [(13, 14)]]
    assert [window.duration_s for window in windows] == [10.0, 1.0]


def test_a_long_silence_starts_a_new_window() -> None:
    """A gap of two seconds is bridged, a longer one is not."""
    assert bounds(pack([span(0, 1), span(3, 4), span(6.1, 7)])) == [[(0, 1), (3, 4)], [(6.1, 7)]]


def test_a_window_knows_its_pieces_its_number_and_its_peak() -> None:
    """Pieces lie one behind the other in the window; the peak is the highest of its spans."""
    first, second = pack([span(1, 2, 0.3), span(3, 3.5, 0.8), span(60, 61, 0.1)])
    assert first.pieces == (Piece(0, 16_000, 16_000), Piece(16_000, 48_000, 8_000))
    assert (first.index, second.index) == (0, 1)
    assert (first.speech_peak, second.speech_peak) == (0.8, 0.1)
    np.testing.assert_array_equal(first.samples, np.concatenate([ramp(16_000, 16_000), ramp(8_000, 48_000)]))


def test_a_span_beyond_the_audio_makes_no_window() -> None:
    """Padding alone is not worth the engine's time."""
    assert pack([span(1, 1.5)], source_s=1.0) == []
    assert WindowPacker(MAX_WINDOW_S, MAX_GAP_S).finish() == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.integers(1, 900)), max_size=25))
def test_windows_hold_every_span_once_in_order_and_fit(gaps_and_lengths: list[tuple[int, int]]) -> None:
    """Whatever the spans (here in hundredths of a second): none lost, none twice, no window too long."""
    spans, at = list[Span](), 0
    for gap, length in gaps_and_lengths:
        spans.append(span((at + gap) / 100, (at + gap + length) / 100))
        at += gap + length
    windows = pack(spans, source_s=at / 100 + 1)
    pieces = [piece for window in windows for piece in window.pieces]
    assert [(p.source_sample, p.source_sample + p.n_samples) for p in pieces] == [
        (s.start_sample, s.end_sample) for s in spans
    ]
    assert all(window.duration_s <= MAX_WINDOW_S for window in windows)
    assert [window.index for window in windows] == list(range(len(windows)))
    for window in windows:
        gaps = [b.source_sample - a.source_sample - a.n_samples for a, b in pairwise(window.pieces)]
        assert all(gap <= MAX_GAP_S * SAMPLE_RATE_HZ for gap in gaps)
        assert len(window.samples) == sum(piece.n_samples for piece in window.pieces)
