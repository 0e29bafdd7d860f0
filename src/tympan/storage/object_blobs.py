"""Files in object storage. A large one is cut into pieces, each an object of its own beside it.

``jobs/1/media`` is one object with the file's digest in its metadata. When the file is longer than a piece, that object
is empty, its metadata name an upload, and the bytes are in ``jobs/1/.media.<upload>/00000`` and so on. The file becomes
visible with its last request; pieces of an upload that never got so far are ordinary objects, found by a listing and
deleted by ``abort_stale_uploads``. Every piece is checked against its own digest when it is read.
"""

import hashlib
import io
import itertools
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tympan.errors import MediaChanged, StorageUnavailable
from tympan.faultpoints import reach
from tympan.storage.blob_port import BlobInfo, check_key, check_prefix, missing, translated
from tympan.storage.objects import Bucket, StoredObject

_LABEL = "tympan"
_RECORD = re.compile(r"1 ([0-9a-f]{64}) ([0-9]{1,15}) ([0-9a-f]{16}|-) ([0-9]{1,5})")
_PIECE = re.compile(r"(?P<folder>(?:.*/)?)\.(?P<name>[^/]+)\.(?P<upload>[0-9a-f]{16})/[0-9]{5}")
_MAX_OBJECT_BYTES = 64 << 20
_DELETE_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class _Record:
    """What the metadata of an object say: digest and length of the file, and where its pieces are."""

    sha256: str
    n_bytes: int
    upload: str = "-"
    n_pieces: int = 0

    def metadata(self) -> dict[str, str]:
        return {_LABEL: f"1 {self.sha256} {self.n_bytes} {self.upload} {self.n_pieces}"}

    def pieces(self, key: str) -> list[str]:
        return [_piece(key, self.upload, number) for number in range(self.n_pieces)]


class ObjectBlobs:
    """A ``BlobStore`` in a bucket; several hosts may share it."""

    def __init__(self, bucket: Bucket, piece_bytes: int = 8 << 20) -> None:
        """Keep files in ``bucket``, in objects of at most ``piece_bytes`` (which bounds memory, too)."""
        self._bucket = bucket
        self._piece_bytes = min(piece_bytes, _MAX_OBJECT_BYTES)

    def adopt(self, key: str, source: Path) -> None:
        """Send a local file and delete it. It stays where it is when that fails."""
        with translated(), source.open("rb") as file:
            self._store(key, file)
        with translated():
            source.unlink()

    def put(self, key: str, data: bytes) -> None:
        """Store ``data``, verified before it becomes visible."""
        self._store(key, io.BytesIO(data))

    @contextmanager
    def fetch(self, key: str, folder: Path) -> Iterator[Path]:
        """Return a verified copy in ``folder``, deleted afterwards. Raises ``MediaMissing``, ``MediaChanged``."""
        check_key(key)
        path = folder / f"blob-{secrets.token_hex(8)}"
        try:
            with translated(), path.open("xb") as file:
                for block in self._blocks(key):
                    file.write(block)
            yield path
        finally:
            path.unlink(missing_ok=True)

    def read(self, key: str) -> bytes:
        """Return the verified bytes of a small file. Raises ``MediaMissing``, ``MediaChanged``."""
        return b"".join(self._blocks(check_key(key)))

    def open(self, key: str) -> "ObjectFile":
        """Return the stored file to be read in pieces. Raises ``MediaMissing``, ``MediaChanged``."""
        found = self._bucket.head(check_key(key))
        if found is None:
            raise missing(key)
        return ObjectFile(self._bucket, found, _known(found))

    def size(self, key: str) -> int | None:
        """Return the length in bytes, None when nothing is stored under ``key``."""
        found = self._bucket.head(check_key(key))
        record = found and _record(found)
        return record.n_bytes if record else found.n_bytes if found else None

    def copy(self, source: str, target: str) -> None:
        """Copy objects inside the storage. Raises ``MediaMissing``."""
        check_key(target)
        found = self._bucket.head(check_key(source))
        if found is None:
            raise missing(source)
        replaced = self._bucket.head(target)
        record = _record(found)
        if record is None or not record.n_pieces:
            self._bucket.copy(source, target)
        else:
            copied = _Record(record.sha256, record.n_bytes, secrets.token_hex(8), record.n_pieces)
            for origin, piece in zip(record.pieces(source), copied.pieces(target), strict=True):
                self._bucket.copy(origin, piece)
            self._bucket.put(target, b"", copied.metadata())
        self._forget(target, replaced)

    def delete_prefix(self, prefix: str) -> int:
        """Delete all under ``prefix``: first the files, then pieces, so that no file is ever found without them."""
        folder = check_prefix(prefix)
        deleted = 0
        for all_of_them in (False, True):
            found = (object_.name for object_ in self._bucket.list(folder))
            for names in _batches(name for name in found if all_of_them or not _PIECE.fullmatch(name)):
                reach("blob.delete")
                self._bucket.delete(names)
                deleted += sum(1 for name in names if not _PIECE.fullmatch(name))
        return deleted

    def list(self, prefix: str) -> Iterator[BlobInfo]:
        """Return all files under ``prefix``. A file that is being replaced may count the bytes of both."""
        pieces_bytes: dict[str, int] = {}  # A dot sorts before a letter: pieces come before their file.
        for found in self._bucket.list(check_prefix(prefix) if prefix else ""):
            piece = _PIECE.fullmatch(found.name)
            if piece:
                key = piece["folder"] + piece["name"]
                pieces_bytes[key] = pieces_bytes.get(key, 0) + found.n_bytes
            else:
                yield BlobInfo(found.name, found.n_bytes + pieces_bytes.pop(found.name, 0), found.modified_s)

    def abort_stale_uploads(self, older_than_s: float) -> int:
        """Delete pieces older than ``older_than_s`` that belong to no file; return of how many uploads they were."""
        aborted = 0
        for (key, upload), pieces in itertools.groupby(self._pieces(), key=lambda piece: piece[:2]):
            objects = [object_ for _, _, object_ in pieces]
            newest_s = max(object_.modified_s for object_ in objects)
            if time.time() - newest_s > older_than_s and not self._holds(key, upload):
                for names in _batches(iter([object_.name for object_ in objects])):
                    self._bucket.delete(names)
                aborted += 1
        return aborted

    def check(self) -> None:
        """Raise ``StorageUnavailable`` unless the bucket answers now."""
        self._bucket.check()

    def free_bytes(self) -> None:
        """Return None: object storage has no end that could be measured."""

    def _store(self, key: str, file: BinaryIO) -> None:
        replaced = self._bucket.head(check_key(key))
        first, second = file.read(self._piece_bytes), file.read(self._piece_bytes)
        if second:
            record = self._send_pieces(key, itertools.chain([first, second], self._rest(file)))
            self._bucket.put(key, b"", record.metadata())
        else:
            reach("blob.fsync")
            self._bucket.put(key, first, _Record(hashlib.sha256(first).hexdigest(), len(first)).metadata())
        reach("blob.rename")
        self._forget(key, replaced)

    def _rest(self, file: BinaryIO) -> Iterator[bytes]:
        while data := file.read(self._piece_bytes):
            yield data

    def _send_pieces(self, key: str, blocks: Iterator[bytes]) -> _Record:
        upload, whole, n_bytes, sent = secrets.token_hex(8), hashlib.sha256(), 0, 0
        try:
            for data in blocks:
                whole.update(data)
                n_bytes += len(data)
                sent += 1  # Counted before: a request that failed may have stored its piece.
                record = _Record(hashlib.sha256(data).hexdigest(), len(data))
                self._bucket.put(_piece(key, upload, sent - 1), data, record.metadata())
        except BaseException:
            with suppress(StorageUnavailable):  # What cannot be deleted now is found by ``abort_stale_uploads``.
                self._bucket.delete([_piece(key, upload, number) for number in range(sent)])
            raise
        reach("blob.fsync")
        return _Record(whole.hexdigest(), n_bytes, upload, sent)

    def _blocks(self, key: str) -> Iterator[bytes]:
        found = self._bucket.head(key)
        if found is None:
            raise missing(key)
        record = _known(found)
        if not record.n_pieces:
            yield self._bucket.get(key, _is_whole, _MAX_OBJECT_BYTES)
            return
        whole = hashlib.sha256()
        for name in record.pieces(key):
            data = self._bucket.get(name, _is_whole, _MAX_OBJECT_BYTES)
            whole.update(data)
            yield data
        if whole.hexdigest() != record.sha256:
            raise MediaChanged(f"The pieces of {key!r} are not those that were uploaded.")

    def _forget(self, key: str, replaced: StoredObject | None) -> None:
        record = replaced and _record(replaced)
        if record and record.n_pieces:
            with suppress(StorageUnavailable):  # As above.
                self._bucket.delete(record.pieces(key))

    def _holds(self, key: str, upload: str) -> bool:
        found = self._bucket.head(key)
        record = found and _record(found)
        return bool(record and record.upload == upload)

    def _pieces(self) -> Iterator[tuple[str, str, StoredObject]]:
        for found in self._bucket.list(""):
            if piece := _PIECE.fullmatch(found.name):
                yield piece["folder"] + piece["name"], piece["upload"], found


class ObjectFile:
    """A file in a bucket, read in parts of its objects: no more is fetched than asked for, so digests are not compared.

    That each part is of the object that was seen first is the storage's word, by the object's tag.
    """

    def __init__(self, bucket: Bucket, found: StoredObject, record: _Record) -> None:
        """Read the file that ``found`` is the object of."""
        self.n_bytes = record.n_bytes
        self.tag = record.sha256
        self._bucket, self._found = bucket, found
        self._names = record.pieces(found.name)
        self._pieces: dict[str, StoredObject] = {}

    def read(self, start: int, n_bytes: int) -> bytes:
        """Return ``n_bytes`` from ``start`` on. Raises ``MediaMissing``, ``MediaChanged``."""
        end, data = min(start + n_bytes, self.n_bytes), bytearray()
        while start + len(data) < end:
            at = start + len(data)
            found, begins = self._at(at)
            wanted = min(end, begins + found.n_bytes) - at
            data += self._bucket.get_range(found, at - begins, wanted)
        return bytes(data)

    def _at(self, place: int) -> tuple[StoredObject, int]:
        """Return the object that holds the byte at ``place``, and where in the file it begins."""
        if not self._names:
            return self._found, 0
        size = self._look(self._names[0]).n_bytes  # All but the last are as long.
        number = place // size if size else 0
        if number >= len(self._names):
            raise MediaChanged(f"The pieces of {self._found.name!r} are not those that were uploaded.")
        found, begins = self._look(self._names[number]), number * size
        if place >= begins + found.n_bytes:
            raise MediaChanged(f"The pieces of {self._found.name!r} are not those that were uploaded.")
        return found, begins

    def _look(self, name: str) -> StoredObject:
        found = self._pieces.get(name) or self._bucket.head(name)
        if found is None:
            raise missing(name)
        self._pieces[name] = found
        return found


def _piece(key: str, upload: str, number: int) -> str:
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.{upload}/{number:05d}"


def _record(found: StoredObject) -> _Record | None:
    match = _RECORD.fullmatch(found.metadata.get(_LABEL, ""))
    return _Record(match[1], int(match[2]), match[3], int(match[4])) if match else None


def _known(found: StoredObject) -> _Record:
    """Return what an object of ours says. Raises ``MediaChanged`` for any other."""
    record = _record(found)
    if record is None:
        raise MediaChanged(f"{found.name!r} was not stored by this program.", remedy="Send the audio again.")
    return record


def _is_whole(found: StoredObject, data: bytes) -> bool:
    record = _record(found)
    return record is not None and record.n_bytes == len(data) and record.sha256 == hashlib.sha256(data).hexdigest()


def _batches(names: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(itertools.islice(names, _DELETE_AT_ONCE)):
        yield batch
