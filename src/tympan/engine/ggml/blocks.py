"""Number formats of ggml: float32, float16, and blocks of 32 whole numbers that share a float16 scale.

The layouts are those that ``ggml-quants`` of the ggml library (0.13) describes and reads: a block holds its scale
first; of a pair of numbers in one byte the lower four bits are from the first half of the block. Rounding is the
library's own too, so that a file is the same to the bit as one that its tools make.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 32
"""Numbers that share a scale."""

Reals = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """A format: its number for a single tensor (``type``), for a file mostly in it (``file_type``), and its maker."""

    name: str
    type: int
    file_type: int
    pack: Callable[[NDArray[Any]], bytes]


def _float32(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _float16(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f2").tobytes()


def _in_blocks(values: NDArray[Any]) -> Reals:
    blocks: Reals = np.ascontiguousarray(values, dtype=np.float32).reshape(-1, BLOCK)
    return blocks


def _scales(scale: Reals) -> Bytes:
    """Return the scales as two bytes each."""
    found: Bytes = scale.astype("<f2").reshape(-1, 1).view(np.uint8)
    return found


def _inverse(scale: Reals) -> Reals:
    """Return 1 / scale, and 0 for a block of zeros."""
    found: Reals = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    return found


def _signed_peak(blocks: Reals) -> Reals:
    """Return of each block the number that is farthest from zero."""
    found: Reals = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=1)[:, None], axis=1)[:, 0]
    return found


def _q8_0(values: NDArray[Any]) -> bytes:
    blocks = _in_blocks(values)
    scale = np.abs(blocks).max(axis=1) / np.float32(127)
    scaled = blocks * _inverse(scale)[:, None]
    whole = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return np.hstack([_scales(scale), whole.view(np.uint8)]).tobytes()


def _steps(blocks: Reals, half: int) -> tuple[Reals, Bytes]:
    """Return scales and steps from 0 to ``2 * half - 1``; the peak of a block falls on a step exactly."""
    scale = _signed_peak(blocks) / np.float32(-half)
    steps = blocks * _inverse(scale)[:, None] + np.float32(half + 0.5)
    return scale, np.minimum(steps.astype(np.uint8), np.uint8(2 * half - 1))


def _paired(steps: Bytes) -> Bytes:
    """Return the lower four bits of both halves of each block, two to a byte."""
    low = steps & np.uint8(0x0F)
    found: Bytes = low[:, : BLOCK // 2] | (low[:, BLOCK // 2 :] << np.uint8(4))
    return found


def _q4_0(values: NDArray[Any]) -> bytes:
    scale, steps = _steps(_in_blocks(values), 8)
    return np.hstack([_scales(scale), _paired(steps)]).tobytes()


def _q5_0(values: NDArray[Any]) -> bytes:
    scale, steps = _steps(_in_blocks(values), 16)
    fifth_bits = np.packbits(steps >> np.uint8(4), axis=1, bitorder="little")
    return np.hstack([_scales(scale), fifth_bits, _paired(steps)]).tobytes()


F32 = NumberFormat("f32", 0, 0, _float32)
F16 = NumberFormat("f16", 1, 1, _float16)

FORMATS: Mapping[str, NumberFormat] = MappingProxyType(
    {
        made.name: made
        for made in (
            F16,
            NumberFormat("q4_0", 2, 2, _q4_0),
            NumberFormat("q5_0", 6, 8, _q5_0),
            NumberFormat("q8_0", 8, 7, _q8_0),
        )
    }
)
"""What a model can be exported to. Numbers of types are ``enum ggml_type``'s, of files ``enum ggml_ftype``'s."""

FILE_TYPES: Mapping[int, str] = MappingProxyType(
    {0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k", 12: "q4_k"}
    | {13: "q5_k", 14: "q6_k"}
)
"""Names of the formats that a file may be in, by the number in its header."""
