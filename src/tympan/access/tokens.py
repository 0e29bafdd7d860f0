"""What an API key looks like: ``tym_<id>_<secret><checksum>``.

The checksum tells a mistyped key from a wrong one, and lets scanners of source code find keys that should not be there.
"""

import hashlib
import re
import secrets
import zlib
from dataclasses import dataclass, field

_ID_BYTES, _SECRET_BYTES = 8, 32
_SECRET = re.compile(r"tym_(?P<id>[0-9a-f]{16})_(?P<secret>[A-Za-z0-9_-]{43})(?P<check>[0-9a-f]{8})", re.ASCII)
_LIKE_A_KEY = re.compile(r"tym_[0-9a-f]{16}_", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """An API key in two parts, the second of which is shown to nobody."""

    id: str
    secret: str = field(repr=False)

    @property
    def text(self) -> str:
        """The key as its owner writes it."""
        return f"tym_{self.id}_{self.secret}{_checksum(self.id, self.secret)}"

    @property
    def secret_sha256(self) -> str:
        """The digest of the secret, which is all that is kept: 256 random bits need no slower one."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def mint() -> Token:
    """Return a key that nobody has seen."""
    return Token(secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES))


def parse(text: str) -> Token | None:
    """Return the key that ``text`` is, ``None`` for what cannot be one."""
    found = _SECRET.fullmatch(text)
    if found is None or found["check"] != _checksum(found["id"], found["secret"]):
        return None
    return Token(found["id"], found["secret"])


def is_like_a_key(text: str) -> bool:
    """Return whether a key of ours, or a part of one, stands anywhere in ``text``."""
    return _LIKE_A_KEY.search(text) is not None


def _checksum(key_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{key_id}_{secret}'.encode()):08x}"
