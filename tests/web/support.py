"""A server with the real engine in a process of its own, a real browser, and what the tests of the web UI share."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import axe_core_python
import httpx
import numpy as np
import soundfile
from playwright.sync_api import Browser, Page, sync_playwright

from tests.media import wav
from tests.servers import provision

MODEL = "tiny.en"
THEMES = ("light", "dark")
WIDTHS = (360, 768, 1440)
"""Of a phone, a tablet and a desk, in pixels."""

START_S = 180.0
"""Longest wait for a process to start, on a machine that does much else."""

_AXE = Path(axe_core_python.__file__).parent / "axe.min.js"
_WEIGHTY = ("serious", "critical")
_HOW = "Install Debian's `chromium` (apt-get install chromium), or name a browser in the variable CHROMIUM."


@dataclass
class WebServer:
    """A server in a process of its own, which can be stopped and started again on the same port and data."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    port: int = 0
    output: list[str] = field(default_factory=list)
    _child: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Address of the server, without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start and wait until the model is loaded."""
        variables = {
            "MODEL": MODEL,
            "DATA_DIR": str(self.folder),
            "OFFLINE": "true",
            "QUALITY_STARTER": "false",
            "LOG_FORMAT": "json",
            **self.settings,
            "PORT": str(self.port),
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "tympan", "serve"],
            env={**kept, **{f"TYMPAN_{name}": value for name, value in variables.items()}},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said = threading.Event()
        threading.Thread(target=self._collect, args=(self._child, said), daemon=True).start()
        assert said.wait(START_S), "".join(self.output[-50:])
        assert self._child.poll() is None, "".join(self.output[-50:])

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the process and wait for it; with ``SIGKILL`` it has no time to say goodbye."""
        if self._child is None:
            return
        self._child.send_signal(how)
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(10)
        self._child = None

    def tympan(self, *words: str) -> str:
        """Return what the command line says about this server's data."""
        environment = {**os.environ, "TYMPAN_DATA_DIR": str(self.folder)}
        command = [sys.executable, "-m", "tympan", *words]
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, check=True, timeout=START_S
        )
        return done.stdout

    def job(self, path: Path, **fields: str) -> str:
        """Hand in a file and return the id of the job that is done."""
        made = httpx.post(f"{self.url}/v1/jobs", files={"file": (path.name, path.read_bytes())}, data=fields)
        job_id = str(made.raise_for_status().json()["id"])
        return self.ended(job_id)["id"]  # type: ignore[no-any-return]

    def ended(self, job_id: str, limit_s: float = 60.0) -> dict[str, Any]:
        """Return a job once it has ended."""
        until_s = time.monotonic() + limit_s
        while time.monotonic() < until_s:
            job: dict[str, Any] = httpx.get(f"{self.url}/v1/jobs/{job_id}").raise_for_status().json()
            if job["state"] not in ("queued", "running"):
                return job
            time.sleep(0.1)
        raise AssertionError(f"{job_id} has not ended within {limit_s} s")

    def _collect(self, child: subprocess.Popen[str], said: threading.Event) -> None:
        assert child.stdout is not None
        for line in child.stdout:
            self.output.append(line)
            if " at http" in line:
                self.port = int(line.rsplit(":", 1)[1])
                said.set()
        said.set()
        child.stdout.close()


@contextmanager
def serving(folder: Path, models: Path, **settings: str) -> Iterator[WebServer]:
    """Yield a running server with its own data in ``folder`` and the weights that lie in ``models``."""
    (folder / "models").symlink_to(models, target_is_directory=True)
    server = WebServer(folder, settings)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@dataclass
class Site:
    """A web server on this machine, ``host:port``; what is posted to it is counted and answered with ``status``."""

    address: str = ""
    status: int = 200
    posted: list[bytes] = field(default_factory=list)


@contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Yield a web server for the files of a folder."""
    made = Site()

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def do_POST(self) -> None:
            """Take a message."""
            made.posted.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(made.status)
            self.end_headers()
            self.wfile.write(b"<b>thanks</b>")

        def log_message(self, *args: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        made.address = f"127.0.0.1:{server.server_address[1]}"
        yield made
        server.shutdown()
        thread.join(10)


def long_clip(speech: Path, seconds: float) -> bytes:
    """Return speech, again and again, as a WAV file of so many seconds."""
    samples, rate_hz = soundfile.read(speech, dtype="float64")
    return wav(np.resize(samples, round(seconds * rate_hz))[:, None], rate_hz)


def chromium() -> provision.Installation:
    """Return where the browser is. Raises ``AssertionError`` with the remedy where there is none."""
    named = os.environ.get("CHROMIUM")
    found = provision.Installation(Path(named)) if named else provision.find(provision.BROWSER)
    assert found, f"The tests of the web UI need a browser. {_HOW}"
    return found


@contextmanager
def browsing(*switches: str) -> Iterator[Browser]:
    """Yield a browser without a window, started with ``switches`` beside the usual ones."""
    found = chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(found.program),
            args=["--no-sandbox", "--disable-dev-shm-usage", *switches],
            env={**os.environ, **found.env},
        )
        yield browser
        browser.close()


def violations(page: Page) -> list[str]:
    """Return what axe finds wrong with a page that is serious or critical, each with the elements it is about."""
    if not page.evaluate("() => Boolean(window.axe)"):
        page.evaluate(f"() => {{ {_AXE.read_text(encoding='utf-8')} }}")
    found = page.evaluate("async () => (await window.axe.run(document, {resultTypes: ['violations']})).violations")
    return [
        f"{one['impact']} {one['id']}: {[node['target'] + [node.get('failureSummary')] for node in one['nodes']]}"
        for one in found
        if one["impact"] in _WEIGHTY
    ]


def check_everywhere(page: Page, *, themes: Sequence[str] = THEMES, widths: Sequence[int] = WIDTHS) -> None:
    """Fail unless a page as it stands has no serious violation and no sideways scroll, in each theme and width."""
    size = page.viewport_size
    for theme in themes:
        page.evaluate("(theme) => { document.documentElement.dataset.theme = theme }", theme)
        for width in widths:
            page.set_viewport_size({"width": width, "height": 900})
            assert violations(page) == [], (theme, width)
            wide = page.evaluate("() => document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert wide <= 0, (theme, width, wide)
    if size is not None:
        page.set_viewport_size(size)
