"""Real numbers in 8 bits: whole numbers around a zero point, and a scale for each row of them. Pure."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Reals: TypeAlias = NDArray[np.float32]
Bytes: TypeAlias = NDArray[np.integer[Any]]
"""8-bit numbers, signed or not."""

ZERO = 128
"""What stands for zero in unsigned numbers; in signed ones it is 0."""

STEPS = 127
"""Whole numbers on either side of zero."""

_TINY = np.float32(1e-12)  # A row of zeros has no largest number to scale by.


def zero_of(kind: "np.dtype[Any]") -> int:
    """Return what stands for zero in numbers of ``kind`` (``int8`` or ``uint8``)."""
    return 0 if kind == np.int8 else ZERO


def quantised(values: Reals, kind: "np.dtype[Any]") -> tuple[Bytes, Reals]:
    """Return ``values`` as numbers of ``kind``, scaled along the last axis, and the scales (last axis 1)."""
    scales: Reals = np.maximum(np.abs(values).max(axis=-1, keepdims=True), _TINY) / np.float32(STEPS)
    return (np.rint(values / scales) + zero_of(kind)).astype(kind), scales
