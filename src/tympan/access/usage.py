"""What tenants use, counted in memory and put on the books every few seconds.

A process that is killed takes the counts of its last few seconds with it: those of synchronous calls and live sessions.
Jobs are not counted here but where they end, in the same transaction.
"""

import csv
import io
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import Protocol, TypeAlias

from tympan import telemetry
from tympan.access.tenant_limits import Work
from tympan.background import Background
from tympan.errors import TympanError
from tympan.storage.usage import Period, UsageRow, Used, day_of
from tympan.tally import Tally

__all__ = ["COLUMNS", "Period", "UsageMeter", "UsageRow", "Used", "csv_of", "flat"]

COLUMNS = ("day", "tenant", "kind", "model", "requests", "failures", "audio_s", "processing_s")
"""What is told of usage, in this order."""

_LOG = telemetry.get_logger(__name__)
_FLUSH_S = 3.0
_JOIN_S = 10.0
MAX_KEYS = 50_000
"""Tenants times models times kinds that are counted between two flushes; beyond that nothing new is."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet calculate."""

_Key: TypeAlias = tuple[str, str, str, str]


class Books(Protocol):
    """Where counts are kept."""

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Add all rows, or none. Raises ``TympanError``."""

    def between(self, period: Period, tenant: str | None = None) -> list[UsageRow]:
        """Return what was used in a period, by one tenant or by all, oldest first."""


class NoBooks:
    """Keeps nothing."""

    def add(self, rows: Sequence[UsageRow]) -> None:
        """Forget ``rows``."""

    def between(self, period: Period, tenant: str | None = None) -> list[UsageRow]:
        """Return nothing."""
        return []


class UsageMeter:
    """Counts for one process; ``start`` it, and ``stop`` it to put the last counts on the books."""

    def __init__(
        self, books: Books | None = None, *, clock: Callable[[], float] = time.time, flush_s: float = _FLUSH_S
    ) -> None:
        """Put counts into ``books`` every ``flush_s``; ``clock`` tells the day, in Unix seconds."""
        self.books: Books = books or NoBooks()
        self._clock, self._flush_s = clock, flush_s
        self._tally: Tally[_Key, Used] = Tally(Used.plus, MAX_KEYS)
        self._background = Background("usage", self._run, _JOIN_S)

    def add(self, tenant: str, kind: Work, model: str, used: Used) -> None:
        """Count; takes no time."""
        key = (tenant, day_of(self._clock()), kind.value, model)
        if not self._tally.add({key: used}):
            telemetry.USAGE_LOST.inc(used.requests)

    def flush(self) -> None:
        """Put what was counted on the books; when that fails it is kept for the next time."""
        try:
            self._tally.hand_on(lambda counts: self.books.add([UsageRow(*key, used) for key, used in counts.items()]))
        except TympanError as error:
            _LOG.warning("usage_not_saved", code=error.code)
        except Exception as error:  # noqa: BLE001 (the thread has to live on)
            _LOG.error("usage_not_saved", **telemetry.crash_report(error))
        telemetry.USAGE_UNSAVED.set(len(self._tally))

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


def flat(row: UsageRow) -> dict[str, str | int | float]:
    """Return a row as plain values by column."""
    values: dict[str, str | int | float] = asdict(row)
    used: dict[str, int | float] = asdict(row.used)
    return {name: used.get(name, values.get(name, "")) for name in COLUMNS}


def csv_of(rows: Iterable[UsageRow]) -> str:
    """Return rows as comma-separated values with a line of names; no cell is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([_cell(value) for value in flat(row).values()] for row in rows)
    return text.getvalue()


def _cell(value: str | float) -> str | float:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
