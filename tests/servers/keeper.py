"""A process that ends the servers when the tests end, however they end.

Its standard input is a pipe from the test run. When the pipe closes (the run has finished, crashed or was killed) it
kills every registered server with all its descendants and deletes the registered folders. The kernel's signal on a
parent's death (PR_SET_PDEATHSIG) would not do: it comes when the *thread* that started the child ends, is forgotten
when the child changes its user (PostgreSQL), and does not reach grandchildren (nginx, Erlang). Standard library only.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

_Rows = list[tuple[int, int, int, str]]
"""Of each process: its id, its parent's, its group's, and the letter of its state."""


def family(leader: int) -> list[int]:
    """Return the ids of all living processes that descend from ``leader`` or are in its group, itself included."""
    return sorted(pid for pid, *_ in _family(leader))


def frozen(leader: int) -> bool:
    """Return whether ``leader`` and all its descendants are stopped."""
    return all(state.startswith("T") for *_, state in _family(leader))


def signal_family(leader: int, number: signal.Signals) -> None:
    """Send a signal to ``leader`` and all its descendants; PostgreSQL's children, for one, have groups of their own."""
    sent: set[int] = set()
    while new := set(family(leader)) - sent:  # Again for those that were born meanwhile.
        for pid in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        sent |= new


def _family(leader: int) -> _Rows:
    rows = _rows()
    found = {pid for pid, _, group, _ in rows if leader in {pid, group}}
    grown = True
    while grown:
        children = {pid for pid, parent, *_ in rows if parent in found} - found
        found |= children
        grown = bool(children)
    return [row for row in rows if row[0] in found]


def _rows() -> _Rows:
    if Path("/proc/self/stat").exists():
        return [row for entry in os.scandir("/proc") if entry.name.isdigit() for row in _row(entry.name)]
    command = ["ps", "-axo", "pid=,ppid=,pgid=,stat="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [
        (int(pid), int(up), int(group), state) for pid, up, group, state in map(str.split, listed) if state[0] != "Z"
    ]


def _row(pid: str) -> _Rows:
    with contextlib.suppress(OSError):
        state, parent, group = Path("/proc", pid, "stat").read_text(errors="replace").rpartition(")")[2].split()[:3]
        if state != "Z":
            return [(int(pid), int(parent), int(group), state)]
    return []


def main() -> None:
    """Watch until the pipe closes, then clean up."""
    leaders: set[int] = set()
    folders: set[str] = set()
    for line in sys.stdin:
        action, _, value = line.rstrip("\n").partition(" ")
        if action == "folder":
            folders.add(value)
        elif action == "watch":
            leaders.add(int(value))
        else:
            leaders.discard(int(value))
    for leader in leaders:
        signal_family(leader, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    main()
