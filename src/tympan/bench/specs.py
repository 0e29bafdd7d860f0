"""From a cell's words to the engine it means: model files, device, number format, threads."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tympan.bench.grid import Cell
from tympan.engine import hardware, layouts, models
from tympan.engine.base import EngineSpec
from tympan.engine.machine import probe_machine
from tympan.engine.specs import spec_for


@dataclass(frozen=True, slots=True)
class Home:
    """Where models are and what may be done to get them; the device; the engines' knobs."""

    data_dir: Path
    access: models.Access = field(default_factory=models.Access)
    device: str = hardware.AUTO
    options: Mapping[str, str] = field(default_factory=dict)


def spec_of(cell: Cell, home: Home) -> EngineSpec:
    """Return what the engine process is told for ``cell``; the model is fetched first when it is not there yet.

    Raises ``ConfigError`` for what cannot run here, and ``ModelError`` for a model that cannot be had.
    """
    if cell.engine == "fake":
        return EngineSpec("fake", cell.model, threads=cell.threads, options=tuple(sorted(home.options.items())))
    found = models.resolve(cell.model, home.data_dir, home.access)
    # A ggml file has its number format inside.
    is_ggml = layouts.look(found.path).layout is layouts.GGML
    compute_type = hardware.OF_THE_FILE if is_ggml else cell.compute_type
    choice = hardware.choose_hardware(cell.model, home.device, compute_type, cell.threads, probe_machine())
    return spec_for(found, choice, cell.engine, home.device, home.options)
