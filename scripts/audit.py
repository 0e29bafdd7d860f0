"""Look the locked packages up among known vulnerabilities: ``python scripts/audit.py LOCK...``, with pip-audit.

What is accepted for a while stands in ``requirements/waived.txt``, one a line: an id, the day it is accepted until, and
why. Beyond that day it counts again. The exit code is 1 when anything else is found, and 2 when nothing could be looked
up. Packages are looked up at PyPI (its JSON interface, which mirrors of packages alone do not have), or with
``AUDIT_SERVICE=osv`` at OSV; ``AUDIT_OSV_URL`` names another address of that.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).parent.parent / "requirements"
CLEAN, FOUND, UNKNOWN = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Waiver:
    """A vulnerability that is accepted until a day, that day included."""

    id: str
    until: date
    reason: str


def waivers(text: str) -> Iterator[Waiver]:
    """Yield what is accepted. Raises ``ValueError`` for a line without an id, a day and a reason."""
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, until, reason = line.split(maxsplit=2)
            yield Waiver(name, date.fromisoformat(until), reason)


def command(lock: str, accepted: list[Waiver], today: date) -> list[str]:
    """Return the command that looks the packages of ``lock`` up; nothing is resolved or installed for it."""
    ignored = [argument for each in accepted if today <= each.until for argument in ("--ignore-vuln", each.id)]
    where = ["--vulnerability-service", os.environ.get("AUDIT_SERVICE") or "pypi"]
    if url := os.environ.get("AUDIT_OSV_URL"):
        where += ["--osv-url", url]
    path = str(LOCKS / f"{lock}.txt")
    options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json", "-r", path]
    return [sys.executable, "-m", "pip_audit", *where, *options, *ignored]


def verdict(lock: str, report: str) -> tuple[int, list[str]]:
    """Return the exit code for what pip-audit reports of a lock, and the lines that tell why."""
    try:
        packages: list[dict[str, Any]] = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN, [f"{lock}: the service could not be asked"]
    skipped = [each for each in packages if "skip_reason" in each]
    if len(skipped) == len(packages):
        return UNKNOWN, [f"{lock}: the service knows none of {len(packages)} packages"]
    lines = [f"{lock}: {each['name']}: {each['skip_reason']}" for each in skipped]
    for each in packages:
        for one in each.get("vulns", ()):
            mended = ", ".join(one["fix_versions"]) or "no version"
            lines.append(f"{lock}: {each['name']} {each['version']}: {one['id']}, mended in {mended}")
    return (FOUND, lines) if lines else (CLEAN, [f"{lock}: nothing is known against {len(packages)} packages"])


def told(lock: str, accepted: list[Waiver], today: date) -> int:
    """Look a lock up, print what was found, and return the exit code."""
    done = subprocess.run(command(lock, accepted, today), capture_output=True, text=True, check=False)
    code, lines = verdict(lock, done.stdout)
    if not done.stdout:
        lines += done.stderr.splitlines()[-1:]  # Where pip-audit says why it has no report.
    sys.stdout.writelines(f"tympan: {line}\n" for line in lines)
    return code


def overall(codes: Iterable[int]) -> int:
    """Return the exit code for several locks; behind the first that cannot be looked up no other is asked for."""
    worst = CLEAN
    for code in codes:
        if code == UNKNOWN:
            return worst or UNKNOWN
        worst = max(worst, code)
    return worst


def main() -> None:
    """Look up every lock that is named, and exit with 1 when one is not clean, with 2 when that is not known."""
    accepted = list(waivers((LOCKS / "waived.txt").read_text(encoding="utf-8")))
    today = datetime.now(UTC).date()
    code = overall(told(lock, accepted, today) for lock in sys.argv[1:] or ["runtime"])
    if code == UNKNOWN:
        sys.stderr.write(
            "tympan: Nothing was audited. PyPI's JSON interface has to be reachable; a mirror of the packages is not\n"
            "        enough. Or ask OSV: make audit AUDIT_SERVICE=osv [AUDIT_OSV_URL=https://...]\n"
        )
    sys.exit(code)


if __name__ == "__main__":
    main()
