"""The one door to untrusted media: a path in, 16 kHz mono samples out, every failure a typed error.

The bytes are decoded in a single-use child process without rights (see ``template`` and ``sandbox``); this module opens
the file, passes the open descriptor on, and watches: how long it waits, how much comes out, how the child ends. Memory
is flat whatever the length of the audio, because the child stops when nobody reads its pipe.
"""

import contextlib
import json
import math
import os
import signal
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Self

import numpy as np

from tympan.audio import template
from tympan.audio.children import POLL_S, Child, ChildBroke, TemplateLost, TemplateProcess
from tympan.audio.condition import media_facts
from tympan.audio.sandbox import SandboxReport
from tympan.audio.stereo import Stereo
from tympan.audio.template import ChildExit, Job
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.errors import (
    Cancelled,
    CorruptMedia,
    DecoderUnavailable,
    EmptyAudio,
    InvalidRequest,
    MediaCrash,
    MediaTimeout,
    NoAudioStream,
    NotFound,
    NotStereo,
    Overloaded,
    TooLong,
    TympanError,
    UnsupportedMedia,
)
from tympan.observation import MediaFacts

_CHILD_MODULE = "tympan.audio.decode_child"
_MAX_STARTS, _STARTS_WINDOW_S = 5, 60.0
# The only errors a child can report; its output is as untrusted as the file.
_CHILD_ERRORS: dict[str, type[TympanError]] = {
    error.code: error for error in (UnsupportedMedia, EmptyAudio, NoAudioStream, NotStereo, CorruptMedia, TooLong)
}


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What one file may cost. Limits grow with the length of audio allowed (``*_per_s``) or decoded so far.

    A child may use ``cpu_s`` of processor time plus its share for the longest audio allowed; a reader waits for it at
    most twice ``cpu_s`` plus the share for what has come out. ``slot_wait_s`` bounds the wait for a free child,
    ``start_s`` the start of the template.
    """

    memory_bytes: int = 128 << 20
    memory_bytes_per_s: int = 2048
    cpu_s: float = 30.0
    cpu_s_per_s: float = 0.05
    slot_wait_s: float = 60.0
    start_s: float = 30.0


def never() -> bool:
    """Return that nothing was cancelled."""
    return False


class Decoder:
    """Decodes media files in sandboxed children; safe to share between threads."""

    def __init__(
        self, *, max_children: int = 32, limits: DecodeLimits | None = None, child_module: str = _CHILD_MODULE
    ) -> None:
        """Run at most ``max_children`` files at a time; ``child_module`` is what runs in a child."""
        self._limits = limits or DecodeLimits()
        self._child_module = child_module
        self._slots = threading.BoundedSemaphore(max_children)
        self._lock = threading.Lock()
        self._template: TemplateProcess | None = None
        self._starts: deque[float] = deque(maxlen=_MAX_STARTS)
        self._closed = False

    def start(self) -> None:
        """Begin to load the media library in the background. Raises ``DecoderUnavailable``."""
        self._live_template()

    def close(self) -> None:
        """End all children and the template; streams in progress raise ``DecoderUnavailable``."""
        with self._lock:
            self._closed = True
            running, self._template = self._template, None
        if running is not None:
            running.close()

    def __enter__(self) -> Self:
        """Start and return the decoder."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close the decoder."""
        self.close()

    @property
    def sandbox(self) -> SandboxReport:
        """What this machine enforces on a child; waits for the template. Raises ``DecoderUnavailable``."""
        return self._live_template().ready(self._limits.start_s)

    @property
    def template_pid(self) -> int | None:
        """Process id of the warm template while there is one."""
        running = self._template
        return running.pid if running is not None and running.alive else None

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, MediaFacts]:
        """Yield the audio of ``path``, mixed to one channel, in blocks of at most 5 s; return what kind of file it is.

        Closing the generator ends the decoder.

        Raises, some of them after the first blocks: ``NotFound`` or ``InvalidRequest`` (cannot be read),
        ``UnsupportedMedia``, ``NoAudioStream``, ``EmptyAudio``, ``CorruptMedia``, ``TooLong`` (more than
        ``max_audio_s`` of audio came out), ``MediaTimeout``, ``MediaCrash`` (twice), ``Cancelled``, ``Overloaded`` (no
        child came free) and ``DecoderUnavailable``.
        """
        with self._slot(cancelled):
            return (yield from _Decoding(self, path, self._job(max_audio_s), self._limits, cancelled).run())

    def stream_stereo(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Stereo, None, MediaFacts]:
        """Yield the audio of ``path``, left and right side by side, in blocks of at most 2.5 s; return as ``stream``.

        Raises as ``stream``, and ``NotStereo`` where there is another number of channels.
        """
        with self._slot(cancelled):
            job = self._job(max_audio_s, channels=2)
            decoding = _Decoding(self, path, job, self._limits, cancelled)
            for block in decoding.run():
                yield block.reshape(-1, 2)
            return decoding.facts

    def launch(self, job: Job, media_fd: int) -> Child:
        """Start one child on an open file. Raises ``TemplateLost`` or ``DecoderUnavailable``."""
        running = self._live_template()
        running.ready(self._limits.start_s)
        try:
            return running.launch(job, media_fd)
        except TemplateLost:
            running.close()
            raise

    def _job(self, max_audio_s: float, channels: int = 1) -> Job:
        limits = self._limits
        return Job(
            max_samples=math.ceil(max_audio_s * SAMPLE_RATE_HZ),
            sample_rate_hz=SAMPLE_RATE_HZ,
            memory_bytes=limits.memory_bytes + int(max_audio_s * limits.memory_bytes_per_s),
            cpu_s=math.ceil(limits.cpu_s + max_audio_s * limits.cpu_s_per_s),
            channels=channels,
        )

    @contextlib.contextmanager
    def _slot(self, cancelled: Callable[[], bool]) -> Iterator[None]:
        deadline = time.monotonic() + self._limits.slot_wait_s
        while not self._slots.acquire(timeout=POLL_S):
            if cancelled():
                raise Cancelled
            if time.monotonic() > deadline:
                raise Overloaded("All media decoders are busy.", remedy="Try again later.", retry_after_s=5.0)
        try:
            yield
        finally:
            self._slots.release()

    def _live_template(self) -> TemplateProcess:
        """Return the running template; start one when there is none and the last ones did not all die young."""
        with self._lock:
            if self._closed:
                raise DecoderUnavailable("The media decoder is shut down.")
            if self._template is None or not self._template.alive:
                self._check_start_rate()
                if self._template is not None:
                    self._template.close()
                self._template = TemplateProcess(self._child_module)
            return self._template

    def _check_start_rate(self) -> None:
        now = time.monotonic()
        if len(self._starts) == _MAX_STARTS and now - self._starts[0] < _STARTS_WINDOW_S:
            wait_s = _STARTS_WINDOW_S - (now - self._starts[0])
            raise DecoderUnavailable(
                "The media decoder keeps crashing.", remedy="Run `tympan doctor`.", retry_after_s=wait_s
            )
        self._starts.append(now)


class _ChildCrashed(Exception):
    """A child ended without saying why."""


class _Decoding:
    """One file on its way through at most two children: a crash is tried once more, behind what was delivered."""

    def __init__(
        self, decoder: Decoder, path: Path, job: Job, limits: DecodeLimits, cancelled: Callable[[], bool]
    ) -> None:
        self._decoder = decoder
        self._path = path
        self._job = job
        self._limits = limits
        self._cancelled = cancelled
        self._delivered = 0
        self._decoded = 0
        self._waited_s = 0.0
        self.facts = MediaFacts()

    def run(self) -> Generator[Samples, None, MediaFacts]:
        """Yield the samples, return what kind of file it is; raise the typed error that fits."""
        for is_last in (False, True):
            try:
                yield from self._attempt()
            except (_ChildCrashed, ChildBroke) as crash:
                if is_last:
                    raise MediaCrash(
                        f"The decoder crashed on this file ({str(crash) or 'invalid output'}).",
                        remedy="Convert the file to WAV or FLAC and send that.",
                    ) from crash
            except TemplateLost as lost:
                if is_last:
                    raise DecoderUnavailable(
                        "The media decoder crashed.", remedy="Try again.", retry_after_s=1.0
                    ) from lost
            else:
                break
        return self.facts

    def _attempt(self) -> Generator[Samples, None, None]:
        self._decoded, self._waited_s = 0, 0.0
        with _open_media(self._path) as media_fd:
            child = self._decoder.launch(self._job, media_fd)
        try:
            yield from self._blocks(child)
        except BaseException:
            child.kill()
            raise
        child.close()

    def _blocks(self, child: Child) -> Generator[Samples, None, None]:
        while (frame := child.read_frame(self._tick)) is not None:
            kind, body = frame
            if kind == template.END_FRAME:
                self.facts = _facts(body)
                return
            if kind == template.ERROR_FRAME:
                raise _child_error(body)
            yield from self._new_samples(body)
        self._diagnose(child.wait())

    def _new_samples(self, body: bytearray) -> Iterator[Samples]:
        """Yield what of this frame was not delivered by an earlier attempt."""
        channels = self._job.channels
        if len(body) % (2 * channels):
            raise ChildBroke
        samples: Samples = np.frombuffer(body, np.int16)
        self._decoded += len(samples) // channels
        if self._decoded > self._job.max_samples:
            raise TooLong(remedy="Split it into shorter files.")
        fresh = self._decoded - self._delivered
        if fresh > 0:
            self._delivered = self._decoded
            yield samples[-fresh * channels :]

    def _tick(self, waited_s: float) -> None:
        if self._cancelled():
            raise Cancelled
        self._waited_s += waited_s
        decoded_s = self._decoded / self._job.sample_rate_hz
        if self._waited_s > 2 * (self._limits.cpu_s + self._limits.cpu_s_per_s * decoded_s):
            self._time_out(self._waited_s)

    def _diagnose(self, end: ChildExit) -> NoReturn:
        """Raise what the end of a child that wrote no last frame means."""
        if end.wait_status == template.NO_CHILD:
            raise DecoderUnavailable("No process can be started for the media decoder.", retry_after_s=5.0)
        if end.signal == signal.SIGXCPU or (end.signal == signal.SIGKILL and end.cpu_ms >= 1000 * self._job.cpu_s):
            self._time_out(end.cpu_ms / 1000)
        if end.signal:
            names = (known.name for known in signal.Signals if known == end.signal)
            raise _ChildCrashed(next(names, f"signal {end.signal}"))
        if os.waitstatus_to_exitcode(end.wait_status) == template.UNGUARDED_STATUS:
            raise DecoderUnavailable("The media decoder's sandbox failed.", retry_after_s=5.0)
        raise _ChildCrashed(f"status {os.waitstatus_to_exitcode(end.wait_status)}")

    def _time_out(self, spent_s: float) -> NoReturn:
        raise MediaTimeout(
            f"Decoding this file took longer than allowed ({spent_s:.0f} s).",
            remedy="Convert the file to WAV or FLAC and send that.",
        )


@contextlib.contextmanager
def _open_media(path: Path) -> Iterator[int]:
    """Open a regular, non-empty file for reading; give its descriptor."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise NotFound("The audio file does not exist.", remedy="Check the path.") from error
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise InvalidRequest(f"The audio file cannot be read: {cause}.", remedy="Check the path.") from error
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise InvalidRequest("The audio is not a regular file.", remedy="Give the path of a media file.")
        if facts.st_size == 0:
            raise EmptyAudio("The file is empty (0 bytes).", remedy="Check that the upload is complete.")
        yield descriptor
    finally:
        os.close(descriptor)


def _facts(body: bytearray) -> MediaFacts:
    """Return what a child says of its file; a child that talks nonsense at its end has told nothing."""
    try:
        told = json.loads(body)
        return media_facts(told["codec"], told["rate_hz"], told["channels"])
    except (ValueError, KeyError, TypeError):
        return MediaFacts()


def _child_error(body: bytearray) -> TympanError:
    """Return the error a child reported, as far as it is one that a child may report."""
    try:
        report = json.loads(body)
        kind = _CHILD_ERRORS[report["code"]]
        remedy = report["remedy"]
        return kind(_printable(report["message"]), remedy=None if remedy is None else _printable(remedy))
    except (ValueError, KeyError, TypeError) as error:
        raise ChildBroke from error


def _printable(text: object) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:1000])
