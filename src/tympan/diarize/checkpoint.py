"""Reads the tensors of a PyTorch checkpoint without PyTorch, and without running what is in it.

The format is a zip archive: ``data.pkl`` describes the values, and each tensor's numbers lie in a file of their own
(``torch.save`` since PyTorch 1.6). A pickle can call anything; this one may make tensors and plain values only.
"""

import collections
import pickle
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tympan.errors import ModelUnavailable

Tensor = NDArray[Any]

_TYPES: Mapping[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "BoolStorage": np.bool_,
}
_MAX_BYTES = 1 << 30


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return all tensors in the file by name; names of nested mappings are joined by dots.

    Raises ``ModelUnavailable`` when it is no checkpoint or holds anything but tensors and plain values.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            folder = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise pickle.UnpicklingError("it unpacks to more than 1 GiB")
            with archive.open(f"{folder}data.pkl") as described:
                found = _Reader(described, archive, folder).load()
        return dict(_flat(found, ""))
    except (StopIteration, KeyError, ValueError, TypeError, EOFError, zipfile.BadZipFile, pickle.PickleError) as error:
        raise ModelUnavailable(
            f"{path} is no checkpoint that can be read: {str(error) or type(error).__name__}.",
            remedy="Fetch it again: delete the file and its folder.",
        ) from error


class _Reader(pickle.Unpickler):
    """Makes tensors and plain values."""

    def __init__(self, described: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(described)
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """Return what ``module.name`` stands for here. Raises ``UnpicklingError`` for all that is not known."""
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it holds a {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the numbers of a storage: ``("storage", type, key, device, count)``."""
        _, kind, key, *_ = pid
        return np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), kind)


def _tensor(numbers: Tensor, start: int, shape: Sequence[int], strides: Sequence[int], *_: object) -> Tensor:
    """Return the part of a storage that a tensor is."""
    last = start + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if min((*shape, *strides, start), default=0) < 0 or last >= len(numbers):
        raise pickle.UnpicklingError("a tensor lies outside its numbers")
    in_bytes = [step * numbers.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(numbers[start:], shape, in_bytes).copy()


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, np.ndarray):
            yield f"{prefix}{name}", value
