"""A session's audio on its way to utterances: where they start, pause and end. Memory is bounded by their length."""

from dataclasses import dataclass, replace

from tympan.audio.vad import SpeechDetector
from tympan.audio.windows import SampleBuffer
from tympan.domain import SAMPLE_RATE_HZ, Samples, Span, Window
from tympan.live.context import Past, packed
from tympan.live.events import Cause
from tympan.live.options import LiveOptions


@dataclass(frozen=True, slots=True)
class Utterance:
    """A stretch of the session that is decoded as one, with the reason why it ended there."""

    number: int
    span: Span
    cause: Cause


class Ear:
    """Samples in, utterances out. Positions count from the session's first sample."""

    def __init__(self, detector: SpeechDetector, options: LiveOptions) -> None:
        """Start at sample 0."""
        turns = options.turns
        self._stream = detector.stream(turns.vad if turns else None, options.max_utterance_s)
        self._keep_all = turns is None
        self._buffer = SampleBuffer()
        prefix = round(turns.prefix_padding_ms * SAMPLE_RATE_HZ / 1000) if turns else 0
        pad = round(turns.vad.speech_pad_ms * SAMPLE_RATE_HZ / 1000) if turns else 0
        self._earlier = max(0, prefix - pad)
        self._longest = round(options.max_utterance_s * SAMPLE_RATE_HZ)
        self._past = Past(options.context_s)
        self._number = 0
        self._ended = 0

    @property
    def heard_samples(self) -> int:
        """Samples pushed so far."""
        return self._buffer.end_sample

    @property
    def speech_samples(self) -> int:
        """How many of them were speech in utterances that have ended."""
        return self.heard_samples if self._keep_all else min(self._stream.speech_samples, self.heard_samples)

    @property
    def kept_from(self) -> int:
        """The oldest sample that a later utterance may still need."""
        return min(self.heard_samples, max(self._ended, self._stream.settled_sample - self._earlier))

    @property
    def number(self) -> int:
        """Number of the utterance that goes on, or of the next one."""
        return self._number

    @property
    def open(self) -> Span | None:
        """The utterance that goes on, as it is if only silence follows; its end may lie beyond what was heard."""
        span = self._stream.open_span
        return None if span is None else self._widened(span)

    @property
    def pause(self) -> Span | None:
        """The utterance that goes on, once it has been silent for so long that silence will not change it any more."""
        span = None if self._keep_all else self.open
        return span if span is not None and span.end_sample <= self.heard_samples else None

    def push(self, samples: Samples) -> list[Utterance]:
        """Take the next samples; return the utterances that they end."""
        self._buffer.push(samples)
        return self._end(self._stream.push(samples), None)

    def commit(self) -> list[Utterance]:
        """End the utterance that goes on; return it, or nothing when there is none."""
        return self._end(self._stream.settle(), Cause.COMMIT)

    def finish(self) -> list[Utterance]:
        """End the audio; return the utterance that it ends, if any."""
        return self._end(self._stream.finish(), Cause.END)

    def window(self, number: int, span: Span) -> Window:
        """Return what was heard of ``span``, as far as it has been heard, and nothing else."""
        return packed(number, [span], self._buffer)

    def window_in_context(self, number: int, span: Span) -> tuple[Window, tuple[int, ...]]:
        """Return ``span`` behind the utterances before it, as far as they help, and the numbers of these."""
        before = self._past.before(span)
        return packed(number, [*before.values(), span], self._buffer), tuple(before)

    def forget(self) -> None:
        """Drop what no utterance needs any more, not even as context."""
        self._buffer.forget(min(self.kept_from, self._past.first_sample(self.heard_samples)))

    def _end(self, spans: list[Span], cause: Cause | None) -> list[Utterance]:
        ended: list[Utterance] = []
        following = self._stream.open_span
        starts = [span.start_sample for span in (*spans[1:], *((following,) if following else ()))]
        for found in spans:
            # Only where one was cut for its length does the next begin right behind it.
            is_cut = found.end_sample in starts
            why = cause or (Cause.LENGTH if is_cut else Cause.SILENCE)
            utterance = Utterance(self._number, self._widened(found), why)
            ended.append(utterance)
            self._ended = found.end_sample
            self._number += 1
        return ended

    def remember(self, utterance: Utterance) -> None:
        """Keep an utterance that has ended as context of the following ones."""
        self._past.add(utterance.number, utterance.span)

    def _widened(self, span: Span) -> Span:
        """Return ``span`` with the rest of the padding before it, as far as no other utterance has it."""
        earliest = max(span.start_sample - self._earlier, span.end_sample - self._longest, self._ended)
        return replace(span, start_sample=min(earliest, span.start_sample))
