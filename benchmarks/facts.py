"""What a figure is worth nothing without: the machine, the versions, the source, the command."""

import hashlib
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.contenders import REPOSITORY

_PACKAGES = ("tympan", "ctranslate2", "faster-whisper", "onnxruntime", "av", "numpy", "jiwer", "whisper-normalizer")


def machine() -> dict[str, Any]:
    """Return the processor, its usable cores, the memory and the kernel."""
    return {
        "cpu": _match(Path("/proc/cpuinfo"), r"model name\s*:\s*(.+)"),
        "cores": cores(),
        "ram_gib": round(int(_match(Path("/proc/meminfo"), r"MemTotal:\s*(\d+)") or 0) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def command_line(arguments: Sequence[str]) -> str:
    """Return the command as another machine would give it: this one's folders are nobody's business."""
    return " ".join(["python -m benchmarks.run", *(re.sub(r"(^|=)/.*", r"\1DIR", word) for word in arguments)])


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0))


def versions() -> dict[str, str]:
    """Return the versions of the packages that bear on the figures."""
    return {name: _version(name) for name in _PACKAGES}


def provenance() -> dict[str, Any]:
    """Return everything that is written beside a result."""
    return {
        "machine": machine(),
        "versions": versions(),
        "git_commit": _git("rev-parse", "HEAD") or "none",
        "git_dirty": bool(_git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks")),
        "source_digest": source_digest(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command_line(sys.argv[1:]),
    }


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return a short digest of all source files of the package: figures of other sources are not reused."""
    digest = hashlib.sha256()
    for path in sorted((REPOSITORY / "src").rglob("*.py")):
        digest.update(str(path.relative_to(REPOSITORY)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _match(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text()) if path.exists() else None
    return found.group(1).strip() if found else ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
