"""A second model hears a share of the windows of live traffic again; how far the two texts differ is counted.

Who transcribes pays for a draw and for putting a window into a short queue; all else is done by a thread of its own. It
gives way: a window is heard again at a moment at which no caller's window waits for an engine, or not at all. Of the
text and the audio nothing is kept or logged.
"""

import queue
import random
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from typing import Protocol

from tympan import telemetry
from tympan.background import Background
from tympan.domain import Lane, Options, Task, Timestamps
from tympan.engine.base import EngineInfo
from tympan.errors import (
    Cancelled,
    Overloaded,
    RequestTimeout,
    TympanError,
    Unavailable,
    UnsupportedLanguage,
    UnsupportedOption,
)
from tympan.pipeline.checks import check_options
from tympan.pipeline.decoding import Decoding, WindowService
from tympan.pipeline.request import RequestContext
from tympan.pipeline.sampling import FinalWindow
from tympan.quality.scoring import Pair, count
from tympan.quality.second_opinions import amounts_of
from tympan.storage.ids import MEASURING_TENANT

MAX_WAITING = 4
"""Windows that wait to be heard again: at most 4 MB of samples."""

_JOIN_S = 5.0
_LOOK_S = 0.05
_WEIGHT = 0.1
_LOG = telemetry.get_logger(__name__)

_REASONS: tuple[tuple[type[TympanError], str], ...] = (
    (UnsupportedOption, "unsupported"),
    (UnsupportedLanguage, "unsupported"),
    (Overloaded, "busy"),
    (RequestTimeout, "late"),
    (Unavailable, "unavailable"),
)
"""What is no failure of the shadow model, but a reason to leave a window out."""


class ShadowService(WindowService, Protocol):
    """A loaded model, which knows its name."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...


class ShadowModel(Protocol):
    """The model that hears windows again: a slot."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def info(self) -> EngineInfo | None:
        """What the engine runs; ``None`` before the first time."""
        ...

    def hold(self, check: Callable[[], None]) -> AbstractContextManager[ShadowService]:
        """Have a model loaded inside the block: this one, or another that stands in."""
        ...


class Opinions(Protocol):
    """Where what was found is counted."""

    def count(self, kind: str, model: str, amounts: Mapping[tuple[str, str], int]) -> None:
        """Add amounts by feature and bin."""


@dataclass(frozen=True, slots=True)
class ShadowRules:
    """Which ``share`` of windows is heard again, and how long that may take.

    For ``patience_s`` it waits for a moment at which no caller is waiting; ``longest_s`` is the most for one window
    from then on, the time that the model takes to load included. ``draw`` gives numbers from 0 to 1.
    """

    share: float
    callers_wait: Callable[[], bool] = lambda: False
    patience_s: float = 30.0
    longest_s: float = 60.0
    draw: Callable[[], float] = field(default=random.random)


class Shadow:
    """The second model's desk; ``start`` it, and ``stop`` it before the models go."""

    def __init__(self, model: ShadowModel, opinions: Opinions, rules: ShadowRules) -> None:
        """Have ``model`` hear windows again, and ``opinions`` count what differs."""
        self._model, self._opinions, self._rules = model, opinions, rules
        self._waiting: queue.Queue[FinalWindow | None] = queue.Queue(MAX_WAITING)
        self._over = threading.Event()
        self._background = Background("shadow", self._run, _JOIN_S)

    def offer(self, found: FinalWindow) -> None:
        """Take a window, if chance says so and there is room; never waits and never fails."""
        # Translations of equal worth differ in most words, and golden sets have references of their own.
        if self._rules.draw() >= self._rules.share or found.options.task is not Task.TRANSCRIBE:
            return
        if found.tenant == MEASURING_TENANT or found.model == self._own_name:
            return
        try:
            self._waiting.put_nowait(replace(found, window=replace(found.window, levels=None)))
        except queue.Full:
            _book("full")

    def start(self) -> None:
        """Begin."""
        self._background.start()

    def stop(self) -> None:
        """Leave what waits, and withdraw what is with the engine."""
        self._over.set()
        with suppress(queue.Full):  # Then there is something to wake up for.
            self._waiting.put_nowait(None)
        self._background.stop()

    def hear(self, found: FinalWindow) -> None:
        """Hear a window again, and count what differs; takes as long as it takes, and never fails."""
        outcome = self._outcome(found)
        if outcome is not None:
            _book(outcome)

    @property
    def _own_name(self) -> str:
        return self._model.info.model if self._model.info else self._model.name

    def _run(self) -> None:
        while (found := self._waiting.get()) is not None and not self._over.is_set():
            self.hear(found)
            del found  # Its samples would stay until the next one comes.

    def _outcome(self, found: FinalWindow) -> str | None:
        """Hear a window again, and count; return what became of it, ``None`` at the end of the process."""
        try:
            return self._compare(found) if self._moment_comes() else "busy"
        except Cancelled:
            return None
        except TympanError as error:
            for kind, reason in _REASONS:
                if isinstance(error, kind):
                    return reason
            _LOG.warning("shadow_failed", model=self._model.name, code=error.code)
        except Exception as error:  # noqa: BLE001 (the thread has to live on)
            _LOG.error("shadow_failed", model=self._model.name, **telemetry.crash_report(error))
        return "failed"

    def _moment_comes(self) -> bool:
        """Wait until no caller's window waits for an engine; return whether that came to be in time."""
        until_s = time.monotonic() + self._rules.patience_s
        while self._rules.callers_wait():
            if time.monotonic() >= until_s:
                return False
            if self._over.wait(_LOOK_S):
                raise Cancelled
        return True

    def _compare(self, found: FinalWindow) -> str:
        """Count how far the text of ``found`` lies from what the shadow model hears. Raises what keeps it from that."""
        context = RequestContext(
            "shadow",
            MEASURING_TENANT,
            Lane.BATCH,
            cancel=self._over,
            deadline=time.monotonic() + self._rules.longest_s,
            weight=_WEIGHT,
        )
        language = found.result.language or found.options.language
        with self._model.hold(context.check) as service:
            if service.name != self._model.name:
                return "unavailable"  # Another model stands in for it.
            options = _asked_again(found.options, language)
            check_options(options, service.info)
            text = _heard(service, found, options, context)
        counts = count(Pair(text, found.result.text, language or ""))
        self._opinions.count(_kind(found.lane), found.model, amounts_of(counts))
        telemetry.record_disagreement(found.model, counts)
        return "compared"


def _heard(service: WindowService, found: FinalWindow, options: Options, context: RequestContext) -> str:
    """Return what the model makes of a window by itself, with everything that a request gets."""
    decoding = Decoding(service, options, context)
    try:
        decoding.take(found.window)
        ((_, result),) = decoding.finish(0)
    except BaseException:
        decoding.abandon()
        raise
    return result.text


def _asked_again(options: Options, language: str | None) -> Options:
    """Return what was asked for, as far as it bears on the text; the language is no longer a question."""
    return replace(
        options,
        language=language,
        languages=(),
        multilingual=False,
        timestamps=Timestamps.NONE,
        diarize=False,
        speaker_turns=False,
        token_chances=False,
    )


def _kind(lane: Lane) -> str:
    """Return the way of asking, as transcriptions are counted."""
    return {Lane.LIVE: "live", Lane.INTERACTIVE: "call", Lane.BATCH: "job"}[lane]


def _book(outcome: str) -> None:
    telemetry.SHADOW_WINDOWS.labels(outcome).inc()
