"""Frame scores to spans of speech: pure, after Silero's own rules.

Speech starts at ``threshold`` and ends once the score has stayed 0.15 under it for ``min_silence_ms``; bursts shorter
than ``min_speech_ms`` are dropped, and a span gets ``speech_pad_ms`` on both sides, at most half of a gap.
A span that grows to the longest allowed length is cut where the score was lowest, so the cut falls into a breath.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tympan.domain import SAMPLE_RATE_HZ, Span, VadOptions

FRAME_SAMPLES = 512
"""Silero scores 32-ms frames at 16 kHz."""

_HYSTERESIS = 0.15
_CUT_FROM_SHARE = 0.5


def _frames(ms: float) -> int:
    return round(ms * SAMPLE_RATE_HZ / 1000 / FRAME_SAMPLES)


@dataclass(frozen=True, slots=True)
class _Run:
    """Frames ``[start, end)`` of speech; a joined side touches the neighbour, so it gets no padding."""

    start: int
    end: int
    peak: float
    joined_before: bool = False
    joined_after: bool = False


class _Runs:
    """Scores to runs: hysteresis, shortest silence, shortest speech, longest speech."""

    def __init__(self, options: VadOptions, max_frames: int, *, keep_all: bool) -> None:
        self._keep_all = keep_all
        self._threshold = options.threshold
        self._release = max(options.threshold - _HYSTERESIS, 0.01)
        self._min_speech = max(1, _frames(options.min_speech_ms))
        self._min_silence = max(1, _frames(options.min_silence_ms))
        self._max_frames = max_frames
        self._last_speech = 0
        self._joined = False
        self._scores: list[float] = []
        self.frame = 0
        self.start: int | None = None

    def step(self, score: float) -> _Run | None:
        """Take one frame's score; return the run that it ends, if any."""
        speaking = self._keep_all or score >= (self._threshold if self.start is None else self._release)
        if speaking:
            if self.start is None:
                self.start, self._joined, self._scores = self.frame, False, []
            self._last_speech = self.frame
        self.frame += 1
        if self.start is None:
            return None
        self._scores.append(score)
        if self.frame - 1 - self._last_speech >= self._min_silence:
            return self.end()
        return self._cut() if len(self._scores) >= self._max_frames else None

    @property
    def certain_start(self) -> int | None:
        """Where the open run starts; ``None`` when there is none or it is too short yet."""
        shortest = 1 if self._joined or self._keep_all else self._min_speech
        return None if self.start is None or self._last_speech + 1 - self.start < shortest else self.start

    def so_far(self) -> _Run | None:
        """Return the open run up to its last frame of speech; ``None`` as for ``certain_start``."""
        start = self.certain_start
        if start is None:
            return None
        return _Run(start, self._last_speech + 1, max(self._scores), joined_before=self._joined)

    def end(self) -> _Run | None:
        """Close the open run after its last frame of speech; ``None`` when there is none or it was too short."""
        run = self.so_far()
        self.start = None
        return run

    def _cut(self) -> _Run:
        """Cut the open run at the lowest score of its later half, and go on from there."""
        first = int(len(self._scores) * _CUT_FROM_SHARE)
        at = max(1, first + int(np.argmin(self._scores[first:])))
        start = self.start or 0
        run = _Run(start, start + at, max(self._scores[:at]), joined_before=self._joined, joined_after=True)
        self.start, self._joined, self._scores = start + at, True, self._scores[at:]
        return run


class SpanFinder:
    """Spans from scores. Memory is bounded by the longest span."""

    def __init__(self, options: VadOptions | None, max_span_s: float) -> None:
        """Look for speech by ``options``; without them all audio is kept and only cut to ``max_span_s``."""
        chosen = options or VadOptions(speech_pad_ms=0)
        self._pad = _frames(chosen.speech_pad_ms)
        longest = int(max_span_s * SAMPLE_RATE_HZ) // FRAME_SAMPLES - 2 * self._pad
        self._runs = _Runs(chosen, max(2, longest), keep_all=options is None)
        self._held: _Run | None = None
        self._held_start = 0
        self._emitted = 0
        self._speech_frames = 0

    @property
    def speech_samples(self) -> int:
        """Samples called speech so far, without padding."""
        return self._speech_frames * FRAME_SAMPLES

    @property
    def settled_sample(self) -> int:
        """No span still to come starts before this sample."""
        if self._held is not None:
            return self._held_start * FRAME_SAMPLES
        start = self._runs.frame if self._runs.start is None else self._runs.start
        return max(0, start - self._pad) * FRAME_SAMPLES

    @property
    def open_span(self) -> Span | None:
        """The span of the speech that goes on, as it is if no more follows; its end may lie beyond what was heard."""
        run = self._runs.so_far()
        if run is None:
            return None
        start = max(self._padded_start(run), self._held.end if self._held else 0, self._emitted)
        return Span(start * FRAME_SAMPLES, (run.end + self._pad) * FRAME_SAMPLES, run.peak)

    def push(self, scores: Iterable[float]) -> list[Span]:
        """Take the next frames' scores; return the spans that can no longer change."""
        spans: list[Span] = []
        for score in scores:
            run = self._runs.step(float(score))
            if run is not None:
                spans += self._hold(run)
            elif self._held is not None and self._is_certain(self._held):
                spans.append(self._emit(self._padded_end(self._held, self._runs.certain_start)))
        return spans

    def finish(self) -> list[Span]:
        """Close what is open, at the end of the audio or because the caller says so; more scores may follow."""
        run = self._runs.end()
        spans = self._hold(run) if run is not None else []
        if self._held is not None:
            spans.append(self._emit(min(self._held.end + self._pad, self._runs.frame)))
        return spans

    def _is_certain(self, run: _Run) -> bool:
        """Tell whether it is known how much of this run's padding a later one claims."""
        if self._runs.certain_start is not None:
            return True
        following = self._runs.frame if self._runs.start is None else self._runs.start
        return following - run.end >= 2 * self._pad

    def _padded_end(self, run: _Run, following: int | None) -> int:
        """Return where a run ends with its padding, at most half of the gap before the ``following`` one's start."""
        end = run.end + self._pad
        return end if following is None else min(end, (run.end + following) // 2)

    def _hold(self, run: _Run) -> list[Span]:
        """Hold ``run`` until its end is certain; return the span held before it."""
        self._speech_frames += run.end - run.start
        spans = [] if self._held is None else [self._emit(self._padded_end(self._held, run.start))]
        self._held, self._held_start = run, max(self._padded_start(run), self._emitted)
        if run.joined_after:
            spans.append(self._emit(run.end))
        return spans

    def _padded_start(self, run: _Run) -> int:
        return run.start if run.joined_before else run.start - self._pad

    def _emit(self, end: int) -> Span:
        peak = self._held.peak if self._held else 1.0
        self._held, self._emitted = None, end
        return Span(self._held_start * FRAME_SAMPLES, end * FRAME_SAMPLES, peak)
