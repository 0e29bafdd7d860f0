"""Memory of a whole process tree, sampled while it works. Linux only: it reads ``/proc``."""

import re
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.contenders import REPOSITORY

PERIOD_S = 0.05
MIB = 2**20

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """One process at one moment; ``rss`` counts shared pages in full, ``pss`` in proportion."""

    pid: int
    command: str
    rss_mib: float
    pss_mib: float


class TreeSampler:
    """Samples a process and all its descendants within a ``with`` block, every 50 ms unless told otherwise."""

    def __init__(self, root: int, period_s: float = PERIOD_S) -> None:
        """Watch the tree under process id ``root``."""
        self._root = root
        self._period_s = period_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples = 0
        self.longest_gap_s = 0.0
        self.peak_rss_mib = 0.0
        self.peak_pss_mib = 0.0
        self.at_peak: tuple[Process, ...] = ()

    def __enter__(self) -> Self:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sampling; the peaks stay readable."""
        self._stop.set()
        self._thread.join(timeout=10)

    def as_dict(self) -> dict[str, Any]:
        """Return the peaks in MiB and the processes at the moment of the highest resident sum."""
        return {
            "peak_rss_mib": round(self.peak_rss_mib, 1),
            "peak_pss_mib": round(self.peak_pss_mib, 1),
            "at_peak": [asdict(process) for process in self.at_peak],
            "samples": self.samples,
            "longest_gap_s": round(self.longest_gap_s, 3),
        }

    def _run(self) -> None:
        before = time.monotonic()
        while not self._stop.is_set():
            self._take()
            now = time.monotonic()
            self.longest_gap_s, before = max(self.longest_gap_s, now - before), now
            self._stop.wait(self._period_s)

    def _take(self) -> None:
        processes = tree(self._root)
        rss, pss = sum(p.rss_mib for p in processes), sum(p.pss_mib for p in processes)
        if rss > self.peak_rss_mib:
            self.peak_rss_mib, self.at_peak = rss, processes
        self.peak_pss_mib = max(self.peak_pss_mib, pss)
        self.samples += 1


def tree(root: int) -> tuple[Process, ...]:
    """Return the processes of the tree under ``root`` with their memory; those that end meanwhile are left out."""
    children: dict[int, list[int]] = {}
    for folder in _PROC.glob("[0-9]*"):
        parent = _parent(folder)
        if parent is not None:
            children.setdefault(parent, []).append(int(folder.name))
    pids, found = [root], []
    while pids:
        pid = pids.pop()
        pids += children.get(pid, [])
        process = _read(pid)
        if process is not None:
            found.append(process)
    return tuple(found)


def _parent(folder: Path) -> int | None:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None  # it ended between listing and reading


def _read(pid: int) -> Process | None:
    try:
        memory = (_PROC / str(pid) / "smaps_rollup").read_text()
        command = (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        # Where this machine keeps its interpreter is nobody's business: a published table names the program only.
        program, _, rest = command.replace(f"{REPOSITORY}/", "").partition(" ")
        command = f"{Path(program).name} {rest}".strip()
    except OSError:
        return None  # it ended between listing and reading
    return Process(pid, command[:120], _kib(memory, "Rss") / 1024, _kib(memory, "Pss") / 1024)


def _kib(text: str, name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) if found else 0
