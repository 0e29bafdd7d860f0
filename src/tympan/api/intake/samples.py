"""Samples of voices that come in fields of text: taken out of their data URLs, onto the disk, and called by digest."""

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tympan.errors import InvalidRequest
from tympan.options import MOST_KNOWN

FIELD = "known_speaker_references"
"""The field that holds them, with or without ``[]``."""

MAX_SAMPLE_BYTES = 8_000_000
"""What one may have as text: 30 s at 48 kHz in stereo, as WAV."""

_NAMES = (FIELD, f"{FIELD}[]")
_HEAD_CHARS = 200
_SPACE = b" \t\r\n"


class Samples:
    """The samples of one request, on their way to ``folder``; blocks."""

    def __init__(self, folder: Path) -> None:
        """Have none."""
        self._folder = folder
        self._digests: dict[bytes, str] = {}
        self.paths: dict[str, Path] = {}
        """Where the audio of each lies, by its SHA-256, in the order in which they came."""

    def take(self, text: bytes) -> str:
        """Return the SHA-256 of the audio in a data URL, which is written to the disk.

        Raises ``InvalidRequest`` for what is no data URL, and for too many.
        """
        known = hashlib.sha256(text).digest()
        if known not in self._digests:
            self._digests[known] = self.keep(_decoded(text))
        return self._digests[known]

    def keep(self, audio: bytes) -> str:
        """Return the SHA-256 of the audio in a file, which is written to the disk. Raises as ``take``."""
        digest = hashlib.sha256(audio).hexdigest()
        if digest not in self.paths:
            if len(self.paths) == MOST_KNOWN:
                raise too_many()
            self._folder.mkdir(mode=0o700, exist_ok=True)
            path = self._folder / f"sample-{len(self.paths)}"
            path.touch(mode=0o600)
            path.write_bytes(audio)
            self.paths[digest] = path
        return digest

    def out_of_fields(self, fields: Mapping[str, list[str]]) -> dict[str, list[str]]:
        """Return fields with digests instead of samples; an empty one counts as left out. Raises as ``take``."""
        found = dict(fields)
        for name in found.keys() & set(_NAMES):
            found[name] = [self.take(text.encode("utf-8", "replace")) for text in found[name] if text.strip()]
        return found

    def out_of(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a document with digests instead of samples, those of its ``defaults`` and ``items`` too.

        Raises as ``take``.
        """
        found = self._swapped(document)
        if isinstance(defaults := found.get("defaults"), dict):
            found["defaults"] = self._swapped(defaults)
        if isinstance(items := found.get("items"), list):
            found["items"] = [self._swapped(item) if isinstance(item, dict) else item for item in items]
        return found

    def _swapped(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        found = dict(fields)
        for name in found.keys() & set(_NAMES):
            given = found[name] if isinstance(found[name], list) else [found[name]]
            if given != [None]:
                found[name] = [self.take(_text(value).encode("utf-8", "replace")) for value in given]
        return found


def check_size(sizes: Iterable[int]) -> None:
    """Raise ``InvalidRequest`` for too many samples, or one that is too large."""
    found = list(sizes)
    if len(found) > MOST_KNOWN:
        raise too_many()
    if any(n_bytes > MAX_SAMPLE_BYTES for n_bytes in found):
        raise _bad(
            f"A sample of a voice is larger than {MAX_SAMPLE_BYTES / 1e6:g} MB.", "Send a few seconds, compressed."
        )


def too_many() -> InvalidRequest:
    """Return the error for more samples than are taken."""
    return _bad(f"There are more than {MOST_KNOWN} samples of voices.", f"Send at most {MOST_KNOWN}.")


def _decoded(text: bytes) -> bytes:
    check_size([len(text)])
    head, comma, payload = text.partition(b",")
    head = head.strip().lower()
    if not (comma and head.startswith(b"data:") and head.endswith(b";base64") and len(head) <= _HEAD_CHARS):
        raise _no_url()
    try:
        audio = base64.b64decode(payload.translate(None, _SPACE), validate=True)
    except binascii.Error as error:
        raise _no_url() from error
    if not audio:
        raise _no_url()
    return audio


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _no_url()
    return value


def _no_url() -> InvalidRequest:
    return _bad("A sample of a voice is not a data URL.", "Send audio as data:audio/wav;base64,... and the like.")


def _bad(message: str, remedy: str) -> InvalidRequest:
    return InvalidRequest(message, param=FIELD, remedy=remedy)
