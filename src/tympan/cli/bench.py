"""``tympan bench``: how fast engines are here, how a server bears a load, and whether one result is worse."""

from pathlib import Path
from typing import Annotated

import typer

from tympan.cli.arguments import command
from tympan.cli.bench_options import (
    AudioArgs,
    CompareArgs,
    GridArgs,
    LoadArgs,
    MeasureArgs,
    OutputArgs,
    SentArgs,
    ServerArgs,
)
from tympan.cli.console import ExitCode, write_stdout
from tympan.errors import InvalidRequest

_COMPARE = Annotated[
    tuple[Path, Path] | None, typer.Option("--compare", metavar="A B", help="As `tympan bench compare A B`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(help="Measure engines and servers, and compare results.", invoke_without_command=True)
    group.callback()(_root)
    command(group, "engine")(engine)
    command(group, "load")(load)
    command(group, "compare")(compare)
    app.add_typer(group, name="bench")


def _root(context: typer.Context, *, pair: _COMPARE = None) -> None:
    if context.invoked_subcommand is None:
        if pair is None:
            typer.echo(context.get_help())
            raise typer.Exit(ExitCode.USAGE)
        raise typer.Exit(compare(CompareArgs(*pair)))
    if pair is not None:
        raise InvalidRequest("--compare stands alone.", remedy="Write: tympan bench --compare A.json B.json.")


def engine(audio: AudioArgs, grid: GridArgs, how: MeasureArgs, out: OutputArgs) -> int:
    """Measure engines on this machine: load, inference and total time, memory, word errors.

    Every combination of what is varied is a cell. Each round loads every cell's engine
    in a process of its own and transcribes the audio as the server would.
    Finished rounds are kept in the output folder: repeat the command to go on.

    Exit codes: 0 all measured, 1 some cells failed, 2 wrong usage,
    3 no usable model or package, 130 interrupted.
    """
    from tympan.cli.bench_engine import execute  # noqa: PLC0415 (heavy: not for --help)

    return execute(audio, grid, how, out)


def load(server: ServerArgs, sent: SentArgs, asked: LoadArgs, out: OutputArgs) -> int:
    """Put a load on a server and measure latency, errors and throughput.

    --rate sends requests at random moments whether or not earlier ones are answered;
    --concurrency has so many users ask again as soon as they are answered.
    Latency counts from the moment a request should have started.

    Exit codes: 0 all answered, 1 some were not, 2 wrong usage,
    3 no usable package, 130 interrupted.
    """
    from tympan.cli.bench_load import execute  # noqa: PLC0415 (as above)

    return execute(server, sent, asked, out)


def compare(args: CompareArgs) -> int:
    """Tell whether the second result is worse than the first by more than noise.

    Speed is judged from paired rounds or requests, word errors from paired recordings,
    each with a bootstrap interval. Exit codes: 0 not worse, 1 worse, 2 nothing to compare.
    """
    from tympan.bench import compare as judge  # noqa: PLC0415 (as above)
    from tympan.bench.pages import read  # noqa: PLC0415

    first, second = read(args.first, judge.KINDS), read(args.second, judge.KINDS)
    findings = judge.compare(first, second, judge.Strictness(args.confidence, args.tolerance))
    write_stdout(judge.page(findings))
    return ExitCode.SOME_FAILED if judge.is_worse(findings) else ExitCode.OK
