"""``tympan quality`` on a folder of data: what it stores, shows and answers, without a server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.golden_support import Gold, silence, speech, write_set
from tests.jobs_support import open_shop
from tympan.cli import app
from tympan.cli.console import ExitCode
from tympan.cli.quality_views import _chunk
from tympan.errors import InvalidRequest, NotFound
from tympan.storage.audit import AuditStore
from tympan.storage.database import sqlite_url


@pytest.fixture
def gold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gold]:
    """Return golden sets on the database and the folder that the command line is pointed at."""
    data = tmp_path / "data"
    data.mkdir()
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(data))
    monkeypatch.setenv("TYMPAN_ENGINE", "fake")
    with open_shop(data, sqlite_url(data / "tympan.db")) as shop:
        yield Gold(shop, [*speech(2, tags=["[phone]"]), *silence(1)])


def _invoke(*words: object, code: int) -> Result:
    done = CliRunner().invoke(app, ["quality", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == code, done.output
    return done


def _run(*words: object, code: int = ExitCode.OK) -> str:
    return str(_invoke(*words, code=code).output)


def _json(*words: object, code: int = ExitCode.OK) -> Any:
    return json.loads(_invoke(*words, "--json", code=code).stdout)


def test_a_set_is_added_run_looked_at_and_removed(gold: Gold, tmp_path: Path) -> None:
    """All the way, with an alarm in between."""
    folder = write_set(tmp_path / "calls", gold.rows)
    said = _run("add", folder, "--schedule", "off")
    assert "calls is version 1: 3 clips, 1 of them without speech." in said
    assert "needs 6 of them" in said
    (listed,) = _json("sets")
    assert (listed["name"], listed["n_items"], listed["plan"]["schedule"]) == ("calls", 3, None)
    assert "next on" in _run("schedule", "calls", "@daily")
    assert "never" in _run("schedule", "calls", "off")
    assert "No server has been seen" in _run("run", "calls")
    gold.work()
    gold.mishear = lambda _, text: text.replace("bridge", "[fridge]") or "thanks"
    bad = _json("run", "calls")["id"]
    gold.work()
    assert next(iter(_json("runs", "calls")))["id"] == bad
    assert "succeeded" in _run("runs")
    whole = _json("show", bad, "--by", "tag")
    assert [part["name"] for part in whole["parts"]] == ["-", "[phone]"]
    assert whole["all"]["words"]["substitutions"] == 0
    assert whole["all"]["words"]["deletions"] == 2
    shown = _run("show", bad, "--worst", 3, "--by", "tag")
    for part in ("WORSE", "[-bridge-]", "[phone]", "text where nothing was said", "{+thanks+}"):
        assert part in shown, shown
    (alarm,) = _json("alarms", code=ExitCode.SOME_FAILED)
    assert (alarm["kind"], alarm["subject"]) == ("wer_regression", "calls")
    assert "1 open" in _run("alarms", code=ExitCode.SOME_FAILED)
    assert "baseline of calls" in _run("baseline", bad)
    assert "Nothing is wrong" in _run("alarms", "--days", 7)
    _run("remove", "calls")
    assert "There is no golden set" in _run("sets")


def test_what_changes_golden_sets_is_in_the_audit_log(gold: Gold, tmp_path: Path) -> None:
    """Who did what to which set, with the run; what is only looked at, refused or done by the server itself is not."""
    folder = write_set(tmp_path / "calls", gold.rows)
    _run("add", folder)
    _run("add", folder, "--schedule", "@daily")
    _run("schedule", "calls", "off")
    begun = _json("run", "calls", "--model", "demo")["id"]
    gold.desk.add_starter()
    gold.work()
    _run("baseline", begun)
    for looked in (["sets"], ["runs"], ["show", begun], ["alarms"]):
        _run(*looked)
    for refused in (["remove", "none"], ["schedule", "calls", "never"], ["run", "none"], ["baseline", "run_none"]):
        assert CliRunner().invoke(app, ["quality", *refused]).exit_code != ExitCode.OK
    version = gold.desk.store.get("calls").version_id
    _run("remove", "calls")
    rows = AuditStore(gold.shop.database).page()
    assert {(row.target, row.tenant, row.outcome) for row in rows} == {("calls", "", "done")}
    assert all(row.actor.startswith("cli:") for row in rows)
    assert [(row.action, row.detail) for row in rows] == [
        ("quality.add", {"schedule": "0 3 * * 1", "model": "", "version": version, "clips": 3}),
        ("quality.add", {"schedule": "@daily", "model": ""}),
        ("quality.schedule", {"schedule": None}),
        ("quality.run", {"run": begun, "model": "demo"}),
        ("quality.baseline", {"run": begun}),
        ("quality.remove", None),
    ]


def test_waiting_ends_with_the_run(gold: Gold, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And shows what it came to."""
    _run("add", write_set(tmp_path / "calls", gold.rows))
    monkeypatch.setattr("tympan.cli.quality.time.sleep", lambda _: gold.work())
    assert "succeeded, 0 of 3 clips failed" in _run("run", "calls", "--wait")
    assert _json("run", "calls", "--wait")["state"] == "succeeded"


def test_what_is_not_there_or_makes_no_sense_is_said(gold: Gold, tmp_path: Path) -> None:
    """With a typed error each."""
    folder = write_set(tmp_path / "calls", gold.rows)
    for words, error in (
        (("show", "run_none"), NotFound), (("run", "none"), NotFound), (("remove", "none"), NotFound),
        (("schedule", "none", "off"), NotFound), (("add", tmp_path / "none"), InvalidRequest),
        (("add", folder, "--schedule", "now and then"), InvalidRequest),
        (("add", folder, "--name", "a/b"), InvalidRequest), (("show", "run_none", "--by", "mood"), InvalidRequest),
    ):  # fmt: skip
        with pytest.raises(error):
            _run(*words)
    assert _json("sets") == []


def test_signs_tell_without_colours_what_was_lost_and_heard() -> None:
    """Brackets of a text are no markup."""
    assert _chunk("equal", ["a", "b"], ["a", "b"]) == "a b"
    assert "[-a-]" in _chunk("delete", ["a"], [])
    assert "{+b+}" in _chunk("insert", [], ["b"])
