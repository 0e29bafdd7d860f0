"""From a model's files and the hardware chosen for it to what an engine's process is told."""

from collections.abc import Mapping

from tympan.engine.base import EngineSpec
from tympan.engine.factory import kind_for
from tympan.engine.hardware import Choice
from tympan.engine.models import ResolvedModel


def spec_for(found: ResolvedModel, choice: Choice, engine: str, device: str, options: Mapping[str, str]) -> EngineSpec:
    """Return the spec of the model ``found`` on the hardware of ``choice``.

    ``engine`` and ``device`` are what was asked for, ``auto`` where that was left open. Raises ``ConfigError`` when the
    engine asked for cannot serve the model there.
    """
    kind = kind_for(engine, choice.device, choice.compute_type, found.path)
    return EngineSpec(
        kind=kind,
        model=found.name,
        revision=found.revision,
        path=str(found.path),
        # Only the engine's own process can ask whisper.cpp's library which devices it was built for.
        device=device if kind == "whispercpp" else choice.device,
        compute_type=choice.compute_type,
        threads=choice.threads,
        options=tuple(sorted(options.items())),
    )
