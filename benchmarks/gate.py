"""``make bench-gate``: is this tree slower than an earlier one, or does it make more errors, beyond noise?

Both trees are served with the same Python, packages and weights, and take turns: in every round both servers are
started anew (two starts of one program differ by more than two requests), warmed up, and given the same jobs, the first
turn to each side by turns. A round gives one value, the mean logarithm of the ratios of its jobs; the verdict is
``tympan.bench.compare``'s over the rounds. Word errors are compared on the texts of the first round.
"""

import argparse
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks.contenders import REPOSITORY, BenchmarkError, Contender, Item, Job
from benchmarks.run import assignment
from benchmarks.server import Server
from benchmarks.store import say
from tympan.audio.decode import Decoder
from tympan.bench import facts
from tympan.bench.compare import MIN_PAIRS, Finding, Strictness, errors_finding, is_worse, page, speed_finding
from tympan.bench.recordings import Decode, Recording, given, sentences
from tympan.config import load
from tympan.engine import models
from tympan.errors import TympanError
from tympan.quality.scoring import Pair, count

Start = Callable[[], AbstractContextManager[Contender]]
"""Starts one side and ends it with the ``with`` block."""

_ALONE, _TOGETHER = 4, 8
_MAX_AUDIO_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is run: jobs that are timed ``visits`` times a round, and recordings whose texts are compared."""

    jobs: tuple[Job, ...]
    spoken: tuple[Recording, ...] = ()
    rounds: int = 8
    visits: int = 2
    limit_s: float = 195.0
    strictness: Strictness = field(default_factory=Strictness)


def judge(plan: Plan, base: Start, candidate: Start) -> list[Finding]:
    """Return what can be said of ``candidate`` against ``base``: speed first, then word errors.

    Rounds stop early when the time is up, but not before there are enough for a verdict. Raises ``BenchmarkError``.
    """
    began, values, errors = time.monotonic(), list[float](), None
    for number in range(plan.rounds):
        if number >= MIN_PAIRS and time.monotonic() - began > plan.limit_s:
            say(f"time is up after {number} rounds")
            break
        with ExitStack() as stack:
            sides = [stack.enter_context(start()) for start in (base, candidate)]
            values.append(_round(plan, sides, first=number % 2))
            errors = errors or _errors(plan, sides)
        say(f"round {number + 1} of {plan.rounds}: {math.exp(values[-1]):.3f}x as fast")
    return [
        speed_finding("speed", [values], plan.strictness),
        errors_finding("word errors", errors or [], plan.strictness),
    ]


def _round(plan: Plan, sides: Sequence[Contender], first: int) -> float:
    """Return the mean logarithm of base time over candidate time; the middle visit of each job counts."""
    for side in sides:
        side.run(plan.jobs[-1])
    ratios = []
    for job in plan.jobs:
        found = []
        for visit in range(plan.visits):
            taken = {turn: sides[turn].run(job).wall_s for turn in _order(first + visit)}
            found.append(math.log(taken[0] / taken[1]))
        ratios.append(statistics.median(found))
    return statistics.fmean(ratios)


def _order(turn: int) -> tuple[int, int]:
    return (0, 1) if turn % 2 == 0 else (1, 0)


def _errors(plan: Plan, sides: Sequence[Contender]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return units and errors of each recording on both sides."""
    if not plan.spoken:
        return []
    texts = [side.run(_job(plan.spoken, 4)).texts for side in sides]
    rows = []
    for clip in plan.spoken:
        a, b = (count(Pair(clip.reference or "", side[str(clip.path)], clip.language or "en")) for side in texts)
        rows.append(((a.units, a.errors), (b.units, b.errors)))
    return rows


def _job(clips: Sequence[Recording], concurrency: int) -> Job:
    items = tuple(Item(str(clip.path), str(clip.path), clip.language) for clip in clips)
    return Job(items, concurrency=concurrency, beam=5)


def clips_for(model: str, work: Path) -> tuple[Recording, ...]:
    """Return the sentences that come with Tympan and the recordings of the samples package that ``model`` can hear.

    Raises ``BenchmarkError`` with the remedy when the samples are not installed.
    """
    package = find_spec("pytest_audioeval")
    if package is None or not package.submodule_search_locations:
        raise BenchmarkError("The samples are not installed. Run make test once, or install requirements/samples.txt.")
    folder = Path(package.submodule_search_locations[0]) / "samples" / "audio"
    with Decoder() as decoder:
        decode = Decode(decoder.stream, _MAX_AUDIO_S)
        english = sentences(work / "sentences", decode)
        others = [_sample(path, decode) for path in sorted(folder.glob("*/*.wav"))]
    return (*english, *(clip for clip in others if clip.language == "en" or not model.endswith(".en")))


def _sample(path: Path, decode: Decode) -> Recording:
    (found,) = given([path], decode)[0].recordings
    return replace(found, language=path.parent.name)


def speed_jobs(clips: Sequence[Recording]) -> tuple[Job, ...]:
    """Return what is timed: a few recordings one after the other, and more of them four at a time."""
    return _job(clips[:_ALONE], 1), _job(clips[:_TOGETHER], 4)


def default_base() -> str:
    """Return the last tag; without tags the last commit, or the one before when nothing differs from that."""
    tag = facts.git("describe", "--tags", "--abbrev=0", folder=REPOSITORY)
    if tag:
        return tag
    changed = facts.git("status", "--porcelain", "--untracked-files=no", folder=REPOSITORY)
    return "HEAD" if changed else "HEAD~1"


@contextmanager
def tree_of(ref: str) -> Iterator[Path]:
    """Yield a checkout of ``ref``, removed afterwards. Raises ``BenchmarkError`` when there is no such commit."""
    commit = facts.git("rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}", folder=REPOSITORY)
    if not commit:
        raise BenchmarkError(f"There is no commit {ref}. Name one: make bench-gate BASE=main.")
    folder = Path(tempfile.mkdtemp(prefix="tympan-gate-")) / "base"
    try:
        if facts.git("worktree", "add", "--detach", "--force", str(folder), commit, folder=REPOSITORY) is None:
            raise BenchmarkError(f"git could not check {ref} out.")
        yield folder
    finally:
        facts.git("worktree", "remove", "--force", str(folder), folder=REPOSITORY)
        shutil.rmtree(folder.parent, ignore_errors=True)


def starter(name: str, tree: Path, work: Path, settings: Mapping[str, str]) -> Start:
    """Return what starts the server of ``tree``; its data are its own, the models are shared.

    Raises ``BenchmarkError`` when Python would take another tree's package.
    """
    environment = {"PYTHONPATH": str(tree / "src"), "TYMPAN_DATA_DIR": str(work / name), **settings}
    command = [sys.executable, "-c", "import tympan; print(tympan.__file__)"]
    asked = subprocess.run(
        command, env={**os.environ, **environment}, cwd=work, capture_output=True, text=True, check=False, timeout=60
    )
    if not Path(asked.stdout.strip()).is_relative_to(tree):
        raise BenchmarkError(f"The package of {tree} is not the one that Python finds: {asked.stdout}{asked.stderr}")
    return lambda: Server(environment, work / f"{name}.log", name=name)


def _share_models(model: str, work: Path) -> None:
    """Have the model in place and let both sides find it."""
    data_dir = load().data_dir
    models.resolve(model, data_dir)
    for name in ("base", "candidate"):
        (work / name).mkdir(parents=True)
        (work / name / "models").symlink_to(models.models_dir(data_dir))


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.gate", description=__doc__.splitlines()[0])
    out.add_argument("--base", help="commit to compare with (default: the last tag)")
    out.add_argument("--model", default="base")
    out.add_argument("--rounds", type=int, default=8)
    out.add_argument("--limit-s", type=float, default=195.0, help="no new round after so many seconds (default: 195)")
    out.add_argument("--confidence", type=float, default=0.99)
    out.add_argument("--tolerance", type=float, default=0.02, help="loss of speed that is let pass (default: 0.02)")
    for side in ("base", "candidate"):
        out.add_argument(f"--{side}-env", type=assignment, action="append", default=[], metavar="NAME=VALUE",
                         help=f"another setting for the {side}; repeatable")  # fmt: skip
    return out


def measure(arguments: argparse.Namespace) -> list[Finding]:
    """Measure what the arguments name. Raises ``BenchmarkError`` and ``TympanError``."""
    ref = arguments.base or default_base()
    strictness = Strictness(arguments.confidence, arguments.tolerance)
    with ExitStack() as stack:
        tree = stack.enter_context(tree_of(ref))
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tympan-gate-")))
        commit = facts.git("rev-parse", "--short", "HEAD", folder=tree)
        say(f"this tree against {ref} ({commit}), {arguments.rounds} rounds")
        clips = clips_for(arguments.model, work)
        plan = Plan(speed_jobs(clips), clips, arguments.rounds, limit_s=arguments.limit_s, strictness=strictness)
        settings = {"TYMPAN_MODEL": arguments.model}
        if "TYMPAN_ENGINE" not in dict(arguments.base_env):
            _share_models(arguments.model, work)
        sides = [
            starter(name, folder, work, settings | dict(extra))
            for name, folder, extra in (
                ("base", tree, arguments.base_env),
                ("candidate", REPOSITORY, arguments.candidate_env),
            )
        ]
        return judge(plan, *sides)


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 when this tree is not worse, 1 when it is, 2 when that could not be measured."""
    arguments = parser().parse_args(argv)
    try:
        findings = measure(arguments)
    except (BenchmarkError, TympanError) as error:
        say(f"not measured: {error}")
        return 2
    print(page(findings))
    return 1 if is_worse(findings) else 0


if __name__ == "__main__":
    sys.exit(main())
