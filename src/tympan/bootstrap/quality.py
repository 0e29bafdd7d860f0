"""What operators may ask about quality, for the command line; a server may be running on the same stores."""

from tympan.bootstrap.jobs import open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.config import Settings
from tympan.quality.alarms import Alarm, AlarmBook

__all__ = ["Alarm", "alarms"]


def alarms(settings: Settings, days: float) -> list[Alarm]:
    """Return alarms that are open, or were in the last ``days``, oldest first. Raises ``StorageUnavailable``."""
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return AlarmBook(stores.database).since(days)
