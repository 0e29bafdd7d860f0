"""S5: what is installed is known exactly and listed, and what is known against it is accepted only for a while."""

import json
import re
import runpy
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SBOM = runpy.run_path(str(ROOT / "scripts" / "sbom.py"))
AUDIT = runpy.run_path(str(ROOT / "scripts" / "audit.py"))


def pinned(lock: str) -> dict[str, str]:
    """Return the versions in a lock by name."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([^\s;\\]+)", text, re.MULTILINE))


@pytest.mark.parametrize("lock", ["runtime", "cluster"])
def test_S5_the_bill_lists_every_locked_package_with_its_hashes(lock: str) -> None:
    """Name, version, package URL and hashes of each; the root depends on all of them."""
    bill: dict[str, Any] = SBOM["bill"]([lock])
    assert (bill["bomFormat"], bill["specVersion"], bill["version"]) == ("CycloneDX", "1.6", 1)
    assert {each["name"]: each["version"] for each in bill["components"]} == pinned(lock)
    for each in bill["components"]:
        assert re.fullmatch(r"pkg:pypi/[a-z0-9-]+@[\w.!%-]+", each["purl"]), each["purl"]
        assert each["hashes"]
        assert all(re.fullmatch("[0-9a-f]{64}", one["content"]) for one in each["hashes"])
    (root,) = bill["dependencies"]
    assert root["dependsOn"] == [each["bom-ref"] for each in bill["components"]]
    assert len(set(root["dependsOn"])) == len(bill["components"])


def test_S5_the_same_locks_give_the_same_bill_and_others_another() -> None:
    """Nothing in it depends on when or where it is made."""
    assert json.dumps(SBOM["bill"](["runtime"])) == json.dumps(SBOM["bill"](["runtime"]))
    assert SBOM["bill"](["runtime"])["serialNumber"] != SBOM["bill"](["cluster"])["serialNumber"]


def test_S5_a_line_that_pins_nothing_is_an_error() -> None:
    """A lock that lost a version must not make a shorter bill."""
    with pytest.raises(ValueError, match="numpy"):
        list(SBOM["packages"]("numpy>=2\n    --hash=sha256:00\n"))


def test_S5_waivers_end() -> None:
    """A vulnerability is accepted up to its last day, that day included, and counts again behind it."""
    accepted = list(AUDIT["waivers"]("# id, last day, reason\nPYSEC-1 2026-01-31 not reachable from here\n"))
    assert "PYSEC-1" in AUDIT["command"]("runtime", accepted, date(2026, 1, 31))
    assert "PYSEC-1" not in AUDIT["command"]("runtime", accepted, date(2026, 2, 1))
    with pytest.raises(ValueError, match="values to unpack"):
        list(AUDIT["waivers"]("PYSEC-1 2026-01-31"))


def test_S5_what_is_waived_is_waived_for_a_year_at_most() -> None:
    """A date far away is no date."""
    today = datetime.now(UTC).date()
    for each in AUDIT["waivers"]((ROOT / "requirements" / "waived.txt").read_text(encoding="utf-8")):
        assert (each.until - today).days <= 366, each


BAD = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
GOOD = {"name": "b", "version": "1", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([GOOD], 0, "nothing is known against 1 packages"),
        ([GOOD, BAD], 1, "a 1: PYSEC-1, mended in 2"),
        ([GOOD, SKIPPED], 1, "c: not found"),
        ([SKIPPED, SKIPPED], 2, "knows none of 2 packages"),
        ([], 2, "knows none of 0 packages"),
    ],
)
def test_S5_what_could_not_be_looked_up_is_not_clean(packages: list[dict[str, Any]], code: int, said: str) -> None:
    """A mirror without vulnerabilities knows no package; a package that the service does not know is told."""
    found, lines = AUDIT["verdict"]("runtime", json.dumps({"dependencies": packages, "fixes": []}))
    assert found == code
    assert any(said in line for line in lines), lines


@pytest.mark.parametrize("report", ["", "Traceback", "{}", "[]"])
def test_S5_a_service_that_does_not_answer_makes_nothing_clean(report: str) -> None:
    """The exit code is its own, so that a gate can tell the two apart."""
    assert AUDIT["verdict"]("runtime", report)[0] == AUDIT["UNKNOWN"] == 2


@pytest.mark.parametrize(
    ("codes", "expected", "asked"),
    [([0, 0], 0, 2), ([0, 1, 0], 1, 3), ([2, 1], 2, 1), ([1, 2, 0], 1, 2), ([0, 2], 2, 2)],
)
def test_S5_what_was_found_counts_before_what_is_unknown(codes: list[int], expected: int, asked: int) -> None:
    """And a service that cannot be asked about one lock is not asked about the next."""
    told = iter(codes)
    assert AUDIT["overall"](told) == expected
    assert len(codes) - len(list(told)) == asked


def test_S5_another_service_may_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the environment; PyPI is asked unless it says otherwise."""
    assert "pypi" in AUDIT["command"]("runtime", [], date(2026, 1, 31))
    monkeypatch.setenv("AUDIT_SERVICE", "osv")
    monkeypatch.setenv("AUDIT_OSV_URL", "https://osv.example/v1/query")
    assert {"osv", "https://osv.example/v1/query"} <= set(AUDIT["command"]("runtime", [], date(2026, 1, 31)))


@pytest.mark.parametrize(("report", "told"), [("", True), (json.dumps({"dependencies": [SKIPPED]}), False)])
def test_S5_what_pip_audit_says_is_told_where_it_has_no_report(
    report: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, told: bool
) -> None:
    """With one it says that nothing was found, also where it skipped every package."""
    program = f"import sys; sys.stdout.write({report!r}); sys.stderr.write('No known vulnerabilities found')"
    monkeypatch.setitem(AUDIT["told"].__globals__, "command", lambda *_: [sys.executable, "-c", program])
    assert AUDIT["told"]("runtime", [], date(2026, 1, 31)) == AUDIT["UNKNOWN"]
    assert ("No known vulnerabilities" in capsys.readouterr().out) == told
