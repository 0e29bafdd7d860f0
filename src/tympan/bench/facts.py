"""What a figure is worth nothing without: the machine, the versions, the source it was measured on."""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import tympan
from tympan.engine.machine import probe_machine

PACKAGES = ("tympan", "ctranslate2", "faster-whisper", "onnxruntime", "av", "numpy", "jiwer", "whisper-normalizer")
"""Packages whose versions bear on speed or on word errors."""

_SOURCE = Path(tympan.__file__).resolve().parent
_GIT_LIMIT_S = 20.0


def machine() -> dict[str, Any]:
    """Return the processor, its usable cores, the memory in GiB, the GPUs and the system."""
    found = probe_machine()
    return {
        "cpu": found.cpu_name,
        "cores": cores(),
        "ram_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": [gpu.name for gpu in found.gpus],
        "system": platform.system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def cores() -> int:
    """Return how many processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions(names: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the version of each package, or ``not installed``."""
    return {name: _version(name) for name in names}


def provenance() -> dict[str, Any]:
    """Return what is written beside every result: machine, other work on it, versions, source, the time in UTC."""
    return {
        "machine": machine(),
        "versions": versions(),
        "git_commit": git("rev-parse", "HEAD", folder=_SOURCE),
        "source_digest": source_digest(),
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


@lru_cache(maxsize=1)
def source_digest() -> str:
    """Return a short digest of Tympan's source files: figures of other sources are not reused."""
    digest = hashlib.sha256()
    for path in sorted(_SOURCE.rglob("*.py")):
        digest.update(path.relative_to(_SOURCE).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of one file. Raises ``OSError``."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def command_line(program: str, arguments: Sequence[str]) -> str:
    """Return the command as another machine would give it: this one's folders are nobody's business."""
    return " ".join([program, *(re.sub(r"(^|=)(/|~).*", r"\1DIR", word) for word in arguments)])


def git(*arguments: str, folder: Path) -> str | None:
    """Return what git says of ``folder``, or ``None`` when it is in no repository or there is no git."""
    try:
        done = subprocess.run(
            ["git", *arguments],  # noqa: S607 (whichever git the user has)
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_GIT_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
