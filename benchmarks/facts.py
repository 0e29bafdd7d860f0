"""What a figure is worth nothing without: the machine, the versions, the source, the command."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from benchmarks.contenders import REPOSITORY
from tympan.bench import facts


def command_line(arguments: Sequence[str]) -> str:
    """Return the command as another machine would give it."""
    return facts.command_line("python -m benchmarks.run", arguments)


def provenance() -> dict[str, Any]:
    """Return everything that is written beside a result."""
    changed = facts.git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks", folder=REPOSITORY)
    return {
        "machine": facts.machine(),
        "versions": facts.versions(),
        "git_commit": facts.git("rev-parse", "HEAD", folder=REPOSITORY) or "none",
        "git_dirty": bool(changed),
        "source_digest": facts.source_digest(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(sys.argv[1:]),
    }
