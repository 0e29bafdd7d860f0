"""What operators may ask about traffic, for the command line; a server may be running on the same stores."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from tympan.bootstrap.jobs import open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.bootstrap.traffic import periods_of
from tympan.config import Settings
from tympan.errors import InvalidRequest
from tympan.quality.drift import Finding, Report, examine, figures, shares
from tympan.quality.traffic import last_days
from tympan.storage.traffic import TrafficStore

__all__ = ["Finding", "Report", "figures", "keep_baseline", "report", "shares"]


def report(settings: Settings, days: int | None = None) -> Report:
    """Return how the last ``days`` of traffic differ from those before. Raises ``StorageUnavailable``."""
    periods = periods_of(settings)
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return examine(TrafficStore(stores.database), replace(periods, window_days=days or periods.window_days), _now())


def keep_baseline(settings: Settings, days: int | None) -> tuple[date, date] | None:
    """Keep the last ``days`` whole days as what traffic is compared with; ``None`` lets the baseline move on.

    Returns the first and the last of them. Raises ``InvalidRequest`` when they have no traffic, ``StorageUnavailable``.
    """
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        traffic = TrafficStore(stores.database)
        chosen = None if days is None else last_days(_now() - timedelta(days=1), days)
        if chosen is not None and not traffic.between(*chosen):
            raise InvalidRequest(
                f"There was no traffic from {chosen[0]} to {chosen[1]}.", remedy="Wait for a day of it, or take more."
            )
        traffic.keep_baseline(chosen)
        return chosen


def _now() -> date:
    return datetime.now(UTC).date()
