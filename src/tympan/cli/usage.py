"""``tympan usage``: what each tenant has used, by day, kind of work and model."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, say, stdout, write_stdout
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest

if TYPE_CHECKING:
    from tympan.access.usage import UsageRow

_DAYS = 30


@dataclass(frozen=True, slots=True)
class UsageArgs:
    """Whose usage, of which days, in which form."""

    first: Annotated[
        str | None, typer.Option("--from", metavar="DAY", help="First day (UTC), as 2026-01-31; 30 days back.")
    ] = None
    last: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day; today.")] = None
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="TENANT", help="One tenant only.")] = None
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "usage")(show_usage)


def show_usage(args: UsageArgs) -> int:
    """Show what was used: requests, failures, seconds of audio and of work, for each day, tenant, kind and model.

    Jobs count on the day they end. Synchronous calls are on the books a few seconds after their answer.
    """
    from tympan.bootstrap import usage  # noqa: PLC0415  (imports the database)

    last = _day("--to", args.last) or datetime.now(UTC).date()
    first = _day("--from", args.first) or last - timedelta(days=_DAYS)
    if first > last:
        raise InvalidRequest(f"--from is {first}, after --to, {last}.", remedy="Give the first day first.")
    if args.as_csv and args.as_json:
        raise InvalidRequest("--csv and --json were both given.", remedy="Give one of them.")
    found = usage.listing(load_settings({}), first, last, args.tenant)
    if args.as_json:
        write_stdout(json.dumps([usage.flat(row) for row in found], indent=2))
    elif args.as_csv:
        write_stdout(usage.csv_of(found).rstrip("\n"))
    else:
        _show_table(found)
        say(f"{len(found)} rows from {first} to {last} (UTC).")
    return ExitCode.OK


def _day(option: str, value: str | None) -> date | None:
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except ValueError as error:
        raise InvalidRequest(f"{option} cannot be {value!r}.", remedy="Give a day, as 2026-01-31.") from error


def _show_table(found: "Sequence[UsageRow]") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("day", "tenant", "kind", "model"):
        table.add_column(column)
    for column in ("requests", "failures", "audio min", "work min"):
        table.add_column(column, justify="right")
    for row in found:
        used = row.used
        minutes = (f"{seconds / 60:,.1f}" for seconds in (used.audio_s, used.processing_s))
        table.add_row(row.day, row.tenant, row.kind, row.model, f"{used.requests:,}", f"{used.failures:,}", *minutes)
    stdout().print(table)
