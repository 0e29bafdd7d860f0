"""From settings to what counts traffic, and what compares it with what it was."""

from collections.abc import Iterator
from contextlib import contextmanager

from tympan.config import Settings
from tympan.jobs.janitor import Janitor
from tympan.quality.alarms import AlarmBook
from tympan.quality.drift import DriftWatch, Periods
from tympan.quality.traffic import TrafficMeter
from tympan.storage.database import Database
from tympan.storage.traffic import TrafficStore


@contextmanager
def counting_traffic(settings: Settings, database: Database) -> Iterator[TrafficMeter | None]:
    """Yield what counts traffic, ``None`` where it is not counted; the last counts are kept too."""
    if not settings.traffic_days:
        yield None
        return
    meter = TrafficMeter(TrafficStore(database))
    meter.start()
    try:
        yield meter
    finally:
        meter.stop()


def watch_drift(settings: Settings, database: Database, janitor: Janitor) -> None:
    """Have ``janitor`` compare traffic with its baseline, where it is counted."""
    if settings.traffic_days:
        janitor.also(DriftWatch(TrafficStore(database), AlarmBook(database), periods_of(settings)).tend)


def periods_of(settings: Settings) -> Periods:
    """Return which days are compared."""
    return Periods(settings.drift_days, settings.drift_baseline_days, settings.traffic_days)
