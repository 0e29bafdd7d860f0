"""Golden sets as folders: ``manifest.jsonl`` beside audio files, one clip a line, checked as a whole.

A line is an object with ``id``, ``audio`` (a path within the folder) and ``reference``, what is said in it; a code of
``language``, ``speaker``, ``tags`` (a list) and ``kind`` may follow. Clips of the kinds ``silence``, ``noise`` and
``music`` have no reference: the right answer is no text. Other keys are ignored.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tympan.errors import InvalidRequest
from tympan.languages import LANGUAGES

NAME = "manifest.jsonl"
SPEECH = "speech"
NON_SPEECH = ("silence", "noise", "music")

MAX_ITEMS = 20_000
MAX_BYTES = 100_000_000
"""Largest audio file of a clip."""

_MAX_CHARS = 20_000
_MAX_NAME_CHARS = 255
_MAX_TAGS = 20
_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Item:
    """One clip: where its audio is, what is said in it, and by whom; the SHA-256 and length of the file."""

    id: str
    path: Path
    reference: str
    kind: str = SPEECH
    language: str | None = None
    speaker: str | None = None
    tags: tuple[str, ...] = ()
    sha256: str = ""
    n_bytes: int = 0


@dataclass(slots=True)
class _Reader:
    """Reads lines one after the other and keeps what is wrong with them."""

    folder: Path
    language: str | None
    problems: list[str] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)

    def read(self, lines: Sequence[str]) -> Iterator[Item]:
        for number, line in enumerate(lines, 1):
            if line.strip():
                before = len(self.problems)
                item = self._item(number, line)
                if item is not None and len(self.problems) == before:
                    yield item

    def _item(self, number: int, line: str) -> Item | None:
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            self._note(number, "is no JSON object")
            return None
        name = self._text(number, row, "id", _MAX_NAME_CHARS) or ""
        if name in self.seen:
            self._note(number, f"the id {name!r} is there already")
        self.seen.add(name)
        kind = row.get("kind") or SPEECH
        if kind != SPEECH and kind not in NON_SPEECH:
            self._note(number, f"kind is {kind!r}; kinds are {', '.join((SPEECH, *NON_SPEECH))}")
        path, sha256, n_bytes = self._audio(number, row)
        return Item(
            name, path, self._reference(number, row, str(kind)), str(kind), self._language(number, row),
            self._text(number, row, "speaker", _MAX_NAME_CHARS, needed=False), self._tags(number, row), sha256, n_bytes,
        )  # fmt: skip

    def _reference(self, number: int, row: dict[str, Any], kind: str) -> str:
        given = row.get("reference")
        if kind in NON_SPEECH:
            if given not in (None, ""):
                self._note(number, f"a clip of {kind} has no reference")
            return ""
        return self._text(number, row, "reference", _MAX_CHARS) or ""

    def _audio(self, number: int, row: dict[str, Any]) -> tuple[Path, str, int]:
        named = self._text(number, row, "audio", _MAX_CHARS)
        path = self.folder / (named or "")
        if named is None:
            return path, "", 0
        try:
            if not path.resolve().is_relative_to(self.folder.resolve()):
                self._note(number, f"audio {named!r} is outside the folder")
                return path, "", 0
            n_bytes = path.stat().st_size
            if not 0 < n_bytes <= MAX_BYTES:
                self._note(number, f"audio {named!r} has {n_bytes} bytes; 1 to {MAX_BYTES} are allowed")
                return path, "", 0
            with path.open("rb") as file:
                return path, hashlib.file_digest(file, "sha256").hexdigest(), n_bytes
        except (OSError, ValueError) as error:
            self._note(number, f"audio {named!r} cannot be read: {getattr(error, 'strerror', None) or error}")
            return path, "", 0

    def _language(self, number: int, row: dict[str, Any]) -> str | None:
        given = row.get("language") or self.language
        if given in (None, "none"):
            return None
        if given not in LANGUAGES:
            self._note(number, f"language {given!r} is no code that is known, such as 'en'")
        return str(given)

    def _tags(self, number: int, row: dict[str, Any]) -> tuple[str, ...]:
        tags = row.get("tags") or []
        fits = isinstance(tags, list) and len(tags) <= _MAX_TAGS
        if not fits or not all(isinstance(tag, str) and 0 < len(tag) <= _MAX_NAME_CHARS for tag in tags):
            self._note(number, f"tags is no list of up to {_MAX_TAGS} short texts")
            return ()
        return tuple(dict.fromkeys(tags))

    def _text(self, number: int, row: dict[str, Any], key: str, most: int, *, needed: bool = True) -> str | None:
        value = row.get(key)
        if value is None and not needed:
            return None
        if not isinstance(value, str) or not value.strip() or len(value) > most:
            self._note(number, f"{key} is missing" if value is None else f"{key} is no text of 1 to {most} characters")
            return None
        return value

    def _note(self, number: int, what: str) -> None:
        self.problems.append(f"line {number}: {what}")


def read_folder(folder: Path, language: str | None = None) -> list[Item]:
    """Return the clips of a folder in the order of its manifest; ``language`` is that of lines which name none.

    Raises ``InvalidRequest`` which lists what is wrong, line by line.
    """
    path = folder / NAME
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidRequest(
            f"{path} cannot be read: {why}.", remedy="A golden set is a folder with that file."
        ) from error
    if len(lines) > MAX_ITEMS:
        raise InvalidRequest(f"{path} has {len(lines)} lines.", remedy=f"Give {MAX_ITEMS} at most.")
    reader = _Reader(folder, language)
    items = list(reader.read(lines))
    if reader.problems:
        raise _wrong(path, reader.problems)
    if not any(item.kind == SPEECH for item in items):
        raise InvalidRequest(f"{path} has no clip of speech.", remedy="Add some, with what is said in them.")
    return items


def digest_of(items: Sequence[Item]) -> str:
    """Return a digest of everything that a result depends on: texts, audio, order."""
    whole = hashlib.sha256()
    for item in items:
        row = [item.id, item.sha256, item.reference, item.kind, item.language, item.speaker, list(item.tags)]
        whole.update(json.dumps(row).encode() + b"\n")
    return whole.hexdigest()


def _wrong(path: Path, problems: list[str]) -> InvalidRequest:
    more = len(problems) - _SHOWN
    shown = [f"  - {problem}" for problem in problems[:_SHOWN]] + ([f"  - and {more} more"] if more > 0 else [])
    return InvalidRequest(f"{path} is not valid:\n" + "\n".join(shown), remedy="Correct these lines and add it again.")
