"""The headers of the tus protocol, version 1.0: checked, bounded, and as plain values."""

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers

from tympan.errors import InvalidRequest, ProtocolVersion

VERSION = "1.0.0"
OFFSET_TYPE = "application/offset+octet-stream"
CHECKSUMS = {"sha1": 20, "sha256": 32, "md5": 16}
"""Checksum algorithms that are taken, with the lengths of their digests in bytes."""

MAX_METADATA_PAIRS = 32
MAX_METADATA_BYTES = 8 << 10
MAX_DIGITS = 18

_NAME = re.compile(r"[!-+\--~]{1,64}", re.ASCII)  # Visible ASCII but the comma.


@dataclass(frozen=True, slots=True)
class Checksum:
    """What the bytes of one request have to add up to."""

    algorithm: str
    digest: bytes

    def start(self) -> Any:
        """Return a new hash object."""
        return hashlib.new(self.algorithm, usedforsecurity=False)


def require_version(headers: Headers) -> None:
    """Raise ``ProtocolVersion`` unless the request says that it speaks our version."""
    if headers.get("tus-resumable") != VERSION:
        raise ProtocolVersion(
            "The Tus-Resumable header does not name a supported version of the upload protocol.",
            param="Tus-Resumable",
            remedy=f"Use a tus client, or send 'Tus-Resumable: {VERSION}'.",
        )


def number(headers: Headers, name: str) -> int | None:
    """Return the header's number, None when there is no such header. Raises ``InvalidRequest``."""
    text = headers.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise InvalidRequest(
            f"{name} is not a number of bytes.", param=name, remedy=f"Send at most {MAX_DIGITS} digits."
        )
    return int(text)


def creation_length(headers: Headers) -> int | None:
    """Return the length of a new upload, None when it will be told later. Raises ``InvalidRequest``."""
    length, deferred = number(headers, "Upload-Length"), headers.get("upload-defer-length")
    if deferred not in (None, "1") or (length is None) == (deferred is None):
        raise InvalidRequest(
            "A new upload needs its length, or Upload-Defer-Length if it is not known yet.",
            param="Upload-Length",
            remedy="Send 'Upload-Length: <bytes>' or 'Upload-Defer-Length: 1'.",
        )
    return length


def require_offset_type(headers: Headers) -> None:
    """Raise ``InvalidRequest`` unless the body is of the protocol's type.

    The protocol suggests 415 here; ``invalid_request`` is 400 on every route, and clients tell only success, 409, 423
    and other refusals apart.
    """
    if headers.get("content-type", "").strip().lower() != OFFSET_TYPE:
        raise InvalidRequest(
            "The Content-Type is not that of an upload.",
            param="Content-Type",
            remedy=f"Send 'Content-Type: {OFFSET_TYPE}'.",
        )


def checksum(headers: Headers) -> Checksum | None:
    """Return what the body has to add up to, None when the caller does not say. Raises ``InvalidRequest``."""
    text = headers.get("upload-checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.strip().partition(" ")
    digest = _from_base64(encoded)
    if algorithm not in CHECKSUMS or digest is None or len(digest) != CHECKSUMS[algorithm]:
        raise InvalidRequest(
            "Upload-Checksum cannot be read.",
            param="Upload-Checksum",
            remedy=f"Send one of {', '.join(CHECKSUMS)}, a space, and the digest in base64.",
        )
    return Checksum(algorithm, digest)


def metadata(headers: Headers) -> dict[str, str]:
    """Return the pairs of Upload-Metadata, the values in base64 as they came. Raises ``InvalidRequest``."""
    text = headers.get("upload-metadata", "").strip()
    if not text:
        return {}
    pairs = text.split(",")
    if len(text) > MAX_METADATA_BYTES or len(pairs) > MAX_METADATA_PAIRS:
        raise _bad_metadata(f"has more than {MAX_METADATA_PAIRS} pairs or {MAX_METADATA_BYTES >> 10} kB")
    found: dict[str, str] = {}
    for pair in pairs:
        name, _, value = pair.strip(" ").partition(" ")
        if not _NAME.fullmatch(name) or name in found:
            raise _bad_metadata("has a name that is empty, too long or there twice")
        if _from_base64(value) is None:
            raise _bad_metadata(f"has a value that is not base64, for {name!r}")
        found[name] = value
    return found


def metadata_text(pairs: Mapping[str, str]) -> str:
    """Return the header for these pairs."""
    return ",".join(f"{name} {value}".rstrip() for name, value in pairs.items())


def _from_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _bad_metadata(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"Upload-Metadata {what}.", param="Upload-Metadata", remedy="Send 'name base64,name base64' with few pairs."
    )
