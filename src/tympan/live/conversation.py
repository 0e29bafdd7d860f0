"""One session's audio on its way to events, on one thread: nothing here waits, and the time is an argument."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from tympan.audio.condition import ConditionMeter
from tympan.audio.vad import SpeechDetector
from tympan.batching.queue import Origin
from tympan.domain import SAMPLE_RATE_HZ, Abilities, Lane, Options, Provenance, Samples, Span, Timestamps
from tympan.live.context import placed
from tympan.live.draft import Draft
from tympan.live.ear import Ear, Utterance
from tympan.live.events import Cause, Committed, Ended, Event, Lost, SpeechStarted, SpeechStopped
from tympan.live.finals import Finals, Work
from tympan.live.options import LiveLimits, LiveOptions
from tympan.live.pace import Pace
from tympan.live.record import Record
from tympan.observation import MediaFacts, Observation, observed
from tympan.pipeline.decoding import Decoding, WindowService
from tympan.pipeline.request import RequestContext
from tympan.pipeline.sampling import Sampler

BEHIND_S = 0.5
"""With more audio than this unheard, or more than one final waiting, a session has to catch up: no partials then."""

_FACTS = MediaFacts("live")
"""What came over the line has been unpacked on the way here."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a session's work is done: windows are answered by ``service``, speech is found by ``detector``.

    A ``sampler`` is told of the windows whose text is final.
    """

    service: WindowService
    detector: SpeechDetector
    sampler: Sampler | None = None


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the caller wants: the text's options, the way of listening, and its limits."""

    options: Options
    live: LiveOptions
    limits: LiveLimits


@dataclass(frozen=True, slots=True)
class LiveStats:
    """What a session has done.

    ``late_partials`` were due but left out, because session or engine were behind. ``ahead`` utterances were decoded
    while a pause might still end them; ``ahead_in_vain`` of them went on.
    """

    utterances: int = 0
    partials: int = 0
    late_partials: int = 0
    finals: int = 0
    ahead: int = 0
    ahead_in_vain: int = 0


class Conversation:
    """Hears, asks, tells."""

    def __init__(self, desk: Desk, wishes: Wishes, context: RequestContext, emit: Callable[[Event], None]) -> None:
        """Start with nothing heard; ``emit`` takes the events."""
        self._service = desk.service
        info = desk.service.info
        self._can = info.can if info else Abilities()
        self._options = wishes.options
        # Without the times of words, what was said before cannot be told from what is said now.
        self._live = wishes.live if self._can.word_times else replace(wishes.live, context_s=0.0)
        self._emit = emit
        self._ear = Ear(desk.detector, self._live)
        self._pace = Pace(wishes.live.partial_every_s)
        # Finals and partials are two requests to the queue: who has had less goes first, and that is the finals.
        self._glance = Origin(f"{context.request_id}/partial", context.tenant, Lane.LIVE, trace=context.trace)
        listening = replace(context, lane=Lane.LIVE)
        make = partial(Decoding, desk.service, context=listening, sampler=desk.sampler)
        timed = replace(wishes.options, timestamps=Timestamps.WORD) if self._live.context_s else wishes.options
        self._finals = Finals(make, timed, wishes.limits.engine_s)
        self._record = Record(wishes.options, *((info.model, info.provenance) if info else ("", Provenance())))
        self._condition = ConditionMeter()
        self._draft: Draft | None = None
        self._seed: Draft | None = None
        self._finished = False
        self.ended = False
        self.stats = LiveStats()

    @property
    def needed_from(self) -> int:
        """The oldest sample that is still needed."""
        oldest = self._finals.oldest_sample
        return self._ear.kept_from if oldest is None else min(oldest, self._ear.kept_from)

    @property
    def waits(self) -> bool:
        """Whether something is with the engine."""
        ahead = self._finals.ahead is not None and not self._finals.ahead.done
        return ahead or self._finals.pending > 0 or (self._draft is not None and self._draft.busy)

    def hear(self, samples: Samples) -> None:
        """Take the next samples."""
        for utterance in self._ear.push(samples):
            self._close(utterance)
        self._begin()
        self._ear.forget()

    def commit(self) -> None:
        """End the utterance that goes on."""
        ended = self._ear.commit()
        for utterance in ended:
            self._close(utterance)
        at_s = self._ear.heard_samples / SAMPLE_RATE_HZ
        self._emit(Committed(at_s, ended[-1].number if ended else None))

    def finish(self) -> None:
        """End the audio."""
        for utterance in self._ear.finish():
            self._close(utterance)
        self._finished = True

    def advance(self, now_s: float, behind_s: float) -> None:
        """Act on replies that are there and ask for what is due; ``behind_s`` of audio have not been heard yet.

        Raises what ends the session: an engine that is gone for too long, or options it cannot honour.
        """
        self._collect(now_s)
        for work in self._finals.advance(now_s):
            self._tell(work)
        self._look(now_s, behind=behind_s > BEHIND_S or self._finals.pending > 1)
        for work in self._finals.advance(now_s):
            self._tell(work)
        if self._finished and not self._finals.pending and not self.ended:
            self.ended = True
            self._emit(Ended(self._record.transcript(self._ear.heard_samples, self._ear.speech_samples)))

    def observation(self) -> Observation | None:
        """Return what is noted of the session so far; ``None`` while no utterance has its text."""
        if not self.stats.finals:
            return None
        transcript = self._record.transcript(self._ear.heard_samples, self._ear.speech_samples)
        return observed("live", transcript, self._condition.condition(_FACTS))

    def abandon(self) -> None:
        """Withdraw whatever is under way."""
        self._finals.abandon()
        if self._draft is not None:
            self._draft.abandon()

    def _begin(self) -> None:
        """Take note when somebody has begun to speak."""
        span = self._ear.open
        if span is not None and self._draft is None:
            self._start(self._ear.number, span)

    def _start(self, number: int, span: Span) -> Draft:
        known = self._seed.cut_off(span.start_sample) if self._seed is not None else None
        self._draft, self._seed = Draft(number, self._options, self._can, known), None
        self.stats = replace(self.stats, utterances=self.stats.utterances + 1)
        self._emit(SpeechStarted(number, span.start_sample / SAMPLE_RATE_HZ))
        return self._draft

    def _close(self, utterance: Utterance) -> None:
        draft = self._draft or self._start(utterance.number, utterance.span)
        draft.abandon()
        self._draft, self._seed = None, draft if utterance.cause is Cause.LENGTH else None
        self._emit(SpeechStopped(utterance.number, utterance.span.end_sample / SAMPLE_RATE_HZ, utterance.cause))
        self._finals.take(utterance, self._work(utterance.number, utterance.span))
        self._ear.remember(utterance)

    def _work(self, number: int, span: Span) -> Work:
        window, context = self._ear.window_in_context(number, span)
        return Work(self._ear.window(number, span), window, context)

    def _look(self, now_s: float, *, behind: bool) -> None:
        """Have the utterance that goes on decoded: with all care when it has paused, quickly when it has grown."""
        draft, span = self._draft, self._ear.open
        if draft is None or span is None:
            return
        pause = self._ear.pause
        ahead = self._finals.ahead
        if ahead is not None and (pause is None or pause.end_sample != ahead.window.end_sample):
            self._finals.give_up()
            self.stats = replace(self.stats, ahead_in_vain=self.stats.ahead_in_vain + 1)
        elif ahead is not None:
            self._show(draft, ahead)
            return
        if pause is not None and not behind and self._is_quick:
            self._finals.expect(self._work(draft.number, pause))
            self.stats = replace(self.stats, ahead=self.stats.ahead + 1)
        elif self._live.partials and draft.due(span, self._ear.heard_samples, self._pace):
            self._glimpse(draft, span, now_s, behind=behind)

    @property
    def _is_quick(self) -> bool:
        """Whether the engine can afford to decode what may turn out to be in vain."""
        return self._pace.every_s <= 2.0 * self._live.partial_every_s

    def _glimpse(self, draft: Draft, span: Span, now_s: float, *, behind: bool) -> None:
        window = self._ear.window(draft.number, draft.reach(span, self._ear.heard_samples))
        if behind or not draft.ask(self._service, self._glance, window, self._finals.language, now_s):
            draft.skip(window.end_sample)
            self.stats = replace(self.stats, late_partials=self.stats.late_partials + 1)

    def _show(self, draft: Draft, ahead: Work) -> None:
        """Tell what was decoded ahead, if it is there: most likely it is the final."""
        if ahead.done and not ahead.told and self._live.partials:
            ahead.told = True
            own = self._finals.own_parts(ahead) or ()
            if any(draft.settle(placed(window, result.words)) for window, result in own):
                self._partial(draft)

    def _collect(self, now_s: float) -> None:
        draft = self._draft
        if draft is not None and draft.collect(now_s, self._pace.answered):
            self._partial(draft)

    def _partial(self, draft: Draft) -> None:
        self.stats = replace(self.stats, partials=self.stats.partials + 1)
        self._emit(draft.partial)

    def _tell(self, work: Work) -> None:
        utterance = work.utterance
        if utterance is None:
            raise RuntimeError("Only an utterance that has ended can be told of.")
        number, span = utterance.number, utterance.span
        if work.failure is not None:
            start_s, end_s = span.start_sample / SAMPLE_RATE_HZ, span.end_sample / SAMPLE_RATE_HZ
            self._emit(Lost(number, start_s, end_s, work.failure))
            return
        self.stats = replace(self.stats, finals=self.stats.finals + 1)
        self._condition.hear(work.alone.samples)
        self._emit(self._record.add(number, span, work.parts, work.languages, work.stats))
