"""The pages are true: links lead somewhere, commands exist and run, requests are answered. With the fake engine."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import wave
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer

from tympan.cli import app
from tympan.config import Settings

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(ROOT.glob("docs/**/*.md"))
WRITTEN_BY_MAKE_BENCH = ROOT / "docs" / "benchmarks" / "summary.md"
PROGRAMS = {"tympan", "curl", "make", "pip", "cat", "."}
PAGES_TO_RUN = ("README.md", "docs/quickstart.md", "docs/howto/transcribe-files.md")
LASTING = ("serve", "models")  # One never ends; the others need the network or a real model.
URL = "http://127.0.0.1:8000"
MAX_DECISION_LINES = 45
LIMIT_S = 60.0
# OpenAI's client opens WebSockets in a way that the library under it is about to give up.
_WARNINGS = ("-W", "error", "-W", "ignore:connect() must be used as a context manager:DeprecationWarning")
NOT_OURS = (
    "AUDIT_SERVICE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TEST_SERVERS",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "UVICORN_HOST",
    "UVICORN_PORT",
    "ALLOW_ORIGINS",
    "ASR_MODEL",
    "ASR_ENGINE",
    "MODEL_IDLE_TIMEOUT",
    "WHISPER__INFERENCE_DEVICE",
    "WHISPER__COMPUTE_TYPE",
    "WHISPER__CPU_THREADS",
    "WHISPER__TTL",
    "LD_LIBRARY_PATH",
)  # Read by the TLS library, by the tests, and by the servers in whose place this one is put.


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a shell block: variables set for it, and its words; ``piped`` if it reads another's output."""

    page: str
    variables: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    piped: bool

    def __str__(self) -> str:
        """Return it as it could be typed."""
        return shlex.join([f"{name}={value}" for name, value in self.variables] + list(self.words))


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def _blocks(language: str) -> tuple[Block, ...]:
    return tuple(
        Block(_name(page), language, found)
        for page in PAGES
        for found in re.findall(
            rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        )
    )


@cache
def _commands(program: str = "") -> tuple[Command, ...]:
    """Return every command of every page's shell blocks, or only those of ``program``."""
    lines = [
        (block.page, line)
        for block in _blocks("sh")
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.startswith("#")
    ]
    found = [_command(page, part, piped=i > 0) for page, line in lines for i, part in enumerate(line.split(" | "))]
    return tuple(command for command in found if program in {"", command.words[0]})


def _command(page: str, text: str, *, piped: bool) -> Command:
    words = shlex.split(text, comments=True)
    variables = []
    while "=" in words[0] and words[0].split("=", 1)[0].isupper():
        name, value = words.pop(0).split("=", 1)
        variables.append((name, value))
    return Command(page, tuple(variables), (words[0].removeprefix(".venv/bin/"), *words[1:]), piped)


def _stage(folder: Path) -> Path:
    """Fill ``folder`` with what the pages' commands speak of."""
    for name, channels in (("talk.mp3", 1), ("meeting.mp3", 1), ("recordings/monday/call.wav", 1), ("call.wav", 2)):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(channels)
            file.setsampwidth(2)
            file.setframerate(16_000 // channels)
            file.writeframes(array("h", [(n * 997) % 9_000 - 4_500 for n in range(16_000)]).tobytes())
    (folder / "my-model").mkdir()
    return folder


def _environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
    return kept | {"TYMPAN_ENGINE": "fake", "TYMPAN_PORT": "0", "TYMPAN_DATA_DIR": str(folder / "data")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the recordings that the pages speak of."""
    return _stage(tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    """Return the address of a server with the fake engine."""
    with subprocess.Popen(
        [sys.executable, "-m", "tympan", "serve"],
        env=_environment(folder),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watchdog = threading.Timer(LIMIT_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if " at http" in line:
                break
        watchdog.cancel()
        drain = threading.Thread(target=process.stdout.read, daemon=True)
        drain.start()
        assert " at http" in (said or [""])[-1], "".join(said)
        yield said[-1].rsplit(" at ", 1)[1].strip()
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        process.kill()
        drain.join(5)


def _slugs(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return set(re.findall(r'<a id="([\w-]+)">', text)) | {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_to_a_page_and_its_heading(page: Path) -> None:
    """A file that moved, or a heading that was renamed, takes its links along."""
    prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for link in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target == WRITTEN_BY_MAKE_BENCH and not target.exists():
            continue
        assert target.exists(), f"{_name(page)} links to {link}"
        assert not anchor or anchor in _slugs(target), f"{_name(page)} links to {link}"


def test_the_page_left_out_of_the_check_is_one_that_the_benchmarks_write() -> None:
    """The only link that may lead nowhere is to the page that ``make bench`` has yet to write."""
    assert f'"{WRITTEN_BY_MAKE_BENCH.name}"' in (ROOT / "benchmarks" / "render.py").read_text(encoding="utf-8")


def test_the_index_names_every_page() -> None:
    """A page that nobody links to is a page that nobody reads; benchmark pages have an index of their own."""
    index = ROOT / "docs" / "README.md"
    linked = {(index.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", index.read_text("utf-8"))}
    pages = {page for page in ROOT.glob("docs/**/*.md") if page.parent.name != "benchmarks"}
    assert pages - {index} <= linked


def test_decisions_are_numbered_and_fit_on_a_screen() -> None:
    """Numbers have no gaps, titles carry them, and no record is long."""
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    for number, record in enumerate(records, 1):
        lines = record.read_text(encoding="utf-8").splitlines()
        assert record.name.startswith(f"{number:04d}-")
        assert lines[0].startswith(f"# {number}. ")
        assert len(lines) <= MAX_DECISION_LINES
        assert sum(line.startswith(("**Context.**", "**Decision.**", "**Consequences.**")) for line in lines) == 3


def test_the_readme_starts_with_the_two_commands() -> None:
    """Whoever opens the project sees first how to start it and how to test it."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Tympan"
    assert [line.split("#")[0].strip() for line in lines[1:6] if line] == ["```sh", "make serve", "make test", "```"]


def test_shell_blocks_hold_only_programs_that_are_checked_here() -> None:
    """Nothing slips into a page unseen."""
    assert len(_commands()) > 30
    assert {command.words[0] for command in _commands()} <= PROGRAMS


@pytest.mark.parametrize("command", _commands("tympan"), ids=lambda c: f"{c.page}: {c}")
def test_every_tympan_command_is_one_the_command_line_accepts(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, flags and values are parsed by the command line itself, without being carried out."""
    monkeypatch.chdir(folder)
    parser: Any = typer.main.get_command(app)
    words = list(command.words)
    context = None
    while True:
        context = parser.make_context(words.pop(0), words, parent=context)
        rest = [*getattr(context, "_protected_args", ()), *context.args]
        if not hasattr(parser, "commands") or not rest:
            break
        assert rest[0] in parser.commands, str(command)
        parser, words = parser.commands[rest[0]], rest


@pytest.mark.parametrize("page", PAGES_TO_RUN)
def test_the_commands_of_the_first_pages_run(page: str, tmp_path: Path) -> None:
    """Typed one after another, as a reader does, every command succeeds."""
    folder = _stage(tmp_path)
    wanted = [c for c in _commands("tympan") if c.page == page and c.words[1] not in LASTING]
    assert wanted
    for command in wanted:
        done = subprocess.run(
            [sys.executable, "-m", "tympan", *command.words[1:]],
            env=_environment(folder) | dict(command.variables),
            cwd=folder,
            input=(folder / "talk.mp3").read_bytes() if command.piped else b"",
            capture_output=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout.decode()}\n{done.stderr.decode()}"


@pytest.mark.parametrize("command", _commands("curl"), ids=lambda c: f"{c.page}: {c}")
def test_every_request_is_answered(command: Command, url: str, folder: Path) -> None:
    """Routes and fields that a page shows are taken by the server."""
    words = list(command.words[1:])
    target = words.pop(0)
    assert target.startswith(URL)
    assert words[::2] == ["-F"] * (len(words) // 2)
    fields = dict(word.split("=", 1) for word in words[1::2])
    uploads = {name: fields.pop(name) for name, value in dict(fields).items() if value.startswith("@")}
    if not uploads:
        answer = httpx.get(url + target.removeprefix(URL), timeout=LIMIT_S)
    else:
        files = {name: ("talk.mp3", (folder / path.removeprefix("@")).read_bytes()) for name, path in uploads.items()}
        answer = httpx.post(url + target.removeprefix(URL), files=files, data=fields, timeout=LIMIT_S)
    assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize("block", _blocks("python"), ids=lambda block: block.page)
def test_every_python_example_runs(block: Block, url: str, folder: Path) -> None:
    """The examples work as they stand, but for the port."""
    program = block.text.replace(URL, url)
    done = subprocess.run(
        [sys.executable, *_WARNINGS, "-c", program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", _blocks("json"), ids=lambda block: block.page)
def test_json_blocks_are_json(block: Block) -> None:
    """What is shown as an answer could be one."""
    assert json.loads(block.text)


def test_make_targets_exist() -> None:
    """``make X`` in a page is a target of the Makefile."""
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    named = set(re.findall(r"(?:^|`)make ([a-z][a-z-]*)", text, re.MULTILINE))
    assert {"serve", "test", "install"} <= named
    assert named <= targets


def test_settings_that_pages_name_exist() -> None:
    """A variable that was renamed must not survive in prose; a few are no settings."""
    known = {name.upper() for name in Settings.model_fields} | {
        "CONFIG",
        "DEBUG",
        "FAULT",
        "API_KEY",
        "BENCH_API_KEY",
        *NOT_OURS,
    }
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.parent.name != "benchmarks")
    prefixed, bare = re.findall(r"\bTYMPAN_([A-Z_]*[A-Z])\b", text), re.findall(r"`([A-Z]+_[A-Z_]+)[=`]", text)
    named = set(prefixed) | {name for name in bare if not name.startswith("TYMPAN_")}
    assert len(named) > 8
    assert named <= known
