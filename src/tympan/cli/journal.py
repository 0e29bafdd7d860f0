"""What earlier runs have done: one line of JSON per finished file, so that a run can be resumed.

A file is up to date when its content, the options, the model and the wanted formats are those of its last line, and
its outputs still exist. A line that a crash cut short is ignored; that file is done again.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import IO, Any

from tympan.cli.outputs import Format, output_paths
from tympan.cli.report import Record, record_from_json
from tympan.cli.sources import Source
from tympan.domain import Options
from tympan.storage.line_file import hold_lines, write_error

NAME = ".tympan-state.jsonl"
"""The journal's file name in an output folder."""

_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileState:
    """What tells one version of a file from the next."""

    size_bytes: int
    mtime_ns: int
    digest: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One finished file: what it was, how it was asked for, where its outputs are (``name``), what came out."""

    key: str
    state: FileState
    fingerprint: str
    name: str
    record: Record


def fingerprint(options: Options, settings: Mapping[str, object]) -> str:
    """Return a digest of everything besides the audio that decides the text."""
    values = json.dumps({"options": asdict(options), "settings": dict(settings)}, sort_keys=True, default=str)
    return hashlib.sha256(values.encode()).hexdigest()


def file_state(path: Path) -> FileState:
    """Return the state of the file now; reads all of it. Raises ``OSError``."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    status = path.stat()
    return FileState(status.st_size, status.st_mtime_ns, digest)


def has_changed(path: Path, state: FileState) -> bool:
    """Tell whether the file is another than it was; its content decides when only its time differs."""
    try:
        status = path.stat()
        if status.st_size != state.size_bytes:
            return True
        return status.st_mtime_ns != state.mtime_ns and file_state(path).digest != state.digest
    except OSError:
        # It cannot be read now: the attempt to transcribe it will say why.
        return True


class Journal:
    """The finished files of an output folder or report, and the only writer of their record."""

    def __init__(self, file: IO[str], entries: Mapping[str, Entry]) -> None:
        """Take the locked journal ``file`` and what it said when it was opened."""
        self._file = file
        self._entries = dict(entries)
        self._lock = Lock()

    @property
    def names(self) -> dict[str, str]:
        """The output name of every file ever finished, by key."""
        return {key: entry.name for key, entry in self._entries.items()}

    def finished(self, source: Source, wanted: str, folder: Path | None, formats: Sequence[Format]) -> Record | None:
        """Return the record of a file that needs no work, or ``None``.

        ``wanted`` is the fingerprint of this run, ``folder`` the output folder if there is one.
        """
        entry = self._entries.get(source.key)
        if entry is None or entry.fingerprint != wanted:
            return None
        if folder and not all(path.exists() for path in output_paths(folder, entry.name, formats).values()):
            return None
        return None if has_changed(source.path, entry.state) else entry.record

    def add(self, entry: Entry) -> None:
        """Note a finished file; returns once the line is with the operating system."""
        line = json.dumps({"version": _VERSION, **asdict(entry)}, ensure_ascii=True)
        with self._lock:
            try:
                self._file.write(line + "\n")
                self._file.flush()
            except OSError as error:
                raise write_error(Path(self._file.name), error) from error
            self._entries[entry.key] = entry


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Yield the journal at ``path``, created if need be and held for this process alone.

    Raises ``InvalidRequest`` when another process holds it or it cannot be written.
    """
    with hold_lines(path, "tympan") as (file, text):
        yield Journal(file, _parse(text))


def _parse(text: str) -> dict[str, Entry]:
    entries = {}
    for line in text.splitlines():
        entry = _parse_line(line)
        if entry is not None:
            entries[entry.key] = entry
    return entries


def _parse_line(line: str) -> Entry | None:
    try:
        values: dict[str, Any] = json.loads(line)
        if values.pop("version") != _VERSION:
            return None
        state, record = FileState(**values.pop("state")), record_from_json(values.pop("record"))
        return Entry(**values, state=state, record=record)
    except (ValueError, KeyError, TypeError, AttributeError):
        # Cut short by a crash, or from another version: the file is simply done again.
        return None
