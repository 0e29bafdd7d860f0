"""The layout of a ggml file of a Whisper model: header, mel filters, vocabulary, tensors; all little-endian.

As read by whisper.cpp 1.8 (``whisper_model_load``): eleven sizes follow the magic number; the last one is the number
format, to which files with quantised tensors add 1000 times the version of the block layouts. The vocabulary holds
bytes, not text, and no special tokens: whisper.cpp derives those from the number of tokens.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from tympan.engine.ggml.blocks import BLOCK, F16, F32, NumberFormat
from tympan.errors import ModelError

MAGIC = 0x67676D6C
_VERSION = 2
_VERSION_FACTOR = 1000
_MAX_WORD_BYTES = 1 << 16

Tensor = tuple[str, NDArray[Any]]
"""A tensor and the name it has in a file."""

_PLAIN = frozenset({"encoder.positional_embedding", "decoder.positional_embedding"})


@dataclass(frozen=True, slots=True)
class Sizes:
    """A network's dimensions in the order of the header; ``vocabulary`` counts special tokens too."""

    vocabulary: int
    audio_positions: int
    audio_width: int
    audio_heads: int
    audio_layers: int
    text_positions: int
    text_width: int
    text_heads: int
    text_layers: int
    mels: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself before its tensors; ``file_type`` is the number of its number format."""

    sizes: Sizes
    file_type: int
    words: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What goes into a file; tensors are taken one by one."""

    sizes: Sizes
    mel_bank: NDArray[np.float32]
    words: Sequence[bytes]
    tensors: Iterable[Tensor]


def write(file: BinaryIO, contents: Contents, form: NumberFormat) -> None:
    """Write a model in the number format ``form``.

    Only matrices are in ``form``. As with whisper.cpp's own tools convolutions are float16, vectors and positions
    float32.
    """
    version = _VERSION * _VERSION_FACTOR if form.name.startswith("q") else 0
    file.write(struct.pack("<I11i", MAGIC, *astuple(contents.sizes), version + form.file_type))
    file.write(struct.pack("<2i", *contents.mel_bank.shape) + F32.pack(contents.mel_bank))
    file.write(struct.pack("<i", len(contents.words)))
    file.writelines(struct.pack("<I", len(word)) + word for word in contents.words)
    for name, array in contents.tensors:
        _write_tensor(file, name, array, _form_of(name, array, form))


def _form_of(name: str, array: NDArray[Any], form: NumberFormat) -> NumberFormat:
    if array.ndim < 2 or name in _PLAIN or name.endswith("bias"):
        return F32
    return form if array.ndim == 2 and array.shape[1] % BLOCK == 0 else F16


def _write_tensor(file: BinaryIO, name: str, array: NDArray[Any], form: NumberFormat) -> None:
    raw = name.encode()
    file.write(struct.pack(f"<3i{array.ndim}i", array.ndim, len(raw), form.type, *array.shape[::-1]) + raw)
    file.write(form.pack(array))


def read_header(path: Path) -> Header:
    """Return what the file at ``path`` says of itself. Raises ``ModelError`` when it is no such file or cut short."""
    try:
        with path.open("rb") as file:
            return read_start(file)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.name} cannot be read as a ggml Whisper model: {error}.",
            remedy="Fetch or export the model again: tympan models export NAME --to ggml.",
        ) from error


def read_start(file: BinaryIO) -> Header:
    """Read everything before the tensors. Raises ``ValueError`` when it is not what it should be."""
    magic, *numbers = unpacked(file, "<I11i")
    if magic != MAGIC:
        raise ValueError("it does not begin as one")
    sizes, file_type = Sizes(*numbers[:-1]), numbers[-1] % _VERSION_FACTOR
    mels, bins = unpacked(file, "<2i")
    if mels != sizes.mels or not 0 < mels * bins <= 1 << 20 or not 0 < sizes.vocabulary <= 1 << 20:
        raise ValueError("its sizes contradict each other")
    taken(file, 4 * mels * bins)
    (count,) = unpacked(file, "<i")
    if not 0 < count <= sizes.vocabulary:
        raise ValueError(f"its vocabulary has {count} words of {sizes.vocabulary}")
    return Header(sizes, file_type, tuple(_word(file) for _ in range(count)))


def _word(file: BinaryIO) -> bytes:
    (length,) = unpacked(file, "<I")
    if length > _MAX_WORD_BYTES:
        raise ValueError(f"a word of it has {length} bytes")
    return taken(file, length)


def unpacked(file: BinaryIO, layout: str) -> tuple[int, ...]:
    """Read numbers. Raises ``ValueError`` at the end of the file."""
    return struct.unpack(layout, taken(file, struct.calcsize(layout)))


def taken(file: BinaryIO, n_bytes: int) -> bytes:
    """Read bytes. Raises ``ValueError`` at the end of the file."""
    data = file.read(n_bytes)
    if len(data) < n_bytes:
        raise ValueError("it is cut short")
    return data
