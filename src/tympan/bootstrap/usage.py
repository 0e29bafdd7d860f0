"""What operators may ask about usage, for the command line; a server may be running on the same stores."""

from datetime import date

from tympan.access.usage import Period, UsageRow, csv_of, flat
from tympan.bootstrap.jobs import open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.config import Settings
from tympan.storage.usage import UsageStore

__all__ = ["csv_of", "flat", "listing"]


def listing(settings: Settings, first: date, last: date, tenant: str | None) -> list[UsageRow]:
    """Return what was used from ``first`` to ``last``, by one tenant or by all. Raises ``StorageUnavailable``."""
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return UsageStore(stores.database).between(Period(first, last), tenant)
