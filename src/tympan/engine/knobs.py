"""Knobs of a runtime, as an operator sets them in ``ENGINE_OPTIONS``: read by name, refused when they make no sense."""

import math
from collections.abc import Mapping

from tympan.engine.base import EngineSpec
from tympan.errors import ConfigError

_MOST = 1024


class Knobs:
    """What an engine is told beside its model; what it does not know, or cannot read, is an error."""

    def __init__(self, spec: EngineSpec, known: str) -> None:
        """Look at the options of ``spec``; ``known`` names all knobs of the engine. Raises ``ConfigError``."""
        self._engine, self._said = spec.kind, dict(spec.options)
        unknown = sorted(self._said.keys() - set(known.split()))
        if unknown:
            raise ConfigError(
                f"The engine {spec.kind} has no option {unknown[0]!r}.",
                param="engine_options",
                remedy=f"Choose from: {known}." if known else "It has none.",
            )

    @property
    def said(self) -> Mapping[str, str]:
        """All knobs that were set."""
        return self._said

    def choice(self, name: str, *values: str) -> str:
        """Return one of ``values``, the first of them by default. Raises ``ConfigError``."""
        value = self._said.get(name, values[0])
        if value not in values:
            raise self._refused(name, f"one of {', '.join(values)}")
        return value

    def is_on(self, name: str, *, default: bool) -> bool:
        """Return whether a knob is ``on`` and not ``off``. Raises ``ConfigError``."""
        return self.choice(name, *(("on", "off") if default else ("off", "on"))) == "on"

    def count(self, name: str) -> int | None:
        """Return a whole number from 1 on; ``None`` when nothing was said. Raises ``ConfigError``."""
        if name not in self._said:
            return None
        value = self._said[name]
        if not (value.isascii() and value.isdigit() and 0 < int(value) <= _MOST):
            raise self._refused(name, f"a whole number from 1 to {_MOST}")
        return int(value)

    def seconds(self, name: str, default: float, most: float) -> float:
        """Return a number of seconds from 0 to ``most``. Raises ``ConfigError``."""
        try:
            value = float(self._said.get(name, default))
        except ValueError:
            value = math.nan
        if not 0.0 <= value <= most:
            raise self._refused(name, f"a number of seconds from 0 to {most:g}")
        return value

    def text(self, name: str) -> str:
        """Return what was said, or nothing."""
        return self._said.get(name, "")

    def _refused(self, name: str, wanted: str) -> ConfigError:
        return ConfigError(
            f"The option {name} of the engine {self._engine} cannot be {self._said[name]!r}.",
            param="engine_options",
            remedy=f"Give it {wanted}.",
        )
