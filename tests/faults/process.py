"""A whole installation but for HTTP, in one process that may be killed: jobs, worker threads and janitor on one folder.

The engine is the fake one, in a thread; its words depend on the audio. Requests come through a pipe. Processes are
forked from one that has imported everything, so a start takes about a tenth of a second.
"""

import contextlib
import os
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from tests.jobs_support import TENANT, PcmFiles, Shop, open_shop
from tests.pipeline_support import HearsAll, never
from tympan import faultpoints, telemetry
from tympan.api.intake.staging import open_staging
from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats
from tympan.bootstrap.jobs import _only_user
from tympan.domain import SAMPLE_RATE_HZ, NewJob, Options, Samples, Source, SourceKind, WindowResult, WindowTask
from tympan.engine.base import EngineSpec
from tympan.engine.fake import FakeEngine
from tympan.errors import CorruptMedia, JobNotFinished, NotFound, TympanError
from tympan.jobs.janitor import Janitor, JanitorOptions
from tympan.jobs.local_runner import LocalRunner
from tympan.jobs.media import MediaDesk
from tympan.jobs.service import IdempotencyKey, new_id
from tympan.jobs.steps import StepLimits, Steps
from tympan.jobs.workbench import BenchOptions, Workbench
from tympan.pipeline import Transcriber
from tympan.pipeline.decoding import WindowService

WINDOW_S = 5.0
BAD = b"this is no audio"


@dataclass(frozen=True, slots=True)
class Plan:
    """How a process is to be. Times are a tenth of the usual ones, or less.

    ``takes_over``: whoever finds the database in no use releases all leases, as a server does; else they have to run
    out. ``tidies``: whether it has a janitor. ``window_ms`` is what the engine, one for all, takes for a window;
    ``revision`` is that of its model, on which its text depends.
    """

    folder: Path
    fault: str = ""
    takes_over: bool = True
    tidies: bool = True
    slots: int = 2
    window_ms: float = 5.0
    revision: str = "fake"
    section_s: float = 10.0
    lease_s: float = 1.5
    heartbeat_s: float = 0.3
    watch_s: float = 0.1
    sweep_s: float = 0.25
    poll_s: float = 0.1


class HashDesk:
    """A window service whose one engine is a thread: ``window_ms`` for each window, one after the other.

    The text of a ``revision`` other than ``fake`` ends each window with its name.
    """

    ready = True

    def __init__(self, window_ms: float = 0.0, revision: str = "fake") -> None:
        """Begin."""
        self._engine = FakeEngine(EngineSpec("fake", "fake", revision))
        self._mark = "" if revision == "fake" else f" {revision}"
        self._window_s = window_ms / 1000
        self._waiting: queue.Queue[tuple[WindowTask, Future[WindowResult]]] = queue.Queue(10_000)
        self.info = self._engine.info
        self.windows = 0
        threading.Thread(target=self._work, name="engine", daemon=True).start()

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept one window."""
        reply: Future[WindowResult] = Future()
        self._waiting.put_nowait((task, reply))
        return reply

    def stats(self) -> BatcherStats:
        """Nobody looks."""
        return BatcherStats()

    def _work(self) -> None:
        while True:
            task, reply = self._waiting.get()
            if reply.set_running_or_notify_cancel():
                time.sleep(self._window_s)
                self.windows += 1
                result = self._engine.transcribe([task])[0]
                reply.set_result(replace(result, text=result.text + self._mark, words=()) if self._mark else result)


class Pcm(PcmFiles):
    """A decoder for bare samples that knows one kind of broken file."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, None]:
        """Yield a file's samples. Raises ``CorruptMedia``."""
        if path.read_bytes()[: len(BAD)] == BAD:
            raise CorruptMedia
        yield from super().stream(path, max_audio_s=max_audio_s, cancelled=cancelled)


def pcm(seconds: float, seed: int) -> bytes:
    """Return noise that no other seed gives."""
    drawn = np.random.default_rng(seed).integers(-4000, 4000, round(seconds * SAMPLE_RATE_HZ))
    return drawn.astype(np.int16).tobytes()


def transcriber(desk: WindowService) -> Transcriber:
    """Return the pipeline over ``desk``, in windows of 5 s."""
    return Transcriber(Pcm(), HearsAll(), desk, max_window_s=WINDOW_S)


class Installation:
    """What the process runs, and what may be asked of it: each public method is a request."""

    def __init__(self, plan: Plan, shop: Shop, scratch: Path, desk: WindowService | None = None) -> None:
        """Join the parts, over an engine of its own unless ``desk`` is given; nothing runs before ``start``."""
        self._shop, self._scratch, self._tidies = shop, scratch, plan.tidies
        self.reached: Counter[str] = Counter()
        self.desk = desk or HashDesk(plan.window_ms, plan.revision)
        limits = StepLimits(section_s=plan.section_s, patience_s=0.8 * plan.lease_s)
        pipeline = transcriber(self.desk)
        media = MediaDesk(shop.blobs, scratch, {}, 10**9)
        steps = Steps(lambda _: pipeline, shop.work, media, shop.blobs, limits)
        options = BenchOptions(new_id("worker"), plan.slots, plan.heartbeat_s, plan.lease_s, plan.watch_s)
        self.bench = Workbench(steps, shop.work, shop.upkeep, scratch, options)
        self._runner = LocalRunner(self.bench, slots=plan.slots, poll_s=plan.poll_s)
        shop.service._ring = self._runner.ring
        sweeps = JanitorOptions(sweep_s=plan.sweep_s)
        self._janitor = Janitor(shop.upkeep, shop.service, shop.blobs, sweeps, self._runner.ring)
        # Orphans of any age are looked for when the client says that all is quiet.
        self._quiet = Janitor(shop.upkeep, shop.service, shop.blobs, JanitorOptions(orphan_age_s=0.0))

    def start(self) -> None:
        """Begin to work."""
        if self._tidies:
            self._janitor.start()
        self._runner.start()

    def close(self) -> None:
        """Stop in order."""
        self._janitor.stop()
        self._runner.stop(1.0)

    def ask(self, request: str, **values: object) -> Any:
        """Return the answer to a request, for those who are in the same process."""
        return getattr(self, request)(**values)

    def submit(self, intent: str, audio: bytes, language: str | None = None, endpoint: str | None = None) -> str:
        """Hand in a job; the same intent is the same request."""
        path = self._scratch / new_id("in")
        path.write_bytes(audio)
        new = NewJob(
            new_id("job"),
            Source(SourceKind.STORED, "", len(audio)),
            Options(language=language),
            metadata=f'{{"intent": "{intent}"}}',
            webhook_endpoint=endpoint,
        )
        key = IdempotencyKey("jobs", intent, "0" * 64)
        return self._shop.service.submit(new, path, key)[0].id

    def state(self, job_id: str) -> tuple[str, int]:
        """Return state and number of finished sections; ``gone`` for a job that is not there."""
        try:
            job = self._shop.service.get(TENANT, job_id)
        except NotFound:
            return "gone", 0
        return job.state.value, job.progress.sections_done

    def text(self, job_id: str) -> str | None:
        """Return the text of a job that succeeded."""
        try:
            return self._shop.service.transcript(TENANT, job_id)[1].text
        except (JobNotFinished, NotFound):
            return None

    def cancel(self, job_id: str) -> str:
        """Cancel a job; return its state."""
        return self._shop.service.cancel(TENANT, job_id).state.value

    def erase(self, job_id: str) -> None:
        """Erase a job; one that is gone is as good."""
        with contextlib.suppress(NotFound):
            self._shop.service.erase(TENANT, job_id)

    def tidy(self) -> int:
        """Remove what nobody owns; only for when nothing runs."""
        return self._quiet.remove_orphans() + self._shop.blobs.abort_stale_uploads(0.0)

    def points(self) -> dict[str, int]:
        """Return how often each fault point has been reached."""
        return dict(self.reached)

    def open_jobs(self) -> int:
        """Return how many jobs have not ended."""
        return sum(count for state, count in self._shop.service.counts().items() if not state.is_terminal)

    def held(self) -> dict[str, int]:
        """Return how many files are open, threads run, and windows the engine has done."""
        return {
            "fds": len(list(Path("/proc/self/fd").iterdir())),
            "threads": threading.active_count(),
            "windows": self.desk.windows if isinstance(self.desk, HashDesk) else 0,
            "busy": self.bench.busy,
        }


def main(wire: "Connection[Any, Any]", plan: Plan) -> None:
    """Serve requests until the other end closes, or asks to stop by sending nothing."""
    reached = _count_points(plan.fault)
    with (plan.folder / f"log-{os.getpid()}").open("w", buffering=1) as log:
        telemetry.configure_logging("info", "json", log)
        with _running(plan) as installation:
            installation.reached = reached
            wire.send(("ready", os.getpid()))
            with contextlib.suppress(EOFError):
                while (request := wire.recv()) is not None:
                    name, values = request
                    wire.send(_answer(partial(installation.ask, name), values))
    # Nothing of the process that was forked has to be finished here.
    os._exit(0)


@contextlib.contextmanager
def _running(plan: Plan) -> Iterator[Installation]:
    with contextlib.ExitStack() as stack:
        scratch = stack.enter_context(open_staging(plan.folder / "staging"))
        shop = stack.enter_context(open_shop(plan.folder, lease_s=plan.lease_s))
        if plan.takes_over:
            stack.enter_context(_only_user(plan.folder / "lock", shop.upkeep))
        installation = Installation(plan, shop, scratch)
        stack.callback(installation.close)
        installation.start()
        yield installation


def _count_points(fault: str) -> Counter[str]:
    """Set the fault, and count every point that is reached, whatever the fault is."""
    os.environ["TYMPAN_FAULT"] = fault or "none:none"
    reached: Counter[str] = Counter()
    act = faultpoints._act

    def count(point: str, wanted: str) -> None:
        reached[point] += 1
        act(point, wanted)

    faultpoints._act = count
    return reached


def _answer(action: Callable[..., object], values: dict[str, object]) -> tuple[str, object]:
    try:
        return "ok", action(**values)
    except TympanError as error:
        return "error", error.code
