"""What every sub-benchmark is given: paths, the model, the servers' settings, how much time."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.contenders import REPOSITORY, BenchmarkError, Worker, child_environment
from benchmarks.scoring import Clip, load_set
from benchmarks.server import SERVE, Server
from benchmarks.store import Steps
from tympan.bench.facts import cores, file_digest


@dataclass(frozen=True)
class Setup:
    """The choices of one run. ``quick`` asks for a smoke run of a few clips whose figures mean nothing.

    ``peers`` are other programs by name, each with the Python it is installed in or the program itself.
    """

    corpus: Path
    model: str
    given_model_dir: str
    work: Path
    results: Path
    extra: Mapping[str, str]
    quick: bool
    fresh: bool
    limit_s: float
    peers: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def model_dir(self) -> Path:
        """The model's files, which both sides load: the folder given, or where Tympan keeps them."""
        return Path(self.given_model_dir) if self.given_model_dir else _model_path(self.model)

    @property
    def environment(self) -> dict[str, str]:
        """Settings of every server and in-process loop."""
        return {"TYMPAN_MODEL": self.model, "TYMPAN_COMPUTE_TYPE": "int8", **self.extra}

    def clips(self, name: str) -> list[Clip]:
        """Return the clips of a reference set."""
        return load_set(self.corpus, name)

    def server(self, name: str, environment: Mapping[str, str] | None = None, command: Sequence[str] = SERVE) -> Server:
        """Return a server, not started, with ``environment`` on top of the run's own settings."""
        return Server({**self.environment, **(environment or {})}, self.work / f"{name}.log", command, name)

    def baseline(self) -> Worker:
        """Return faster-whisper in a process of its own, not started."""
        return Worker("faster-whisper", "--model-dir", str(self.model_dir))

    def in_process(self, kind: str = "in-process") -> Worker:
        """Return Tympan without HTTP in a process of its own, not started, as ``benchmarks.inprocess`` has it."""
        return Worker(kind, environment={"TYMPAN_LOG_LEVEL": "warning", **self.environment})

    def steps(self, name: str, scope: str = "") -> Steps:
        """Return the finished steps of sub-benchmark ``name``."""
        settings = f"{self.model} {sorted(self.extra.items())} quick={self.quick} {scope}"
        return Steps(self.work / f"{name}.steps.jsonl", limit_s=self.limit_s, fresh=self.fresh, scope=settings)

    def model_facts(self) -> dict[str, Any]:
        """Return name, size in bytes and digest of the weights."""
        weights = self.model_dir / "model.bin"
        return {"name": self.model, "bytes": weights.stat().st_size, "sha256": file_digest(weights)}

    @property
    def default_variant(self) -> str:
        """The baseline's shape for one request at a time: all cores for one worker."""
        return f"{cores()}x1"


def throughput(clips: Sequence[Clip], wall_s: float) -> float:
    """Return audio-seconds done in a second."""
    return sum(clip.duration_s for clip in clips) / wall_s


def _model_path(model: str) -> Path:
    command = [sys.executable, "-m", "tympan", "models", "path", model]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=child_environment({}), capture_output=True, text=True, check=False, timeout=300
    )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines or not Path(lines[-1]).is_dir():
        raise BenchmarkError(f"{' '.join(command)} named no folder: {done.stderr.strip()[-300:]} Give --model-dir.")
    return Path(lines[-1])
