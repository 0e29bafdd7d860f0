"""Back up a data folder while Tympan works: ``python backup.py DATA_DIR TARGET [-- COMMAND ...]``.

TARGET is made: the database, the audio of jobs, and the key that opens sealed secrets. Models are not in it. The audio
is gathered twice, before and after the database is copied, so that what a row speaks of is there although jobs come,
end and are erased meanwhile. On one file system audio is linked, which takes no room: Tympan never changes a file once
it is written. Then take TARGET to another machine.

COMMAND copies a database that is not in the data folder, such as pg_dump; ``{target}`` in it is replaced.
Needs nothing but Python 3.11. Ends with 0 when the copy is whole and verified.
"""  # noqa: INP001 (a program, not a package)

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

DATABASE, KEY, BLOBS = "tympan.db", "secret.key", "blobs"
_BUSY_S = 60.0


def back_up(data: Path, target: Path, command: Sequence[str] = ()) -> int:
    """Copy the installation in ``data`` to the new folder ``target``; return how many files of audio that were.

    Raises ``OSError``, ``sqlite3.Error``, ``CalledProcessError`` or ``SystemExit`` when something was not copied.
    """
    if not (data / DATABASE).exists() and not command:
        raise SystemExit(f"There is no {DATABASE} in {data}; name its own tool after -- if the database is elsewhere.")
    os.umask(0o077)
    target.mkdir(parents=True)
    n_files = _gather(data / BLOBS, target / BLOBS)
    if command:
        subprocess.run([word.replace("{target}", str(target)) for word in command], check=True)
    else:
        _copy_database(data / DATABASE, target / DATABASE)
    n_files += _gather(data / BLOBS, target / BLOBS)
    with suppress(FileNotFoundError):  # There is none where SECRET_KEY is set.
        shutil.copy2(data / KEY, target / KEY)
    os.sync()
    return n_files


def _copy_database(source: Path, target: Path) -> None:
    """Copy the database as it is at one moment; writers are not held up."""
    with closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=_BUSY_S)) as connection:
        connection.execute("VACUUM INTO ?", (str(target),))
    with closing(sqlite3.connect(target)) as copy:
        (verdict,) = copy.execute("PRAGMA integrity_check").fetchone()
    if verdict != "ok":
        raise SystemExit(f"The copy of the database is damaged: {verdict}.")


def _gather(source: Path, target: Path) -> int:
    """Link or copy every file that ``target`` lacks; return how many. Files that vanish meanwhile do not matter."""
    n_files = 0
    for folder, folders, names in os.walk(source):
        folders[:] = [name for name in folders if not name.startswith(".")]  # What is still being written.
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            if not (there / name).exists():
                n_files += _take(Path(folder, name), there / name)
    return n_files


def _take(source: Path, target: Path) -> int:
    try:
        try:
            os.link(source, target)
        except FileNotFoundError:
            raise
        except OSError:  # Another file system, or one without links.
            shutil.copy2(source, target)
    except FileNotFoundError:
        return 0
    return 1


def main(words: Sequence[str]) -> int:
    """Do what the command line says; return the exit code."""
    end = words.index("--") if "--" in words else len(words)
    folders, command = words[:end], words[end + 1 :]
    if len(folders) != 2:
        sys.stderr.write("Usage: python backup.py DATA_DIR TARGET [-- COMMAND ...]\n")
        return 2
    data, target = map(Path, folders)
    n_files = back_up(data, target, command)
    sys.stderr.write(f"Backed up to {target}: the database and {n_files} files of audio.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
