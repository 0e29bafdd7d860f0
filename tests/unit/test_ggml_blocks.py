"""Blocks of ggml numbers: the same bits that the ggml library makes, and how far they are from what went in."""

import ctypes
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tympan.engine.ggml.blocks import BLOCK, F16, F32, FORMATS

Reals = NDArray[np.float32]


@pytest.fixture(scope="module")
def library() -> Callable[[str, Reals], bytes]:
    """Return the library's own quantisation."""
    binding = pytest.importorskip("_pywhispercpp")
    ggml = ctypes.CDLL(binding.__file__)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = [
        ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_void_p,
    ]  # fmt: skip

    def quantise(name: str, values: Reals) -> bytes:
        out = (ctypes.c_uint8 * (values.nbytes + 64))()
        rows, columns = values.shape
        size = ggml.ggml_quantize_chunk(FORMATS[name].type, values.ctypes.data, out, 0, rows, columns, None)
        return bytes(out[:size])

    return quantise


@pytest.mark.parametrize("name", ["q4_0", "q5_0", "q8_0"])
@pytest.mark.parametrize("spread", [1e-3, 0.05, 30.0])
def test_blocks_are_the_librarys_own(library: Callable[[str, Reals], bytes], name: str, spread: float) -> None:
    """To the bit, for weights of any size, zeros included."""
    values = (np.random.default_rng(1).standard_normal((64, 96)) * spread).astype(np.float32)
    values[3] = 0.0
    values[4, :32] = 0.0
    assert FORMATS[name].pack(values) == library(name, values)


def restored(name: str, packed: bytes) -> Reals:
    """Return the numbers that blocks stand for."""
    form = {"q4_0": (18, 8), "q5_0": (22, 16), "q8_0": (34, 0)}[name]
    blocks = np.frombuffer(packed, np.uint8).reshape(-1, form[0])
    scale = blocks[:, :2].copy().view(np.float16).astype(np.float32)
    if name == "q8_0":
        return scale * blocks[:, 2:].view(np.int8)
    nibbles = np.hstack([blocks[:, -16:] & 0x0F, blocks[:, -16:] >> 4])
    fifth = np.unpackbits(blocks[:, 2:6], axis=1, bitorder="little") << 4 if name == "q5_0" else 0
    found: Reals = scale * ((nibbles | fifth).astype(np.float32) - form[1])
    return found


@given(
    values=st.lists(st.floats(-100, 100, width=32), min_size=BLOCK, max_size=BLOCK),
    name=st.sampled_from(["q4_0", "q5_0", "q8_0"]),
)
def test_what_comes_back_is_near(values: list[float], name: str) -> None:
    """No number is off by more than a step: the block's greatest divided by 8, 16 or 127."""
    given_values = np.array([values], np.float32)
    step = np.abs(given_values).max() / {"q4_0": 8, "q5_0": 16, "q8_0": 127}[name]
    # Half of the scale's own rounding comes on top, and scales below float16's smallest number are lost.
    assert np.abs(restored(name, FORMATS[name].pack(given_values)) - given_values).max() <= step * 1.01 + 1e-5


@pytest.mark.parametrize(("form", "dtype"), [(F16, "<f2"), (F32, "<f4")])
def test_plain_formats_are_plain(form: object, dtype: str) -> None:
    """float16 and float32 are written as they are, rows one after the other."""
    values = np.arange(12, dtype=np.float32).reshape(3, 4).T
    packed = FORMATS["f16"].pack(values) if form is F16 else F32.pack(values)
    assert np.array_equal(np.frombuffer(packed, dtype).reshape(4, 3), values)
