"""Runs the benchmarks: ``python -m benchmarks.run COMMAND... --corpus DIR`` from the repository root.

Finished steps are kept in the work folder, so a broken-off run goes on where it stopped. Results go to
``docs/benchmarks/results`` as JSON, and ``render`` makes the pages of them.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import (
    accuracy,
    capacity,
    diarization,
    drift,
    ggml,
    golden,
    limits,
    live,
    live_socket,
    longform,
    memory,
    nonspeech,
    overload,
    seams,
    servers,
    short,
    timestamps,
    trust,
)
from benchmarks.contenders import REPOSITORY, BenchmarkError
from benchmarks.render import render
from benchmarks.scoring import SetError
from benchmarks.setup import Setup
from benchmarks.store import OutOfTimeError, say

COMMANDS: dict[str, Callable[[Setup, argparse.Namespace], Path]] = {
    "ready": lambda setup, _: memory.ready(setup),
    "short": lambda setup, a: short.run(setup, _short_plan(a)),
    "longform": lambda setup, a: longform.run(setup, beams=_beams(a), pairs=_pairs(a)),
    "seams": lambda setup, a: seams.run(setup, _beams(a)),
    "accuracy": lambda setup, a: accuracy.english(setup, _beams(a)),
    "languages": lambda setup, a: accuracy.languages(setup, dict(a.full_context_env), _beams(a)),
    "nonspeech": lambda setup, a: nonspeech.run(setup, _nonspeech_plan(a)),
    "timestamps": lambda setup, a: timestamps.run(setup, hour=a.hour),
    "trust": lambda setup, _: trust.run(setup),
    "diarization": lambda setup, _: diarization.run(setup),
    "drift": lambda setup, _: drift.run(setup),
    "golden": lambda setup, a: golden.run(setup, golden.Plan(a.golden_clips)),
    "memory": lambda setup, a: memory.memory(setup, dict(a.fake_env)),
    "limits": lambda setup, _: limits.run(setup),
    "live": lambda setup, a: live.run(setup, _live_plan(a)),
    "live_socket": lambda setup, _: live_socket.run(setup),
    "ggml": lambda setup, a: ggml.run(setup, _ggml_plan(a)),
    "overload": lambda setup, a: overload.run(setup, overload.QUICK if a.quick else overload.Plan()),
    "servers": lambda setup, a: servers.run(setup, servers.QUICK if a.quick else servers.Plan(turns=_pairs(a))),
    "capacity": lambda setup, a: capacity.benchmark(setup, capacity.QUICK if a.quick else capacity.Plan()),
}
"""Sub-benchmarks in the order ``all`` runs them."""


_ASKED_FOR = frozenset({"servers"})
"""Left out of ``all``: nothing to measure without what only this machine's user can name."""

_NAMES = (*COMMANDS, "all", "render")


def _beams(arguments: argparse.Namespace) -> tuple[int, ...]:
    return (1,) if arguments.quick else tuple(arguments.beams)


def _pairs(arguments: argparse.Namespace) -> int:
    return 1 if arguments.quick else int(arguments.pairs)


def _short_plan(arguments: argparse.Namespace) -> short.Plan:
    if arguments.quick:
        return short.Plan(clips=4, concurrency=(2,), beams=(1,), pairs=1)
    return short.Plan(concurrency=tuple(arguments.concurrency), beams=_beams(arguments), pairs=_pairs(arguments))


def _live_plan(arguments: argparse.Namespace) -> live.Plan:
    if arguments.quick:
        return live.Plan(streams=(1, 2), track_s=10.0, models=("tiny.en",), every=20, memory_min=2)
    return live.Plan(tuple(arguments.streams), models=tuple(arguments.live_models), parts=tuple(arguments.live_parts))


def _ggml_plan(arguments: argparse.Namespace) -> ggml.Plan:
    return (
        ggml.Plan(("q8_0",))
        if arguments.quick
        else ggml.Plan(tuple(arguments.forms), beams=_beams(arguments), vad=tuple(way == "on" for way in arguments.vad))
    )


def _nonspeech_plan(arguments: argparse.Namespace) -> nonspeech.Plan:
    return nonspeech.Plan(14, 4, 1) if arguments.quick else nonspeech.Plan(arguments.synthesised, arguments.subset)


def assignment(text: str) -> tuple[str, str]:
    """Return name and value of ``NAME=VALUE``; raises ``ArgumentTypeError``."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE.")
    return name, value


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    out = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    out.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(_NAMES) + "; all if none is named")
    out.add_argument("--corpus", type=Path, help="folder with the reference sets")
    out.add_argument("--model", default="base", help="Tympan's name of the model (default: base)")
    out.add_argument("--model-dir", default="", help="the same model's files, for faster-whisper (default: ask Tympan)")
    out.add_argument("--extra-env", type=assignment, action="append", default=[], metavar="NAME=VALUE",
                     help="another setting for every Tympan process; repeatable")  # fmt: skip
    out.add_argument("--full-context-env", type=assignment, nargs="+", metavar="NAME=VALUE",
                     default=[("TYMPAN_ENGINE_OPTIONS", '{"splice": "off"}')],
                     help="languages: settings that decode with the full context")  # fmt: skip
    out.add_argument("--fake-env", type=assignment, nargs="+", default=[("TYMPAN_ENGINE", "fake")],
                     metavar="NAME=VALUE", help="memory: settings that choose the fake engine")  # fmt: skip
    out.add_argument("--beams", type=int, nargs="+", default=[1, 5])
    out.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32], help="short: users at a time")
    out.add_argument("--pairs", type=int, default=3, help="short, longform, servers: timed turns of each")
    out.add_argument("--synthesised", type=int, default=504, help="nonspeech: sounds drawn")
    out.add_argument("--subset", type=int, default=112, help="nonspeech: how many of them the slower settings hear")
    out.add_argument("--streams", type=int, nargs="+", default=[1, 2, 4, 6, 8], help="live: streams at a time")
    out.add_argument("--live-models", nargs="+", default=["tiny.en", "base"], help="live: whose text is compared")
    out.add_argument("--live-parts", nargs="+", default=["latency", "text", "memory"], help="live: what is measured")
    out.add_argument("--golden-clips", type=int, default=150, help="golden: clips of the set, at most")
    out.add_argument("--forms", nargs="+", default=["f16", "q8_0", "q5_0", "q4_0"], help="ggml: number formats")
    out.add_argument("--vad", nargs="+", default=["on", "off"], choices=["on", "off"], help="ggml: speech detection")
    out.add_argument("--peer", type=assignment, action="append", default=[], metavar="NAME=PROGRAM",
                     help="diarization, servers: another program, or a Python that has it; repeatable")  # fmt: skip
    out.add_argument("--hour", action="store_true", help="timestamps: also drift over an hour")
    out.add_argument("--limit-minutes", type=float, default=60.0, help="time for one sub-benchmark (default: 60)")
    out.add_argument("--work", type=Path, default=REPOSITORY / "build" / "bench", help="finished steps, logs, clips")
    out.add_argument("--results", type=Path, default=REPOSITORY / "docs" / "benchmarks" / "results")
    out.add_argument("--fresh", action="store_true", help="forget finished steps")
    out.add_argument("--quick", action="store_true", help="smoke run; its results go to the work folder")
    return out


def _setup(arguments: argparse.Namespace) -> Setup:
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    return Setup(
        corpus=arguments.corpus,
        model=arguments.model,
        given_model_dir=arguments.model_dir,
        work=work,
        # A smoke run must never overwrite published figures.
        results=work / "quick" if arguments.quick else arguments.results,
        extra=dict(arguments.extra_env),
        quick=arguments.quick,
        fresh=arguments.fresh,
        limit_s=60.0 * arguments.limit_minutes,
        peers=dict(arguments.peer),
    )


def _chosen(commands: Sequence[str]) -> list[str]:
    if not commands or "all" in commands:
        return [name for name in COMMANDS if name not in _ASKED_FOR]
    return [name for name in commands if name in COMMANDS]


def _run(setup: Setup, arguments: argparse.Namespace) -> int:
    failed = 0
    for name in _chosen(arguments.commands):
        say(f"{name} ...")
        try:
            COMMANDS[name](setup, arguments)
        except (BenchmarkError, OutOfTimeError, SetError) as error:
            # One part's failure must not cost the figures of the others; the exit code tells.
            say(f"{name}: {error}")
            failed += 1
    render(setup.results, setup.results.parent)
    return 1 if failed else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run what the arguments name; return 1 when a part has no result, 2 when the arguments are wrong."""
    arguments = parser().parse_args(argv)
    unknown = set(arguments.commands) - set(_NAMES)
    if unknown:
        say(f"There is no benchmark {', '.join(sorted(unknown))}. Choose among: {', '.join(_NAMES)}.")
        return 2
    if arguments.commands == ["render"]:
        render(arguments.results, arguments.results.parent)
        return 0
    if arguments.corpus is None:
        say("Give the folder with the reference sets: --corpus DIR (make bench CORPUS=DIR).")
        return 2
    return _run(_setup(arguments), arguments)


if __name__ == "__main__":
    sys.exit(main())
