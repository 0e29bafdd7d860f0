"""One request's windows on their way through the engine: handed over, decoded again where needed, put in order."""

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from typing import Protocol

from tympan import fallback, tracing
from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats
from tympan.domain import (
    SAMPLE_RATE_HZ,
    Abilities,
    DecodeParams,
    DecodeStats,
    LanguageUse,
    Options,
    Progress,
    Ranking,
    Window,
    WindowResult,
    WindowTask,
)
from tympan.engine.base import EngineInfo
from tympan.errors import Overloaded
from tympan.pipeline.ballot import Ballot
from tympan.pipeline.narrator import Narrator
from tympan.pipeline.request import RequestContext
from tympan.pipeline.sampling import FinalWindow, Sampler
from tympan.pipeline.speakers import told_apart

MAX_IN_FLIGHT = 16
"""Windows of one request that may wait or run at once; bounds its audio to about 15 MB."""

GATHERED_WINDOWS = 4
"""Windows that a request hands over together when it has none in the engine: one alone would make a poor batch."""

GATHER_S = 0.25
"""Once the first of them has waited longer, the next takes them along although they are few: the source is slow."""

_POLL_S = 0.05


class WindowService(Protocol):
    """Where windows are answered: the batcher."""

    @property
    def info(self) -> EngineInfo | None:
        """The loaded engine, or ``None`` while there is none."""
        ...

    @property
    def ready(self) -> bool:
        """Whether windows are being answered."""
        ...

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept one window. Raises ``Overloaded`` or ``Unavailable``."""
        ...

    def stats(self) -> BatcherStats:
        """What waits and runs."""
        ...


@dataclass(slots=True)
class _Attempt:
    """A window in the engine, with what it has given so far; ``reply`` is ``None`` when nothing is left to try."""

    window: Window
    params: DecodeParams
    reply: Future[WindowResult] | None
    results: list[WindowResult] = field(default_factory=list)


class Decoding:
    """One request's windows. Blocks its caller's thread only to wait for room and for the end."""

    def __init__(
        self,
        service: WindowService,
        options: Options,
        context: RequestContext,
        on_progress: Callable[[Progress], None] | None = None,
        *,
        only_language: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        """Start without windows; ``only_language``: decode no more than it takes to know the language.

        A ``sampler`` is told of every window whose text is final.
        """
        self._only_language = only_language
        self._sampler = sampler
        self._service = service
        self._options = fallback.within(options, service.info.can if service.info else Abilities())
        self._context = context
        self._on_progress = on_progress
        self._origin = Origin(
            context.request_id,
            context.tenant,
            context.lane,
            context.weight,
            context.is_wanted,
            context.trace or tracing.current(),
        )
        self._ballot = _ballot(options, service.info)
        self._narrator = Narrator(options, context.on_segments) if context.on_segments else None
        self._gathered: deque[Window] = deque()
        self._gathering_since_s = 0.0
        self._under_way: deque[_Attempt] = deque()
        self._done: dict[int, tuple[Window, WindowResult]] = {}
        self._done_samples = 0
        self._has_begun = False
        self.stats = DecodeStats()

    @property
    def language_is_settled(self) -> bool:
        """Whether the language is known."""
        return self._ballot.is_settled

    @property
    def languages(self) -> Ranking:
        """What is known of the language."""
        return self._ballot.ranking

    def take(self, window: Window) -> None:
        """Accept the next window; wait when too many are under way."""
        if not self._gathered:
            self._gathering_since_s = time.monotonic()
        self._gathered.append(window)
        if self._narrator is not None:
            self._narrator.expect(window)
        self._go_on(more=True)
        while len(self._gathered) + len(self._under_way) >= (1 if self._only_language else MAX_IN_FLIGHT):
            self._wait(more=True)

    def advance(self) -> bool:
        """Act on the replies that are there, without waiting; return whether every window taken so far is done."""
        self._go_on(more=False)
        return not (self._gathered or self._under_way)

    def finish(self, audio_samples: int) -> list[tuple[Window, WindowResult]]:
        """Wait for what is under way and return every window with its result, in order."""
        self._go_on(more=False)
        while self._gathered or self._under_way:
            self._wait(more=False)
        self._report(audio_samples, audio_samples)
        return [self._done[index] for index in sorted(self._done)]

    def abandon(self) -> None:
        """Withdraw whatever still waits."""
        for attempt in self._under_way:
            if attempt.reply is not None:
                attempt.reply.cancel()

    def _wait(self, *, more: bool) -> None:
        """Wait for some reply, and act on those that are there."""
        self._context.check()
        wait([attempt.reply for attempt in self._under_way if attempt.reply], _POLL_S, return_when=FIRST_COMPLETED)
        self._go_on(more=more)

    def _go_on(self, *, more: bool) -> None:
        """Act on replies that are there and hand windows over; ``more``: whether the source may have others."""
        for attempt in self._under_way:
            self._follow(attempt)
        while self._under_way and self._under_way[0].reply is None:
            self._keep(self._under_way.popleft())
        if not (more or self._gathered or self._under_way) and not self.language_is_settled:
            self._ballot.close()
            self._decode_outvoted()
        self._hand_over(more=more)
        if self._narrator is not None and self.language_is_settled:
            self._narrator.go_on(self._done, {attempt.window.index for attempt in self._under_way})

    def _hand_over(self, *, more: bool) -> None:
        if not self.language_is_settled:  # One after the other, since the first may know the language for all.
            if self._gathered and not self._under_way:
                self._start(self._gathered.popleft())
            return
        if self._only_language:
            self._gathered.clear()
        late = time.monotonic() - self._gathering_since_s > GATHER_S
        # Whoever hears of text as it comes has the first window alone: a batch of four takes four times as long.
        enough = 1 if self._narrator is not None and not self._has_begun else GATHERED_WINDOWS
        if self._under_way or not more or late or len(self._gathered) >= enough:
            while self._gathered:
                self._start(self._gathered.popleft())

    def _start(self, window: Window) -> None:
        params = fallback.first_attempt(self._options, self._ballot.language)
        params = replace(params, language_only=True) if self._only_language else params
        self._under_way.append(_Attempt(window, params, self._submit(window, params)))

    def _submit(self, window: Window, params: DecodeParams) -> Future[WindowResult]:
        """Hand a window over. A full queue refuses a new request, but makes one that has begun wait."""
        while True:
            try:
                reply = self._service.submit(WindowTask(window, params), self._origin)
            except Overloaded:
                if not self._has_begun:
                    raise
            else:
                self._has_begun = True
                return reply
            self._context.check()
            time.sleep(_POLL_S)

    def _follow(self, attempt: _Attempt) -> None:
        """Take a reply, if it is there, and decode the window again if the ladder says so."""
        if attempt.reply is None or not attempt.reply.done():
            return
        if attempt.reply.cancelled():  # Nobody waited for it; whoever came back since has it handed over again.
            self._context.check()
            attempt.reply = self._submit(attempt.window, attempt.params)
            return
        result = attempt.reply.result()
        attempt.results.append(result)
        attempt.reply = None
        if self._only_language:
            return  # There is no text that could be doubted.
        following = fallback.next_attempt(attempt.window, attempt.params, result, self._options)
        if following is not None:
            attempt.params = following
            attempt.reply = self._submit(attempt.window, following)

    def _keep(self, attempt: _Attempt) -> None:
        window = attempt.window
        result = told_apart(window, fallback.best_of(window, attempt.results, self._options))
        self._count(window, result, +1, len(attempt.results) - 1)
        if fallback.is_silence(window, result, self._options):
            result = replace(result, text="", tokens=(), words=(), speakers=(), token_chances=())
        self._done[window.index] = window, result
        if self.language_is_settled:
            self._let_go(window, result)
        self._done_samples = max(self._done_samples, window.end_sample)
        self._report(self._done_samples, None)
        undecided = not self.language_is_settled
        if undecided or self._options.multilingual:
            # What was decoded again had its language given: only the first attempt asked for it.
            self._ballot.add(attempt.results[0].language_probabilities)
        if undecided:
            self._decode_outvoted()

    def _decode_outvoted(self) -> None:
        """Once the language is settled, decode again what was decoded in another."""
        if self._only_language or not self.language_is_settled:
            return
        for window, result in list(self._done.values()):
            if result.language == self._ballot.language:
                self._let_go(window, result)
            else:
                self._count(window, result, -1, 1)
                self._start(window)

    def _let_go(self, window: Window, result: WindowResult) -> None:
        """Drop the samples of a window that is never decoded again: they would add up to the whole file."""
        if self._sampler is not None:
            model = self._service.info.model if self._service.info else ""
            self._sampler(FinalWindow(window, result, self._options, model, self._origin.tenant, self._origin.lane))
        self._done[window.index] = window.without_samples(), result

    def _count(self, window: Window, result: WindowResult, sign: int, fallbacks: int) -> None:
        """Book a window's result, or with ``sign=-1`` take it back because it is decoded again."""
        self.stats = replace(
            self.stats,
            windows=self.stats.windows + sign,
            fallbacks=self.stats.fallbacks + fallbacks,
            full_context=self.stats.full_context + sign * result.full_context,
            rejected=self.stats.rejected + sign * fallback.is_silence(window, result, self._options),
        )

    def _report(self, done_samples: int, total_samples: int | None) -> None:
        if self._on_progress is not None:
            total_s = None if total_samples is None else total_samples / SAMPLE_RATE_HZ
            self._on_progress(Progress(done_samples / SAMPLE_RATE_HZ, total_s))


def _ballot(options: Options, info: EngineInfo | None) -> Ballot:
    """Return how the language is found: given, the only one that the model knows, detected, or not at all."""
    if info is None or info.can.language is LanguageUse.DETECTS:
        return Ballot(options.language, is_told=not options.multilingual)
    only = info.languages[0] if len(info.languages) == 1 else None
    return Ballot(options.language or only, is_told=False)
