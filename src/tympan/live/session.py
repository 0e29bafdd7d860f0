"""A live session: feed it samples as they come, read events as they happen."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Self

import numpy as np

from tympan import telemetry
from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, WindowResult, WindowTask
from tympan.engine.base import EngineInfo
from tympan.errors import Cancelled, InvalidRequest, RequestTimeout, TympanError
from tympan.live.conversation import Conversation, Desk, LiveStats, Wishes
from tympan.live.events import Event
from tympan.live.first_text import FirstText
from tympan.live.inbox import Inbox, Mark, finished
from tympan.live.options import LiveLimits, LiveOptions
from tympan.live.outbox import Outbox
from tympan.pipeline import RequestContext, Transcriber, check_options
from tympan.pipeline.decoding import WindowService

_STEP_SAMPLES = SAMPLE_RATE_HZ // 10
_NAP_S = 0.25
_JOIN_S = 5.0
_SPARE_S = 2.0
_LOG = telemetry.get_logger(__name__)

Clock = Callable[[], float]


class LiveSession:
    """One speaker's audio, turned into text while it is spoken. Every method may be called from any thread.

    A session has a thread of its own and asks the engine on the live lane. It holds a bounded amount of audio and of
    events: who sends faster than the engine transcribes is made to wait or refused, and no audio that was accepted is
    lost. Partials are what a slow engine leaves out first. Use it in a ``with`` statement, or ``close`` it.
    """

    def __init__(
        self,
        transcriber: Transcriber,
        options: Options,
        context: RequestContext,
        live: LiveOptions | None = None,
        limits: LiveLimits | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        """Start listening. ``clock`` gives the seconds by which limits of waiting count.

        ``context`` bounds the audio (``max_audio_s``), and its ``cancel`` and ``deadline`` end the session. Speech
        detection follows ``live``, not ``options.vad``. Raises ``UnsupportedLanguage``, ``UnsupportedOption``, and
        ``ValueError`` where ``limits`` leave no room for what ``live`` allows.
        """
        check_options(options, transcriber.info)
        live, limits = live or LiveOptions(), limits or LiveLimits()
        if limits.max_held_s < live.max_utterance_s + _SPARE_S:
            raise ValueError("A session has to be able to hold its longest utterance, and some audio after it.")
        self._clock = clock
        self._context = context
        self._idle_s = limits.idle_s
        self._inbox = Inbox(limits.max_held_s, context.max_audio_s, clock)
        self._outbox = Outbox(limits.max_events, limits.reader_s, clock)
        self._transcriber = transcriber
        self._wishes = Wishes(options, live, limits)
        self._closing = threading.Event()
        self._conversation: Conversation | None = None
        self._thread = threading.Thread(target=self._run, name=f"live-{context.request_id}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """Return the session."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Close the session."""
        self.close()

    @property
    def stats(self) -> LiveStats:
        """What was done so far."""
        conversation = self._conversation
        return LiveStats() if conversation is None else conversation.stats

    @property
    def held_s(self) -> float:
        """Seconds of audio that were fed and are not settled yet."""
        return self._inbox.held_samples / SAMPLE_RATE_HZ

    @property
    def dropped_partials(self) -> int:
        """Partials that a newer one took the place of before they were read, or for which there was no room."""
        return self._outbox.dropped

    @property
    def fed_s(self) -> float:
        """Seconds of audio that were fed."""
        return self._inbox.fed_samples / SAMPLE_RATE_HZ

    @property
    def alive(self) -> bool:
        """Whether the session still works; events may be left to read when it does not."""
        return self._thread.is_alive()

    def feed(self, samples: Samples, timeout_s: float = 0.0) -> None:
        """Take the next samples, all or none; wait up to ``timeout_s`` for room.

        Raises ``Overloaded`` when there is no room: the samples may be fed again. ``InvalidRequest`` for anything but
        mono 16-bit samples, ``TooLarge`` for more than the session can ever hold, ``TooLong`` at the greatest length
        of a session, ``Conflict`` after ``finish``, ``Cancelled`` after ``close``, and what the session failed with.
        """
        if samples.dtype != np.int16 or samples.ndim != 1:
            raise InvalidRequest("Live audio has to be mono 16-bit samples at 16 kHz.")
        if len(samples):
            self._inbox.put(samples.copy(), timeout_s)

    def commit(self) -> None:
        """End the utterance that goes on, if there is one, as if a pause had come; ``Committed`` says whether.

        At most 64 commits wait: then it raises ``Overloaded``.

        Raises as ``feed`` does.
        """
        self._inbox.mark(Mark.COMMIT)

    def finish(self) -> None:
        """Say that all audio was sent: the rest is decoded, and the last event is ``Ended``. Raises as ``feed``."""
        self._inbox.mark(Mark.FINISH)

    def events(self) -> Iterator[Event]:
        """Yield events as they happen, until the session is over; raise what it failed with."""
        while (event := self._outbox.take(None)) is not None:
            yield event

    def next_event(self, timeout_s: float) -> Event | None:
        """Return the next event, or ``None`` after ``timeout_s`` seconds or when none follow; see ``over``."""
        return self._outbox.take(timeout_s)

    @property
    def over(self) -> bool:
        """Whether every event was read and none follow."""
        return self._outbox.over

    def subscribe(self, tell: Callable[[], None]) -> None:
        """Call ``tell`` when there may be something to read; it runs on the session's thread and returns at once."""
        self._outbox.subscribe(tell)

    def close(self) -> None:
        """End the session at once: what is under way is withdrawn, and no more events come. May be called again."""
        reason = Cancelled("The session was closed.")
        self._closing.set()
        self._inbox.close(reason)
        self._outbox.close(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_S)

    # What follows runs on the session's thread.

    def _run(self) -> None:
        telemetry.request_id.set(self._context.request_id)
        failure: TympanError | None = None
        try:
            # The model is loaded first where it has to be, and stays: audio is taken meanwhile.
            with self._transcriber.held(replace(self._context, cancel=self._closing)) as transcriber:
                self._talk(transcriber)
        except TympanError as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may be left waiting
            _LOG.error("live_session_failed", **telemetry.crash_report(error))
            failure = TympanError()
        finally:
            self._inbox.close(failure or finished())
            self._outbox.close(failure)

    def _talk(self, transcriber: Transcriber) -> None:
        check_options(self._wishes.options, transcriber.info)
        desk = Desk(_Waking(transcriber.service, self._inbox.wake), transcriber.detector, transcriber.sampler)
        inner = replace(self._context, cancel=self._closing, deadline=None)
        conversation = self._conversation = Conversation(
            desk, self._wishes, inner, FirstText(self._outbox.put, self._clock)
        )
        self._inbox.touch()
        try:
            while not conversation.ended and not self._closing.is_set():
                self._step(conversation)
        finally:
            conversation.abandon()
            if transcriber.observer is not None and (noted := conversation.observation()) is not None:
                transcriber.observer(noted)

    def _step(self, conversation: Conversation) -> None:
        """Take what comes next, and act on it."""
        self._context.check()
        item = self._inbox.take(_STEP_SAMPLES, _NAP_S)
        if item is Mark.COMMIT:
            conversation.commit()
        elif item is Mark.FINISH:
            conversation.finish()
        elif item is not None:
            conversation.hear(item)
        conversation.advance(self._clock(), self._inbox.waiting_samples / SAMPLE_RATE_HZ)
        self._inbox.release(conversation.needed_from)
        if conversation.waits:
            self._inbox.touch()
        elif self._inbox.idle_s > self._idle_s and not self._inbox.finished:
            raise RequestTimeout(f"No audio has come for {self._idle_s:g} s.", remedy="Finish sessions that are over.")


class _Waking:
    """A window service that wakes the session when a reply is there."""

    def __init__(self, service: WindowService, wake: Callable[[], None]) -> None:
        self._service = service
        self._wake = wake

    @property
    def info(self) -> EngineInfo | None:
        return self._service.info

    @property
    def ready(self) -> bool:
        return self._service.ready

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        reply = self._service.submit(task, origin)
        reply.add_done_callback(lambda _: self._wake())
        return reply

    def stats(self) -> BatcherStats:
        return self._service.stats()
