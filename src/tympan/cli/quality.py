"""``tympan quality``: how good the transcripts are, by golden sets and by alarms."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, escaped, say, stdout, write_stdout
from tympan.cli.services import load_settings

if TYPE_CHECKING:
    from tympan.bootstrap.quality import Alarm


@dataclass(frozen=True, slots=True)
class AlarmArgs:
    """Which alarms are shown, and how."""

    days: Annotated[
        float, typer.Option(metavar="DAYS", min=0, max=3650, help="Also those that ended in the last days.")
    ] = 0.0
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Measure how good the transcripts are, and say when they get worse.")
    command(group, "alarms")(alarms)
    app.add_typer(group, name="quality")


def alarms(args: AlarmArgs) -> int:
    """Show what is wrong with quality now. The exit code is 1 when something is."""
    from tympan.bootstrap import quality  # noqa: PLC0415  (imports the database)

    found = quality.alarms(load_settings({}), args.days)
    if args.as_json:
        write_stdout(json.dumps([asdict(alarm) for alarm in found], indent=2))
    else:
        _show_alarms(found)
    return ExitCode.SOME_FAILED if any(alarm.until is None for alarm in found) else ExitCode.OK


def _show_alarms(found: "Sequence[Alarm]") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "about", "since (UTC)", "until", "figures"):
        table.add_column(column)
    for alarm in found:
        until = "" if alarm.until is None else _moment(alarm.until)
        table.add_row(alarm.kind, escaped(alarm.subject), _moment(alarm.since), until, escaped(_figures(alarm.detail)))
    if found:
        stdout().print(table)
    n_open = sum(alarm.until is None for alarm in found)
    say(f"{n_open} open." if n_open else "Nothing is wrong.")


def _figures(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in detail.items())


def _moment(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")
