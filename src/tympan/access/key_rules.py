"""What a key may be: whose, under which name, for how long. One place for the command line and the HTTP interface."""

import math
import re
from collections.abc import Iterable

from tympan.access.callers import Scope
from tympan.errors import InvalidRequest

MAX_NAME_CHARS = 100
MAX_DAYS = 36_500
MAX_OVERLAP_HOURS = 24.0 * 90

DAY_S, HOUR_S = 86_400.0, 3_600.0

_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)


def tenant_name(text: str) -> str:
    """Return ``text`` when it can be a tenant's name. Raises ``InvalidRequest``."""
    if not _TENANT.fullmatch(text):
        raise InvalidRequest(
            f"{text[:80]!r} is not a valid tenant name.", remedy="Use up to 64 letters, digits, '.', '_' and '-'."
        )
    return text


def is_key_name(text: str) -> bool:
    """Return whether ``text`` can be what a key is known by."""
    return len(text) <= MAX_NAME_CHARS and text.isprintable()


def scopes_named(names: Iterable[str]) -> tuple[Scope, ...]:
    """Return the scopes of these names, each once. Raises ``InvalidRequest`` for an unknown one, and for none."""
    named = list(dict.fromkeys(names))
    unknown = [name for name in named if name not in set(Scope)]
    if unknown or not named:
        raise InvalidRequest(
            f"There is no scope {unknown[0][:64]!r}." if unknown else "A key needs at least one scope.",
            remedy=f"The scopes are {', '.join(Scope)}.",
        )
    return tuple(Scope(name) for name in named)


def is_lifetime(days: float) -> bool:
    """Return whether a key can live for so many days."""
    return 0 < days <= MAX_DAYS and math.isfinite(days)


def is_overlap(hours: float) -> bool:
    """Return whether a key that was replaced can go on for so many hours."""
    return 0 <= hours <= MAX_OVERLAP_HOURS
