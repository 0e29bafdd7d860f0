"""Checkpoints are read as tensors, and nothing in them is run."""

import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tympan.diarize.checkpoint import read_tensors
from tympan.errors import ModelUnavailable


class _Storage:
    """Stands for the numbers of a tensor while a checkpoint is written."""

    def __init__(self, key: str, kind: type, n: int) -> None:
        self.key, self.kind, self.n = key, kind, n


class _Tensor:
    """Written as PyTorch writes a tensor: a call that puts it together again."""

    def __init__(self, storage: _Storage, start: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.parts: tuple[Any, ...] = (storage, start, shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.modules["torch._utils"]._rebuild_tensor_v2, self.parts


class _Writer(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return ("storage", obj.kind, obj.key, "cpu", obj.n) if isinstance(obj, _Storage) else None


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """Return a module that goes by the name of PyTorch while a checkpoint is written."""
    module, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "LongStorage", "QuantizedStorage"):
        setattr(module, name, type(name, (), {"__module__": "torch"}))

    def rebuild(*_: Any) -> None:
        raise AssertionError("only its name is written")

    rebuild.__module__, rebuild.__qualname__, rebuild.__name__ = ("torch._utils", *["_rebuild_tensor_v2"] * 2)
    utils._rebuild_tensor_v2 = rebuild  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return module


def _write(path: Path, value: Any, numbers: dict[str, np.ndarray]) -> Path:
    described = io.BytesIO()
    _Writer(described, protocol=2).dump(value)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", described.getvalue())
        for key, each in numbers.items():
            archive.writestr(f"model/data/{key}", each.tobytes())
    return path


def test_tensors_come_out_as_they_went_in(tmp_path: Path, torch: types.ModuleType) -> None:
    """Two that share numbers, one transposed, a scalar; plain values are left out, and names are joined."""
    numbers, count = np.arange(12, dtype=np.float32), np.array([7], np.int64)
    shared = _Storage("0", torch.FloatStorage, 12)
    state = OrderedDict(
        weight=_Tensor(shared, 0, (3, 4), (4, 1)),
        turned=_Tensor(shared, 0, (4, 3), (1, 4)),
        last=_Tensor(shared, 8, (4,), (1,)),
        count=_Tensor(_Storage("1", torch.LongStorage, 1), 0, (), ()),
    )
    path = _write(tmp_path / "m.pt", {"version": 1, "state_dict": state}, {"0": numbers, "1": count})
    found = read_tensors(path)
    assert list(found) == [f"state_dict.{name}" for name in ("weight", "turned", "last", "count")]
    assert (found["state_dict.weight"] == numbers.reshape(3, 4)).all()
    assert (found["state_dict.turned"] == numbers.reshape(3, 4).T).all()
    assert found["state_dict.last"].tolist() == [8, 9, 10, 11]
    assert found["state_dict.count"] == 7


@pytest.mark.parametrize(
    ("start", "shape", "strides"), [(0, (13,), (1,)), (9, (2, 2), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,))]
)
def test_a_tensor_outside_its_numbers_is_refused(
    tmp_path: Path, torch: types.ModuleType, start: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    """It would show what else is in memory."""
    tensor = _Tensor(_Storage("0", torch.FloatStorage, 12), start, shape, strides)
    path = _write(tmp_path / "m.pt", {"w": tensor}, {"0": np.zeros(12, np.float32)})
    with pytest.raises(ModelUnavailable, match="outside"):
        read_tensors(path)


class _Calls:
    """What a hostile checkpoint holds: a call."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_call_in_a_checkpoint_is_not_made(tmp_path: Path) -> None:
    """The error names it."""
    path = _write(tmp_path / "m.pt", {"w": _Calls(tmp_path / "made")}, {})
    with pytest.raises(ModelUnavailable, match="mkdir"):
        read_tensors(path)
    assert not (tmp_path / "made").exists()


def test_what_is_no_checkpoint_says_so(tmp_path: Path, torch: types.ModuleType) -> None:
    """No archive, an archive without a description, one whose numbers are missing, an unknown type of numbers."""
    (tmp_path / "text.pt").write_text("no archive")
    with zipfile.ZipFile(tmp_path / "empty.pt", "w") as archive:
        archive.writestr("readme", "nothing")
    lacking = _Tensor(_Storage("5", torch.FloatStorage, 1), 0, (1,), (1,))
    strange = _Tensor(_Storage("0", torch.QuantizedStorage, 1), 0, (1,), (1,))
    _write(tmp_path / "lacking.pt", {"w": lacking}, {})
    _write(tmp_path / "strange.pt", {"w": strange}, {"0": np.zeros(1)})
    for name in ("text", "empty", "lacking", "strange"):
        with pytest.raises(ModelUnavailable, match=f"{name}.pt is no checkpoint that can be read") as caught:
            read_tensors(tmp_path / f"{name}.pt")
        assert caught.value.remedy
