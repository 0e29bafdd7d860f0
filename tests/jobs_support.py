"""Jobs without HTTP, processes or models: real database, real files, the real pipeline over a made-up engine."""

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.pipeline_support import HearsAll, WindowDesk, never
from tympan.domain import SAMPLE_RATE_HZ, Job, Lane, NewJob, Options, Samples, Source, SourceKind
from tympan.egress import Egress, EgressRules
from tympan.jobs.fetching import ObjectSource, SourceGuard, UrlFetcher
from tympan.jobs.janitor import Janitor, JanitorOptions
from tympan.jobs.media import Fetcher, MediaDesk
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.service import JobService, new_id
from tympan.jobs.steps import StepLimits, Steps
from tympan.jobs.workbench import BenchOptions, Workbench
from tympan.observation import Observer, unobserved
from tympan.pipeline import Transcriber
from tympan.pipeline.voices import VoiceDesk
from tympan.storage import migrate
from tympan.storage.blobs import BlobStore, open_blobs
from tympan.storage.database import Database, sqlite_url
from tympan.storage.endings import Endings
from tympan.storage.jobs import JobStore
from tympan.storage.upkeep import Upkeep
from tympan.storage.work import WorkStore

TENANT = "default"
LANES = tuple(Lane)
SECTION_S = 20.0


class PcmFiles:
    """A decoder for files of bare 16-kHz samples."""

    def stream(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, None]:
        """Yield a file's samples in blocks of 5 s."""
        samples = np.fromfile(path, dtype=np.int16)
        for start in range(0, len(samples), 5 * SAMPLE_RATE_HZ):
            yield samples[start : start + 5 * SAMPLE_RATE_HZ]

    def stream_stereo(
        self, path: Path, *, max_audio_s: float, cancelled: Callable[[], bool] = never
    ) -> Generator[Samples, None, None]:
        """Yield the file's samples as the left channel, beside a right one that is louder from 10 s to 30 s."""
        at = 0
        for block in self.stream(path, max_audio_s=max_audio_s, cancelled=cancelled):
            share = np.where((np.arange(at, at + len(block)) // (10 * SAMPLE_RATE_HZ)) % 3, 3, 0)
            at += len(block)
            yield np.column_stack([block, block * share]).astype(np.int16)


@dataclass(slots=True)
class Shop:
    """Everything about jobs on one database and one folder."""

    folder: Path
    database: Database
    blobs: BlobStore
    store: JobStore
    work: WorkStore
    upkeep: Upkeep
    service: JobService
    desk: WindowDesk = field(default_factory=WindowDesk)
    section_s: float = SECTION_S
    cache: ResultCache = field(default_factory=ResultCache)
    observer: Observer | None = None
    voices: VoiceDesk | None = None

    @property
    def transcriber(self) -> Transcriber:
        """The pipeline over the made-up engine, in windows of 5 s."""
        made = Transcriber(PcmFiles(), HearsAll(), self.desk, max_window_s=5.0, observer=self.observer)
        return made.hearing(self.voices)

    def pcm(self, seconds: float, seed: int = 1) -> Path:
        """Return a new file with ``seconds`` of faint noise."""
        drawn = np.random.default_rng(seed).integers(-40, 40, round(seconds * SAMPLE_RATE_HZ)).astype(np.int16)
        path = self.folder / f"{new_id('pcm')}"
        drawn.tofile(path)
        return path

    def submit(self, seconds: float = 10.0, seed: int = 1, options: Options | None = None, **fields: object) -> Job:
        """Hand in a job with audio of its own and return it."""
        path = self.pcm(seconds, seed)
        source = Source(SourceKind.STORED, "", path.stat().st_size)
        new = NewJob(new_id("job"), source, options or Options(), **fields)  # type: ignore[arg-type]
        return self.service.submit(new, path)[0]

    def bench(self, owner: str = "worker", **options: float) -> Workbench:
        """Return a workbench; its own threads are not started."""
        fetchers: dict[SourceKind, Fetcher] = {
            SourceKind.URL: UrlFetcher(Egress(EgressRules())),
            SourceKind.OBJECT: ObjectSource((self.folder,)),
        }
        desk = MediaDesk(self.blobs, self.folder, fetchers, 10**9)
        limits = StepLimits(
            section_s=self.section_s,
            patience_s=1.0,
            cache=self.cache,
            observe=lambda _tenant, seen: (self.observer or unobserved)(seen),
        )
        steps = Steps(lambda _: self.transcriber, self.work, desk, self.blobs, limits)
        return Workbench(steps, self.work, self.upkeep, self.folder, BenchOptions(owner, **options))  # type: ignore[arg-type]

    def work_off(self, owner: str = "worker", limit: int = 1000) -> int:
        """Do what there is to do; return how many steps that were."""
        bench = self.bench(owner)
        done = 0
        while done < limit and bench.work_once(LANES):
            done += 1
        return done

    def janitor(self, **options: float) -> Janitor:
        """Return a janitor whose thread is not started."""
        return Janitor(self.upkeep, self.service, self.blobs, JanitorOptions(**options))  # type: ignore[arg-type]

    def get(self, job: Job) -> Job:
        """Return a job as it is stored now."""
        return self.service.get(TENANT, job.id)


@contextmanager
def open_shop(
    folder: Path,
    url: str | None = None,
    *,
    lease_s: float = 60.0,
    rings: bool = False,
    cache: ResultCache | None = None,
) -> Iterator[Shop]:
    """Yield a shop in ``folder``, on SQLite there or on the database at ``url``.

    ``work_off`` sends no heartbeats, so a lease has to outlast the longest step on a slow machine.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = Database(url or sqlite_url(folder / "t.db"))
    migrate.upgrade(database)
    endings = Endings(database, audio_days=1.0, text_days=30.0)
    blobs = open_blobs(None, folder / "blobs")
    store = JobStore(database, endings, rings=rings, section_s=SECTION_S)
    guard = SourceGuard(Egress(EgressRules()), ObjectSource((folder,)))
    try:
        yield Shop(
            folder,
            database,
            blobs,
            store,
            WorkStore(database, endings, lease_s=lease_s, rings=rings),
            Upkeep(database, endings, lease_s=lease_s, rings=rings),
            JobService(store, blobs, guard, ring=lambda: None, cache=cache),
            cache=cache or ResultCache(),
        )
    finally:
        database.close()


def in_thread(work: Callable[[], object]) -> threading.Thread:
    """Start ``work`` in a thread and return it."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
