"""Finished rounds on disk, one JSON line each, so that a broken-off benchmark goes on where it stopped."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from tympan.bench.grid import Cell, Reading
from tympan.storage.line_file import hold_lines, write_error

_VERSION = 1


class Journal:
    """The rounds of one benchmark; a round counts only under the scope it was measured in."""

    def __init__(self, file: IO[str], scope: str, found: dict[tuple[Cell, int], Reading]) -> None:
        """Take the locked ``file`` and what it said of ``scope`` when it was opened."""
        self._file, self._scope, self._found = file, scope, found

    def get(self, cell: Cell, number: int) -> Reading | None:
        """Return the round ``number`` of ``cell``, if it is done."""
        return self._found.get((cell, number))

    def add(self, cell: Cell, number: int, reading: Reading) -> None:
        """Keep a round; returns once the line is on disk. Raises as ``write_error``."""
        row = {"version": _VERSION, "scope": self._scope, "cell": asdict(cell), "round": number}
        try:
            self._file.write(json.dumps({**row, "reading": reading.as_dict()}) + "\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise write_error(Path(self._file.name), error) from error
        self._found[cell, number] = reading


@contextmanager
def open_journal(path: Path, scope: str, *, fresh: bool = False) -> Iterator[Journal]:
    """Yield the journal at ``path``, held for this process alone; ``fresh`` forgets what it says.

    ``scope`` is a digest of everything that has to be equal for a figure to be used again. Raises as
    ``hold_lines``.
    """
    with hold_lines(path, "benchmark", fresh=fresh) as (file, text):
        yield Journal(file, scope, _parsed(text, scope))


def _parsed(text: str, scope: str) -> dict[tuple[Cell, int], Reading]:
    found = {}
    for line in text.splitlines():
        try:
            row: dict[str, Any] = json.loads(line)
            if row["version"] == _VERSION and row["scope"] == scope:
                found[Cell(**row["cell"]), int(row["round"])] = Reading.from_dict(row["reading"])
        except (ValueError, KeyError, TypeError):
            # Cut short by a crash, or of another version: that round is simply measured again.
            continue
    return found
