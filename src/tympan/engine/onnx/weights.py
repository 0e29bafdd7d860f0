"""The weights of a converted Whisper model, read from CTranslate2's ``model.bin``.

The layout is that of CTranslate2's own converter (``ctranslate2/specs/model_spec.py``, binary version 6): a header,
then per variable its name, shape, type and bytes, then aliases, all little-endian.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from tympan.errors import ModelError

_VERSION = 6
_TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}

Weight = NDArray[np.float32]


class Weights:
    """Variables of a model by name; nothing is read from disk before it is asked for."""

    def __init__(self, path: Path) -> None:
        """Map the file at ``path``. Raises ``ModelError`` when it is not such a file or has been cut short."""
        try:
            file = path.open("rb")
            finalize(self, file.close)
            self._file = file.fileno()
            self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
            self._bytes = memoryview(self._map)
            self._places: dict[str, int] = {}
            self._variables = dict(self._walk())
        except (OSError, struct.error, ValueError, KeyError) as error:
            raise ModelError(
                f"{path.name} cannot be read as a converted model: {error}.",
                remedy="Fetch the model again: tympan models pull NAME --force.",
            ) from error

    def __contains__(self, name: str) -> bool:
        """Tell whether the model has a variable ``name``."""
        return name in self._variables

    def raw(self, name: str) -> NDArray[Any]:
        """Return a variable as it is stored, without a copy."""
        return self._variables[name]

    def number(self, name: str) -> int:
        """Return a whole number of the model's description, such as the number of heads."""
        return int(self._variables[name])

    def real(self, name: str) -> Weight:
        """Return a variable as float32; whole numbers are multiplied out by their scale."""
        stored = self._variables[name]
        values: Weight = stored.astype(np.float32)
        if stored.dtype.kind == "i":
            scale = self._variables[f"{name}_scale"].astype(np.float32)
            values /= scale.reshape(-1, *[1] * (values.ndim - 1)) if scale.ndim else scale
        return values

    def floats(self, name: str) -> NDArray[np.floating[Any]]:
        """Return a variable as float16 or float32, without a copy where it is stored so."""
        stored = self._variables[name]
        return self.real(name) if stored.dtype.kind == "i" else stored

    def rows(self, name: str, numbers: Sequence[Sequence[int]]) -> Weight:
        """Return rows of the matrix ``name`` by number as float32, with one axis more than ``numbers`` has.

        They are read from the file each time: of a mapped file, 64 KiB would stay in memory around each of them.
        """
        stored, flat = self._variables[name], [number for row in numbers for number in row]
        size = stored[:1].nbytes
        read = b"".join(os.pread(self._file, size, self._places[name] + size * number) for number in flat)
        values: Weight = np.frombuffer(read, stored.dtype).reshape(len(flat), -1).astype(np.float32)
        if stored.dtype.kind == "i":
            values /= self._variables[f"{name}_scale"].astype(np.float32)[flat, None]
        return values.reshape(len(numbers), -1, stored.shape[1])

    def let_go(self) -> None:
        """Give the file's pages back to the system; what is asked for again is read again."""
        if hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)

    def _walk(self) -> Iterator[tuple[str, NDArray[Any]]]:
        cursor = _Cursor(self._bytes)
        if (version := cursor.number("I")) != _VERSION:
            raise ValueError(f"its format has version {version}")
        cursor.text()
        cursor.number("I")
        for _ in range(cursor.number("I")):
            name = cursor.text()
            shape = [cursor.number("I") for _ in range(cursor.number("B"))]
            values = cursor.array(_TYPES[cursor.number("B")], shape)
            self._places[name] = cursor.at - values.nbytes
            yield name, values


class _Cursor:
    """Reads one value after the other; ``at`` is where the next begins."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        self.at = 0

    def number(self, code: str) -> int:
        value: int = struct.unpack_from(f"<{code}", self._data, self.at)[0]
        self.at += struct.calcsize(code)
        return value

    def text(self) -> str:
        length = self.number("H")
        self.at += length
        return bytes(self._data[self.at - length : self.at]).rstrip(b"\0").decode()

    def array(self, dtype: type[Any], shape: list[int]) -> NDArray[Any]:
        size = self.number("I")
        flat = np.frombuffer(self._data, dtype, size // np.dtype(dtype).itemsize, self.at)
        self.at += size
        return flat.reshape(shape)
