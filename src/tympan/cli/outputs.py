"""Where transcripts are written: names that never collide, files that are whole or absent."""

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from itertools import count
from pathlib import Path, PurePath

from tympan.cli.sources import Source
from tympan.domain import ResponseFormat
from tympan.errors import InvalidRequest
from tympan.storage.line_file import write_error


class Format(StrEnum):
    """A way to write a transcript down, as spelled on the command line."""

    TXT = "txt"
    JSON = "json"
    VERBOSE_JSON = "verbose_json"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"
    DIARIZED_JSON = "diarized_json"
    RTTM = "rttm"

    @property
    def response_format(self) -> ResponseFormat:
        """The same format by its name in the HTTP interface."""
        return _RESPONSE_FORMATS[self]

    @property
    def needs_times(self) -> bool:
        """Whether it shows when things were said; the others spare the engine the alignment."""
        return self not in {Format.TXT, Format.JSON}

    @property
    def names_speakers(self) -> bool:
        """Whether it shows who speaks."""
        return self.needs_speakers or self in {Format.VERBOSE_JSON, Format.SRT, Format.VTT}

    @property
    def needs_speakers(self) -> bool:
        """Whether it is about who speaks, so that speakers are told apart for it unasked."""
        return self in {Format.DIARIZED_JSON, Format.RTTM}

    @property
    def suffix(self) -> str:
        """How a file in this format ends."""
        return _SUFFIXES.get(self, f".{self.value}")


_RESPONSE_FORMATS: Mapping[Format, ResponseFormat] = {
    Format.TXT: "text",
    Format.JSON: "json",
    Format.VERBOSE_JSON: "verbose_json",
    Format.SRT: "srt",
    Format.VTT: "vtt",
    Format.TSV: "tsv",
    Format.DIARIZED_JSON: "diarized_json",
    Format.RTTM: "rttm",
}
_SUFFIXES: Mapping[Format, str] = {Format.VERBOSE_JSON: ".verbose.json", Format.DIARIZED_JSON: ".diarized.json"}

_AMBIGUOUS_ENDINGS = (".verbose", ".diarized")
"""A name that ends so would share ``x.verbose.json`` with the verbose transcript of ``x``."""


def plan_names(
    sources: Sequence[Source], owned: Mapping[str, str], is_foreign: Callable[[str], bool]
) -> dict[str, str]:
    """Return where each source's outputs go: its path below the output folder without a format's suffix, by key.

    A source keeps the name it has in ``owned`` (by key). Else it is its own name without suffix, unless two sources
    would share that or ``is_foreign`` says that somebody else's file is there; then its full name, then numbers.
    """
    names = {source.key: owned[source.key] for source in sources if source.key in owned}
    taken = {name.casefold() for name in owned.values()}
    fresh = [source for source in sources if source.key not in owned]
    wanted = Counter(_stem(source).casefold() for source in fresh)
    for source in fresh:
        names[source.key] = name = next(
            name
            for name in _candidates(source, shared=wanted[_stem(source).casefold()] > 1)
            if name.casefold() not in taken and not name.endswith(_AMBIGUOUS_ENDINGS) and not is_foreign(name)
        )
        taken.add(name.casefold())
    return names


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` so that a reader sees all of it or none, also after a crash.

    Raises ``InsufficientStorage`` when the disk is full and ``InvalidRequest`` when the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8", errors="replace", newline="") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error) from error


def check_writable(path: Path) -> None:
    """Find out, before the work, whether a file can be written at ``path``; raises as ``write_whole`` does."""
    if path.is_dir():
        raise InvalidRequest(f"{path} is a folder.", remedy="Give the name of a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        raise write_error(path, error) from error


def _stem(source: Source) -> str:
    return source.relative.with_suffix("").as_posix()


def _candidates(source: Source, *, shared: bool) -> Iterator[str]:
    if not shared:
        yield _stem(source)
    full = source.relative.as_posix()
    yield full
    yield from (f"{full}-{number}" for number in count(2))


def output_paths(folder: Path, name: str, formats: Sequence[Format]) -> dict[Format, Path]:
    """Return the file for each format of the transcript called ``name``."""
    base = folder / PurePath(name)
    return {fmt: base.with_name(base.name + fmt.suffix) for fmt in formats}
