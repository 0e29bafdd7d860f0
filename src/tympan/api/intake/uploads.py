"""A multipart body, streamed to disk: bounded in every dimension, refused as early as possible.

The name that the caller gave a file is only told again: the upload is written to a path of our own choosing.
"""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tympan.api.intake.incoming import Pace, UploadLimits, announced_bytes, next_chunk, to_disk
from tympan.api.intake.samples import FIELD as SAMPLE_FIELD
from tympan.api.intake.samples import Samples, check_size
from tympan.api.runner import Runner
from tympan.domain import SAMPLE_RATE_HZ
from tympan.errors import EmptyAudio, InvalidRequest, TooLarge

FILE_FIELD = "file"
MAX_FIELDS = 64
MAX_FIELD_BYTES = 32 << 10
FORM_BYTES = 1 << 20
"""What a body may hold beside the file: other fields, part headers, boundaries."""

_MAX_PART_HEADERS = 8
_MAX_PART_HEADER_BYTES = 4 << 10
_MAX_BOUNDARY_BYTES = 70
_FLUSH_BYTES = 256 << 10
_NO_LENGTH = 0xFFFFFFFF
_WAV_HEAD = (
    struct.pack("<4sI4s", b"RIFF", _NO_LENGTH, b"WAVE")
    + struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16)
    + struct.pack("<4sI", b"data", _NO_LENGTH)
)  # Written before the samples come, so the lengths are those of a stream: up to the end of the file.


@dataclass(frozen=True, slots=True)
class FileRules:
    """Which part of a form is a file, how many of them there may be, and how large they may be together.

    ``total_bytes`` 0 means no more than one file may have. ``digest`` asks for the SHA-256 of each. ``bare`` says that
    the file is samples alone, 16 bits at 16 kHz on one channel; it is stored as the WAV file that it lacks the head of.
    ``voices`` takes samples of voices too, in a field of text that goes to the disk.
    """

    field: str = FILE_FIELD
    least: int = 1
    most: int = 1
    total_bytes: int = 0
    digest: bool = False
    bare: bool = False
    voices: bool = False


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """A file on disk; ``sha256`` is in hexadecimal, and empty unless it was asked for. ``name`` is the caller's."""

    path: Path
    n_bytes: int
    sha256: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """The files of a form on disk and its other fields, in the order they came.

    ``samples`` are files with voices, by the SHA-256 that stands for each in the fields.
    """

    files: tuple[UploadedFile, ...]
    fields: dict[str, list[str]]
    samples: Mapping[str, Path] = field(default_factory=dict)

    @property
    def path(self) -> Path:
        """Where the first file is."""
        return self.files[0].path


def announced_file_bytes(request: Request, max_bytes: int, param: str = FILE_FIELD) -> int:
    """Return the announced length of a form with a file, 0 when it is not announced; ``param`` is the field to blame.

    Raises ``TooLarge`` when it cannot fit, and what ``announced_bytes`` raises.
    """
    length = announced_bytes(request)
    if length > max_bytes + FORM_BYTES:
        raise too_large(max_bytes, param)
    return length


def too_large(max_bytes: int, param: str = FILE_FIELD) -> TooLarge:
    """Return the error for a file above the limit."""
    return TooLarge(
        f"The file is larger than {max_bytes / 1e6:g} MB.",
        param=param,
        remedy="Send a compressed format (opus, mp3, m4a) or cut the file; MAX_UPLOAD_MB sets the limit.",
    )


async def receive(
    request: Request, folder: Path, limits: UploadLimits, runner: Runner, rules: FileRules = FileRules()
) -> Upload:
    """Read the whole body: files to ``folder``, the other fields to memory.

    Raises ``InvalidRequest``, ``TooLarge``, ``RequestTimeout``, ``InsufficientStorage``, and ``Cancelled`` when the
    caller hangs up.
    """
    form = _Form(_boundary(request), limits.max_bytes, rules)
    files = _Files(folder, rules)
    pace = Pace(limits)
    await to_disk(runner, files.create)
    while (chunk := await next_chunk(request, pace)) is not None:
        form.feed(chunk)
        if form.pending_bytes >= _FLUSH_BYTES:
            await _flush(runner, files, form)
    form.finish()
    await _flush(runner, files, form)
    samples = Samples(folder)
    if form.sample_bytes:
        await to_disk(runner, lambda: form.fields.update(files.take_samples(form, samples)))
    return Upload(files.all(form.file_bytes, form.file_names), form.fields, samples.paths)


class _Form:
    """Takes a multipart body in pieces of any size, checks it, and sorts it into file data and fields."""

    def __init__(self, boundary: bytes, max_file_bytes: int, rules: FileRules) -> None:
        self.fields: dict[str, list[str]] = {}
        self.file_bytes: list[int] = []
        self.file_names: list[str] = []
        self.sample_bytes: list[int] = []
        self.sample_is_file: list[bool] = []
        self.pending: list[tuple[int, bytes]] = []
        self.pending_bytes = 0
        self._rules = rules
        self._max_file_bytes = max_file_bytes
        self._max_total_bytes = (rules.total_bytes or max_file_bytes) + FORM_BYTES
        self._total_bytes = 0
        self._parts = 0
        self._complete = False
        self._header: dict[bytes, bytes] = {}
        self._header_name = self._header_value = b""
        self._name = ""
        self._is_file = self._is_sample = False
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
        if self._total_bytes > self._max_total_bytes:
            raise too_large(self._max_total_bytes - FORM_BYTES, self._rules.field)
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed("cannot be read as a form") from error

    def finish(self) -> None:
        """Check that the body was whole and held exactly one file."""
        if not self._complete:
            raise _malformed("ends in the middle")
        name = self._rules.field
        if len(self.file_bytes) < self._rules.least:
            raise InvalidRequest(
                "There is no file in the form.", param=name, remedy=f"Send the audio as a file field named {name!r}."
            )
        if not all(self.file_bytes):
            place = f" {self.file_bytes.index(0) + 1} of {len(self.file_bytes)}" if self._rules.most > 1 else ""
            raise EmptyAudio(f"The file{place} is empty.", param=name, remedy="Send a file with audio in it.")

    def take(self) -> list[tuple[int, bytes]]:
        """Return the data since the last call, each piece with the number of its file."""
        pieces, self.pending, self.pending_bytes = self.pending, [], 0
        return pieces

    def _part_begin(self) -> None:
        self._parts += 1
        most = MAX_FIELDS + self._rules.most - 1
        if self._parts > most:
            raise InvalidRequest(f"The form has more than {most} fields.", remedy="Send only the fields needed.")
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
        self._name, self._is_file = _decode(options[b"name"], "a field name"), b"filename" in options
        self._is_sample = self._rules.voices and self._name.removesuffix("[]") == SAMPLE_FIELD
        if self._is_sample:
            self.sample_bytes.append(0)
            self.sample_is_file.append(self._is_file)
        if self._name != self._rules.field:
            return
        self.file_bytes.append(0)
        self.file_names.append(options.get(b"filename", b"").decode("utf-8", "replace"))
        most = self._rules.most
        if len(self.file_bytes) > most:
            raise InvalidRequest(
                f"The form has more than {'one file' if most == 1 else f'{most} files'}.",
                param=self._name,
                remedy="Send one request for each file." if most == 1 else "Spread them over several requests.",
            )

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._name == self._rules.field:
            self.file_bytes[-1] += end - start
            if self.file_bytes[-1] > self._max_file_bytes:
                raise too_large(self._max_file_bytes, self._name)
            self._put(len(self.file_bytes) - 1, data[start:end])
            return
        if self._is_sample:
            self.sample_bytes[-1] += end - start
            check_size(self.sample_bytes)
            self._put(-len(self.sample_bytes), data[start:end])
            return
        self._value += data[start:end]
        if len(self._value) > MAX_FIELD_BYTES:
            self._refuse_file()
            raise _too_long(self._name)

    def _put(self, number: int, data: bytes) -> None:
        self.pending.append((number, data))
        self.pending_bytes += len(data)

    def _part_end(self) -> None:
        if self._name == self._rules.field or self._is_sample:
            return
        try:
            value = _decode(bytes(self._value), self._name[:40])
        except InvalidRequest:
            self._refuse_file()
            raise
        self.fields.setdefault(self._name, []).append(value)

    def _refuse_file(self) -> None:
        """Raise ``InvalidRequest`` when the part at hand is a file in a field for text; a short text file is text."""
        if self._is_file:
            raise InvalidRequest(
                f"There is a file in the field {self._name[:40]!r}.",
                param=self._name[:40],
                remedy=f"Send the audio as a file field named {self._rules.field!r}.",
            ) from None

    def _end(self) -> None:
        self._complete = True


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise InvalidRequest(
            "The body is not multipart/form-data.", remedy="Send a form with the audio in a file field named 'file'."
        )
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= _MAX_BOUNDARY_BYTES:
        raise InvalidRequest(
            f"The Content-Type of the form has no boundary of 1 to {_MAX_BOUNDARY_BYTES} bytes.",
            param="Content-Type",
            remedy="Let the HTTP client set that header.",
        )
    return boundary


def _malformed(how: str) -> InvalidRequest:
    return InvalidRequest(f"The multipart body {how}.", remedy="Let an HTTP client library build the form.")


def _too_long(name: str) -> InvalidRequest:
    shown = name[:40]
    return InvalidRequest(
        f"The field {shown!r} is longer than {MAX_FIELD_BYTES >> 10} kB.", param=shown, remedy="Shorten it."
    )


def _decode(data: bytes, name: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The field {name!r} is not UTF-8.", param=name, remedy="Send text as UTF-8.") from error
    if "\0" in text:
        raise InvalidRequest(f"The field {name!r} contains a NUL character.", param=name, remedy="Remove it.")
    return text


class _Files:
    """The files of one form on their way to ``folder``; used by one thread at a time."""

    def __init__(self, folder: Path, rules: FileRules) -> None:
        self._folder = folder
        self._head = _WAV_HEAD if rules.bare else b""
        self._digests = [hashlib.sha256(self._head) for _ in range(rules.most)] if rules.digest else []

    def create(self) -> None:
        """Make the folder and the first file."""
        self._folder.mkdir(mode=0o700)
        self._path(0).touch(mode=0o600)
        self._path(0).write_bytes(self._head)

    def append(self, pieces: list[tuple[int, bytes]]) -> None:
        """Write pieces behind what their files have already."""
        for number in sorted({number for number, _ in pieces}):
            data = b"".join(piece for of, piece in pieces if of == number)
            _append(self._path(number), data)
            if self._digests and number >= 0:
                self._digests[number].update(data)

    def take_samples(self, form: _Form, samples: Samples) -> dict[str, list[str]]:
        """Return the field of voices, which were written as they came; an empty one counts as left out."""
        found = []
        for place, (size, is_file) in enumerate(zip(form.sample_bytes, form.sample_is_file, strict=True), 1):
            if size:
                content = self._path(-place).read_bytes()
                self._path(-place).unlink()
                found.append(samples.keep(content) if is_file else samples.take(content))
        return {SAMPLE_FIELD: found}

    def all(self, sizes: list[int], names: list[str]) -> tuple[UploadedFile, ...]:
        """Return the files, now that they are whole; there may be none."""
        digests = [digest.hexdigest() for digest in self._digests] or [""] * len(sizes)
        return tuple(UploadedFile(self._path(n), size, digests[n], names[n]) for n, size in enumerate(sizes))

    def _path(self, number: int) -> Path:
        """Return where a file is; what has a number below 0 is text with a voice in it."""
        return self._folder / (f"in-{number}" if number > 0 else f"voice{number}" if number else "in")


async def _flush(runner: Runner, files: _Files, form: _Form) -> None:
    if pieces := form.take():
        await to_disk(runner, lambda: files.append(pieces))


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
