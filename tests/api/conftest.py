"""Servers for the tests of the HTTP interface."""

import io
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.api.live_sites import readable
from tests.api.support import ScriptedTranscriber, Site, site
from tests.log_support import captured_log
from tympan.api import runner
from tympan.api.deps import Limits
from tympan.api.wire import protocol
from tympan.storage import database


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """Give queries, writes and callers the time of a busy machine; in production they have 5 and 9 s."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "QUERY_S", 60.0)
        patch.setattr(database, "BUSY_S", 60.0)
        patch.setattr(protocol, "HEADER_DEADLINE_S", 60.0)
        yield


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Return a function that starts a server with limits and a transcriber of the test's choice."""
    with ExitStack() as stack:

        def start(transcriber: ScriptedTranscriber | None = None, **limits: float) -> Site:
            return stack.enter_context(site(tmp_path, Limits(**limits), transcriber))  # type: ignore[arg-type]

        yield start


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server with default limits that tests share; they must not change it."""
    with site(tmp_path_factory.mktemp("staging"), Limits()) as running:
        yield running


@pytest.fixture(scope="module")
def live_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Return a server that reads the words of `tests/live_support.py` off live audio; its tests must not change it."""
    with site(tmp_path_factory.mktemp("staging"), Limits(), readable()) as running:
        yield running


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Return what is logged, at every level; logging is as before afterwards."""
    with captured_log() as stream:
        yield stream
