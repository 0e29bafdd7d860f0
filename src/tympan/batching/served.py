"""What is said about models that a server may load: where they come from, how they are treated, how they stand."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from tympan.engine.base import EngineInfo, EngineSpec
from tympan.errors import TympanError


class ModelState(StrEnum):
    """Where a model stands. ``unloaded`` is no fault: it is loaded when somebody asks for it."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    LOADED = "loaded"
    UNLOADING = "unloading"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Found:
    """A model whose files are in place: what to run, and about how much memory that takes, in bytes.

    ``spare`` is what to run instead when the device is lost or cannot load it; ``None``: nothing.
    """

    spec: EngineSpec
    memory_bytes: int = 0
    spare: EngineSpec | None = None


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """A model that may be used. ``find`` has its files in place and returns them; it may take long, and raise.

    ``pinned``: it only leaves when the server ends. ``kept``: once loaded it comes back by itself after it was lost.
    """

    name: str
    find: Callable[[], Found]
    pinned: bool = False
    kept: bool = False


class ModelObserver(Protocol):
    """Somebody who wants to know, for metrics."""

    def on_load(self, model: str, outcome: str) -> None:
        """A load has ended: ``loaded``, or the code of the error."""

    def on_unload(self, model: str, reason: str) -> None:
        """A process was ended: ``asked``, ``room``, ``idle`` or ``lost``."""


@dataclass(frozen=True, slots=True)
class SlotOptions:
    """How slots are treated; times are in seconds.

    A caller waits ``wait_s`` for the model at most. A model that nobody used for ``idle_s`` is unloaded; ``None``:
    never. After a load that failed the next is tried ``first_pause_s`` later, then after twice that, up to
    ``longest_pause_s``.
    """

    wait_s: float = 60.0
    idle_s: float | None = None
    load_s: float = 150.0
    first_pause_s: float = 5.0
    longest_pause_s: float = 300.0
    observer: ModelObserver | None = None


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How a model stands: who uses it, what it takes, and why it could not be loaded the last time."""

    name: str
    state: ModelState
    info: EngineInfo | None
    pinned: bool
    uses: int
    memory_bytes: int
    loads: int
    failure: TympanError | None
