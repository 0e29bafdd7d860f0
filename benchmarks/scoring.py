"""Reference sets; what counts their errors is ``tympan.quality.scoring``.

A *set* is a folder with a ``manifest.jsonl``. Each line is one JSON object; these keys are read, all others are
ignored:

- ``id``: unique in the set; what stands before its first ``-`` or digit names the clip's source;
- ``audio``: path of the encoded file, relative to the set's folder;
- ``duration_s``: length in seconds;
- ``language``: ISO 639-1 code, or ``none`` when nothing is spoken;
- ``reference``: what is said, ``""`` for nothing, ``null`` when nobody wrote it down;
- ``license``, if there: whom to credit; it is printed with every result of the set.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class SetError(Exception):
    """A reference set is missing or its manifest is not what this module reads."""


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording of a set; ``language`` and ``reference`` are ``None`` when nothing is spoken or written down."""

    id: str
    path: Path
    duration_s: float
    language: str | None
    reference: str | None
    license: str = ""

    @property
    def source(self) -> str:
        """Name of the corpus the clip comes from: the letters its id starts with."""
        match = re.match(r"[A-Za-z]+", self.id)
        return match.group(0) if match else self.id


def load_set(corpus: Path, name: str) -> list[Clip]:
    """Return the clips of set ``name`` in ``corpus``, in the manifest's order.

    Raises ``SetError`` when the manifest, a key or an audio file is missing.
    """
    folder = corpus / name
    manifest = folder / "manifest.jsonl"
    if not manifest.is_file():
        raise SetError(f"There is no {manifest}. Point --corpus at a folder that holds the set {name!r}.")
    lines = manifest.read_text(encoding="utf-8").splitlines()
    return [_clip(folder, json.loads(line), number) for number, line in enumerate(lines, 1) if line.strip()]


def _clip(folder: Path, row: dict[str, Any], number: int) -> Clip:
    missing = {"id", "audio", "duration_s", "language", "reference"} - row.keys()
    if missing:
        raise SetError(f"{folder / 'manifest.jsonl'}, line {number}: {', '.join(sorted(missing))} missing.")
    path = folder / row["audio"]
    if not path.is_file():
        raise SetError(f"{folder / 'manifest.jsonl'}, line {number}: there is no {path}.")
    language = None if row["language"] in (None, "none") else str(row["language"])
    licence = str(row.get("license") or "")
    return Clip(str(row["id"]), path, float(row["duration_s"]), language, row["reference"], licence)


def licences(clips: Iterable[Clip]) -> list[str]:
    """Return the distinct licences of ``clips``, sorted, to be printed with their result."""
    return sorted({clip.license for clip in clips if clip.license})
