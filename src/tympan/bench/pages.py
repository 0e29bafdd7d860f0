"""What all benchmark pages are made of: tables, where the figures come from, and files that are whole or absent."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tympan.errors import InvalidRequest


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table; bars in cells are escaped and line breaks become spaces."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def provenance_line(document: Mapping[str, Any]) -> str:
    """Return when and on what a result was measured, and by which command."""
    machine, versions = document["machine"], document["versions"]
    gpus = f", {', '.join(machine['gpus'])}" if machine["gpus"] else ""
    commit = f", commit `{document['git_commit'][:12]}`" if document["git_commit"] else ""
    busy = f"; load average {document['load_average']:g} at the beginning" if "load_average" in document else ""
    packages = ", ".join(f"{name} {version}" for name, version in versions.items() if version != "not installed")
    return (
        f"Measured {document['date'][:10]} on {machine['cpu']}, {machine['cores']} cores, {machine['ram_gib']} GiB"
        f"{gpus}, {machine['system']} {machine['kernel']}, Python {machine['python']}{busy}; {packages}{commit}. "
        f"Absolute figures hold for this machine alone.\n\n```\n{document['command']}\n```"
    )


def write(path: Path, text: str) -> Path:
    """Write ``text`` so that a reader sees all of it or none; return the path. Raises ``InvalidRequest``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}.", remedy="Choose another place.") from error
    return path


def write_all(folder: Path, name: str, document: Mapping[str, Any], charts: Mapping[str, str], page: str) -> list[Path]:
    """Write ``NAME.json``, ``NAME.md`` and ``NAME-CHART.svg`` into ``folder``; return their paths."""
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    written = [write(folder / f"{name}.json", text), write(folder / f"{name}.md", page)]
    return [*written, *(write(folder / f"{name}-{chart}.svg", drawn) for chart, drawn in charts.items())]


def read(path: Path, kinds: Sequence[str]) -> dict[str, Any]:
    """Return a result that a benchmark wrote; raises ``InvalidRequest`` for anything else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is not JSON.", remedy="Name the .json file of a benchmark.") from error
    if not isinstance(document, dict) or document.get("kind") not in kinds:
        raise InvalidRequest(f"{path} is not a result of tympan bench.", remedy="Name the .json file of a benchmark.")
    return document
