"""``tympan capacity``: how many machines a demand needs, and what happens when one dies or the demand doubles."""

import typer

from tympan.cli.arguments import command
from tympan.cli.capacity_options import DemandArgs, GoalArgs, MachineArgs, OutputArgs


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "capacity")(capacity)


def capacity(demand: DemandArgs, goal: GoalArgs, machines: MachineArgs, out: OutputArgs) -> int:
    """Plan how many machines a load needs: waiting times, cost and headroom.

    Without --profile this machine is measured first, in about a minute, and remembered.
    Without a demand it stops there and shows what the machine can do.
    The answer comes from a simulation of the server's own scheduler, run several times.

    Exit codes: 0 planned, 2 wrong usage or a goal that cannot be met,
    3 no usable model or package, 130 interrupted.
    """
    from tympan.cli.capacity_run import execute  # noqa: PLC0415 (heavy: not for --help)

    return execute(demand, goal, machines, out)
