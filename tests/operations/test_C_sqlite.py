"""SQLite under other writers and under a loss of power: what was acknowledged is there, whole."""

import hashlib
import os
import random
import sqlite3
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.jobs_support import open_shop
from tests.operations.shims import build
from tests.operations.support import rows
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.errors import StorageUnavailable, TympanError
from tympan.jobs.service import new_id

REPOSITORY = Path(__file__).parents[2]

_HOLDER = """
import sqlite3, sys, time
held = sqlite3.connect(sys.argv[1], isolation_level=None)
held.execute("begin immediate")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
held.execute("commit")
"""


@pytest.mark.parametrize("header_bytes", [0, 4096])
def test_C6_a_damaged_database_is_said_to_be_one(tmp_path: Path, header_bytes: int) -> None:
    """Whether the file is no database at all or one whose pages are broken: with a remedy, not as a fault of ours."""
    with open_shop(tmp_path / "shop") as shop:
        path = shop.folder / "t.db"
    data = bytearray(path.read_bytes())
    data[header_bytes:] = b"\xaa" * (len(data) - header_bytes)
    path.write_bytes(data)
    with pytest.raises(StorageUnavailable, match="damaged") as refused, open_shop(tmp_path / "shop"):
        pass
    assert "backup" in (refused.value.remedy or "")


def test_C6_four_seconds_of_another_process_s_lock_are_waited_for(tmp_path: Path) -> None:
    """Five hundred jobs by four writers, while somebody else writes for 4 s: none is refused, all are there."""
    with open_shop(tmp_path / "shop") as shop:
        failures: list[TympanError] = []
        took_s: list[float] = []
        audio = [shop.pcm(0.01, number) for number in range(500)]

        def write(share: list[Path]) -> None:
            for path in share:
                began = time.monotonic()
                try:
                    shop.service.submit(_new(path), path)
                except TympanError as error:
                    failures.append(error)
                took_s.append(time.monotonic() - began)

        writers = [threading.Thread(target=write, args=(audio[start::4],)) for start in range(4)]
        command = [sys.executable, "-c", _HOLDER, str(shop.folder / "t.db"), "4"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            for writer in writers:
                writer.start()
            for writer in writers:
                writer.join(60)
        assert max(took_s) > 2, "nobody had to wait"
        assert failures == []
        assert rows(shop, "select count(*) from jobs") == [(500,)]


def _new(path: Path) -> NewJob:
    return NewJob(new_id("job"), Source(SourceKind.STORED, "", path.stat().st_size), Options())


# --------------------------------------------------------------------------------------------------- loss of power

_SUBMITTER = """
import hashlib, os, sys, threading
from pathlib import Path
from tests.jobs_support import open_shop
from tympan.domain import NewJob, Options, Source, SourceKind
from tympan.jobs.service import new_id
root, count = Path(sys.argv[1]), int(sys.argv[2])
acks = os.open(root / "acks", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
with open_shop(root / "shop") as shop:
    def submit(share):
        for number in share:
            path = shop.folder / f"in-{number}"
            path.write_bytes(f"audio {number} ".encode() * 400)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            new = NewJob(new_id("job"), Source(SourceKind.STORED, "", path.stat().st_size, digest), Options())
            job, _ = shop.service.submit(new, path)
            os.write(acks, f"{job.id} {digest}\\n".encode())
    threads = [threading.Thread(target=submit, args=(range(n, count, 4),)) for n in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    os.write(acks, b"all\\n")
    os._exit(0)
"""


@dataclass
class Disk:
    """What a disk holds for certain: what was written before its file was synced, names from when a folder was."""

    now: dict[int, bytearray] = field(default_factory=dict)
    synced: dict[int, bytes] = field(default_factory=dict)
    folders: dict[int, dict[str, int]] = field(default_factory=dict)
    pending: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)

    def apply(self, what: str, inode: int, offset: int, data: bytes) -> None:
        """Do what a process did."""
        if what == "W":
            _lay(self.now.setdefault(inode, bytearray()), offset, data)
            self.pending.setdefault(inode, []).append((offset, data))
        elif what == "T":
            content = self.now.setdefault(inode, bytearray())
            del content[offset:]
            content.extend(bytes(offset - len(content)))
        elif what == "S":
            self.synced[inode] = bytes(self.now.get(inode, b""))
            self.pending.pop(inode, None)
        elif what == "D":
            listed = (line.split(" ", 1) for line in data.decode().splitlines())
            self.folders[inode] = {name: int(number) for number, name in listed}
        elif what == "U":
            for kept in (self.now, self.synced, self.pending):
                kept.pop(inode, None)

    def after_power_loss(self, folder: int, draw: random.Random) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents below a folder; of what was not synced, some reached the disk and some did not."""
        for name, inode in self.folders.get(folder, {}).items():
            if inode in self.folders:
                for below, whole in self.after_power_loss(inode, draw):
                    yield f"{name}/{below}", whole
            elif inode in self.synced or inode in self.pending:
                content = bytearray(self.synced.get(inode, b""))
                for offset, data in self.pending.get(inode, []):
                    if draw.random() < 0.5:
                        _lay(content, offset, data)
                yield name, bytes(content)


def _lay(content: bytearray, offset: int, data: bytes) -> None:
    content.extend(bytes(max(0, offset - len(content))))
    content[offset : offset + len(data)] = data


def _records(trace: bytes) -> Iterator[tuple[str, int, int, bytes]]:
    place = 0
    while place < len(trace):
        inode, offset, length = struct.unpack_from("<QQQ", trace, place + 1)
        what = chr(trace[place])
        place += 25
        yield what, inode, offset, trace[place : place + length]
        place += length


def _power_losses(tmp_path: Path, count: int, every: int) -> int:
    """Hand jobs in, lose the power at each ``every``-th sync, and judge each disk; return how often that was."""
    root = tmp_path / "root"
    root.mkdir()
    trace = tmp_path / "trace"
    env = {
        "LD_PRELOAD": str(build("trace_shim", tmp_path)),
        "TRACE_SHIM_ROOT": str(root),
        "TRACE_SHIM_LOG": str(trace),
    }
    command = [sys.executable, "-c", _SUBMITTER, str(root), str(count)]
    subprocess.run(command, env={**os.environ, **env}, check=True, timeout=600, cwd=REPOSITORY)
    acks, shop = (root / "acks").stat().st_ino, (root / "shop").stat().st_ino
    disk, told, syncs, losses = Disk(), dict[str, str](), 0, 0
    for what, inode, offset, data in _records(trace.read_bytes()):
        if inode == acks:
            told.update(line.split(" ") for line in data.decode().splitlines() if " " in line)  # type: ignore[misc]
            continue
        disk.apply(what, inode, offset, data)
        syncs += what in "SD"
        if what in "SD" and syncs % every == 0 and told:
            losses += 1
            _judge(dict(disk.after_power_loss(shop, random.Random(syncs))), told, tmp_path / "after")  # noqa: S311
    assert len(told) == count
    _judge(dict(disk.after_power_loss(shop, random.Random(0))), told, tmp_path / "after")  # noqa: S311
    return losses


def _judge(files: dict[str, bytes], told: dict[str, str], folder: Path) -> None:
    """Check that the database is sound and has every acknowledged job, and that each one's audio is whole."""
    folder.mkdir(exist_ok=True)
    for name in ("t.db", "t.db-wal", "t.db-shm"):
        (folder / name).unlink(missing_ok=True)
        if name in files and not name.endswith("shm"):
            (folder / name).write_bytes(files[name])
    database = sqlite3.connect(folder / "t.db")
    try:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        kept = dict(database.execute("select id, source_sha256 from jobs").fetchall())
        ready = {job for (job,) in database.execute("select job_id from steps where state = 'ready'")}
    finally:
        database.close()
    lost = [job for job, digest in told.items() if kept.get(job) != digest or job not in ready]
    assert lost == []
    damaged = [
        job
        for job, digest in told.items()
        if hashlib.sha256(files.get(f"blobs/jobs/{job}/media", b"")).hexdigest() != digest
    ]
    assert damaged == []


def test_C7_what_was_acknowledged_survives_a_loss_of_power(tmp_path: Path) -> None:
    """Three hundred jobs by four writers; the power goes at every twentieth sync, and no acknowledged job with it."""
    assert _power_losses(tmp_path, 300, 20) > 20


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_C7_what_was_acknowledged_survives_a_loss_of_power_at_any_sync(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two thousand jobs, and many more losses."""
    losses = _power_losses(tmp_path, 2000, 7)
    with capsys.disabled():
        print(f"\n  2000 jobs, {losses} losses of power, none lost")  # noqa: T201
    assert losses > 500


def test_C7_the_model_notices_a_missing_sync(tmp_path: Path) -> None:
    """A disk on which nothing was ever synced has nothing: the judge says so."""
    with pytest.raises(sqlite3.OperationalError, match="no such table"):
        _judge({}, {"job_1": "0"}, tmp_path / "after")
    disk = Disk()
    disk.apply("W", 1, 0, b"text")
    disk.apply("D", 9, 0, b"1 name\n")
    assert {dict(disk.after_power_loss(9, random.Random(n)))["name"] for n in range(9)} == {b"", b"text"}  # noqa: S311
    disk.apply("S", 1, 0, b"")
    assert dict(disk.after_power_loss(9, random.Random(1))) == {"name": b"text"}  # noqa: S311
