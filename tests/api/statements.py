"""Whether the statements of one tenant's request stay with that tenant: what a lint of SQL can see, and a little more.

A statement is bound when it says ``tenant = ?`` and the value is the caller's. One that is not may follow in the same
request, if it names nothing but rows that a bound one before it has named, or made.
"""

import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event

from tympan.storage import database

ROOTS = frozenset({"jobs", "batches", "uploads", "webhook_endpoints", "events", "deliveries", "idempotency", "usage"})
"""Tables with a column ``tenant``."""

BRANCHES = frozenset({"steps", "results", "edits", "result_parts", "upload_parts", "delivery_attempts"})
"""Tables whose rows belong to a row of a root, which their keys name."""

_TABLE = re.compile(r"\b(?:from|join|into|update)\s+(\w+)", re.IGNORECASE)
_BOUND = re.compile(r"\btenant\s*(?:=\s*\?|in\s*\((?:\?|,|\s)+\))", re.IGNORECASE)
_NOTHING = "IN (SELECT 1 FROM (SELECT 1) WHERE 1!=1)"
_COLUMNS = re.compile(r"^insert into \w+ \(([^)]*)\)", re.IGNORECASE)
_NAMED = re.compile(r"\b(?:id|\w+_id)\s*(?:=\s*\?|in\s*\((?:\?|,|\s)+\))", re.IGNORECASE)
_HEAD_OF_QUEUE = "SELECT steps.tag_s FROM steps WHERE steps.state = ? AND steps.lane = ? ORDER BY"
_ID = re.compile(r"[a-z]{3,7}_[0-9a-f]{12,}")
_SUM = re.compile(r"(?:coalesce\()?(?:count|sum|min|max)\(", re.IGNORECASE)


@dataclass(slots=True)
class Said:
    """One statement, its parameters, and the ids in the rows that it was answered with."""

    statement: str
    parameters: tuple[Any, ...]
    answered: set[str] = field(default_factory=set)

    def heard(self, _cursor: object, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Note a row of the answer; SQLite calls this for each."""
        self.answered |= _ids(row)
        return row


Transaction = list[Said]
"""What was said to the database between a beginning and an end."""


@contextmanager
def recorded() -> Iterator[list[Transaction]]:
    """Yield the transactions of the databases that are opened during the block, in order, also while they run.

    Those of the threads that add usage up and look how the parts of the server stand are left out: they are nobody's
    requests.
    """
    found: list[Transaction] = []

    def opened(*given: Any, **named: Any) -> Engine:
        # From the beginning, since listeners must not be added while other threads use the engine.
        engine = create_engine(*given, **named)
        _listen(engine, found)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "create_engine", opened)
        yield found


def _listen(engine: Engine, found: list[Transaction]) -> None:
    open_ones: dict[int, Transaction] = {}

    def begin(connection: Any) -> None:
        if not threading.current_thread().name.startswith(("usage", "watch-")):
            transaction = open_ones[id(connection.connection.dbapi_connection)] = []
            found.append(transaction)

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: object) -> None:
        many = bool(parameters) and isinstance(parameters[0], tuple)
        said = [Said(" ".join(statement.split()), tuple(row)) for row in (parameters if many else [parameters])]
        cursor.row_factory = said[0].heard
        open_ones.get(id(connection.connection.dbapi_connection), []).extend(said)

    def end(connection: Any) -> None:
        open_ones.pop(id(connection.connection.dbapi_connection), None)

    for name, heard in (("begin", begin), ("before_cursor_execute", note), ("commit", end), ("rollback", end)):
        event.listen(engine, name, heard)


def tables_of(statement: str) -> frozenset[str]:
    """Return the tables of tenants that a statement names."""
    return frozenset(name.lower() for name in _TABLE.findall(statement)) & (ROOTS | BRANCHES)


def strays(transactions: Iterable[Transaction], tenant: str) -> list[str]:
    """Return the statements of a request, its transactions in order, that could reach a row of another tenant's.

    Sums over everybody's rows tell how long the queue is, and so does the place of its head: they are nobody's.
    """
    known: set[str] = set()
    has_bound, found = False, []
    for said in (each for transaction in transactions for each in transaction if not _is_harmless(each.statement)):
        ids = _ids(_naming(said))
        is_bound = _is_bound(said, tenant)
        if is_bound or (_names_rows(said.statement) and (ids <= known if ids else has_bound)):
            # A row that a bound question found is the tenant's; the id that it asked for may be anybody's.
            known |= said.answered | (ids if said.statement.startswith("INSERT") else set())
            has_bound |= is_bound
        else:
            found.append(f"{said.statement} {said.parameters}")
    return found


def _is_harmless(statement: str) -> bool:
    return (
        not tables_of(statement) or _NOTHING in statement or _is_sum(statement) or statement.startswith(_HEAD_OF_QUEUE)
    )


def _is_sum(statement: str) -> bool:
    """Return whether a statement asks for nothing but sums over all that it reads."""
    columns, depth = [""], 0
    for character in statement.partition(" FROM ")[0].removeprefix("SELECT "):
        depth += (character == "(") - (character == ")")
        if character == "," and not depth:
            columns.append("")
        else:
            columns[-1] += character
    return " GROUP BY " not in statement and all(_SUM.match(column.strip()) for column in columns)


def _naming(said: Said) -> tuple[Any, ...]:
    """Return the parameters that say which rows a statement is about; those before WHERE are what an update writes."""
    written = said.statement.partition(" WHERE ")[0].count("?") if said.statement.startswith("UPDATE") else 0
    return said.parameters[written:]


def _ids(values: Iterable[Any]) -> set[str]:
    return {value for value in values if isinstance(value, str) and _ID.fullmatch(value)}


def _is_bound(said: Said, tenant: str) -> bool:
    """Return whether a statement asks for the tenant's rows, or adds one; every tenant that it names is this one."""
    statement, parameters = said.statement, said.parameters
    if statement.lower().startswith("insert"):
        columns = _COLUMNS.match(statement)
        names = [name.strip(' "') for name in columns[1].split(",")] if columns else []
        return "tenant" in names and parameters[names.index("tenant")] == tenant
    named = [parameters[place] for match in _BOUND.finditer(statement) for place in _places(match)]
    return bool(named) and set(named) == {tenant}


def _places(match: re.Match[str]) -> range:
    """Return which of a statement's parameters stand in a part of it."""
    before = match.string.count("?", 0, match.start())
    return range(before, before + match[0].count("?"))


def _names_rows(statement: str) -> bool:
    """Return whether a statement says which rows it is about, by an id or a number."""
    return statement.lower().startswith("insert") or _NAMED.search(statement) is not None
