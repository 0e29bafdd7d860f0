"""What operators may ask about quality, for the command line; a server may be running on the same stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tympan.bootstrap.access import operator_entry
from tympan.bootstrap.jobs import WorkerPost, make_service, open_stores
from tympan.bootstrap.measuring import make_golden_desk, make_watch
from tympan.bootstrap.pipeline import make_data_dir
from tympan.config import Settings
from tympan.quality.alarms import Alarm
from tympan.quality.golden import GoldenDesk, RunDetails
from tympan.quality.manifest import SPEECH, Item, read_folder
from tympan.quality.report import Group, Utterance, groups, summary, worst
from tympan.storage.golden import GoldenSet, SetPlan
from tympan.storage.golden_runs import GoldenRun

__all__ = [
    "SPEECH", "Alarm", "GoldenRun", "GoldenSet", "Group", "Item", "Quality", "RunDetails", "SetPlan", "Utterance",
    "groups", "open_quality", "read_folder", "summary", "worst",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quality:
    """Golden sets and alarms of an installation, while its stores are open; what changes them is in the audit log."""

    desk: GoldenDesk
    _settings: Settings
    _has_workers: bool

    def add(self, folder: Path, name: str | None, language: str | None, plan: SetPlan) -> tuple[GoldenSet, list[Item]]:
        """Store a folder as a set, under its own name unless another is given. Raises ``InvalidRequest``."""
        items = read_folder(folder, language)
        entry = operator_entry("quality.add")
        return self.desk.add(name or folder.resolve().name, items, plan, entry=entry), items

    def schedule(self, name: str, schedule: str | None) -> GoldenSet:
        """Run a set at these times from now on, ``None`` for never. Raises ``NotFound``, ``InvalidRequest``."""
        return self.desk.schedule(name, schedule, operator_entry("quality.schedule"))

    def remove(self, name: str) -> None:
        """Remove a set with its history and its audio. Raises ``NotFound``."""
        self.desk.remove(name, operator_entry("quality.remove"))

    def run(self, name: str, model: str = "") -> GoldenRun:
        """Begin a run of all clips. Raises ``NotFound``."""
        return self.desk.run(name, model, operator_entry("quality.run"))

    def make_baseline(self, run_id: str) -> GoldenRun:
        """Compare with this run from now on. Raises ``NotFound``, ``InvalidRequest``."""
        return self.desk.make_baseline(run_id, operator_entry("quality.baseline"))

    def alarms(self, days: float) -> list[Alarm]:
        """Return alarms that are open, or were in the last ``days``, oldest first; looks what is overdue first."""
        make_watch(self._settings, self.desk.store.database).look()
        return self.desk.alarms.since(days)

    @property
    def has_workers(self) -> bool:
        """Whether a server was there to do the work when the stores were opened."""
        return self._has_workers


@contextmanager
def open_quality(settings: Settings) -> Iterator[Quality]:
    """Yield what may be asked. Raises ``StorageUnavailable``."""
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        jobs = make_service(settings, stores, WorkerPost(0.0))
        desk = make_golden_desk(settings, stores.database, stores.blobs, jobs)
        yield Quality(desk, settings, stores.upkeep.has_workers())
