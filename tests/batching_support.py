"""Windows, items and a scripted host for the tests of batching."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from tympan.batching.batcher import Batcher, BatcherOptions
from tympan.batching.host import EngineHost, HostOptions
from tympan.batching.protocol import Done, Event, Exited, Failed
from tympan.batching.queue import Item, Origin
from tympan.batching.stats import BatchObserver
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Lane, Window, WindowResult, WindowTask
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.fake import FakeEngine
from tympan.errors import EngineDeviceLost, TympanError

INFO = FakeEngine(EngineSpec("fake", "scripted")).info


def make_task(index: int = 0, duration_s: float = 1.0, params: DecodeParams | None = None) -> WindowTask:
    """Return a window of noise that is the same for the same index."""
    noise = np.random.default_rng(index).integers(-3000, 3000, round(duration_s * SAMPLE_RATE_HZ))
    return WindowTask(Window(index, noise.astype(np.int16), ()), params or DecodeParams())


def origin(request: str = "r", tenant: str = "t", lane: Lane = Lane.INTERACTIVE, weight: float = 1.0) -> Origin:
    """Return an origin with short defaults."""
    return Origin(request, tenant, lane, weight)


def make_item(
    source: Origin | None = None, duration_s: float = 1.0, at_s: float = 0.0, params: DecodeParams | None = None
) -> Item:
    """Return a queue item of zeros; the queue never looks at samples."""
    samples = np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.int16)
    reply: Future[WindowResult] = Future()
    return Item(WindowTask(Window(0, samples, ()), params or DecodeParams()), source or origin(), reply, at_s)


Step = Callable[[Sequence[WindowTask]], Event | TympanError | None]
"""What a scripted host does with a batch: nothing special, fail it, or die."""


@dataclass
class Script:
    """What the hosts made from it will do, and what they were asked to do. Shared by all hosts of a batcher."""

    steps: list[Step] = field(default_factory=list)
    loads: list[TympanError] = field(default_factory=list)
    seen: list[list[int]] = field(default_factory=list)
    starts: int = 0
    gate: threading.Event = field(default_factory=threading.Event)
    loading: threading.Event = field(default_factory=threading.Event)
    memory_bytes: int | None = None

    def __post_init__(self) -> None:
        """Open the gates: engines load and batches run at once unless a test closes one."""
        self.gate.set()
        self.loading.set()

    def make_host(self, spec: EngineSpec, options: HostOptions, wake: Callable[[], None]) -> "ScriptedHost":
        """Return the next host."""
        return ScriptedHost(self, wake)


class ScriptedHost:
    """A host without a process: answers each batch as the script says, once the gate is open."""

    def __init__(self, script: Script, wake: Callable[[], None]) -> None:
        """Follow ``script``."""
        self._script = script
        self._wake = wake
        self._engine = FakeEngine(EngineSpec("fake", "scripted"))
        self._sent: deque[tuple[int, Sequence[WindowTask]]] = deque()
        self._dead = False

    @property
    def memory_bytes(self) -> int | None:
        """As scripted."""
        return self._script.memory_bytes

    def start(self) -> EngineInfo:
        """Load, or fail as scripted."""
        assert self._script.loading.wait(60)
        self._script.starts += 1
        if self._script.loads:
            raise self._script.loads.pop(0)
        return INFO

    def send(self, batch_id: int, tasks: Sequence[WindowTask], predicted_s: float) -> None:
        """Remember the batch."""
        self._script.seen.append([task.window.index for task in tasks])
        self._sent.append((batch_id, tasks))
        self._wake()

    def events(self) -> list[Event]:
        """Answer the running batch if the gate is open."""
        if self._dead or not self._sent or not self._script.gate.is_set():
            return []
        batch_id, tasks = self._sent.popleft()
        outcome = self._script.steps.pop(0)(tasks) if self._script.steps else None
        self._wake()
        if isinstance(outcome, Exited):
            self._dead = True
            return [outcome]
        if isinstance(outcome, TympanError):
            return [Failed(batch_id, outcome, 0.001)]
        return [Done(batch_id, tuple(self._engine.transcribe(tasks)), 0.001)]

    def remaining_s(self) -> float | None:
        """Return a short time while the gate is closed, so that it is looked at often."""
        return 0.005 if self._sent else None

    def enforce(self) -> None:
        """Nothing hangs here."""

    def abort(self) -> None:
        """Nothing takes long here."""

    def close(self, grace_s: float | None = None) -> None:
        """Die."""
        self._dead = True


def died(tasks: Sequence[WindowTask]) -> Event:
    """Be a process that crashes on this batch."""
    return Exited(EngineDeviceLost("The engine process was ended by SIGABRT."))


def fine(tasks: Sequence[WindowTask]) -> None:
    """Answer this batch."""


def failing(error: TympanError) -> Step:
    """Return a step that fails the batch with ``error``."""

    def fail(tasks: Sequence[WindowTask]) -> TympanError:
        return error

    return fail


NO_PREFETCH_S = -3600.0
"""As ``prefetch_lead_s``: a batch is only formed when the engine is free, so tests know what is in it."""


@contextmanager
def running(
    options: BatcherOptions,
    knobs: Mapping[str, str] | None = None,
    script: Script | None = None,
    observer: BatchObserver | None = None,
) -> Iterator[Batcher]:
    """Give a ready batcher with a fake engine: in a real process, or scripted in this one."""
    spec = EngineSpec("fake", "demo", options=tuple((knobs or {}).items()))
    batcher = Batcher(spec, options, observer, script.make_host if script else EngineHost)
    batcher.start()
    try:
        batcher.wait_ready(60.0)
        yield batcher
    finally:
        batcher.close(0.0)


def submit_together(
    batcher: Batcher, tasks: Sequence[WindowTask], script: Script | None = None, *, of: Origin | None = None
) -> list[Future[WindowResult]]:
    """Submit windows of different requests, or all ``of`` one, so that they wait together behind one that runs.

    A scripted host is held at its gate; a real one needs a fake engine that takes its time per batch.
    """
    if script:
        script.gate.clear()
    first = batcher.submit(make_task(999), origin("first"))
    deadline_s = time.monotonic() + 30.0
    while not first.running() and not first.done() and time.monotonic() < deadline_s:
        time.sleep(0.001)
    replies = [batcher.submit(task, of or origin(f"r{n}")) for n, task in enumerate(tasks)]
    if script:
        script.gate.set()
    first.result(30.0)
    return replies
