"""Look the locked packages up among known vulnerabilities: ``python scripts/audit.py LOCK...``, with pip-audit.

What is accepted for a while stands in ``requirements/waived.txt``, one a line: an id, the day it is accepted until, and
why. Beyond that day it counts again. The exit code is not 0 when anything else is found, or cannot be looked up.
"""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

LOCKS = Path(__file__).parent.parent / "requirements"


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
    path = str(LOCKS / f"{lock}.txt")
    return [sys.executable, "-m", "pip_audit", "--strict", "--require-hashes", "--disable-pip", "-r", path, *ignored]


def main() -> None:
    """Look up every lock that is named, and exit with 1 when one is not clean."""
    accepted = list(waivers((LOCKS / "waived.txt").read_text(encoding="utf-8")))
    today = datetime.now(UTC).date()
    codes = [subprocess.call(command(lock, accepted, today)) for lock in sys.argv[1:] or ["runtime"]]
    sys.exit(1 if any(codes) else 0)


if __name__ == "__main__":
    main()
