"""What requests leave in the audit log.

A row is written before the work begins, so that nothing is done that is not in the log; when it fails, a second row
with the same request id says how. Neither holds more than ids.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

from tympan.access.callers import Caller
from tympan.storage.audit import ASKED, DONE, AuditEntry

Record: TypeAlias = Callable[[AuditEntry], None]

ANONYMOUS = "anybody"
"""Who acts where no keys are asked for."""


@dataclass(frozen=True, slots=True)
class Deed:
    """What a request is about to do: to whom of the caller's, from which address, under which request id."""

    action: str
    target: str | None
    address: str
    request_id: str


class Trail:
    """Writes the log; its methods wait for the database."""

    def __init__(self, record: Record) -> None:
        """Hand every row to ``record``."""
        self._record = record

    def begin(self, caller: Caller, deed: Deed) -> None:
        """Write down what is about to be done. Raises ``StorageUnavailable``; then it must not be done."""
        self._record(_row(caller, deed, ASKED))

    def fail(self, caller: Caller, deed: Deed, outcome: str) -> None:
        """Write down that it was not done, and with which status that was answered. Raises ``StorageUnavailable``."""
        self._record(_row(caller, deed, outcome))


def entry_of(caller: Caller, deed: Deed, **detail: object) -> AuditEntry:
    """Return the row for a deed that is written down in the transaction that does it."""
    return replace(_row(caller, deed, DONE), detail=detail or None)


def _row(caller: Caller, deed: Deed, outcome: str) -> AuditEntry:
    return AuditEntry(
        actor=f"key:{caller.key_id}" if caller.key_id else ANONYMOUS,
        action=deed.action,
        tenant=caller.tenant,
        target=deed.target,
        outcome=outcome,
        address=deed.address[:64] or None,
        request_id=deed.request_id[:64] or None,
    )
