"""``tympan keys`` and ``tympan audit`` on a data folder, and a server that finds no key there."""

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tympan.access.callers import USUAL, Scope
from tympan.access.tokens import parse
from tympan.cli import app
from tympan.cli.console import ExitCode, stderr, stdout
from tympan.errors import Conflict, InvalidRequest, NotFound


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the data folder that the command line finds."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path))
    stdout.cache_clear()
    stderr.cache_clear()
    return tmp_path


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "160"})


def _made(*arguments: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(_run("keys", *arguments, "--json").stdout)
    return found


def test_a_key_is_shown_once(folder: Path) -> None:
    """On standard output alone, so that it can be piped; neither the list nor the disk has it."""
    result = _run("keys", "create", "--tenant", "acme", "--name", "laptop")
    token = parse(result.stdout.strip())
    assert token is not None
    assert "shown only now" in result.stderr
    assert token.secret not in result.stderr
    shown = _run("keys", "list")
    assert all(word in shown.stdout for word in (token.id, "acme", "laptop", "active", "never"))
    told = _run("keys", "list", "--json").stdout + _run("audit").stdout
    kept = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert token.id.encode() in kept
    assert token.secret not in told + shown.stdout
    assert token.secret.encode() not in kept


def test_what_a_key_allows_is_what_was_asked() -> None:
    """Everything about its tenant unless something else is said; a key for the server's own matters is asked for."""
    usual = _made("create")
    assert (usual["tenant"], usual["scopes"], usual["expires_at"]) == ("default", list(USUAL), None)
    assert not {Scope.ADMIN, Scope.METRICS} & set(USUAL)
    chosen = _made("create", "--scopes", "transcribe, admin,transcribe", "--days", "2")
    assert chosen["scopes"] == ["transcribe", "admin"]
    assert float(str(chosen["expires_at"])) - float(str(chosen["created_at"])) == pytest.approx(2 * 86_400, abs=1)


def test_the_list_is_of_one_tenant_or_of_all() -> None:
    """Ended keys stay in it."""
    ours, theirs = _made("create", "--tenant", "acme"), _made("create", "--tenant", "other")
    assert _run("keys", "revoke", str(theirs["id"])).exit_code == 0
    both = json.loads(_run("keys", "list", "--json").stdout)
    assert [(key["id"], key["state"]) for key in both] == [(ours["id"], "active"), (theirs["id"], "revoked")]
    assert [key["id"] for key in json.loads(_run("keys", "list", "--tenant", "acme", "--json").stdout)] == [ours["id"]]


def test_J8_rotation_makes_a_key_and_gives_the_old_one_a_day() -> None:
    """A whole key is taken for its id, which is what people have at hand."""
    old = _made("create", "--tenant", "acme", "--scopes", "transcribe")
    new = _made("rotate", str(old["key"]), "--overlap-hours", "2")
    assert (new["tenant"], new["scopes"], new["rotated_from"]) == ("acme", ["transcribe"], old["id"])
    assert new["key"] != old["key"]
    listed = {key["id"]: key for key in json.loads(_run("keys", "list", "--json").stdout)}
    left_s = listed[old["id"]]["expires_at"] - listed[new["id"]]["created_at"]
    assert (listed[old["id"]]["state"], left_s) == ("active", pytest.approx(7_200, abs=5))
    assert _run("keys", "rotate", str(new["id"]), "--overlap-hours", "0").exit_code == 0
    assert isinstance(_run("keys", "rotate", str(new["id"])).exception, Conflict)


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--scopes", "everything"),
        ("create", "--scopes", ","),
        ("create", "--tenant", ""),
        ("create", "--tenant", "a/b"),
        ("create", "--tenant", "x" * 65),
        ("create", "--name", "a\nb"),
        ("create", "--name", "x" * 101),
        ("create", "--days", "0"),
        ("create", "--days", "nan"),
        ("rotate", "0" * 16, "--overlap-hours", "-1"),
        ("rotate", "0" * 16, "--overlap-hours", "nan"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...]) -> None:
    """Before anything is kept."""
    assert isinstance(_run("keys", *arguments).exception, InvalidRequest)
    assert json.loads(_run("keys", "list", "--json").stdout) == []


def test_a_key_that_is_not_there_is_said_to_be_so() -> None:
    """For revoking as for rotating."""
    assert isinstance(_run("keys", "revoke", "0" * 16).exception, NotFound)
    assert isinstance(_run("keys", "rotate", "0" * 16).exception, NotFound)


def test_S3_the_log_tells_what_was_done_here() -> None:
    """In three forms, with the same rows; formulas of spreadsheets cannot be smuggled in, for names are not in it."""
    made = _made("create", "--tenant", "acme", "--name", "=cmd()")
    assert _run("keys", "revoke", str(made["id"])).exit_code == 0
    rows = [json.loads(line) for line in _run("audit", "--format", "json").stdout.splitlines()]
    assert [(row["action"], row["target"], row["tenant"], row["outcome"]) for row in rows] == [
        ("key.create", made["id"], "acme", "done"),
        ("key.revoke", made["id"], "acme", "done"),
    ]
    assert all(row["actor"].startswith("cli:") for row in rows)
    table = list(csv.DictReader(io.StringIO(_run("audit", "--format", "csv").stdout)))
    assert [row["action"] for row in table] == ["key.create", "key.revoke"]
    assert json.loads(table[0]["detail"])["scopes"] == list(USUAL)
    assert "key.create" in _run("audit", "--tenant", "acme").stdout
    assert _run("audit", "--tenant", "other").stdout == ""
    assert "=cmd()" not in _run("audit", "--format", "csv").stdout


def test_J6_a_server_that_others_could_reach_does_not_start_without_a_key() -> None:
    """It says how to make one."""
    environment = {**os.environ, "TYMPAN_ENGINE": "fake", "TYMPAN_HOST": "0.0.0.0", "TYMPAN_PORT": "0"}  # noqa: S104
    program = [str(Path(sys.executable).with_name("tympan")), "serve"]
    done = subprocess.run(program, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == ExitCode.NOT_USABLE
    assert "tympan keys create" in done.stderr
    assert "serves" not in done.stdout


def test_S3_what_is_done_to_tenants_is_in_the_log() -> None:
    """How long they are kept, and that they were erased; the log of an erased tenant stays, its keys go."""
    _made("create", "--tenant", "acme")
    assert _run("tenants", "retain", "acme", "--text-days", "3").exit_code == 0
    assert _run("tenants", "erase", "acme", "--yes").exit_code == 0
    rows = [json.loads(line) for line in _run("audit", "--format", "json").stdout.splitlines()]
    assert [(row["action"], row["target"]) for row in rows[1:]] == [("tenant.retain", "acme"), ("tenant.erase", "acme")]
    assert rows[1]["detail"] == {"audio_days": None, "text_days": 3.0}
    assert json.loads(_run("keys", "list", "--json").stdout) == []
