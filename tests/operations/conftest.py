"""What tests do to a machine: set its clock, give it small disks."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.operations.shims import SetClock, build


@pytest.fixture
def set_clock() -> Iterator[SetClock]:
    """Return a clock that shows the true time until it is set; also processes of other users can look at it."""
    folder = Path(tempfile.mkdtemp(prefix="clock-"))
    folder.chmod(0o755)
    clock = SetClock(build("clock_shim", folder), folder / "ahead")
    clock.shift(0)
    yield clock
    shutil.rmtree(folder)


@pytest.fixture
def mount() -> Iterator[Callable[..., Path]]:
    """Return a function that mounts at a folder; the test is skipped where it may not."""
    mounted: list[Path] = []

    def at(folder: Path, *arguments: str) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", *arguments, str(folder)]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("NOT RUN: only root can mount a disk")
        mounted.append(folder)
        return folder

    yield at
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


@pytest.fixture
def small_disk(mount: Callable[..., Path]) -> Callable[[Path, int], Path]:
    """Return a function that puts a disk of so many megabytes at a folder, in memory."""
    return lambda folder, size_mb: mount(folder, "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs")


@pytest.fixture
def large_disk(mount: Callable[..., Path], tmp_path: Path) -> Callable[[Path, int], Path]:
    """Return a function that puts a disk of so many megabytes at a folder; only what is written takes room."""

    def at(folder: Path, size_mb: int) -> Path:
        image = tmp_path / f"{folder.name}.image"
        with image.open("wb") as file:
            file.truncate(size_mb << 20)
        maker = shutil.which("mkfs.ext4", path=os.defpath + ":/sbin:/usr/sbin")
        if maker is None:
            pytest.skip("NOT RUN: there is no mkfs.ext4")
        subprocess.run([maker, "-q", "-F", "-m", "0", str(image)], check=True, timeout=60, capture_output=True)
        return mount(folder, "-o", "loop", str(image))

    return at
