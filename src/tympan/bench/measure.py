"""One round of one cell: engines in processes of their own, recordings through the whole pipeline, as served."""

import hashlib
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from tympan.audio.vad import SpeechDetector
from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.host import EngineHost, HostOptions
from tympan.batching.queue import BatchLimits, Origin
from tympan.batching.stats import BatcherStats, BatchReport
from tympan.bench.grid import Cell, Reading, requests_at_once
from tympan.bench.recordings import AudioSet, Recording
from tympan.domain import Lane, Options, WindowResult, WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.machine import probe_machine
from tympan.errors import EngineError
from tympan.pipeline import RequestContext, Transcriber
from tympan.pipeline.speech import AudioSource
from tympan.quality import scoring

WINDOW_S = 28.0
"""Longest window packed, as in the server."""

LOAD_LIMIT_S = 600.0

MAX_AT_ONCE = 256
"""Most recordings that are transcribed at a time, whatever batch and replicas ask for."""

_PS_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Bench:
    """What all cells share: the decoder, how texts are decoded, what engines find in their environment, how to stop."""

    source: AudioSource
    options: Options = field(default_factory=Options)
    environment: Mapping[str, str] = field(default_factory=dict)
    warm_up: Recording | None = None
    counts_errors: bool = True
    max_audio_s: float = 36_000.0
    cancel: threading.Event = field(default_factory=threading.Event)


class _Clock:
    """Adds up what one engine computed."""

    def __init__(self) -> None:
        self.compute_s = 0.0

    def on_batch(self, report: BatchReport) -> None:
        """Add a batch."""
        self.compute_s += report.compute_s

    def on_restart(self, reason: str) -> None:
        """Nothing to add; ``_check`` looks for restarts."""


class _Replica:
    """One engine in a process of its own behind its batcher."""

    def __init__(self, spec: EngineSpec, batch: int, environment: Mapping[str, str]) -> None:
        self.clock = _Clock()
        self.host: EngineHost | None = None
        options = BatcherOptions(
            batch=BatchLimits(max_windows=batch),
            host=HostOptions(load_timeout_s=LOAD_LIMIT_S, environment=dict(environment)),
        )
        self.batcher = Batcher(spec, options, self.clock, make_host=self._make_host)

    def _make_host(self, spec: EngineSpec, options: HostOptions, wake: Callable[[], None]) -> EngineHost:
        self.host = EngineHost(spec, options, wake)
        return self.host

    def peak_mb(self) -> float:
        """Return the highest resident memory of the process so far. Raises ``EngineError`` when it is gone."""
        pid = self.host.pid if self.host is not None else None
        if pid is None:
            raise EngineError("The engine process ended before its memory was read.")
        return peak_rss_bytes(pid) / 1e6


class Replicas:
    """Several engines as one: a window goes where the least audio waits."""

    def __init__(self, batchers: Sequence[Batcher]) -> None:
        """Share windows out to ``batchers``, all of which are ready."""
        self._batchers = batchers
        self._lock = threading.Lock()
        self._waiting_s = [0.0] * len(batchers)

    @property
    def info(self) -> EngineInfo | None:
        """What each of them runs."""
        return self._batchers[0].info

    @property
    def ready(self) -> bool:
        """Whether all of them answer."""
        return all(batcher.ready for batcher in self._batchers)

    def stats(self) -> BatcherStats:
        """What waits and runs in the first of them."""
        return self._batchers[0].stats()

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Hand a window to the engine with the least audio under way."""
        audio_s = task.window.duration_s
        with self._lock:
            index = min(range(len(self._batchers)), key=self._waiting_s.__getitem__)
            self._waiting_s[index] += audio_s

        def done(_: object) -> None:
            with self._lock:
                self._waiting_s[index] -= audio_s

        reply = self._batchers[index].submit(task, origin)
        reply.add_done_callback(done)
        return reply


def measure(bench: Bench, cell: Cell, spec: EngineSpec, audio: AudioSet) -> Reading:
    """Load, warm up, transcribe ``audio`` once and return what it took.

    Raises what loading and transcribing raise, and ``EngineError`` when the engine had to be replaced meanwhile.
    """
    replicas = [_Replica(spec, cell.batch, bench.environment) for _ in range(cell.replicas)]
    with ExitStack() as stack:
        began = time.perf_counter()
        for replica in replicas:
            stack.callback(replica.batcher.close, 0.0)
            replica.batcher.start()
        infos = [replica.batcher.wait_ready(LOAD_LIMIT_S) for replica in replicas]
        load_ms = 1e3 * (time.perf_counter() - began)
        batchers = [replica.batcher for replica in replicas]
        service = batchers[0] if len(batchers) == 1 else Replicas(batchers)
        transcriber = Transcriber(bench.source, SpeechDetector(), service, max_window_s=WINDOW_S)
        at_once = min(MAX_AT_ONCE, requests_at_once(cell, [r.duration_s for r in audio.recordings], WINDOW_S))
        if bench.warm_up is not None:
            _texts(bench, transcriber, [bench.warm_up] * at_once, at_once)
        queue = [*audio.recordings] * max(1, at_once // len(audio.recordings))
        before = [replica.clock.compute_s for replica in replicas]
        began = time.perf_counter()
        texts = _texts(bench, transcriber, queue, at_once)
        total_ms = 1e3 * (time.perf_counter() - began)
        _check(replicas)
        inference_s = max(replica.clock.compute_s - was for replica, was in zip(replicas, before, strict=True))
        memory_mb = sum(replica.peak_mb() for replica in replicas)
    return _reading(
        infos[0],
        Measured(load_ms, total_ms, 1e3 * inference_s, memory_mb),
        queue,
        texts[: len(audio.recordings)],
        _errors(bench, audio, texts),
    )


@dataclass(frozen=True, slots=True)
class Measured:
    """The figures of one round: milliseconds and megabytes."""

    load_ms: float
    total_ms: float
    inference_ms: float
    memory_mb: float


def _reading(
    info: EngineInfo,
    figures: Measured,
    queue: Sequence[Recording],
    texts: Sequence[str],
    errors: tuple[tuple[int, int], ...] | None,
) -> Reading:
    gpus = probe_machine().gpus if info.device == "cuda" else ()
    return Reading(
        model=info.model,
        engine=info.engine,
        revision=info.revision,
        quantization=info.compute_type,
        gpu=gpus[0].name if gpus else None,
        load_ms=round(figures.load_ms, 3),
        total_ms=round(figures.total_ms, 3),
        inference_ms=round(figures.inference_ms, 3),
        memory_peak_mb=round(figures.memory_mb, 3),
        requests=len(queue),
        processed_s=round(sum(recording.duration_s for recording in queue), 3),
        text_digest=hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16],
        errors=errors,
    )


def _texts(bench: Bench, transcriber: Transcriber, queue: Sequence[Recording], at_once: int) -> list[str]:
    """Transcribe all of ``queue``, ``at_once`` at a time; the first failure is raised."""

    def one(number: int) -> str:
        recording = queue[number]
        options = bench.options
        if options.language is None and recording.language is not None:
            options = replace(options, language=recording.language)
        context = RequestContext(f"bench-{number}", lane=Lane.BATCH, max_audio_s=bench.max_audio_s, cancel=bench.cancel)
        return transcriber.transcribe(recording.path, options, context).text.strip()

    with ThreadPoolExecutor(min(at_once, len(queue))) as pool:
        try:
            return list(pool.map(one, range(len(queue))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Else the rest would be done first.
            raise


def _errors(bench: Bench, audio: AudioSet, texts: Sequence[str]) -> tuple[tuple[int, int], ...] | None:
    if not (bench.counts_errors and audio.has_reference):
        return None
    counts = [
        scoring.count(scoring.Pair(recording.reference, text, recording.language or bench.options.language or "en"))
        for recording, text in zip(audio.recordings, texts, strict=False)
        if recording.reference is not None
    ]
    return tuple((item.units, item.errors) for item in counts)


def _check(replicas: Sequence[_Replica]) -> None:
    restarts = sum(replica.batcher.stats().restarts for replica in replicas)
    if restarts:
        raise EngineError(f"The engine was replaced {restarts} times while it was measured; there is no figure.")


def peak_rss_bytes(pid: int) -> int:
    """Return the highest resident memory a process has had; where the system keeps none, what it has now.

    Linux keeps ``VmHWM`` in ``/proc/PID/status``; elsewhere ``ps`` is asked. Raises ``EngineError`` without either.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return _asked_of_ps(pid)


def _asked_of_ps(pid: int) -> int:
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_PS_LIMIT_S)
        return int(done.stdout) << 10
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise EngineError("The memory of the engine process cannot be read on this system.") from error
