"""Work in threads that takes too long: the caller is told what is true of it, and it ends by itself."""

import asyncio
import threading
from collections.abc import Iterator

import pytest

from tympan.api import runner as module
from tympan.api.runner import Runner
from tympan.errors import StorageUnavailable


@pytest.fixture
def runner() -> Iterator[Runner]:
    """Return threads of this test's own."""
    made = Runner(1)
    yield made
    made.close()


def test_a_query_that_hangs_says_that_the_database_is_silent(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frozen database must not collect requests."""
    monkeypatch.setattr(module, "QUERY_S", 0.05)
    released = threading.Event()
    try:
        with pytest.raises(StorageUnavailable, match="The database does not answer"):
            asyncio.run(runner.query(released.wait))
    finally:
        released.set()


def test_a_chore_that_is_too_long_does_not_blame_the_database(runner: Runner) -> None:
    """Copying a large upload may take longer than a request has; it may be done yet, and a key makes it safe to ask."""
    released, done = threading.Event(), threading.Event()

    def work() -> None:
        released.wait(60)
        done.set()

    with pytest.raises(StorageUnavailable, match="Idempotency-Key") as caught:
        asyncio.run(runner.chore(work, 0.05))
    assert "database" not in str(caught.value)
    assert not done.is_set()
    released.set()
    assert done.wait(60)
