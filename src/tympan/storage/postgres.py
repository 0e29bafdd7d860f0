"""Connections to PostgreSQL that do not wait for ever: every wait for an answer has a limit on this side, too.

The server's own limits on statements and locks are of no use when the server is frozen or the network swallows bytes.
"""

import time
from collections.abc import Generator
from typing import Any

import psycopg

ANSWER_S = 5.0
"""Longest wait for the answer to one statement; the server gives up a little earlier, with a better error."""

_STATEMENT_MS = 4_700
_LOCK_MS = 4_000
_CONNECT_S = 5


class BoundedConnection(psycopg.Connection[Any]):
    """A connection that is given up when an answer takes longer than ``answer_s``; ``None`` is for migrations."""

    answer_s: float | None = ANSWER_S

    def wait(self, gen: Any, *arguments: Any, **keywords: Any) -> Any:
        """Return what ``gen`` returns once the server has answered. Raises ``psycopg.OperationalError``."""
        return super().wait(gen if self.answer_s is None else self._limited(gen, self.answer_s), *arguments, **keywords)

    def _limited(self, gen: Any, answer_s: float) -> Generator[Any, int, Any]:
        """Pass on what ``gen`` waits for; the caller comes back ten times a second even when nothing has happened."""
        deadline = time.monotonic() + answer_s
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("The server did not answer in time.")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value


def connect_arguments() -> dict[str, Any]:
    """Return what every connection is opened with."""
    settings = (
        f"-c statement_timeout={_STATEMENT_MS} -c lock_timeout={_LOCK_MS} "
        "-c idle_in_transaction_session_timeout=60000 -c timezone=UTC -c synchronous_commit=on"
    )
    return {
        "connect_timeout": _CONNECT_S,
        "options": settings,
        "application_name": "tympan",
        "keepalives_idle": 5,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        # A pooler in front may hand every transaction another session, which knows no prepared statements.
        "prepare_threshold": None,
    }


def connect(_dialect: object, _record: object, arguments: Any, keywords: Any) -> BoundedConnection:
    """Open a connection as SQLAlchemy's ``do_connect`` asks for one."""
    return BoundedConnection.connect(*arguments, **keywords)
