"""Who speaks when, heard while a recording is read: in few threads of low priority, shared by all requests.

The networks are loaded when somebody first asks for them. Nobody who does not ask waits for them or pays for them.
"""

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar

import numpy as np

from tympan.audio.stereo import ChannelJudge
from tympan.diarize.base import Voices
from tympan.diarize.clustering import Crowd
from tympan.diarize.known import Known, unpacked
from tympan.diarize.recording import Recording
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Turn
from tympan.pipeline.request import RequestContext

SURE_S = 30.0
"""Channels that do not tell speakers apart after so much of a recording have to share the work with voices."""

_AT_ONCE = 10 * SAMPLE_RATE_HZ
_LESS_PRIORITY = 5
"""A third of the time of a thread of the engine: at 10 a saturated machine hears slower than people speak."""

_POLL_S = 0.05

_Result = TypeVar("_Result")


class VoiceDesk:
    """Hears voices for all requests of a process. Safe to share between threads."""

    def __init__(self, load: Callable[[], Voices], threads: int = 1) -> None:
        """Hear with the networks that ``load`` returns, which is asked once; ``threads`` recordings at a time.

        Each call of a network should run in the thread that makes it, or it would have another priority.
        """
        self._load = load
        self._lock = threading.Lock()
        self._networks: Voices | None = None
        self._pool = ThreadPoolExecutor(threads, "voices", _lower_priority)

    @property
    def is_loaded(self) -> bool:
        """Whether the networks are in memory."""
        return self._networks is not None

    def close(self) -> None:
        """Take no more work; what runs is left to end by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def open(self, context: RequestContext) -> Recording:
        """Return a new recording. The first one waits for the networks, which may have to be fetched.

        Raises ``ModelUnavailable`` and its kin, ``InsufficientStorage``, ``Cancelled``, ``RequestTimeout``.
        """
        return Recording(self.networks(context))

    def networks(self, context: RequestContext) -> Voices:
        """Return the networks; the first one waits for them. Raises as ``open``."""
        return self._networks or patient(self.begin(self._loaded), context)

    def begin(self, work: Callable[[], _Result]) -> "Future[_Result]":
        """Do ``work`` in one of the threads; it may begin when earlier work has begun."""
        return self._pool.submit(work)

    def _loaded(self) -> Voices:
        with self._lock:
            self._networks = self._networks or self._load()
            return self._networks


class Ear:
    """Hears one recording piece by piece. At most 10 s of it wait beside what is being heard.

    With a ``judge`` it listens only if that one is not sure, after ``SURE_S``, that channels tell speakers apart.
    """

    def __init__(
        self, desk: VoiceDesk, options: Options, context: RequestContext, judge: ChannelJudge | None = None
    ) -> None:
        """Open the recording, unless a ``judge`` is to be asked first. Raises as ``VoiceDesk.open``."""
        self._desk, self._context, self._judge = desk, context, judge
        self._crowd = Crowd(options.min_speakers, options.max_speakers)
        self._known = tuple(Known(each.name, unpacked(each.voice)) for each in options.known_voices if each.voice)
        self._recording = None if judge else desk.open(context)
        self._decided = judge is None
        self._over = threading.Event()
        self._held: list[Samples] = []
        self._heard: Future[None] | None = None
        self._found: Future[list[Turn]] | None = None

    def push(self, samples: Samples) -> None:
        """Take the next samples; wait while too many do. Raises as ``VoiceDesk.open``."""
        self._held.append(samples)
        n_held = sum(map(len, self._held))
        if not self._decided and n_held >= SURE_S * SAMPLE_RATE_HZ:
            self._decide()
        if self._decided and n_held >= _AT_ONCE:
            self._hear()

    def end(self) -> None:
        """Take note that nothing follows; who spoke when is found out meanwhile. Raises as ``VoiceDesk.open``."""
        if not self._decided:
            self._decide()
        self._hear()
        if self._recording is not None:
            work = partial(self._recording.finish, self._crowd, self._over.is_set, self._known)
            self._found = self._desk.begin(partial(_after, self._heard, work))

    def turns(self, start_s: float) -> tuple[Turn, ...] | None:
        """Wait, and return who spoke when, the recording having begun at ``start_s``; ``None`` where channels tell.

        Raises ``Cancelled``, ``RequestTimeout``.
        """
        if self._found is None or (self._judge is not None and self._judge.tells_speakers):
            self.close()
            return None
        found = patient(self._found, self._context)
        return tuple(
            replace(turn, start_s=round(turn.start_s + start_s, 3), end_s=round(turn.end_s + start_s, 3))
            for turn in found
        )

    def close(self) -> None:
        """Withdraw what has not begun, and let what has end soon."""
        self._over.set()
        for future in (self._found, self._heard):
            if future is not None:
                future.cancel()

    def _decide(self) -> None:
        self._decided = True
        if self._judge is None or not self._judge.tells_speakers:
            self._recording = self._desk.open(self._context)

    def _hear(self) -> None:
        held, self._held = self._held, []
        if self._recording is None or not held:
            return
        if self._heard is not None:
            patient(self._heard, self._context)
        self._heard = self._desk.begin(partial(self._recording.push, np.concatenate(held)))


def patient(future: "Future[_Result]", context: RequestContext) -> _Result:
    """Return what ``future`` gives, unless the request should not go on. Raises what either raises."""
    try:
        while not future.done():
            context.check()
            wait((future,), _POLL_S)
    except BaseException:
        future.cancel()
        raise
    return future.result()


def _after(earlier: "Future[None] | None", work: Callable[[], _Result]) -> _Result:
    """Do ``work`` once what was begun before it is done."""
    if earlier is not None:
        earlier.result()
    return work()


def _lower_priority() -> None:
    """Let everything else of this process go first: on Linux a thread has a priority of its own."""
    if sys.platform == "linux":
        thread = threading.get_native_id()
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + _LESS_PRIORITY)
