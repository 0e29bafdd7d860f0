"""Where audio is kept: a folder, or a bucket of S3, Google Cloud Storage or Azure."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from tympan.errors import ConfigError
from tympan.storage.blob_port import BlobInfo, BlobStore, StoredFile
from tympan.storage.local_blobs import LocalBlobs
from tympan.storage.object_blobs import ObjectBlobs
from tympan.storage.objects import Bucket

__all__ = ["BlobInfo", "BlobStore", "LocalBlobs", "StoredFile", "open_blobs"]


def open_blobs(url: str | None, folder: Path) -> BlobStore:
    """Return the store that ``url`` names: ``s3://bucket/prefix``, ``gs://``, ``az://``, ``file:///folder``.

    None means ``folder``. Raises ``ConfigError`` for other addresses, or when object storage needs an extra that is not
    installed; nothing is sent yet, ``check`` tells whether the storage answers.
    """
    parts = urlsplit(url or "file:")
    if parts.scheme != "file":
        return ObjectBlobs(Bucket(str(url)))
    if parts.netloc or parts.query or (parts.path and not parts.path.startswith("/")):
        raise ConfigError(f"{url!r} names no folder.", remedy="Write file:///absolute/path.")
    return LocalBlobs(Path(unquote(parts.path)) if parts.path else folder)
