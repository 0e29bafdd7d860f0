"""The files that operators copy, read the way their programs read them."""

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SECRETS = {
    "POSTGRES_PASSWORD": "p" * 24,
    "RABBITMQ_PASSWORD": "r" * 24,
    "REDIS_PASSWORD": "d" * 24,
    "S3_ACCESS_KEY": "a" * 20,
    "S3_SECRET_KEY": "s" * 24,
    "GRAFANA_PASSWORD": "g" * 24,
    "SECRET_KEY": "k" * 48,
}
"""What an operator writes into ``.env``."""

_VARIABLE = re.compile(r"\$(?:\$|\{([A-Z0-9_]+)(?:(:[-?])([^}]*))?\})")


class Unset(Exception):
    """A variable that has no default is not set."""


def compose(values: Mapping[str, str] = SECRETS) -> dict[str, Any]:
    """Return ``compose.yaml`` as Compose sees it with these variables; raises ``Unset``."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    filled: dict[str, Any] = _filled(loaded, values)
    return filled


def _filled(node: Any, values: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, values) for value in node]
    return _interpolated(node, values) if isinstance(node, str) else node


def _interpolated(text: str, values: Mapping[str, str]) -> str:
    def value(match: re.Match[str]) -> str:
        name, how, rest = match.groups()
        if name is None:
            return "$"
        if values.get(name):
            return values[name]
        if how == ":-":
            return str(rest)
        raise Unset(f"{name}: {rest}")

    return _VARIABLE.sub(value, text)


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction of a Dockerfile; ``arguments`` is all that follows its name."""

    name: str
    arguments: str

    @property
    def words(self) -> list[str]:
        """The arguments one by one, in both forms."""
        text = self.arguments
        if text.startswith("["):
            return [str(word) for word in json.loads(text)]
        return shlex.split(text)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a Dockerfile: its name, what it stands on, and its instructions."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def all(self, name: str) -> list[Instruction]:
        """Return the instructions of this kind."""
        return [found for found in self.instructions if found.name == name]


def dockerfile() -> list[Stage]:
    """Return the stages of the Dockerfile, with the arguments that stand before the first one filled in."""
    text = (ROOT / "Dockerfile").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = [_instruction(line) for line in "\n".join(lines).replace("\\\n", " ").splitlines()]
    first = next(index for index, each in enumerate(found) if each.name == "FROM")
    given = dict(each.arguments.split("=", 1) for each in found[:first])
    stages: list[Stage] = []
    for each in found[first:]:
        if each.name == "FROM":
            base, _, name = _interpolated(each.arguments, given).partition(" AS ")
            stages.append(Stage(name, base, ()))
        else:
            last = stages[-1]
            stages[-1] = Stage(last.name, last.base, (*last.instructions, each))
    return stages


def image_environment(target: str = "cpu") -> dict[str, str]:
    """Return the variables that an image gives its program, those of the stages below included."""
    stages = {stage.name: stage for stage in dockerfile()}
    stage: Stage | None = stages[target]
    found: dict[str, str] = {}
    while stage is not None:
        for instruction in stage.all("ENV"):
            found = dict(word.split("=", 1) for word in instruction.words) | found
        stage = stages.get(stage.base)
    return found


def _instruction(line: str) -> Instruction:
    name, _, arguments = line.strip().partition(" ")
    return Instruction(name, " ".join(arguments.split(maxsplit=0)).strip())


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document]
