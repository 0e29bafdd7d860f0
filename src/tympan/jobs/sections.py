"""A section: consecutive windows of one job, cut in silence, and the file that carries them to a worker.

The file starts with ``TYMS1``, the length of a JSON header and a CRC-32 of everything behind it; the header has each
window's place in the source, and the samples follow as signed 16-bit little-endian PCM.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tympan.domain import SAMPLE_RATE_HZ, Piece, Window
from tympan.errors import MediaMissing

SECTION_S = 300.0
"""Usual length of a section in seconds of windows: long enough that claiming and storing it costs next to nothing."""

_LONGEST = 4
"""Earlier cuts that no longer fit are given up once a section is this many times its usual length."""

_MAGIC = b"TYMS1"
_HEAD = struct.Struct("<II")


class SectionLost(MediaMissing):
    """A section's audio is gone or damaged. The job's own audio may be there, to be cut once more."""


@dataclass(slots=True)
class SectionCutter:
    """Gathers windows until they fill a section. Pure; the same windows are always cut alike.

    ``known_ends`` are where an earlier run cut (``end_sample``): up to the last of them it is followed, so that what
    was already transcribed stays valid although sections may have another length now.
    """

    section_s: float = SECTION_S
    known_ends: AbstractSet[int] = frozenset()
    _windows: list[Window] = field(default_factory=list)
    _samples: int = 0

    def add(self, window: Window) -> tuple[Window, ...] | None:
        """Take the next window; return the section that it completes, if any."""
        self._windows.append(window)
        self._samples += len(window.samples)
        return self.rest() if self._is_full(window.end_sample) else None

    def rest(self) -> tuple[Window, ...] | None:
        """Return the section that is open, ``None`` when it is empty."""
        windows, self._windows, self._samples = tuple(self._windows), [], 0
        return windows or None

    def _is_full(self, end: int) -> bool:
        limit = self.section_s * SAMPLE_RATE_HZ
        if self.known_ends and end <= max(self.known_ends):
            return end in self.known_ends or self._samples >= _LONGEST * limit
        return self._samples >= limit


def write_section(path: Path, windows: Sequence[Window]) -> None:
    """Write windows with their audio to a file."""
    header = json.dumps([_described(window) for window in windows]).encode()
    audio = [np.ascontiguousarray(window.samples, dtype="<i2").tobytes() for window in windows]
    crc = zlib.crc32(header)
    for block in audio:
        crc = zlib.crc32(block, crc)
    with path.open("wb") as file:
        file.write(_MAGIC + _HEAD.pack(len(header), crc) + header)
        file.writelines(audio)


def read_section(path: Path) -> Iterator[Window]:
    """Yield the windows of a section's file. Raises ``SectionLost`` before the first when the file is not whole."""
    data = np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.zeros(0, np.uint8)
    start = len(_MAGIC) + _HEAD.size
    head = data[:start].tobytes()
    if len(head) < start or not head.startswith(_MAGIC):
        raise _damaged()
    n_header, crc = _HEAD.unpack(head[len(_MAGIC) :])
    if zlib.crc32(data[start:].data) != crc:
        raise _damaged()
    place = start + n_header
    for described in json.loads(data[start:place].tobytes()):
        n_bytes = 2 * described["n_samples"]
        samples = np.frombuffer(data[place : place + n_bytes].tobytes(), dtype="<i2").astype(np.int16, copy=False)
        place += n_bytes
        pieces = tuple(Piece(*piece) for piece in described["pieces"])
        yield Window(described["index"], samples, pieces, described["speech_peak"])


def _described(window: Window) -> dict[str, Any]:
    return {
        "index": window.index,
        "pieces": [(piece.window_sample, piece.source_sample, piece.n_samples) for piece in window.pieces],
        "speech_peak": window.speech_peak,
        "n_samples": len(window.samples),
    }


def _damaged() -> SectionLost:
    return SectionLost("A stored section of the audio is damaged.", remedy="Hand the job in again.")
