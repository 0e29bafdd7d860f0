"""The utterance that goes on: what it seems to say so far, looked at again and again."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from tympan import fallback
from tympan.batching.queue import Origin
from tympan.domain import SAMPLE_RATE_HZ, Abilities, Options, Span, Window, WindowResult, WindowTask, Word
from tympan.errors import Overloaded, TympanError, Unavailable
from tympan.live.agreement import Agreement
from tympan.live.events import Partial
from tympan.live.pace import Pace
from tympan.pipeline.decoding import WindowService

LONGEST_LOOK_S = 10.0
"""When an utterance has grown beyond, only the audio since some stable word is looked at."""

OVERLAP_S = 3.0
"""How much of what is already stable is then looked at again, so that the words after it are heard in context."""

_LEAD_S = 0.1
_FIRST_LOOK_S = 0.5


@dataclass(frozen=True, slots=True)
class _Look:
    """A window under way, from ``from_s`` of the session on."""

    window: Window
    reply: Future[WindowResult]
    asked_s: float


class Draft:
    """One utterance, from its first sound to its end."""

    def __init__(self, number: int, options: Options, can: Abilities, known: Agreement | None = None) -> None:
        """Start with what is ``known`` from the utterance that this one was cut off from; the model ``can`` so much."""
        self.number = number
        self._options = fallback.within(
            replace(options, beam_size=1, temperature_fallback=False, token_chances=False), can
        )
        self._timed = can.word_times
        self._agreement = known or Agreement()
        self._look: _Look | None = None
        self._from: int | None = None
        self._seen = 0

    @property
    def partial(self) -> Partial:
        """What is known now."""
        return Partial(self.number, self._agreement.words, self._agreement.n_stable)

    @property
    def busy(self) -> bool:
        """Whether a look is under way."""
        return self._look is not None

    def due(self, span: Span, heard: int, pace: Pace) -> bool:
        """Tell whether there is enough new audio for another look."""
        new = heard - max(self._seen, span.start_sample)
        wanted_s = pace.every_s if self._seen else max(pace.every_s, _FIRST_LOOK_S)
        return self._look is None and new >= wanted_s * SAMPLE_RATE_HZ

    def reach(self, span: Span, heard: int) -> Span:
        """Return the part of the utterance that the next look takes."""
        start = max(span.start_sample, self._from or 0)
        if self._timed and heard - start > LONGEST_LOOK_S * SAMPLE_RATE_HZ:
            anchor_s = self._agreement.anchor_s(OVERLAP_S)
            if anchor_s is not None:
                start = max(start, round((anchor_s - _LEAD_S) * SAMPLE_RATE_HZ))
        self._from = start
        return replace(span, start_sample=start, end_sample=heard)

    def ask(self, service: WindowService, origin: Origin, window: Window, language: str | None, now_s: float) -> bool:
        """Have ``window`` decoded quickly; return false when the engine has no room for it."""
        params = replace(fallback.first_attempt(self._options, language), align=self._timed)
        self.skip(window.end_sample)
        try:
            reply = service.submit(WindowTask(window, params), origin)
        except (Overloaded, Unavailable):
            return False
        self._look = _Look(window, reply, now_s)
        return True

    def skip(self, heard: int) -> None:
        """Take the audio up to ``heard`` as looked at: the next look waits for more."""
        self._seen = heard

    def collect(self, now_s: float, took: Callable[[float], None]) -> bool:
        """Take the reply, if it is there, and tell how long it ``took`` in seconds; return whether it was of use."""
        look = self._look
        if look is None or not look.reply.done():
            return False
        self._look = None
        took(now_s - look.asked_s)
        if isinstance(look.reply.exception(), TympanError):
            return False  # The utterance's final, which meets the same engine, tells of it if it lasts.
        return self.hear(look.window, look.reply.result())

    def hear(self, window: Window, result: WindowResult) -> bool:
        """Take note of what the engine made of a window of this utterance; return false when it is no use."""
        if fallback.is_loop(result, self._options) or fallback.is_silence(window, result, self._options):
            return False
        from_s = window.pieces[0].source_sample / SAMPLE_RATE_HZ
        words = result.words if self._timed else spread(result.text, window.duration_s)
        self._agreement.hear([_later(word, from_s) for word in words], from_s)
        return True

    def settle(self, words: Sequence[Word]) -> bool:
        """Take note of the whole utterance so far, decoded with all care; return false when nothing was said."""
        self._agreement.hear(words)
        return bool(words)

    def cut_off(self, cut_sample: int) -> Agreement:
        """Return what is known of the utterance that begins at ``cut_sample``, where this one was cut."""
        return self._agreement.after(cut_sample / SAMPLE_RATE_HZ)

    def abandon(self) -> None:
        """Withdraw the look under way."""
        if self._look is not None:
            self._look.reply.cancel()
            self._look = None


def spread(text: str, duration_s: float) -> tuple[Word, ...]:
    """Return the words of a text whose times nobody knows, as if they had been said evenly."""
    names = text.split()
    step_s = duration_s / max(1, len(names))
    return tuple(Word(f" {name}", at * step_s, (at + 1) * step_s, 0.0) for at, name in enumerate(names))


def _later(word: Word, by_s: float) -> Word:
    return replace(word, start_s=round(word.start_s + by_s, 3), end_s=round(word.end_s + by_s, 3))
