"""The shape every contender has: a job goes in, texts and times come out.

A contender is a process of its own (server, baseline, in-process loop) that is loaded once and sits idle while another
one runs, so that two of them can be timed in turns on one machine.
"""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeAlias

from benchmarks.scoring import Clip

REPOSITORY = Path(__file__).resolve().parent.parent

JOB_TIMEOUT_S = 3_600.0
"""No job of any benchmark takes this long; one that does is a fault."""


class BenchmarkError(Exception):
    """A contender failed, so there is no figure to report."""


@dataclass(frozen=True, slots=True)
class Item:
    """One recording to transcribe; ``language`` is ``None`` to have it detected."""

    id: str
    path: str
    language: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """What to do: which recordings, how many at once, how wide the beam.

    ``vad`` is ``None`` for the contender's own default. ``variant`` picks among a baseline's configurations.
    """

    items: tuple[Item, ...]
    concurrency: int = 1
    beam: int = 1
    vad: bool | None = None
    variant: str = ""

    @classmethod
    def of(cls, clips: Sequence[Clip], *, give_language: bool = True, **options: Any) -> "Job":
        """Return a job over ``clips``; the other fields are passed on."""
        items = tuple(Item(clip.id, str(clip.path), clip.language if give_language else None) for clip in clips)
        return cls(items, **options)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Job":
        """Return the job that ``asdict`` made ``data`` from."""
        return cls(**{**data, "items": tuple(Item(**item) for item in data["items"])})


Transcribe: TypeAlias = Callable[[Item, Job], str]
"""What a contender does with one recording of a job: the text."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Wall time of a whole job in seconds, and the text and latency of every item by its id."""

    wall_s: float
    texts: dict[str, str]
    latency_s: dict[str, float] = field(default_factory=dict)


class Contender(Protocol):
    """Something that can be timed."""

    def run(self, job: Job) -> Outcome:
        """Do the job; raises ``BenchmarkError`` when any item fails."""
        ...


class Child:
    """A child process that reads one JSON value a line and answers with one JSON object a line, one at a time."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Describe the child, with ``environment`` on top of our own. It starts with the ``with`` block."""
        self.told: dict[str, Any] = {}
        self._command = list(command)
        self._environment = child_environment(environment or {})
        # One answer is outstanding at most, so the queue never holds more than an answer and the end mark.
        self._answers: queue.Queue[str] = queue.Queue(maxsize=2)
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start the child and wait until its model is loaded; what it says of itself is then in ``told``."""
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env=self._environment,
        )
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        try:
            self.told = self._answer(timeout_s=300.0)
        except BenchmarkError:
            self._end(self._process)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the child's input, which ends it; kill it when it does not go."""
        if self._process is not None:
            self._end(self._process)

    def _end(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=30)
        self._reader.join(timeout=30)
        process.stdout.close()

    def ask(self, value: object) -> dict[str, Any]:
        """Send a value and return the answer. Raises ``BenchmarkError`` when it is an error, or none comes."""
        if self._process is None or self._process.stdin is None:
            raise BenchmarkError("The child is not running; use it in a with block.")
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()
        return self._answer(timeout_s=JOB_TIMEOUT_S)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        try:
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            raise BenchmarkError(f"{' '.join(self._command)} gave no answer within {timeout_s:.0f} s.") from None
        if not line:
            raise BenchmarkError(f"{' '.join(self._command)} ended; its messages are above.")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(str(answer["error"]))
        return answer


class Worker(Child):
    """A contender in a child process: one JSON job a line, one JSON outcome a line."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        """Describe the child: ``python -m benchmarks.worker ARGUMENTS``. It starts with the ``with`` block."""
        super().__init__([sys.executable, "-m", "benchmarks.worker", *arguments], environment)

    def run(self, job: Job) -> Outcome:
        """Send the job and wait for its outcome."""
        return Outcome(**self.ask(asdict(job)))


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with the repository importable and ``extra`` on top."""
    paths = [str(REPOSITORY / "src"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path), **extra}
