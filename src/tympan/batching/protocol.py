"""What the parent and the engine process say to each other, and what an engine's error text means.

Messages are pickled (protocol 5) onto a private socket pair between a process and the child it started itself; audio
travels as the raw int16 buffer of its array.
"""

import pickle
from dataclasses import dataclass
from typing import Final, TypeAlias

from tympan.domain import WindowResult, WindowTask
from tympan.engine.base import EngineInfo
from tympan.errors import EngineDeviceLost, EngineError, EngineOutOfMemory, TympanError


@dataclass(frozen=True, slots=True)
class Run:
    """Parent to child: transcribe these."""

    batch_id: int
    tasks: tuple[WindowTask, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """Parent to child: finish what you have, then end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """Child to parent: the engine is loaded; ``load_s`` is how long that took."""

    info: EngineInfo
    load_s: float


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Child to parent: there will be no engine."""

    error: TympanError


@dataclass(frozen=True, slots=True)
class Done:
    """Child to parent: the results of a batch, in order, after ``compute_s`` of engine time."""

    batch_id: int
    results: tuple[WindowResult, ...]
    compute_s: float


@dataclass(frozen=True, slots=True)
class Failed:
    """Child to parent: the batch as a whole failed; the process lives on."""

    batch_id: int
    error: TympanError
    compute_s: float


@dataclass(frozen=True, slots=True)
class Exited:
    """Host to batcher: the process is gone, and why. The last event of a host."""

    error: EngineError


Request: TypeAlias = Run | Stop
Answer: TypeAlias = Ready | LoadFailed | Done | Failed
Event: TypeAlias = Done | Failed | Exited

# CTranslate2 on a full GPU says one or the other of the first two, seemingly at random.
_OUT_OF_MEMORY: Final = (
    "out of memory",
    "parallel_for failed: cudaerrorinvaliddevice",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
    "std::bad_alloc",
    "cannot allocate memory",
)
_DEVICE_LOST: Final = (
    "unspecified launch failure",
    "illegal memory access",
    "device-side assert",
    "cuda failed with error",
    "cuda error",
    "cudaerror",
    "cublas_status_",
    "cudnn_status_",
    "no cuda-capable device",
)


def encode(message: Request | Answer) -> bytes:
    """Return the message as bytes for the wire."""
    return pickle.dumps(message, protocol=5)


def engine_error(error: BaseException) -> TympanError:
    """Return the typed error for whatever an engine raised.

    Typed errors stay as they are, but a plain ``EngineError`` and foreign exceptions are read for the texts by which
    device runtimes report exhausted memory or a lost device.
    """
    if isinstance(error, TympanError) and type(error) is not EngineError:
        return error
    text = str(error).lower()
    if isinstance(error, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY):
        return EngineOutOfMemory(f"The device ran out of memory: {error}")
    if any(sign in text for sign in _DEVICE_LOST):
        return EngineDeviceLost(f"The device failed: {error}")
    if isinstance(error, EngineError):
        return error
    return EngineError(f"The engine failed: {type(error).__name__}: {error}")
