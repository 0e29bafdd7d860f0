"""Secrets at rest: sealed with a key that is not in the database, so that a copy of the database opens nothing."""

import base64
import contextlib
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tympan.errors import ConfigError

MIN_KEY_CHARS = 32

_KEY_BYTES = 32
_MAX_FILE_BYTES = 64 << 10
_PURPOSE = b"tympan secrets at rest"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class Sealer:
    """Seals and opens short texts. The first of its keys seals, each of them opens: that is how keys are changed."""

    def __init__(self, keys: Sequence[str]) -> None:
        """Use ``keys``, any long texts. Raises ``ConfigError`` when there is none or one is short."""
        if not keys or min(len(key) for key in keys) < MIN_KEY_CHARS:
            raise ConfigError(
                f"A key in SECRET_KEY has fewer than {MIN_KEY_CHARS} characters.",
                remedy="Make one with: openssl rand -base64 32",
            )
        self._fernet = MultiFernet([Fernet(_derived(key)) for key in keys])

    @classmethod
    def from_secret(cls, text: str) -> "Sealer":
        """Return a sealer with the keys in ``text``, separated by commas or new lines. Raises ``ConfigError``."""
        keys = (part.strip() for line in text.splitlines() for part in line.split(","))
        return cls([key for key in keys if key])

    @classmethod
    def from_file(cls, path: Path) -> "Sealer":
        """Return a sealer with the keys in a file, one a line; the file is made when it is missing.

        Raises ``ConfigError`` when it cannot be read or made, or when others may read it.
        """
        try:
            if not path.exists():
                _make(path)
            return cls.from_secret(_read(path))
        except (OSError, UnicodeError) as error:
            raise ConfigError(
                f"The key file {path} cannot be used: {error}.", remedy="Check who owns it and its folder."
            ) from error

    def seal(self, text: str) -> str:
        """Return ``text`` sealed; each time differently."""
        return self.seal_bytes(text.encode()).decode()

    def seal_bytes(self, data: bytes) -> bytes:
        """Return ``data`` sealed; each time differently, and a third longer."""
        return self._fernet.encrypt(data)

    def unseal(self, sealed: str) -> str:
        """Return the text that was sealed. Raises ``ConfigError`` when no key of ours opens it."""
        return self.unseal_bytes(sealed.encode()).decode()

    def unseal_bytes(self, sealed: bytes) -> bytes:
        """Return the data that was sealed. Raises as ``unseal``."""
        try:
            return self._fernet.decrypt(sealed)
        except InvalidToken as error:
            raise ConfigError(
                "A secret in the database was sealed with another key.",
                remedy="Add the key that sealed it to SECRET_KEY, after the present one.",
            ) from error


def _derived(key: str) -> bytes:
    derived = HKDF(hashes.SHA256(), _KEY_BYTES, salt=None, info=_PURPOSE).derive(key.encode())
    return base64.urlsafe_b64encode(derived)


def _make(path: Path) -> None:
    """Write a new key to ``path`` and to disk, unless another process does so first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole and never takes the place of a key that is there.
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(draft)
    finally:
        draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path) -> str:
    with path.open(encoding="ascii") as file:
        if os.fstat(file.fileno()).st_mode & _OTHERS:
            raise ConfigError(f"Others may read the key file {path}.", remedy=f"Run: chmod 600 {path}")
        return file.read(_MAX_FILE_BYTES)
