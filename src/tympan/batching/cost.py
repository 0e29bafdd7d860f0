"""What a batch will take, learned from the batches that ran. Pure: no clock, no thread, no I/O."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tympan.domain import MAX_WINDOW_S, DecodeParams

DEFAULT_BATCH_MS = 20.0
"""First guess of what a batch costs before any audio, in milliseconds."""

DEFAULT_MS_PER_AUDIO_S = 30.0
"""First guess of what a second of audio costs, in milliseconds."""

_STEP = 0.3
_TYPICAL_S = 10.0
_MAX_FITS = 32
_MAX_SURPRISE = 4.0

_FitKey: TypeAlias = tuple[int, float, bool]


def paid_s(params: DecodeParams, durations_s: Sequence[float]) -> float:
    """Return the seconds of audio to pay for: the windows' own, or 30 s each when the full context is asked for."""
    return MAX_WINDOW_S * len(durations_s) if params.full_context else sum(durations_s)


@dataclass(slots=True)
class _Line:
    """``ms = constant + slope * seconds paid``, corrected a step towards each observation."""

    constant_ms: float = DEFAULT_BATCH_MS
    slope_ms: float = DEFAULT_MS_PER_AUDIO_S
    seen: bool = False

    def predict_ms(self, seconds: float) -> float:
        return self.constant_ms + self.slope_ms * seconds

    def observe(self, seconds: float, ms: float) -> None:
        if not self.seen:
            # The first batch tells how fast the machine is: scale both terms, keep their proportion.
            ratio = max(ms, 0.01) / self.predict_ms(seconds)
            self.constant_ms *= ratio
            self.slope_ms *= ratio
            self.seen = True
            return
        # A hiccup of the machine is no news about its speed; a real change shows again at once.
        expected_ms = self.predict_ms(seconds)
        bounded_ms = min(max(ms, expected_ms / _MAX_SURPRISE), expected_ms * _MAX_SURPRISE)
        scaled = seconds / _TYPICAL_S
        gain = _STEP * (bounded_ms - expected_ms) / (1.0 + scaled * scaled)
        # Neither term alone can cost more than the whole batch did.
        self.constant_ms = min(max(0.0, self.constant_ms + gain), bounded_ms)
        self.slope_ms = min(max(0.0, self.slope_ms + gain * scaled / _TYPICAL_S), bounded_ms / seconds)


class CostModel:
    """Predicted batch times in milliseconds, one line per way of decoding.

    It starts from defaults and follows the machine from the first observed batch on.
    """

    def __init__(self) -> None:
        """Start with the default guesses."""
        self._lines: OrderedDict[_FitKey, _Line] = OrderedDict()
        self._ms_per_audio_s = DEFAULT_MS_PER_AUDIO_S
        self._observed = False

    @property
    def ms_per_audio_s(self) -> float:
        """Recent compute milliseconds per second of audio, over all kinds of batches."""
        return self._ms_per_audio_s

    def predict_ms(self, params: DecodeParams, durations_s: Sequence[float]) -> float:
        """Return the milliseconds a batch of windows of these lengths should take."""
        line = self._lines.get(_fit_key(params)) or self._nearest()
        return line.predict_ms(paid_s(params, durations_s))

    def observe(self, params: DecodeParams, durations_s: Sequence[float], ms: float) -> None:
        """Learn from a batch that took ``ms`` milliseconds of compute."""
        key = _fit_key(params)
        line = self._lines.pop(key, None)
        if line is None:
            near = self._nearest()
            line = _Line(near.constant_ms, near.slope_ms)
        line.observe(paid_s(params, durations_s), ms)
        self._lines[key] = line
        while len(self._lines) > _MAX_FITS:
            self._lines.popitem(last=False)
        self._follow(sum(durations_s), ms)

    def _follow(self, audio_s: float, ms: float) -> None:
        if audio_s <= 0.0:
            return
        rate = ms / audio_s
        step = 0.2 if self._observed else 1.0
        self._ms_per_audio_s += step * (rate - self._ms_per_audio_s)
        self._observed = True

    def _nearest(self) -> _Line:
        return next(reversed(self._lines.values())) if self._lines else _Line()


def _fit_key(params: DecodeParams) -> _FitKey:
    sampled = params.temperature > 0.0
    return (params.best_of if sampled else params.beam_size, float(sampled), params.align)
