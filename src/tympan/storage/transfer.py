"""From one installation's stores into another's: every row and every blob, with the ids they had.

It may be run again after a failure: what is there already is left as it is.
"""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, RowMapping, Select, Table, func, insert, select, text, tuple_

from tympan.errors import ConfigError
from tympan.storage import migrate
from tympan.storage.blob_port import translated
from tympan.storage.blobs import BlobStore
from tympan.storage.database import Database
from tympan.storage.tables import bells, metadata, result_parts, steps, webhook_endpoints, workers

_ROWS = 500
_LONG_ROWS = 50
_LONG = frozenset((steps.name, result_parts.name))
"""Rows of these tables have text of some 100 kB."""

_LEFT_OUT = frozenset((bells.name, workers.name))
"""Doorbells and workers belong to an installation; the new one writes its own."""

_SEALED = ("secret", "old_secret")


def copy_rows(source: Database, target: Database, reseal: Callable[[str], str]) -> int:
    """Copy every row of ``source`` to ``target`` and return how many that were; both schemas must be up to date.

    ``reseal`` turns a secret sealed there into one sealed for here. Work in progress starts again. Raises
    ``ConfigError`` when a schema is not the one that this version needs.
    """
    for database in (source, target):
        if migrate.current(database) != migrate.head():
            raise ConfigError("A schema is not up to date.", remedy="Start this version once on both, then try again.")
    copied = 0
    for table in metadata.sorted_tables:
        if table.name in _LEFT_OUT:
            continue
        for rows in _pages(source, table):
            target.write(partial(_store, target=target, table=table, rows=rows, reseal=reseal))
            copied += len(rows)
    if not target.is_sqlite:
        target.write(_advance_serials)
    target.write(lambda tx: _ring_for_ready_steps(tx, target))
    return copied


def copy_blobs(source: BlobStore, target: BlobStore, scratch: Path) -> tuple[int, int]:
    """Copy every blob that ``target`` does not have; return how many, and their bytes."""
    count = n_bytes = 0
    for blob in source.list(""):
        if target.size(blob.key) == blob.n_bytes:
            continue
        with source.fetch(blob.key, scratch) as path:
            target.adopt(blob.key, _second(path, scratch / "transfer"))
        count, n_bytes = count + 1, n_bytes + blob.n_bytes
    return count, n_bytes


def _second(path: Path, copy: Path) -> Path:
    """Return a second name of the file at ``path``, or a copy where there can be none: on another disk."""
    copy.unlink(missing_ok=True)
    with translated():
        try:
            copy.hardlink_to(path)
        except OSError:
            shutil.copyfile(path, copy)
    return copy


def _pages(source: Database, table: Table) -> Iterator[list[RowMapping]]:
    """Yield a table's rows in pages, by primary key: a transaction for each keeps memory flat."""
    keys = list(table.primary_key.columns)
    first = query = select(table).order_by(*keys).limit(_LONG_ROWS if table.name in _LONG else _ROWS)
    while rows := source.read(partial(_fetched, query=query)):
        yield rows
        query = first.where(tuple_(*keys) > tuple_(*(rows[-1][key] for key in keys)))


def _fetched(tx: Connection, query: Select[*tuple[object, ...]]) -> list[RowMapping]:
    return list(tx.execute(query).mappings())


def _store(
    tx: Connection, target: Database, table: Table, rows: list[RowMapping], reseal: Callable[[str], str]
) -> None:
    values = [_adapted(table, dict(row), reseal) for row in rows]
    tx.execute(target.insert(table).on_conflict_do_nothing(), values)


def _adapted(table: Table, row: dict[str, object], reseal: Callable[[str], str]) -> dict[str, object]:
    if table is webhook_endpoints:
        for column in _SEALED:
            if row[column]:  # A deleted endpoint's secret is empty.
                row[column] = reseal(str(row[column]))
    if table is steps and row["state"] == "running":
        row |= {"state": "ready", "lease_owner": None, "lease_until": None}
    return row


def _advance_serials(tx: Connection) -> None:
    """Let PostgreSQL go on counting behind the ids that came along."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is not None and table.name not in _LEFT_OUT:
            highest = tx.scalar(select(func.max(column)))
            if highest is not None:
                tx.execute(
                    text("select setval(pg_get_serial_sequence(:table, :column), :value)"),
                    {"table": table.name, "column": column.name, "value": highest},
                )


def _ring_for_ready_steps(tx: Connection, target: Database) -> None:
    ready = select(steps.c.lane, target.now()).where(steps.c.state == "ready")
    tx.execute(insert(bells).from_select(["lane", "created_at"], ready))
