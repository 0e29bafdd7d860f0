"""A multipart body, streamed to disk: bounded in every dimension, refused as early as possible.

The name that the caller gave a file is never used: the upload is written to a path of our own choosing.
"""

import asyncio
import errno
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tympan import telemetry
from tympan.api.runner import Runner
from tympan.errors import Cancelled, EmptyAudio, InsufficientStorage, InvalidRequest, RequestTimeout, TooLarge

FILE_FIELD = "file"
MAX_FIELDS = 64
MAX_FIELD_BYTES = 32 << 10
FORM_BYTES = 1 << 20
"""What a body may hold beside the file: other fields, part headers, boundaries."""

_MAX_PART_HEADERS = 8
_MAX_PART_HEADER_BYTES = 4 << 10
_FLUSH_BYTES = 256 << 10
_FLOOR_BYTES_PER_S = 500.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """Bounds of one upload: bytes of the file, pause between two pieces, and when it has to be there (monotonic)."""

    max_bytes: int
    idle_s: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on disk and the other fields of its form, in the order they came."""

    path: Path
    n_bytes: int
    fields: dict[str, list[str]]


def announced_bytes(request: Request, max_bytes: int) -> int:
    """Return the announced length of the body, 0 when it is not announced.

    Raises ``TooLarge`` when it cannot fit, and ``InvalidRequest`` for bodies of a kind that is not taken.
    """
    if request.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise InvalidRequest("Compressed bodies are not taken.", remedy="Send the file as it is; audio is compressed.")
    text = request.headers.get("content-length", "0")
    length = int(text) if text.isascii() and text.isdigit() else -1
    if length < 0:
        raise InvalidRequest("The Content-Length header is not a number.", remedy="Let the HTTP client set it.")
    if length > max_bytes + FORM_BYTES:
        raise too_large(max_bytes)
    return length


def too_large(max_bytes: int) -> TooLarge:
    """Return the error for a file above the limit."""
    return TooLarge(
        f"The file is larger than {max_bytes / 1e6:g} MB.",
        param=FILE_FIELD,
        remedy="Send a compressed format (opus, mp3, m4a) or cut the file; MAX_UPLOAD_MB sets the limit.",
    )


async def receive(request: Request, folder: Path, limits: UploadLimits, runner: Runner) -> Upload:
    """Read the whole body: the file to ``folder/in``, the other fields to memory.

    Raises ``InvalidRequest``, ``TooLarge``, ``RequestTimeout``, ``InsufficientStorage``, and ``Cancelled`` when the
    caller hangs up.
    """
    form = _Form(_boundary(request), limits.max_bytes)
    path = folder / "in"
    pace = _Pace(limits)
    await _to_disk(runner, lambda: _create(path))
    while (chunk := await _next_chunk(request, pace)) is not None:
        form.feed(chunk)
        if form.pending_bytes >= _FLUSH_BYTES:
            await _flush(runner, path, form)
    form.finish()
    await _flush(runner, path, form)
    return Upload(path, form.file_bytes, form.fields)


@dataclass(slots=True)
class _Pace:
    """Whether an upload comes fast enough to be worth a place in the house."""

    limits: UploadLimits
    started: float = field(default_factory=time.monotonic)
    n_bytes: int = 0

    def add(self, n_bytes: int) -> None:
        self.n_bytes += n_bytes
        elapsed_s = time.monotonic() - self.started
        if elapsed_s > self.limits.idle_s and self.n_bytes < elapsed_s * _FLOOR_BYTES_PER_S:
            raise RequestTimeout("The upload is too slow.", remedy=f"Send at least {_FLOOR_BYTES_PER_S:g} bytes/s.")

    @property
    def patience_s(self) -> float:
        return min(self.limits.idle_s, max(0.0, self.limits.deadline - time.monotonic()))


async def _next_chunk(request: Request, pace: _Pace) -> bytes | None:
    """Return the next piece of the body, ``None`` at its end."""
    if request.scope["state"].get("body_complete"):
        return None
    try:
        async with asyncio.timeout(pace.patience_s):
            message = await request.receive()
    except TimeoutError:
        raise RequestTimeout("The upload stopped.", remedy="Send the body without long pauses.") from None
    if message["type"] == "http.disconnect":
        raise Cancelled
    chunk: bytes = message.get("body", b"")
    pace.add(len(chunk))
    telemetry.UPLOADED.inc(len(chunk))
    return chunk


class _Form:
    """Takes a multipart body in pieces of any size, checks it, and sorts it into file data and fields."""

    def __init__(self, boundary: bytes, max_file_bytes: int) -> None:
        self.fields: dict[str, list[str]] = {}
        self.file_bytes = 0
        self.pending: list[bytes] = []
        self.pending_bytes = 0
        self._max_file_bytes = max_file_bytes
        self._total_bytes = 0
        self._parts = 0
        self._files = 0
        self._complete = False
        self._header: dict[bytes, bytes] = {}
        self._header_name = self._header_value = b""
        self._name = ""
        self._value = bytearray()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begin,
                "on_part_data": self._part_data,
                "on_part_end": self._part_end,
                "on_header_field": self._header_field_data,
                "on_header_value": self._header_value_data,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_end": self._end,
            },
            max_header_count=_MAX_PART_HEADERS,
            max_header_size=_MAX_PART_HEADER_BYTES,
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        self._total_bytes += len(chunk)
        if self._total_bytes > self._max_file_bytes + FORM_BYTES:
            raise too_large(self._max_file_bytes)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed("cannot be read as a form") from error

    def finish(self) -> None:
        """Check that the body was whole and held exactly one file."""
        if not self._complete:
            raise _malformed("ends in the middle")
        if not self._files:
            raise InvalidRequest(
                "There is no file in the form.", param=FILE_FIELD, remedy="Send the audio as a file field named 'file'."
            )
        if not self.file_bytes:
            raise EmptyAudio("The file is empty.", param=FILE_FIELD, remedy="Send a file with audio in it.")

    def take(self) -> bytes:
        """Return the file data since the last call."""
        data = b"".join(self.pending)
        self.pending, self.pending_bytes = [], 0
        return data

    def _part_begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FIELDS:
            raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields.", remedy="Send only the fields needed.")
        self._header, self._name, self._value = {}, "", bytearray()

    def _header_field_data(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _header_value_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _header_end(self) -> None:
        self._header[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        kind, options = parse_options_header(self._header.get(b"content-disposition"))
        if kind != b"form-data" or b"name" not in options:
            raise _malformed("has a part without a field name")
        self._name = _decode(options[b"name"], "a field name")
        if self._name == FILE_FIELD:
            self._files += 1
        if self._files > 1:
            raise InvalidRequest(
                "The form has more than one file.", param=FILE_FIELD, remedy="Send one request for each file."
            )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == FILE_FIELD:
            self.file_bytes += end - start
            if self.file_bytes > self._max_file_bytes:
                raise too_large(self._max_file_bytes)
            self.pending.append(data[start:end])
            self.pending_bytes += end - start
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            raise InvalidRequest(
                f"The field {self._name[:40]!r} is longer than {MAX_FIELD_BYTES >> 10} kB.",
                param=self._name[:40],
                remedy="Shorten it.",
            )

    def _part_end(self) -> None:
        if self._name != FILE_FIELD:
            self.fields.setdefault(self._name, []).append(_decode(bytes(self._value), self._name[:40]))

    def _end(self) -> None:
        self._complete = True


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise InvalidRequest(
            "The body is not multipart/form-data.", remedy="Send a form with the audio in a file field named 'file'."
        )
    return boundary


def _malformed(how: str) -> InvalidRequest:
    return InvalidRequest(f"The multipart body {how}.", remedy="Let an HTTP client library build the form.")


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The field {name!r} is not UTF-8.", param=name, remedy="Send text as UTF-8.") from error
    if "\0" in text:
        raise InvalidRequest(f"The field {name!r} contains a NUL character.", param=name, remedy="Remove it.")
    return text


async def _flush(runner: Runner, path: Path, form: _Form) -> None:
    if data := form.take():
        await _to_disk(runner, lambda: _append(path, data))


async def _to_disk(runner: Runner, write: Callable[[], None]) -> None:
    try:
        await runner.to_disk(write)
    except OSError as error:
        if error.errno in _FULL:
            raise InsufficientStorage(remedy="Try again later; the operator has to free disk space.") from error
        raise


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
