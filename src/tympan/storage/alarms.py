"""Alarms about quality: one row from when something is wrong until it is not; at most one open per kind and subject.

Whoever looks again and finds the same leaves the row as it is, but for the figures; so it does not matter how many
processes look. What begins and what ends is logged once it is committed.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection, delete, func, select, update

from tympan import telemetry
from tympan.storage.database import Database
from tympan.storage.quality_tables import alarms

_LOG = telemetry.get_logger(__name__)
_MOST = 1_000
_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that is or was wrong: of what kind, with what, from when to when (Unix seconds), and the figures."""

    id: int
    kind: str
    subject: str
    since: float
    until: float | None
    detail: Mapping[str, Any]


class AlarmBook:
    """The alarms table."""

    def __init__(self, database: Database) -> None:
        """Work on ``database``."""
        self._db = database

    def mark(self, kind: str, subject: str, detail: Mapping[str, Any] | None) -> None:
        """Open an alarm, or bring an open one up to date, with ``detail``; end it with ``None``.

        Raises ``StorageUnavailable``, ``InsufficientStorage``.
        """
        self._db.write(lambda tx: self.mark_in(tx, kind, subject, detail))

    def mark_in(self, tx: Connection, kind: str, subject: str, detail: Mapping[str, Any] | None) -> None:
        """Do as ``mark``, in the caller's transaction."""
        if detail is None:
            self._end(tx, kind, subject)
            return
        text = json.dumps(detail, sort_keys=True)
        new = self._db.insert(alarms).values(kind=kind, subject=subject, since=self._db.now(), detail=text)
        clash = alarms.c.until.is_(None)
        new = new.on_conflict_do_nothing(index_elements=["kind", "subject"], index_where=clash)
        if tx.execute(new.returning(alarms.c.id)).first() is not None:
            self._db.afterwards(tx, partial(_tell_begin, kind, subject, detail))
        else:
            tx.execute(update(alarms).where(*_open(kind, subject)).values(detail=text))

    def end_all_in(self, tx: Connection, subjects: Callable[[str], bool]) -> None:
        """End every open alarm about one of ``subjects``, in the caller's transaction."""
        for kind, subject in tx.execute(select(alarms.c.kind, alarms.c.subject).where(alarms.c.until.is_(None))).all():
            if subjects(subject):
                self._end(tx, kind, subject)

    def open(self) -> list[Alarm]:
        """Return what is wrong now, oldest first, ``1000`` at most."""
        return self._page(alarms.c.until.is_(None))

    def since(self, days: float) -> list[Alarm]:
        """Return what is wrong now or was in the last ``days``, oldest first, ``1000`` at most."""
        return self._page(alarms.c.until.is_(None) | (alarms.c.until > self._db.now() - days * _DAY_S))

    def counts(self) -> dict[str, int]:
        """Return how many alarms of each kind are open; a kind without any is left out."""
        query = select(alarms.c.kind, func.count()).where(alarms.c.until.is_(None)).group_by(alarms.c.kind)
        return self._db.read(lambda tx: {kind: int(count) for kind, count in tx.execute(query)})

    def forget(self, days: float) -> int:
        """Remove alarms that ended more than ``days`` ago; return how many."""
        query = delete(alarms).where(alarms.c.until < self._db.now() - days * _DAY_S)
        return self._db.write(lambda tx: tx.execute(query).rowcount)

    def _page(self, wanted: Any) -> list[Alarm]:
        query = select(alarms).where(wanted).order_by(alarms.c.id).limit(_MOST)

        def work(tx: Connection) -> list[Alarm]:
            rows = (dict(row) for row in tx.execute(query).mappings())
            return [Alarm(**row | {"detail": json.loads(row["detail"])}) for row in rows]

        return self._db.read(work)

    def _end(self, tx: Connection, kind: str, subject: str) -> None:
        if tx.execute(update(alarms).where(*_open(kind, subject)).values(until=self._db.now())).rowcount:
            self._db.afterwards(tx, partial(_tell_end, kind, subject))


def _tell_begin(kind: str, subject: str, detail: Mapping[str, Any]) -> None:
    _LOG.warning("quality_alarm", kind=kind, subject=subject, **detail)


def _tell_end(kind: str, subject: str) -> None:
    _LOG.info("quality_alarm_over", kind=kind, subject=subject)


def _open(kind: str, subject: str) -> tuple[Any, ...]:
    return alarms.c.kind == kind, alarms.c.subject == subject, alarms.c.until.is_(None)
