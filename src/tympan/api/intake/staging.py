"""The folder where uploads live while they are being worked on."""

import fcntl
import shutil
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

_LOCK = "lock"


@contextmanager
def open_staging(root: Path) -> Iterator[Path]:
    """Yield an empty folder of this process below ``root``; it is removed at the end.

    Folders of processes that died are removed first: a live one holds a lock on its own. Raises ``OSError`` when
    ``root`` cannot be used.
    """
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as held:
        # One process at a time between the sweep and its own lock, or two that start together sweep one another.
        with root.with_name(f"{root.name}.lock").open("w") as gate:
            fcntl.flock(gate, fcntl.LOCK_EX)
            sweep(root)
            folder = root / uuid.uuid4().hex
            folder.mkdir(mode=0o700)
            held.callback(shutil.rmtree, folder, ignore_errors=True)
            fcntl.flock(held.enter_context((folder / _LOCK).open("w")), fcntl.LOCK_EX)
        yield folder


def sweep(root: Path) -> int:
    """Remove what dead processes left below ``root`` and return how many folders that were."""
    stale = [folder for folder in root.iterdir() if folder.is_dir() and not _is_alive(folder)]
    for folder in stale:
        shutil.rmtree(folder, ignore_errors=True)
    return len(stale)


def _is_alive(folder: Path) -> bool:
    try:
        with (folder / _LOCK).open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
