"""The one place that turns an engine's kind into an engine. Called in the engine process only."""

from importlib import import_module
from typing import Final

from tympan.engine.base import Engine, EngineSpec
from tympan.errors import ConfigError

_MODULES: Final = {"ct2": "tympan.engine.ct2", "fake": "tympan.engine.fake"}


def create(spec: EngineSpec) -> Engine:
    """Return the loaded engine that ``spec`` asks for.

    Each kind's module has a ``create(spec)`` and is imported only when asked for, since that loads its runtime.
    Raises ``ConfigError`` for an unknown kind, and whatever loading raises.
    """
    name = _MODULES.get(spec.kind)
    if name is None:
        raise ConfigError(f"There is no engine {spec.kind!r}.", remedy=f"Choose one of: {', '.join(sorted(_MODULES))}.")
    engine: Engine = import_module(name).create(spec)
    return engine
