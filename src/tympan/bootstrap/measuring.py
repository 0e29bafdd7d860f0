"""From settings to who measures golden sets, and who tells what was measured."""

import os
import socket
import uuid

from tympan.bootstrap.traffic import periods_of
from tympan.config import Settings
from tympan.jobs.service import JobService
from tympan.quality.board import Board, TrafficBoard
from tympan.quality.conductor import Conductor, ConductorRules
from tympan.quality.golden import GoldenDesk
from tympan.quality.trial import TrialDesk, TrialRules
from tympan.quality.watch import QualityWatch
from tympan.storage.blobs import BlobStore
from tympan.storage.chores import Chores
from tympan.storage.database import Database
from tympan.storage.golden import GoldenStore
from tympan.storage.traffic import TrafficStore


def make_golden_desk(settings: Settings, database: Database, blobs: BlobStore, jobs: JobService) -> GoldenDesk:
    """Return what may be asked of golden sets."""
    return GoldenDesk(GoldenStore(database), blobs, jobs, run_limit_s=settings.quality_run_limit_s)


def make_conductor(settings: Settings, database: Database, blobs: BlobStore, jobs: JobService) -> Conductor:
    """Return who brings runs of golden sets to their end, not started yet."""
    desk = make_golden_desk(settings, database, blobs, jobs)
    rules = ConductorRules(settings.quality_tolerance_points, starter=has_starter(settings))
    return Conductor(desk, blobs, jobs, Chores(database, _owner()), rules)


def make_trial_desk(settings: Settings, golden: GoldenDesk) -> TrialDesk:
    """Return what may be done about models on trial."""
    return TrialDesk(golden, TrialRules(settings.quality_tolerance_points, starter=has_starter(settings)))


def make_board(settings: Settings, database: Database, blobs: BlobStore, jobs: JobService) -> Board:
    """Return what may be read about quality."""
    desk = make_golden_desk(settings, database, blobs, jobs)
    traffic = None
    if settings.traffic_days:
        traffic = TrafficBoard(TrafficStore(database), periods_of(settings), settings.shadow_model)
    return Board(desk, make_trial_desk(settings, desk), traffic)


def make_watch(settings: Settings, database: Database) -> QualityWatch:
    """Return who tells what was measured, not started yet."""
    return QualityWatch(GoldenStore(database), starter=has_starter(settings))


def has_starter(settings: Settings) -> bool:
    """Return whether the starter set is measured; made-up text is not worth it."""
    return settings.quality_starter and settings.engine != "fake"


def _owner() -> str:
    return f"{socket.gethostname()[:24]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
