"""Planning in a process of its own, at the lowest priority: it computes for seconds, and is ended when it takes long.

A server that plans must not be slower for it. So ``plan_aside`` starts ``python -m tympan.capacity.aside``, hands the
question over and waits; the child gives way to everything else on the machine, and ends by itself if nobody waits.
"""

import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tympan
from tympan.capacity.demand import Demand, Goal
from tympan.capacity.planner import Effort, plan
from tympan.capacity.profile import Profile
from tympan.capacity.replica import House
from tympan.capacity.report import document, finite
from tympan.errors import Cancelled, Overloaded, TympanError, Unavailable

_LOWEST = 19
_MEMORY_BYTES = 4 << 30
_LOOK_S = 0.25
_RETRY_S = 30.0
_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Question:
    """What is planned: a demand on machines of one kind, what has to hold, and how much is simulated."""

    profile: Profile
    demand: Demand
    goal: Goal
    house: House
    effort: Effort
    cost_per_hour: float | None = None
    notes: tuple[str, ...] = ()


def answer(question: Question, command: str) -> dict[str, Any]:
    """Return the plan as `tympan capacity --json` prints it. Raises ``InvalidRequest`` when no number would do."""
    from tympan.bench.facts import provenance  # noqa: PLC0415 (looks at the machine: not for whoever asks)

    effort = question.effort
    found = plan(question.profile, question.demand, question.goal, question.house, effort)
    found = replace(found, cost_per_hour=question.cost_per_hour, notes=question.notes)
    origin = {**provenance(), "command": command}
    told: dict[str, Any] = finite(document([found], origin, {"runs": effort.runs, "seed": effort.seed}))
    return told


def plan_aside(question: Question, command: str, limit_s: float, is_over: Callable[[], bool]) -> dict[str, Any]:
    """Return ``answer`` from a child process.

    Raises what it raises, ``Overloaded`` when it takes longer than ``limit_s``, ``Cancelled`` once ``is_over``, and
    ``Unavailable`` when the child cannot be started or dies.
    """
    child = _started()
    deadline = time.monotonic() + limit_s
    sent: bytes | None = pickle.dumps((question, command, limit_s))
    try:
        while True:
            try:
                out, _ = child.communicate(sent, timeout=_LOOK_S)
                break
            except subprocess.TimeoutExpired:
                sent = None  # What is left of it is sent all the same.
                _check(deadline, limit_s, is_over)
    finally:
        if child.poll() is None:
            child.kill()
            child.communicate()
    if child.returncode != 0 or not out:
        raise Unavailable(f"The plan's process ended by itself ({child.returncode}).", remedy="Try again.")
    found = pickle.loads(out)  # noqa: S301 (from our own child, which was given nothing but our own values)
    if isinstance(found, TympanError):
        raise found
    told: dict[str, Any] = found
    return told


def _check(deadline: float, limit_s: float, is_over: Callable[[], bool]) -> None:
    """Raise what says that the plan is not waited for any longer."""
    if is_over():
        raise Cancelled
    if time.monotonic() > deadline:
        raise Overloaded(
            f"This plan takes longer than {limit_s:g} s here.",
            remedy="Ask for fewer runs, fewer callers or shorter recordings, or plan with `tympan capacity`.",
            retry_after_s=_RETRY_S,
        )


def _started() -> subprocess.Popen[bytes]:
    # What the settings hold in secrets is none of the child's business.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TYMPAN_")}
    source = str(Path(tympan.__file__).resolve().parents[1])
    paths = [source, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    environment["OPENBLAS_NUM_THREADS"] = "1"  # Each thread would set memory aside.
    environment["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "tympan.capacity.aside"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
    except OSError as error:
        raise Unavailable(f"The plan's process could not be started: {error}.", remedy="Try again.") from error


def _main() -> None:
    os.nice(_LOWEST)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    question, command, limit_s = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 (from our own parent)
    signal.alarm(int(limit_s + _GRACE_S))  # Whoever asked may be gone: the process ends all the same.
    try:
        found: dict[str, Any] | TympanError = answer(question, command)
    except TympanError as error:
        found = error
    sys.stdout.buffer.write(pickle.dumps(found))


if __name__ == "__main__":
    _main()
