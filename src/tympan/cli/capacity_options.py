"""The flags of ``tympan capacity``, as dataclasses."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer


@dataclass(frozen=True, slots=True)
class DemandArgs:
    """What is asked of the machines."""

    PANEL: ClassVar[str] = "Demand"

    peak_concurrent: Annotated[
        int | None,
        typer.Option(
            min=1, max=100_000, metavar="N", help="Callers at once, each of whom asks again as soon as answered."
        ),
    ] = None
    think: Annotated[
        str, typer.Option(metavar="TIME", help="With --peak-concurrent: pause between an answer and the next request.")
    ] = "0s"
    per_hour: Annotated[
        float | None, typer.Option(min=0.001, max=1e9, metavar="N", help="Requests in the busiest hour.")
    ] = None
    arrivals: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Requests by hour of the day (hour, requests), or the moment of each one."),
    ] = None
    from_database: Annotated[
        bool, typer.Option("--from-database", help="Arrivals and lengths of the server's jobs and calls.")
    ] = False
    days: Annotated[int, typer.Option(min=1, max=366, metavar="N", help="With --from-database: days back.")] = 7
    mean_length: Annotated[
        str | None, typer.Option(metavar="TIME", help="Length of each recording: 30, 30s, 2m, 1h; 30s unless known.")
    ] = None
    lengths: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Lengths in seconds, one a line, with counts if you like.")
    ] = None
    job_share: Annotated[
        float | None,
        typer.Option(min=0.0, max=1.0, metavar="SHARE", help="How many of the requests are jobs (asynchronous)."),
    ] = None
    job_length: Annotated[
        str | None, typer.Option(metavar="TIME", help="Length of the jobs' recordings, if different.")
    ] = None


@dataclass(frozen=True, slots=True)
class GoalArgs:
    """What has to hold."""

    PANEL: ClassVar[str] = "Goal"

    slo_wait_p95: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="95 % of calls wait at most this long for their turn; 5s when no goal is given."
        ),
    ] = None
    slo_turnaround_p95: Annotated[
        str | None, typer.Option(metavar="TIME", help="95 % of calls are answered within this.")
    ] = None
    slo_job_p95: Annotated[str | None, typer.Option(metavar="TIME", help="95 % of jobs are done within this.")] = None
    headroom: Annotated[
        float, typer.Option(min=0.0, max=0.9, metavar="SHARE", help="Share of the machines' capacity to keep free.")
    ] = 0.2


@dataclass(frozen=True, slots=True)
class MachineArgs:
    """Which machines."""

    PANEL: ClassVar[str] = "Machines"

    profile: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="JSON", help="A machine's profile, or a result of `tympan bench engine`; repeatable, to compare."
        ),
    ] = None
    cost_per_hour: Annotated[
        list[float] | None,
        typer.Option(min=0.0, metavar="N", help="What an hour of a machine costs; once for each --profile."),
    ] = None
    audio: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Measure with these recordings; repeatable. Else speech that Tympan brings."),
    ] = None
    measure_for: Annotated[
        str, typer.Option(metavar="TIME", help="Time for measuring batches; requests take about as long again.")
    ] = "25s"
    beam_size: Annotated[int, typer.Option(min=1, max=10, metavar="N", help="Beams to search; 1 is greedy.")] = 5
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure although this machine was measured before.")] = False
    data_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Where models and the profile are kept.")] = None


@dataclass(frozen=True, slots=True)
class OutputArgs:
    """Where the answer goes."""

    PANEL: ClassVar[str] = "Output"

    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder for JSON, Markdown, charts and the profile."),
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
    kubernetes: Annotated[
        str | None, typer.Option(metavar="KIND", help="Print a kustomization for the autoscaler: keda or hpa.")
    ] = None
    runs: Annotated[int, typer.Option(min=2, max=10, metavar="N", help="Simulated runs for each answer.")] = 5
    seed: Annotated[
        int, typer.Option(metavar="N", help="Random seed: the same seed gives the same arrivals and lengths.")
    ] = 1
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; the answer and errors only.")] = False
