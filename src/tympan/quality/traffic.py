"""What traffic is like, counted in memory and added to the database every minute by every process.

A process that is killed takes its last minute of counts with it. While the database is away counts are kept, up to a
bound; what could not be counted is counted as that.
"""

import operator
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Protocol, TypeAlias

from tympan import telemetry
from tympan.background import Background
from tympan.errors import TympanError
from tympan.observation import Observation
from tympan.quality.traffic_features import bins_of
from tympan.storage.traffic import TrafficRow
from tympan.tally import Tally

_LOG = telemetry.get_logger(__name__)
_FLUSH_S = 60.0
_JOIN_S = 10.0
MAX_KEYS = 20_000
"""Bins of features, models, kinds and days that are counted between two flushes; beyond that nothing new is."""

_Key: TypeAlias = tuple[str, str, str, str, str]


class TrafficBooks(Protocol):
    """Where counts are kept."""

    def add(self, rows: Sequence[TrafficRow]) -> None:
        """Add all rows, or none. Raises ``TympanError``."""


class TrafficMeter:
    """Counts for one process; ``start`` it, and ``stop`` it to have the last counts kept."""

    def __init__(
        self, books: TrafficBooks, *, clock: Callable[[], float] = time.time, flush_s: float = _FLUSH_S
    ) -> None:
        """Add counts to ``books`` every ``flush_s``; ``clock`` tells the day, in Unix seconds."""
        self._books, self._clock, self._flush_s = books, clock, flush_s
        self._tally: Tally[_Key, int] = Tally(operator.add, MAX_KEYS)
        self._background = Background("traffic", self._run, _JOIN_S)

    def add(self, seen: Observation) -> None:
        """Count; takes no time, and never fails the request that it is about."""
        try:
            telemetry.record_observation(seen)
            self.count(seen.kind, seen.model, dict.fromkeys(bins_of(seen).items(), 1))
        except (ArithmeticError, ValueError, TypeError) as error:
            telemetry.TRAFFIC_LOST.inc()
            _LOG.error("traffic_not_counted", **telemetry.crash_report(error))

    def count(self, kind: str, model: str, amounts: Mapping[tuple[str, str], int]) -> None:
        """Add ``amounts`` by feature and bin to those of the day: all of them, or none where there is no room.

        Raises ``ArithmeticError`` or ``ValueError`` where the clock shows no day.
        """
        day = today(self._clock()).isoformat()
        if not self._tally.add({(day, kind, model, *found): amount for found, amount in amounts.items()}):
            telemetry.TRAFFIC_LOST.inc()

    def flush(self) -> None:
        """Add what was counted to what is kept; when that fails it is tried again the next time."""
        try:
            self._tally.hand_on(lambda counts: self._books.add([TrafficRow(*key, n) for key, n in counts.items()]))
        except TympanError as error:
            _LOG.warning("traffic_not_saved", code=error.code)
        except Exception as error:  # noqa: BLE001 (the thread has to live on)
            _LOG.error("traffic_not_saved", **telemetry.crash_report(error))

    def start(self) -> None:
        """Begin to flush."""
        self._background.start()

    def stop(self) -> None:
        """Flush once more and stop."""
        self._background.stop()
        self.flush()

    def _run(self) -> None:
        while not self._background.over.wait(self._flush_s):
            self.flush()


def today(unix_s: float) -> date:
    """Return the day of a time, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).date()


def last_days(end: date, n_days: int) -> tuple[date, date]:
    """Return the first and the last of ``n_days`` days up to ``end``."""
    return end - timedelta(days=n_days - 1), end
