"""A section: consecutive windows of one job, cut in silence, and the file that carries them to a worker.

The file starts with ``TYMS1``; the samples follow as signed 16-bit little-endian PCM, then a table in JSON with each
window's place in the source (and the levels of its channels, where they were measured), the table's length, and a
CRC-32 of all three. So it is written as windows come.
"""

import base64
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tympan.domain import SAMPLE_RATE_HZ, Levels, Piece, Window
from tympan.errors import MediaMissing
from tympan.storage.blob_port import translated

SECTION_S = 300.0
"""Usual length of a section in seconds of windows: long enough that claiming and storing it costs next to nothing."""

AWAITED_SECTION_S = 30.0
"""Their length where a caller waits and may hear of the text as it comes: one or two windows of continuous speech."""

_LONGEST = 4
"""Earlier cuts that no longer fit are given up once a section is this many times its usual length."""

_MAGIC = b"TYMS1"
_TAIL = struct.Struct("<II")
_BLOCK_BYTES = 1 << 20


class SectionLost(MediaMissing):
    """A section's audio is gone or damaged. The job's own audio may be there, to be cut once more."""


@dataclass(frozen=True, slots=True)
class SectionCutter:
    """Says where a section ends. Pure; the same windows are always cut alike.

    ``known_ends`` are where an earlier run cut (``end_sample``): up to the last of them it is followed, so that what
    was already transcribed stays valid although sections may have another length now.
    """

    section_s: float = SECTION_S
    known_ends: AbstractSet[int] = frozenset()

    def section(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield the windows of the next section, none when there are no more; the rest stays in ``windows``."""
        samples = 0
        for window in windows:
            yield window
            samples += len(window.samples)
            if self._is_full(samples, window.end_sample):
                return

    def _is_full(self, samples: int, end: int) -> bool:
        limit = self.section_s * SAMPLE_RATE_HZ
        if self.known_ends and end <= max(self.known_ends):
            return end in self.known_ends or samples >= _LONGEST * limit
        return samples >= limit


def write_section(path: Path, windows: Iterable[Window]) -> int | None:
    """Write windows to a file as they come; return where the last of them ends, ``None`` when there are none.

    Raises ``InsufficientStorage`` and ``StorageUnavailable``; then, or when ``windows`` raises, no file is left.
    """
    described: list[dict[str, Any]] = []
    crc, end = 0, None
    with _new_file(path) as write:
        write(memoryview(_MAGIC))
        for window in windows:
            # A view of the samples: a copy would double what a section takes.
            audio = np.ascontiguousarray(window.samples, dtype="<i2").view(np.uint8).data
            write(audio)
            crc, end = zlib.crc32(audio, crc), window.end_sample
            described.append(_described(window))
        table = json.dumps(described).encode()
        write(memoryview(table + _TAIL.pack(len(table), _sealed(table, crc))))
    return end


@contextmanager
def _new_file(path: Path) -> Iterator[Callable[[memoryview], None]]:
    """Yield what writes to a file that is removed when something is raised."""
    with translated():
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)

    def write(data: memoryview) -> None:
        with translated():
            while data:
                data = data[os.write(number, data) :]

    try:
        yield write
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(number)


def read_section(path: Path) -> Iterator[Window]:
    """Yield the windows of a section's file, one in memory at a time.

    Raises ``SectionLost`` before the first when the file is not whole.
    """
    with path.open("rb") as file:
        table = _checked_table(file)
        file.seek(len(_MAGIC))
        for described in json.loads(table):
            samples = np.frombuffer(file.read(2 * described["n_samples"]), dtype="<i2").astype(np.int16, copy=False)
            pieces = tuple(Piece(*piece) for piece in described["pieces"])
            yield Window(described["index"], samples, pieces, described["speech_peak"], _levels(described))


def _checked_table(file: BinaryIO) -> bytes:
    """Return the table of a file that is whole. Raises ``SectionLost``."""
    left = os.fstat(file.fileno()).st_size - len(_MAGIC) - _TAIL.size
    if left < 0 or file.read(len(_MAGIC)) != _MAGIC:
        raise _damaged()
    file.seek(-_TAIL.size, os.SEEK_END)
    n_table, crc = _TAIL.unpack(file.read())
    if n_table > left:
        raise _damaged()
    file.seek(len(_MAGIC))
    found, left = 0, left - n_table
    while left:
        block = file.read(min(left, _BLOCK_BYTES))
        found, left = zlib.crc32(block, found), left - len(block)
    table = file.read(n_table)
    if _sealed(table, found) != crc:
        raise _damaged()
    return table


def _sealed(table: bytes, crc: int) -> int:
    """Return the sum of a file from that of its samples; the table's length is in it, for it says where they end."""
    return zlib.crc32(len(table).to_bytes(4, "little"), zlib.crc32(table, crc))


def _described(window: Window) -> dict[str, Any]:
    return {
        "index": window.index,
        "pieces": [(piece.window_sample, piece.source_sample, piece.n_samples) for piece in window.pieces],
        "speech_peak": window.speech_peak,
        "n_samples": len(window.samples),
        **(
            {}
            if window.levels is None
            else {"levels": base64.b64encode(window.levels.astype("<f2").tobytes()).decode()}
        ),
    }


def _levels(described: dict[str, Any]) -> Levels | None:
    if "levels" not in described:
        return None
    numbers = np.frombuffer(base64.b64decode(described["levels"]), dtype="<f2")
    return numbers.reshape(-1, 2).astype(np.float16, copy=False)


def _damaged() -> SectionLost:
    return SectionLost("A stored section of the audio is damaged.", remedy="Hand the job in again.")
