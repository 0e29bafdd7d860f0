"""Servers of others as ``--peer NAME=PROGRAM`` names them: how each is started with the run's model, and its shapes.

They get the weights that Tympan runs and fetch none. A shape is how the two cores are shared out, threads x calls at
once, as in ``short``; where a server knows more than one, a few clips tell which is the faster.
"""

import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.contenders import BenchmarkError
from benchmarks.ggml import exported
from benchmarks.server import Server
from benchmarks.setup import Setup
from tympan.bench.facts import cores

GGML_FORM = "q8_0"
HEALTH = "/health"
_QUIET = {"PYTHONPATH": "", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
_VERSIONS_S = 60.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A way to start a server: the command, in which ``{port}`` stands for the port, and its environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server: versions and settings for the page, and its shapes by name; the first is for a single caller."""

    name: str
    versions: str
    settings: str
    shapes: Mapping[str, Shape]

    def server(self, setup: Setup, shape: str) -> Server:
        """Return the server in one of its shapes, not started."""
        chosen = self.shapes[shape]
        name = f"{self.name} {shape}"
        log = setup.work / f"servers-{name.replace(' ', '-')}.log"
        return Server({**_QUIET, **chosen.environment}, log, chosen.command, name, HEALTH)


def coro_asr(setup: Setup, python: str) -> Peer:
    """faster-whisper behind OpenAI's routes; it takes a model by its name alone, so it runs where a folder has it."""
    folder = setup.work / "peers"
    folder.mkdir(parents=True, exist_ok=True)
    weights = folder / setup.model
    weights.unlink(missing_ok=True)
    weights.symlink_to(setup.model_dir.resolve())
    program = Path(python).absolute().with_name("coro")
    fixed = (
        "env", "-C", str(folder), str(program), "serve", "--host", "127.0.0.1", "--port", "{port}",
        "--backend-asr", "faster-whisper", "--model-asr", setup.model, "--asr-device", "cpu",
        "--asr-compute-type", "int8", "--rate-limit-requests-per-minute", "0", "--asr-max-queue-depth", "1000",
        "--log-level", "warning", "--asr-max-concurrency",
    )  # fmt: skip
    n = cores()
    shapes = {f"{n}x1": Shape((*fixed, "1"), {"OMP_NUM_THREADS": str(n)})}
    if n > 1:
        shapes[f"1x{n}"] = Shape((*fixed, str(n)), {"OMP_NUM_THREADS": "1"})
    settings = "int8; no limit of requests a minute, room for 1,000 to wait; word times, which it always finds"
    return Peer("coro-asr", _packages(python, "coro-asr", "faster-whisper", "ctranslate2"), settings, shapes)


def whisper_cpp(setup: Setup, program: str) -> Peer:
    """whisper.cpp's own server, in C++; it does one request at a time with all threads, and reads ggml files."""
    weights = next(exported(setup, GGML_FORM).glob("*.bin"))
    command = (
        program, "--model", str(weights), "--threads", str(cores()), "--beam-size", "5", "--no-timestamps",
        "--host", "127.0.0.1", "--port", "{port}", "--inference-path", "/v1/audio/transcriptions",
    )  # fmt: skip
    settings = f"{GGML_FORM}, exported from the same weights; no timestamps; built for this processor"
    return Peer("whisper.cpp", _built(Path(program)), settings, {f"{cores()}x1": Shape(command)})


KINDS: dict[str, Callable[[Setup, str], Peer]] = {"coro-asr": coro_asr, "whisper.cpp": whisper_cpp}
"""How each is made of what ``--peer`` names: the Python it is installed in, or the program itself."""


def named(setup: Setup) -> list[Peer]:
    """Return the servers that ``setup`` names. Raises ``BenchmarkError`` where one is unknown, or none is named."""
    if unknown := set(setup.peers) - set(KINDS):
        raise BenchmarkError(f"{', '.join(sorted(unknown))} is no server. Choose among {', '.join(KINDS)}.")
    if not setup.peers:
        raise BenchmarkError(f"Name a server to measure: --peer NAME=PROGRAM, with a name among {', '.join(KINDS)}.")
    if missing := [program for program in setup.peers.values() if not Path(program).is_file()]:
        raise BenchmarkError(f"There is no {missing[0]}. docs/benchmarks/README.md says how a server is installed.")
    return [make(setup, setup.peers[name]) for name, make in KINDS.items() if name in setup.peers]


def _packages(python: str, *names: str) -> str:
    code = "import sys; from importlib.metadata import version; print(*(f'{n} {version(n)}' for n in sys.argv[1:]), sep=', ')"  # noqa: E501
    done = subprocess.run(
        [python, "-c", code, *names], capture_output=True, text=True, check=False, timeout=_VERSIONS_S
    )  # fmt: skip
    if done.returncode:
        raise BenchmarkError(f"{python} does not have {names[0]}: {done.stderr.strip()[-300:]}")
    return done.stdout.strip()


def _built(program: Path) -> str:
    """Return the version of a program of whisper.cpp, which it does not tell itself: its build folder does."""
    notes = program.resolve().parents[1] / "CMakeCache.txt"
    text = notes.read_text(encoding="utf-8", errors="replace") if notes.is_file() else ""
    found = re.search(r"^CMAKE_PROJECT_VERSION:STATIC=(\S+)$", text, re.MULTILINE)
    return f"whisper.cpp {found.group(1)}" if found else "whisper.cpp of an unknown version"
