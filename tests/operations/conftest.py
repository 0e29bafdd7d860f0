"""A clock that tests can set under running processes."""

import shutil
import tempfile
from collections.abc import Iterator
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
