"""A real server, a real browser, and a page that reports its own faults, for the tests of the web UI.

The browser lives as long as one file of tests: playwright runs an event loop in the thread of the tests, beside which
those that start a loop of their own cannot run.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect

from tests.conftest import SpokenClip
from tests.web.support import Site, WebServer, browsing, serving, site
from tympan.engine.models import ResolvedModel

LIMIT_MS = 60_000
"""Longest wait for what a page is to show."""

expect.set_options(timeout=LIMIT_MS)


@pytest.fixture(scope="session")
def models_folder(model_data_dir: Path, tiny_en: ResolvedModel) -> Path:
    """Return where the weights lie."""
    del tiny_en  # It has to be there.
    return model_data_dir / "models"


@pytest.fixture(scope="session")
def audio_site(tmp_path_factory: pytest.TempPathFactory, speech: Path) -> Iterator[Site]:
    """Return a site that the server may reach: it has the spoken clip as ``/speech.wav``, and takes webhooks."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "speech.wav").write_bytes(speech.read_bytes())
    with site(folder) as found:
        yield found


@pytest.fixture(scope="session")
def web_server(tmp_path_factory: pytest.TempPathFactory, models_folder: Path, audio_site: Site) -> Iterator[WebServer]:
    """Return a server with the real engine, shared by the tests; jobs of other tests may be in its list."""
    allowed = f'["{audio_site.address}"]'
    with serving(tmp_path_factory.mktemp("web"), models_folder, EGRESS_ALLOW=allowed) as server:
        yield server


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Iterator[Callable[..., WebServer]]:
    """Return a function that starts a server of the test's own with settings such as ``MAX_UPLOAD_MB="1"``."""
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(serving(tmp_path_factory.mktemp("own"), models_folder, **settings))


@pytest.fixture(scope="session")
def speech(spoken_clips: tuple[SpokenClip, ...]) -> Path:
    """Return a spoken clip of six seconds: one to ten."""
    return next(clip.path for clip in spoken_clips if clip.path.stem == "counting" and clip.language == "en")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a browser without a window."""
    with browsing() as found:
        yield found


@pytest.fixture
def context(browser: Browser, web_server: WebServer) -> Iterator[BrowserContext]:
    """Return a fresh profile of the browser, whose addresses are those of the shared server."""
    found = browser.new_context(base_url=web_server.url, viewport={"width": 1280, "height": 900})
    found.set_default_timeout(LIMIT_MS)
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Return an empty page. The test fails when a script of the page failed, or broke the page's security policy."""
    found = context.new_page()
    faults: list[str] = []
    found.on("pageerror", lambda error: faults.append(str(error)))
    found.on("console", lambda message: faults.append(message.text) if _is_a_fault(message) else None)
    yield found
    found.close()
    assert faults == []


def _is_a_fault(message: ConsoleMessage) -> bool:
    """Answers that are no success are told there too: those are the tests' own affair."""
    return message.type == "error" and "Failed to load resource" not in message.text
