"""Names for things: unguessable, and in the order of their making."""

import secrets
import time

MEASURING_TENANT = "_quality"
"""Whose jobs the clips of golden sets are; no key can be for it, since names begin with a letter or a digit."""

_RANDOM_BYTES = 10


def new_id(prefix: str) -> str:
    """Return ``<prefix>_<24 or more hexadecimal digits>``; later ones sort after earlier ones, to the millisecond."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(_RANDOM_BYTES)}"
