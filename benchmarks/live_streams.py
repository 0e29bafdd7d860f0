"""Live sessions for the benchmark, at the pace of speech or as fast as they go, and how late their words come."""

import difflib
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import BenchmarkError
from benchmarks.scoring import Clip
from tympan.audio.vad import SpeechDetector
from tympan.bootstrap import running
from tympan.bootstrap.pipeline import Services
from tympan.config import load
from tympan.domain import SAMPLE_RATE_HZ, Options, Samples, Span, Timestamps, VadOptions, Word
from tympan.live import Ended, Event, Final, LiveOptions, LiveSession, Partial
from tympan.pipeline import RequestContext
from tympan.quality.scoring import units

BLOCK_S = 0.1
FAST_BLOCK_S = 0.5
MAX_AUDIO_S = 3600.0
_BLOCK = round(BLOCK_S * SAMPLE_RATE_HZ)
_PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Seen:
    """An event and when it was read, in seconds from the first sample."""

    at_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class Delays:
    """Seconds from the end of a word until it was ``shown`` and ``stable``, of an utterance until its ``final`` came.

    ``only_final`` words were read in a final first, because partials misheard them or came too late.
    """

    shown: list[float]
    stable: list[float]
    final: list[float]
    words: int
    only_final: int
    never_shown: int
    stable_words: int
    stable_changed: int


class Studio:
    """The services of one model, and what can be recorded with them."""

    def __init__(self, services: Services) -> None:
        """Use ``services``."""
        self._services = services
        self._count = 0

    def pcm(self, path: Path) -> Samples:
        """Return a file's samples."""
        blocks = self._services.decoder.stream(path, max_audio_s=MAX_AUDIO_S)
        with closing(blocks):
            return np.concatenate(list(blocks))

    def file_text(self, clip: Clip) -> str:
        """Return what the file pipeline makes of a clip."""
        options = Options(language=clip.language, timestamps=Timestamps.NONE)
        return self._services.transcriber.transcribe(clip.path, options, self._context("file")).text

    def file_words(self, path: Path, language: str) -> list[Word]:
        """Return the words of a file with the times that the file pipeline gives them.

        Alignment lets a word last until the next one begins; here it ends with its last sound.
        """
        options = Options(language=language, timestamps=Timestamps.WORD)
        words = self._services.transcriber.transcribe(path, options, self._context("words")).words
        spans = _speech(self.pcm(path))
        return [replace(word, end_s=_spoken_until(word, spans)) for word in words]

    def live_text(self, clip: Clip) -> tuple[str, dict[str, int]]:
        """Return what a session makes of a clip that is fed as fast as it is heard, and its counts."""
        samples = self.pcm(clip.path)
        with self._session(str(clip.language), partials=False) as session:
            feeder = _feeding(session, samples)
            ended = [event for event in session.events() if isinstance(event, Ended)]
            feeder.join()
            return ended[0].transcript.text, asdict(session.stats)

    def at_pace(self, samples: Samples, language: str, begin_s: float) -> tuple[list[Seen], dict[str, int]]:
        """Play ``samples`` at the pace of speech from ``begin_s`` (monotonic) on; return all events and the counts."""
        with self._session(language, partials=True) as session:
            player = threading.Thread(target=_play, args=(session, samples, begin_s), daemon=True)
            player.start()
            seen = [Seen(time.monotonic() - begin_s, event) for event in session.events()]
            player.join()
            return seen, asdict(session.stats)

    def memory(self, audio: Iterator[Samples], length_s: float, every_s: float) -> Iterator[float]:
        """Yield this process's MiB after each ``every_s`` of audio, fed as fast as it is heard."""
        with self._session("en", partials=True) as session:
            reader = threading.Thread(target=deque, args=(session.events(), 0), daemon=True)
            reader.start()
            fed_s, next_s = 0.0, every_s
            while fed_s < length_s:
                samples = next(audio)
                _feed(session, samples)
                fed_s += len(samples) / SAMPLE_RATE_HZ
                while next_s <= fed_s:
                    yield resident_mib()
                    next_s += every_s

    def _session(self, language: str, *, partials: bool) -> LiveSession:
        options = Options(language=language, timestamps=Timestamps.WORD)
        live = LiveOptions(partials=partials)
        return LiveSession(self._services.transcriber, options, self._context("live"), live)

    def _context(self, kind: str) -> RequestContext:
        self._count += 1
        return RequestContext(f"{kind}-{self._count}")


@contextmanager
def studio(model: str) -> Iterator[Studio]:
    """Yield a studio whose services run ``model`` in int8."""
    with running(load({"model": model, "compute_type": "int8", "log_level": "warning"})) as services:
        yield Studio(services)


def together(studio: Studio, tracks: Sequence[Samples], language: str) -> list[tuple[list[Seen], dict[str, int]]]:
    """Play every track in a session of its own, all at once but not in step; return each one's events and counts."""
    now_s = time.monotonic()
    with ThreadPoolExecutor(len(tracks)) as pool:
        replies = [
            pool.submit(studio.at_pace, track, language, now_s + n / len(tracks)) for n, track in enumerate(tracks)
        ]
        return [reply.result(_PATIENCE_S) for reply in replies]


def delays(seen: Sequence[Seen], words: Sequence[Word]) -> Delays:
    """Return how late ``words``, with the times at which they were said, were read in the events ``seen``."""
    found = Delays([], [], [], 0, 0, 0, 0, 0)
    counts = {"words": 0, "only_final": 0, "never_shown": 0, "stable_words": 0, "stable_changed": 0}
    for final in (one for one in seen if isinstance(one.event, Final)):
        assert isinstance(final.event, Final)
        said = _said_in(words, final.event)
        partials = [(one.at_s, one.event) for one in seen if _is_partial_of(one.event, final.event)]
        if not said:
            continue
        _utterance(found, counts, said, final, partials)
    return Delays(found.shown, found.stable, found.final, **counts)


def _utterance(
    found: Delays, counts: dict[str, int], said: Sequence[Word], final: Seen, partials: Sequence[tuple[float, Any]]
) -> None:
    assert isinstance(final.event, Final)
    names = [_name(word.text) for word in said]
    counts["words"] += len(said)
    last = [(final.at_s, final.event.text.split())]
    shown = _first_read(said, names, [(at_s, _names(p.words)) for at_s, p in partials])
    stable = _first_read(said, names, [(at_s, _names(p.words[: p.n_stable])) for at_s, p in partials])
    read = len(_first_read(said, names, [(at_s, _names(p.words)) for at_s, p in partials] + last))
    counts["only_final"] += read - len(shown)
    counts["never_shown"] += len(said) - read
    found.shown.extend(shown)
    found.stable.extend(stable)
    found.final.append(final.at_s - said[-1].end_s)
    if partials:
        kept = _names(partials[-1][1].words[: partials[-1][1].n_stable])
        counts["stable_words"] += len(kept)
        counts["stable_changed"] += len(kept) - _matches(kept, [_name(word) for word in final.event.text.split()])


def _speech(samples: Samples) -> list[Span]:
    """Return where there is sound of speech, by 32-ms frames."""
    stream = SpeechDetector().stream(VadOptions(min_speech_ms=0, min_silence_ms=96, speech_pad_ms=0), 28.0)
    return [*stream.push(samples), *stream.finish()]


def _spoken_until(word: Word, spans: Sequence[Span]) -> float:
    ends = [span.end_sample / SAMPLE_RATE_HZ for span in spans if span.start_sample < word.end_s * SAMPLE_RATE_HZ]
    return min(word.end_s, ends[-1]) if ends and ends[-1] > word.start_s else word.end_s


def _said_in(words: Sequence[Word], final: Final) -> list[Word]:
    """Return the words whose middle lies in an utterance, and that have letters."""
    return [
        word for word in words if final.start_s <= (word.start_s + word.end_s) / 2 < final.end_s and _name(word.text)
    ]


def _is_partial_of(event: Event, final: Final) -> bool:
    return isinstance(event, Partial) and event.utterance == final.utterance


def _first_read(
    said: Sequence[Word], names: Sequence[str], texts: Sequence[tuple[float, Sequence[str]]]
) -> list[float]:
    """Return, for each word that is ever read, the seconds from its end until the first text that has it in its place.

    A word cannot be read before it begins: a match then is one with some other word.
    """
    first: dict[int, float] = {}
    for at_s, read in texts:
        begun = sum(word.start_s <= at_s for word in said)
        matcher = difflib.SequenceMatcher(None, names[:begun], [_name(word) for word in read], autojunk=False)
        for block in matcher.get_matching_blocks():
            for at in range(block.a, block.a + block.size):
                first.setdefault(at, at_s - said[at].end_s)
    return list(first.values())


def _matches(one: Sequence[str], other: Sequence[str]) -> int:
    blocks = difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks)


def _names(words: Sequence[Word]) -> list[str]:
    return [_name(word.text) for word in words]


def _name(text: str) -> str:
    return " ".join(units(text, "en"))


def _play(session: LiveSession, samples: Samples, begin_s: float) -> None:
    """Feed each block when it would have been spoken; one that is refused ends the benchmark, by its error."""
    for at in range(0, len(samples), _BLOCK):
        block = samples[at : at + _BLOCK]
        time.sleep(max(0.0, begin_s + (at + len(block)) / SAMPLE_RATE_HZ - time.monotonic()))
        session.feed(block)
    session.finish()


def _feed(session: LiveSession, samples: Samples) -> None:
    step = round(FAST_BLOCK_S * SAMPLE_RATE_HZ)
    for at in range(0, len(samples), step):
        session.feed(samples[at : at + step], timeout_s=_PATIENCE_S)


def _feeding(session: LiveSession, samples: Samples) -> threading.Thread:
    def feed() -> None:
        _feed(session, samples)
        session.finish()

    thread = threading.Thread(target=feed, daemon=True)
    thread.start()
    return thread


def resident_mib() -> float:
    """Return this process's resident memory in MiB: sessions live here, the engine in a process of its own."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError("This system does not tell the memory of a process.")
