"""Spans of speech packed into windows: pure.

Neighbouring spans share a window as long as it stays short enough, so that the engine sees sentences, not syllables,
and the silence between them is not paid for. A window remembers where each of its pieces came from.
"""

from collections.abc import Iterable

import numpy as np

from tympan.audio.stereo import LevelMeter
from tympan.domain import SAMPLE_RATE_HZ, Levels, Piece, Samples, Span, Window


class SampleBuffer:
    """The part of a source that can still become a span."""

    def __init__(self) -> None:
        """Start empty at sample 0."""
        self._samples: Samples = np.zeros(0, dtype=np.int16)
        self._first = 0

    @property
    def end_sample(self) -> int:
        """Samples pushed so far."""
        return self._first + len(self._samples)

    def push(self, samples: Samples) -> None:
        """Append the source's next samples."""
        self._samples = np.concatenate([self._samples, samples])

    def cut(self, span: Span) -> Samples:
        """Return a copy of the samples of ``span`` as far as they exist."""
        return self._samples[span.start_sample - self._first : span.end_sample - self._first].copy()

    def forget(self, before_sample: int) -> None:
        """Drop the samples before ``before_sample``; no span will ask for them."""
        drop = min(len(self._samples), max(0, before_sample - self._first))
        self._samples = self._samples[drop:]
        self._first += drop


class WindowPacker:
    """Spans in, windows out, in order."""

    def __init__(self, max_window_s: float, max_gap_s: float, meter: LevelMeter | None = None) -> None:
        """Pack to at most ``max_window_s`` seconds; a silence over ``max_gap_s`` always starts a new window.

        With a ``meter`` windows know how loud both channels were.
        """
        self._meter = meter
        self._max_samples = int(max_window_s * SAMPLE_RATE_HZ)
        self._max_gap_samples = int(max_gap_s * SAMPLE_RATE_HZ)
        self._parts: list[tuple[Span, Samples]] = []
        self._levels: list[Levels] = []
        self._n_samples = 0
        self._n_windows = 0

    def add(self, spans: Iterable[Span], buffer: SampleBuffer) -> list[Window]:
        """Take the next spans; return the windows that they complete."""
        windows: list[Window] = []
        for span in spans:
            samples = buffer.cut(span)
            if not len(samples):
                continue
            if self._parts and not self._fits(span, len(samples)):
                windows.append(self._close())
            self._parts.append((span, samples))
            if self._meter is not None:
                self._levels.append(self._meter.cut(span))
            self._n_samples += len(samples)
        return windows

    def finish(self) -> list[Window]:
        """Return the last window, if there is one."""
        return [self._close()] if self._parts else []

    def _fits(self, span: Span, n_samples: int) -> bool:
        gap = span.start_sample - self._parts[-1][0].end_sample
        return self._n_samples + n_samples <= self._max_samples and gap <= self._max_gap_samples

    def _close(self) -> Window:
        pieces: list[Piece] = []
        at = 0
        for span, samples in self._parts:
            pieces.append(Piece(at, span.start_sample, len(samples)))
            at += len(samples)
        joined = np.concatenate([samples for _, samples in self._parts])
        peak = max(span.peak for span, _ in self._parts)
        levels = np.concatenate(self._levels) if self._levels else None
        window = Window(self._n_windows, joined, tuple(pieces), peak, levels)
        self._parts, self._levels, self._n_samples = [], [], 0
        self._n_windows += 1
        return window
