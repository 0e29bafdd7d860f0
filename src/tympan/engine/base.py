"""The engine contract: what a model runtime must do to serve windows."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tympan import __version__
from tympan.domain import Abilities, Provenance, WindowResult, WindowTask


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """What an engine runs and on what, and what it can be asked for; shown in health, metrics and results.

    ``languages`` is empty where nobody knows which ones the model understands.
    """

    engine: str
    model: str
    revision: str
    device: str
    compute_type: str
    threads: int
    languages: tuple[str, ...]
    multilingual: bool
    can: Abilities = field(default_factory=Abilities)

    @property
    def provenance(self) -> Provenance:
        """What a transcript says of how it was made."""
        return Provenance(self.engine, self.revision, self.compute_type, self.device, __version__)

    @property
    def digest(self) -> str:
        """Digest of what decides its text, beside audio and options: engine, model, revision and number format."""
        facts = (self.engine, self.model, self.revision, self.compute_type)
        return hashlib.sha256("\0".join(facts).encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything a host needs to build its engine in the child process. Plain values: it is pickled.

    ``kind`` is a name that ``factory.create`` knows; ``path`` is the verified model directory; ``options`` are knobs of
    that kind.
    """

    kind: str
    model: str
    revision: str = ""
    path: str = ""
    device: str = "cpu"
    device_index: int = 0
    compute_type: str = "int8"
    threads: int = 0
    options: tuple[tuple[str, str], ...] = ()


class Engine(Protocol):
    """A loaded model. One thread owns it; calls never overlap."""

    @property
    def info(self) -> EngineInfo:
        """What this engine runs and on what."""
        ...

    def transcribe(self, batch: Sequence[WindowTask]) -> list[WindowResult]:
        """Return one result per task, in order.

        The tasks share one ``batch_key``. No state is kept between calls, and a task's text does not depend on its
        neighbours. Raises ``EngineError`` (or a subclass that says more) when the whole batch failed.
        """
        ...

    def close(self) -> None:
        """Release what can be released; the process ends soon after."""
        ...
