"""Utterances on their way to their settled text: decoded as a file is, told in their order."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tympan.domain import DecodeStats, Options, Ranking, Window, WindowResult, Word
from tympan.errors import Cancelled, InvalidRequest, Overloaded, RequestTimeout, TympanError, Unavailable
from tympan.live.context import placed, without_context
from tympan.live.ear import Utterance
from tympan.pipeline.ballot import Ballot
from tympan.pipeline.decoding import Decoding

MakeDecoding = Callable[[Options], Decoding]

_RETRY_S = 0.25
_KEPT = 64
"""Utterances whose words are kept for those after them; a window never holds as many."""


@dataclass(slots=True)
class Work:
    """A window that is decoded with everything a file would get. ``utterance`` is ``None`` as long as it may go on.

    ``window`` holds the utterances numbered ``context`` and then its own audio, which ``alone`` holds by itself.
    """

    alone: Window
    window: Window
    context: tuple[int, ...] = ()
    utterance: Utterance | None = None
    decoding: Decoding | None = None
    refused_s: float | None = None
    retry_s: float = 0.0
    done: bool = False
    told: bool = False
    parts: list[tuple[Window, WindowResult]] = field(default_factory=list)
    languages: Ranking = ()
    stats: DecodeStats = field(default_factory=DecodeStats)
    failure: TympanError | None = None


class Finals:
    """The works of one session. Nothing here waits: ``advance`` acts on what is there."""

    def __init__(self, make: MakeDecoding, options: Options, engine_s: float) -> None:
        """Start without works; an engine that takes no windows for ``engine_s`` seconds ends the session."""
        self._make = make
        self._options = options
        self._engine_s = engine_s
        self._ballot = Ballot(options.language)
        self._works: deque[Work] = deque()
        self._ahead: Work | None = None
        self._known: dict[int, Sequence[Word] | None] = {}

    @property
    def language(self) -> str | None:
        """The session's language, once it is known."""
        return self._ballot.language

    @property
    def pending(self) -> int:
        """Utterances that wait for their text."""
        return len(self._works)

    @property
    def oldest_sample(self) -> int | None:
        """Where the first of them starts; ``None`` without any."""
        return self._works[0].alone.pieces[0].source_sample if self._works else None

    @property
    def ahead(self) -> Work | None:
        """What is decoded ahead of its end."""
        return self._ahead

    def expect(self, work: Work) -> None:
        """Decode ahead what has paused, and will have ended if the pause lasts."""
        self.give_up()
        self._ahead = work

    def give_up(self) -> None:
        """Forget what was decoded ahead: the utterance goes on."""
        if self._ahead is not None and self._ahead.decoding is not None:
            self._ahead.decoding.abandon()
        self._ahead = None

    def take(self, utterance: Utterance, work: Work) -> None:
        """Decode an utterance that has ended, or go on with it where it was decoded ahead."""
        ahead = self._ahead
        if ahead is not None and ahead.window.pieces == work.window.pieces:
            work, self._ahead = ahead, None
        self.give_up()
        work.utterance = utterance
        self._works.append(work)

    def advance(self, now_s: float) -> list[Work]:
        """Act on replies that are there; return the utterances that are done, in order, each once.

        Raises ``Overloaded`` or ``Unavailable`` when the engine has refused windows for too long, and what the whole
        session is wrong with (``InvalidRequest`` and its kin).
        """
        for work in (*self._works, *([self._ahead] if self._ahead else [])):
            if not work.done:
                self._advance(work, now_s)
        done: list[Work] = []
        while self._works and self._works[0].done:
            work = self._works[0]
            parts = [] if work.failure is not None else self.own_parts(work)
            if parts is None:
                # What its context says is not known, or cannot be told apart: then without it.
                self._works[0] = Work(work.alone, work.alone, utterance=work.utterance)
                break
            work.parts = parts
            self._remember(work)
            done.append(self._works.popleft())
        return done

    def own_parts(self, work: Work) -> list[tuple[Window, WindowResult]] | None:
        """Return what a decoded work says beyond its context; ``None`` when that cannot be told (yet)."""
        if not work.context:
            return work.parts
        known = [self._known.get(number) for number in work.context]
        if None in known or any(result.text.strip() and not result.words for _, result in work.parts):
            return None
        words = [word for some in known if some for word in some]
        return [(window, without_context(window, result, words)) for window, result in work.parts]

    def abandon(self) -> None:
        """Withdraw everything."""
        self.give_up()
        for work in self._works:
            if work.decoding is not None:
                work.decoding.abandon()
        self._works.clear()

    def _remember(self, work: Work) -> None:
        """Keep an utterance's words for those that have it as context; ``None`` when they were lost."""
        if work.utterance is not None:
            said = [word for window, result in work.parts for word in placed(window, result.words)]
            self._known[work.utterance.number] = None if work.failure is not None else said
            while len(self._known) > _KEPT:
                del self._known[next(iter(self._known))]

    def _advance(self, work: Work, now_s: float) -> None:
        if now_s < work.retry_s:
            return
        try:
            if work.decoding is None:
                work.decoding = self._make(replace(self._options, language=self._ballot.language))
                work.decoding.take(work.window)
            if work.decoding.advance():
                self._settle(work)
        except (Overloaded, Unavailable) as refusal:
            self._refused(work, refusal, now_s)
        except (Cancelled, RequestTimeout, InvalidRequest):
            raise
        except TympanError as error:
            work.done, work.failure = True, error

    def _settle(self, work: Work) -> None:
        if work.decoding is None:
            raise RuntimeError("Only what was decoded can be settled.")
        work.parts = work.decoding.finish(0)
        work.languages = work.decoding.languages
        work.stats = work.decoding.stats
        work.done = True
        if not self._ballot.is_settled and work.languages and any(result.text for _, result in work.parts):
            self._ballot.add(work.languages)

    def _refused(self, work: Work, refusal: TympanError, now_s: float) -> None:
        """Try again later, with the audio as it is, until patience ends."""
        work.decoding = None
        work.retry_s = now_s + _RETRY_S
        work.refused_s = now_s if work.refused_s is None else work.refused_s
        if now_s - work.refused_s > self._engine_s:
            raise refusal
