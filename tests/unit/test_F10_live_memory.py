"""F10: a session's memory does not grow with its length."""

import gc
import os
import statistics
import threading
import tracemalloc
from concurrent.futures import Future
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.live_support import OPTIONS, HearsLoudness, eventually, joined, quiet, read, spoken
from tests.pipeline_support import ArraySource, WindowDesk, settle
from tympan.batching.queue import Origin
from tympan.domain import SAMPLE_RATE_HZ, Samples, WindowResult, WindowTask
from tympan.live import Ended, LiveSession
from tympan.pipeline import RequestContext, Transcriber

MIB = 1 << 20
AUDIO = np.lib.tracemalloc_domain
BLOCK = SAMPLE_RATE_HZ // 10


class Forgetful(WindowDesk):
    """A window service that reads, and remembers nothing."""

    def submit(self, task: WindowTask, origin: Origin) -> "Future[WindowResult]":
        """Answer at once."""
        reply: Future[WindowResult] = Future()
        settle(reply, read(task))
        return reply


def minute(number: int) -> Samples:
    """Return a minute of speech, 60 % of it words, in utterances of 2 to 8 s."""
    drawn = np.random.default_rng(number)
    parts: list[Samples] = []
    while sum(map(len, parts)) < 60 * SAMPLE_RATE_HZ:
        parts += [spoken(*drawn.integers(0, 900, drawn.integers(5, 21)).tolist()), quiet(drawn.uniform(1.0, 3.0))]
    return joined(*parts)[: 60 * SAMPLE_RATE_HZ]


def resident_bytes() -> int:
    """Return this process's resident memory."""
    return os.sysconf("SC_PAGE_SIZE") * int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


def talk(session: LiveSession, minutes: range) -> None:
    """Feed so many minutes as fast as they are heard."""
    for number in minutes:
        audio = minute(number)
        for at in range(0, len(audio), BLOCK):
            session.feed(audio[at : at + BLOCK], timeout_s=30.0)
    session.feed(quiet(3.0), timeout_s=30.0)
    eventually(lambda: session.held_s < 1.0)
    gc.collect()


def opened() -> LiveSession:
    """Return a session that is read to its end."""
    session = LiveSession(
        Transcriber(ArraySource([]), HearsLoudness(), Forgetful()), OPTIONS, RequestContext("long", max_audio_s=7200.0)
    )
    threading.Thread(target=lambda: [event for event in session.events() if isinstance(event, Ended)]).start()
    return session


def traced_bytes() -> tuple[int, int]:
    """Return what is allocated now as audio (NumPy traces its arrays in a domain of its own) and as all else."""
    snapshot = tracemalloc.take_snapshot()
    audio, rest = (
        sum(trace.size for trace in snapshot.filter_traces([tracemalloc.DomainFilter(arrays, AUDIO)]).traces)
        for arrays in (True, False)
    )
    return audio, rest


@pytest.mark.alone
def test_F10_what_a_session_keeps_is_its_text() -> None:
    """A minute costs less than the 0.1 MB that 1 MB in ten minutes allows, text with word times included.

    Audio is counted apart: one or two windows of it are held at any time, 1 MB of the 27 MB that were heard.
    """
    audio: list[int] = []
    rest: list[int] = []
    with opened() as session:
        talk(session, range(2))
        tracemalloc.start()
        try:
            for number in range(2, 9):
                talk(session, range(number, number + 1))
                arrays, others = traced_bytes()
                audio.append(arrays)
                rest.append(others)
        finally:
            tracemalloc.stop()
        assert session.stats.finals > 20
        session.finish()
    slopes = [(rest[j] - rest[i]) / (j - i) for i, j in combinations(range(len(rest)), 2)]
    assert statistics.median(slopes) < 0.1 * MIB, [size / MIB for size in rest]
    assert max(audio) < 2 * MIB, [size / MIB for size in audio]


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_F10_an_hour_of_live_speech_takes_no_memory() -> None:
    """Resident memory rises by less than 1 MB in ten minutes of speech, over an hour."""
    sizes: list[int] = []
    with opened() as session:
        for ten in range(6):
            talk(session, range(ten * 10, ten * 10 + 10))
            sizes.append(resident_bytes())
        session.finish()
    slope = np.polyfit(range(1, 6), sizes[1:], 1)[0]
    assert slope < MIB, [size / MIB for size in sizes]
