"""Which part of something a request asks for (RFC 9110, section 14), and under which condition. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_ONE = re.compile(r"(?P<first>\d{1,18})-(?P<last>\d{1,18})?|-(?P<suffix>\d{1,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes from ``start`` up to ``end``, which is not among them, of ``whole``."""

    start: int
    end: int
    whole: int

    @property
    def n_bytes(self) -> int:
        """How many they are."""
        return self.end - self.start

    @property
    def header(self) -> str:
        """The value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{self.whole}"


@dataclass(frozen=True, slots=True)
class Nowhere:
    """Nothing that was asked for is there."""

    whole: int

    @property
    def header(self) -> str:
        """The value of Content-Range."""
        return f"bytes */{self.whole}"


def part_of(headers: Mapping[str, str], whole: int, etag: str) -> Part | Nowhere | None:
    """Return the part that a GET of ``whole`` bytes asks for, ``None`` for all of it.

    All of it is also the answer to what is no range of bytes, to several ranges of which one is there, and to a
    condition (If-Range) that another version fulfils.
    """
    unit, _, wanted = headers.get("range", "").partition("=")
    if unit.strip().lower() != "bytes" or headers.get("if-range", etag).strip() != etag:
        return None
    parts = [_read(one.strip(), whole) for one in wanted.split(",") if one.strip()]
    if not parts or None in parts:
        return None
    there = [part for part in parts if isinstance(part, Part)]
    if not there:
        return Nowhere(whole)
    return there[0] if len(parts) == 1 else None


def has_it(headers: Mapping[str, str], etag: str) -> bool:
    """Return whether the caller has this version already (If-None-Match)."""
    known = {one.strip().removeprefix("W/") for one in headers.get("if-none-match", "").split(",")}
    return etag in known or "*" in known


def _read(text: str, whole: int) -> Part | Nowhere | None:
    """Return what one range means, ``None`` when it means nothing."""
    found = _ONE.fullmatch(text)
    if found is None:
        return None
    if found["suffix"] is not None:
        start, end = max(0, whole - int(found["suffix"])), whole
    else:
        start, end = int(found["first"]), whole
        if found["last"] is not None:
            if int(found["last"]) < start:
                return None
            end = min(whole, int(found["last"]) + 1)
    return Part(start, end, whole) if start < end else Nowhere(whole)
