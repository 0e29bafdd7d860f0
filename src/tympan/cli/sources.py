"""From the paths on the command line to the files to transcribe."""

import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from tympan.cli.console import printable
from tympan.errors import InsufficientStorage, InvalidRequest, NotFound, TympanError

STDIN = "-"

MEDIA_SUFFIXES = frozenset(
    f".{ending}"
    for ending in (
        *("wav", "wave", "mp3", "mp2", "flac", "ogg", "oga", "opus", "spx", "m4a", "m4b", "aac", "wma", "amr", "au"),
        *("aiff", "aif", "aifc", "caf", "mka", "mp4", "m4v", "mov", "webm", "mkv", "avi", "mpg", "mpeg", "ts"),
        *("wmv", "3gp", "3g2"),
    )
)
"""What counts as audio inside a folder; a file named on the command line is always tried."""

_COPY_BYTES = 1 << 20
_KEEP_FREE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """One file to transcribe.

    ``label`` is what people and reports see, ``relative`` is its place below an output folder, ``key`` is its identity
    between runs. ``problem`` is set when it cannot be opened at all.
    """

    path: Path
    label: str
    relative: PurePath
    key: str
    size_bytes: int = 0
    problem: TympanError | None = None


def discover(paths: Sequence[str], *, recursive: bool) -> list[Source]:
    """Return every file that ``paths`` name, in order and once; folders are walked in name order.

    A path that is missing becomes a source with a ``problem``. Raises ``InvalidRequest`` for a folder without
    ``recursive``, and for standard input that is a terminal or comes with other paths.
    """
    folders = [path for path in paths if path != STDIN and Path(path).is_dir()]
    if folders and not recursive:
        raise InvalidRequest(f"{printable(folders[0])} is a folder.", remedy="Add --recursive to transcribe its files.")
    found: dict[str, Source] = {}
    for path in paths:
        for source in _expand(path, prefix_folder=len(folders) > 1):
            found.setdefault(source.key, source)
    return list(found.values())


def spool_stdin(folder: Path, stream: BinaryIO | None = None) -> Path:
    """Copy standard input into a file in ``folder`` and return it; the caller deletes it.

    Raises ``InvalidRequest`` for a terminal and ``InsufficientStorage`` when the disk is about to be full.
    """
    stream = stream or sys.stdin.buffer
    if stream.isatty():
        raise InvalidRequest("Standard input is a terminal.", remedy="Pipe audio into `tympan transcribe -`.")
    target = folder / "stdin"
    with target.open("wb") as file:
        while block := stream.read(_COPY_BYTES):
            if shutil.disk_usage(folder).free < _KEEP_FREE_BYTES:
                raise InsufficientStorage("The disk has no room for standard input.", remedy=f"Free space in {folder}.")
            file.write(block)
    return target


def _expand(path: str, *, prefix_folder: bool) -> Iterator[Source]:
    if path == STDIN:
        yield Source(Path(STDIN), "stdin", PurePath("stdin"), STDIN)
        return
    root = Path(path)
    if not root.is_dir():
        yield _source(root, printable(path), PurePath(root.name))
        return
    base = PurePath(root.resolve().name) if prefix_folder else PurePath()
    for file in _walk(root):
        relative = base / file.relative_to(root)
        yield _source(file, printable(str(relative)), relative)


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root, followlinks=False):
        folders[:] = sorted(_visible(folders))
        yield from (Path(folder, name) for name in sorted(_visible(files)) if _is_media(name))


def _visible(names: Iterable[str]) -> Iterator[str]:
    return (name for name in names if not name.startswith("."))


def _is_media(name: str) -> bool:
    return PurePath(name).suffix.lower() in MEDIA_SUFFIXES


def _source(path: Path, label: str, relative: PurePath) -> Source:
    key = os.path.abspath(path)  # noqa: PTH100  (``resolve`` would make one file of two links)
    try:
        status = path.stat()
    except OSError as error:
        reason = NotFound("There is no such file.") if isinstance(error, FileNotFoundError) else unreadable(error)
        return Source(path, label, relative, key, problem=reason)
    if not stat.S_ISREG(status.st_mode):
        reason = InvalidRequest("This is not a regular file.", remedy="Pipe it into `tympan transcribe -`.")
        return Source(path, label, relative, key, problem=reason)
    return Source(path, label, relative, key, size_bytes=status.st_size)


def unreadable(error: OSError) -> TympanError:
    """Return what a failure to open or read an input means for the caller."""
    return InvalidRequest(f"The file cannot be opened: {error.strerror}.")
