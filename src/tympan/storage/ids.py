"""Names for things: unguessable, and in the order of their making."""

import secrets
import time

_RANDOM_BYTES = 10


def new_id(prefix: str) -> str:
    """Return ``<prefix>_<24 or more hexadecimal digits>``; later ones sort after earlier ones, to the millisecond."""
    return f"{prefix}_{time.time_ns() // 1_000_000:012x}{secrets.token_hex(_RANDOM_BYTES)}"
