"""What the pages' blocks hold is read by what would read it: configurations by their parsers, JavaScript by Node.

Commands that only look after a data folder are carried out here, in order; what else is run stands in `test_pages.py`.
"""

import json
import re
import shlex
import shutil
import subprocess
import tomllib
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from standardwebhooks import Webhook
from typer.testing import CliRunner

from tests.deploy.files import SECRETS, compose
from tests.docs.test_pages import LIMIT_S, PAGES, ROOT, URL, Block, Command, _blocks, _commands, _name, _stage
from tests.docs.test_pages import folder as folder  # noqa: PLC0414 (a fixture that is used here too)
from tests.docs.test_pages import url as url  # noqa: PLC0414 (as above)
from tests.servers import provision
from tympan.cli import app
from tympan.cli.console import stderr, stdout
from tympan.config import Settings, load

LANGUAGES = {"sh", "bash", "python", "js", "json", "jsonl", "toml", "yaml", "ini", "http", "text", "console", ""}
"""Every block has one of these; `text`, `console` and none are output, or what stands in CONTRIBUTING.md."""

HOUSEKEEPING = ("audit", "keys", "migrate", "tenants", "usage", "models list")
"""Commands that end by themselves and need no engine."""

_FILE = re.compile(r"(?<![\w/.])((?:deploy|requirements|scripts|benchmarks)/[\w./@*-]+)")


def _page(block: Block) -> str:
    return block.page


def test_every_block_is_of_a_kind_that_somebody_looks_after() -> None:
    """A block in another language has to get a test first."""
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    opened = re.findall(r"^```(\S*)$", text, re.MULTILINE)[::2]
    assert set(opened) <= LANGUAGES


# ---------------------------------------------------------------------------------------------------- commands


def _housekeeping() -> list[tuple[str, list[Command]]]:
    wanted = [
        c for c in _commands("tympan") if any(f"{shlex.join(c.words[1:])} ".startswith(f"{n} ") for n in HOUSEKEEPING)
    ]
    return [(page, list(commands)) for page, commands in groupby(wanted, key=lambda command: command.page)]


@pytest.mark.parametrize(("page", "commands"), _housekeeping(), ids=[page for page, _ in _housekeeping()])
def test_what_looks_after_a_data_folder_runs(
    page: str, commands: list[Command], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Typed one after another in an empty folder, each of a page's commands on keys, tenants and models succeeds."""
    monkeypatch.chdir(_stage(tmp_path))
    monkeypatch.setenv("TYMPAN_ENGINE", "fake")
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path / "data"))
    for command in commands:
        stdout.cache_clear()
        stderr.cache_clear()
        done = CliRunner().invoke(app, list(command.words[1:]), env={"COLUMNS": "160", **dict(command.variables)})
        assert done.exit_code == 0, f"{command}\n{done.output}"


def _operations() -> list[Block]:
    return list(_blocks("bash"))


@pytest.mark.parametrize("block", _operations(), ids=_page)
def test_what_operators_type_is_shell_and_names_what_there_is(block: Block) -> None:
    """It is not run, as it changes the machine: but it parses, and its files, services and targets exist."""
    done = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    lines = [
        line for line in block.text.splitlines() if not line.startswith("kubectl")
    ]  # Whose `deploy/` is no folder.
    for named in _FILE.findall("\n".join(lines)):
        assert list(ROOT.glob(named.rstrip("."))), f"{block.page} names {named}"
    services = set(compose(SECRETS)["services"])
    for line in (line for line in lines if line.startswith("docker compose")):
        words = shlex.split(line, comments=True)
        wanted = {word for word in words[3:] if not word.startswith("-")} if words[2] in ("run", "up") else set()
        assert wanted <= services, line


# ----------------------------------------------------------------------------------------------- configurations


@pytest.mark.parametrize("block", _blocks("toml"), ids=_page)
def test_settings_in_a_file_are_taken(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read as `tympan.toml`, the block gives settings, and none of its names is unknown."""
    names = {name.lower() for name in tomllib.loads(block.text)}
    assert names <= set(Settings.model_fields)
    (tmp_path / "tympan.toml").write_text(block.text, encoding="utf-8")
    monkeypatch.setenv("TYMPAN_CONFIG", str(tmp_path / "tympan.toml"))
    assert names <= load().model_fields_set


@pytest.mark.parametrize("block", _blocks("ini"), ids=_page)
def test_lines_of_an_environment_name_what_is_read(block: Block) -> None:
    """Settings with their prefix have values that are taken; without it they are variables of compose.yaml."""
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text(encoding="utf-8")))
    lines = dict(line.split("=", 1) for line in block.text.splitlines() if line)
    settings = {
        name.removeprefix("TYMPAN_").lower(): value for name, value in lines.items() if name.startswith("TYMPAN_")
    }
    assert {name for name in lines if not name.startswith("TYMPAN_")} <= variables
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            assert name in Settings.model_fields
            patch.setenv(f"TYMPAN_{name.upper()}", value)
        assert set(settings) <= load().model_fields_set


@pytest.mark.parametrize("block", _blocks("yaml"), ids=_page)
def test_yaml_is_what_its_program_reads(block: Block) -> None:
    """A kustomization names folders that are here; a part of a service of Compose has keys that services have."""
    read: dict[str, Any] = yaml.safe_load(block.text)
    if read.get("kind") == "Kustomization":
        for address in (*read["resources"], *read.get("components", ())):
            assert (ROOT / address.partition("/tympan/")[2] / "kustomization.yaml").is_file(), address
    else:
        assert set(read) <= set().union(*compose(SECRETS)["services"].values())


@pytest.mark.parametrize("block", _blocks("jsonl"), ids=_page)
def test_every_line_is_json(block: Block) -> None:
    """One value a line."""
    assert [json.loads(line) for line in block.text.splitlines() if line]


@pytest.mark.parametrize("block", _blocks("http"), ids=_page)
def test_headers_are_headers(block: Block) -> None:
    """A name, a colon, a value."""
    assert all(re.fullmatch(r"[\w-]+: \S.*", line) for line in block.text.splitlines())


# --------------------------------------------------------------------------------------------------- JavaScript


@pytest.fixture(scope="module")
def node() -> str:
    """Return the program that runs JavaScript."""
    found = provision.find("node")
    if found is None:
        pytest.skip("node is not installed here")
    return str(found.program)


@pytest.mark.parametrize("block", _blocks("js"), ids=_page)
def test_every_javascript_example_runs(block: Block, node: str, url: str, folder: Path, tmp_path: Path) -> None:
    """Those for Node run as they stand, but for the port, and print text; those for a browser's microphone parse.

    The clip is noise, so it is transcribed without speech detection.
    """
    program = tmp_path / "example.mjs"
    text = re.sub(r'^((?:form|body)\.append)\("file".*$', r'\g<0> \1("vad", "false");', block.text, flags=re.MULTILINE)
    program.write_text(text.replace(URL, url), encoding="utf-8")
    words = [node, str(program)] if '"node:fs"' in block.text else [node, "--check", str(program)]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() or words[1] == "--check"


# ------------------------------------------------------------------------------------------ webhooks, checklist


def _receiver() -> dict[str, Any]:
    (block,) = [block for block in _blocks("python") if "def receive(secret" in block.text]
    scope: dict[str, Any] = {}
    exec(block.text, scope)  # noqa: S102 (it is our own page)
    return scope


def test_the_receiver_of_webhooks_takes_ours_once_and_nothing_else() -> None:
    """A message that is signed is taken, also twice; one that was changed, or has no signature, is not."""
    receive, secret = _receiver()["receive"], "whsec_" + "A" * 32
    body = '{"type": "job.succeeded", "data": {"id": "job_1"}}'
    now = datetime.now(UTC)
    headers = {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("evt_1", now, body),
    }
    assert [receive(secret, body.encode(), headers) for _ in range(2)] == [204, 204]
    assert receive(secret, body.replace("_1", "_2").encode(), headers) == 401
    assert receive(secret, body.encode(), {**headers, "webhook-signature": "v1,none"}) == 401


def _proofs() -> Iterator[tuple[str, str]]:
    for page in PAGES:
        for path in re.findall(r"`(tests/[\w/.]+)`", page.read_text(encoding="utf-8")):
            yield _name(page), path


def test_tests_that_pages_name_exist() -> None:
    """A proof that was renamed must not survive in prose: files by their path, tests by their name."""
    missing = [f"{page}: {path}" for page, path in _proofs() if not (ROOT / path).exists()]
    assert not missing
    checklist = (ROOT / "docs" / "howto" / "go-to-production.md").read_text(encoding="utf-8")
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/test_*.py"))
    named = re.findall(r"`(test_\w+)`", checklist)
    assert len(named) > 5
    assert not [name for name in named if f"def {name}(" not in code]


def test_the_checklist_has_a_setting_or_page_and_a_proof_for_each_item() -> None:
    """Every row links to what is set, and to a page with figures or a test."""
    text = (ROOT / "docs" / "howto" / "go-to-production.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    items = [row for row in rows if row[0].strip() != "item"]
    assert len(items) > 20
    for item, _, setting, proof in items:
        assert "](" in setting, item
        assert "](" in proof or "`tests/" in proof, item


def test_addresses_in_pages_are_whole() -> None:
    """A link that leads out of the pages has a host, and no blank."""
    for page in PAGES:
        for link in re.findall(r"\]\((https?:[^)]*)\)", page.read_text(encoding="utf-8")):
            assert urllib.parse.urlsplit(link).hostname, f"{_name(page)}: {link}"


def test_bash_is_here_to_read_what_operators_type() -> None:
    """Or the pages would go unread without a word."""
    assert shutil.which("bash")
