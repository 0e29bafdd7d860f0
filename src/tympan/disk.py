"""How much of a disk stays free, whoever would like to write there."""

LEAST_FREE_BYTES = 64 << 20
"""Room that uploads never take, those included that were let in when there was more."""

_SHARE = 0.05
_MOST_BYTES = 5_000_000_000


def kept_free_bytes(total_bytes: int, asked_bytes: int | None = None) -> int:
    """Return how much stays free of a disk: what the operator asked for, or a twentieth, at most 5 GB.

    In both cases it is ``LEAST_FREE_BYTES`` or more.
    """
    reserve_bytes = min(_MOST_BYTES, round(_SHARE * total_bytes)) if asked_bytes is None else asked_bytes
    return max(LEAST_FREE_BYTES, reserve_bytes)
