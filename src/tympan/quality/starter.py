"""The golden set that comes with the program: forty-eight sentences by synthetic voices, and clips without speech.

It shows what is broken: the wrong language, words left out, text out of silence. It is too small and too unlike people
to tell one working model from another, or how good the transcripts of anybody's own recordings are.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from tympan.quality.canaries import canaries
from tympan.quality.manifest import Item, read_folder

NAME = "starter"
SCHEDULE = "0 3 * * 1"
FIRST_RUN_AFTER_S = 3_600.0
"""So that a server which is only tried out never runs it."""

_CLIPS = Path(__file__).with_name("clips")


@contextmanager
def starter_items() -> Iterator[list[Item]]:
    """Yield the clips; those made by arithmetic are files inside the ``with`` block alone."""
    with TemporaryDirectory(prefix="tympan-canaries-") as folder:
        yield [*read_folder(_CLIPS), *(_canary(Path(folder), name, *made) for name, made in canaries().items())]


def _canary(folder: Path, name: str, kind: str, data: bytes) -> Item:
    path = folder / f"{name}.wav"
    path.write_bytes(data)
    return Item(name, path, "", kind, sha256=hashlib.sha256(data).hexdigest(), n_bytes=len(data))
