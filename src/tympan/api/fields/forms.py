"""The fields of a form or a query by name, each checked as it is read. Pure."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tympan.errors import InvalidRequest

MAX_VALUE_CHARS = 10_000
TRUE, FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One form field: its JSON schema and its help; ``ours`` tells our extensions from OpenAI's fields."""

    name: str
    schema: Mapping[str, Any]
    description: str
    ours: bool = False


def form_body(required: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return a body of a multipart form as /openapi.json describes it; one of its ``properties`` is ``required``."""
    schema = {"type": "object", "required": [required], "properties": dict(properties)}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def properties_of(parameters: Iterable[Parameter]) -> dict[str, Any]:
    """Return the fields of a form as /openapi.json describes them."""
    return {p.name: {**p.schema, "description": p.description} for p in parameters}


class Form:
    """The fields of a form or a query by name, each checked as it is read. An empty field counts as left out."""

    def __init__(self, raw: Mapping[str, list[str]], known: frozenset[str], repeatable: tuple[str, ...] = ()) -> None:
        """Take ``raw``. Raises ``InvalidRequest`` for a ``known`` field given twice, unless it is ``repeatable``."""
        self.known = known
        self._values: dict[str, list[str]] = {}
        for name, values in raw.items():
            self._values.setdefault(name.removesuffix("[]"), []).extend(value for value in values if value.strip())
        for name, given in self._values.items():
            if len(given) > 1 and name in known and name not in repeatable:
                raise InvalidRequest(f"The field {name} is given twice.", param=name, remedy="Send it once.")

    def names(self) -> Iterable[str]:
        """Return the names that were given."""
        return self._values

    def all(self, name: str) -> list[str]:
        """Return every value of one field."""
        return self._values.get(name, [])

    def refuse_unknown(self) -> None:
        """Raise ``InvalidRequest`` for a name that is not known, with the nearest that is."""
        for name in self._values:
            if name not in self.known:
                near = difflib.get_close_matches(name[:64], self.known, n=1)
                remedy = f"The nearest is {near[0]!r}." if near else "Leave it out, or look in /openapi.json."
                raise InvalidRequest(f"There is no field {name[:64]!r}.", param=name[:64], remedy=remedy)

    def text(self, name: str, *, max_chars: int) -> str | None:
        """Return a field's text, ``None`` when left out. Raises ``InvalidRequest`` for a longer one, or a NUL in it."""
        values = self.all(name)
        if not values:
            return None
        if len(values[0]) > max_chars:
            raise InvalidRequest(f"{name} is longer than {max_chars} characters.", param=name, remedy="Shorten it.")
        if "\0" in values[0]:  # No text holds one, and PostgreSQL cannot store it.
            raise InvalidRequest(f"{name} contains a NUL character.", param=name, remedy="Remove it.")
        return values[0]

    def choice(self, name: str, choices: Iterable[str], default: str) -> str:
        """Return which of ``choices`` a field names. Raises ``InvalidRequest``."""
        value = self.text(name, max_chars=MAX_VALUE_CHARS)
        return default if value is None else one_of(name, value, choices)

    def each(self, name: str, choices: Iterable[str]) -> list[str]:
        """Return which of ``choices`` a field names that may be given several times. Raises ``InvalidRequest``."""
        return [one_of(name, value, choices) for value in self.all(name)]

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a field that is on or off. Raises ``InvalidRequest``."""
        return self.choice(name, (*TRUE, *FALSE), "true" if default else "false").lower() in TRUE

    def number(self, name: str, low: float, high: float) -> float | None:
        """Return a number from ``low`` to ``high``. Raises ``InvalidRequest``."""
        value = self.text(name, max_chars=MAX_VALUE_CHARS)
        return None if value is None else number_in(name, _to_float(value), low, high)

    def integer(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number from ``low`` to ``high``. Raises ``InvalidRequest``."""
        value = self.number(name, low, high)
        if value is not None and value != int(value):
            raise bad(name, "a whole number", f"between {low} and {high}")
        return None if value is None else int(value)


def one_of(name: str, value: str, choices: Iterable[str]) -> str:
    """Return ``value`` in lower case when it is one of ``choices``. Raises ``InvalidRequest``."""
    known = tuple(choices)
    word = value.strip().lower()
    if word not in known:
        raise InvalidRequest(f"{name} cannot be {value[:64]!r}.", param=name, remedy=f"Allowed: {', '.join(known)}.")
    return word


def number_in(name: str, value: object, low: float, high: float) -> float:
    """Return ``value`` when it is a number from ``low`` to ``high``. Raises ``InvalidRequest``."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not low <= value <= high:  # type: ignore[operator]
        raise bad(name, "a number in the allowed range", f"{low:g} to {high:g}")
    return float(value)  # type: ignore[arg-type]


def _to_float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def bad(name: str, kind: str, allowed: str) -> InvalidRequest:
    """Return the error that the value of the field ``name`` is not what it has to be."""
    return InvalidRequest(f"{name} is not {kind}.", param=name, remedy=f"Allowed: {allowed}.")
