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
def small_disk() -> Iterator[Callable[[Path, int], Path]]:
    """Return a function that puts a disk of so many megabytes at a folder; the test is skipped where it may not."""
    mounted: list[Path] = []

    def mount(folder: Path, size_mb: int) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m", "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("NOT RUN: only root can mount a small disk")
        mounted.append(folder)
        return folder

    yield mount
    for folder in reversed(mounted):
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)
