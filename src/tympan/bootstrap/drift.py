"""What operators may ask about traffic, for the command line; a server may be running on the same stores."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

from tympan.bootstrap.access import operator_entry
from tympan.bootstrap.jobs import open_stores
from tympan.bootstrap.pipeline import make_data_dir
from tympan.bootstrap.traffic import periods_of
from tympan.config import Settings
from tympan.errors import InvalidRequest
from tympan.quality.board import SecondOpinions, second_opinions
from tympan.quality.drift import Finding, Report, examine, figures, shares
from tympan.quality.second_opinions import Comparison, Opinion
from tympan.quality.traffic import last_days
from tympan.storage.traffic import TrafficStore

__all__ = [
    "Comparison", "Finding", "Opinion", "Report", "SecondOpinions", "figures", "keep_baseline", "opinions", "report",
    "shares",
]  # fmt: skip


def report(settings: Settings, days: int | None = None) -> Report:
    """Return how the last ``days`` of traffic differ from those before. Raises ``StorageUnavailable``."""
    periods = periods_of(settings)
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        return examine(TrafficStore(stores.database), replace(periods, window_days=days or periods.window_days), _now())


def opinions(settings: Settings, days: int | None = None) -> SecondOpinions:
    """Return how far models lay from the shadow model lately, and before. Raises ``StorageUnavailable``."""
    periods = periods_of(settings)
    make_data_dir(settings.data_dir)
    with open_stores(settings) as stores:
        wanted = replace(periods, window_days=days or periods.window_days)
        return second_opinions(TrafficStore(stores.database), wanted, _now())


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
                f"There was no traffic from {chosen[0]} to {chosen[1]}.",
                remedy="Wait for a day with traffic, or choose more days.",
            )
        action = "quality.move_baseline" if chosen is None else "quality.keep_baseline"
        traffic.keep_baseline(chosen, operator_entry(action))
        return chosen


def _now() -> date:
    return datetime.now(UTC).date()
