"""Keys for tests: fresh ones, and what stands in the log about them."""

from collections.abc import Mapping
from typing import Any

from tympan.access.callers import USUAL
from tympan.access.tokens import Token, mint
from tympan.storage.audit import AuditEntry
from tympan.storage.keys import NewKey


def new_key(
    tenant: str = "default",
    scopes: tuple[str, ...] = USUAL,
    lifetime_s: float | None = None,
    name: str = "for a test",
) -> tuple[Token, NewKey]:
    """Return a fresh key and what is kept of it."""
    token = mint()
    return token, NewKey(token.id, token.secret_sha256, tenant, name, scopes, lifetime_s)


def entry(action: str = "key.create", detail: Mapping[str, Any] | None = None) -> AuditEntry:
    """Return a row of the log."""
    return AuditEntry("cli:test", action, detail=detail)
