"""``tympan tenants``: whose jobs there are, how long they are kept, and erasing all that is somebody's."""

import json
import math
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, say, stdout, write_stdout
from tympan.cli.models import ListArgs
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest

if TYPE_CHECKING:
    from tympan.bootstrap.tenants import Tenant

_DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class TenantArgs:
    """One tenant."""

    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Name, as in `tympan tenants list`.")]


@dataclass(frozen=True, slots=True)
class RetainArgs:
    """How long to keep what is the tenant's."""

    audio_days: Annotated[
        str, typer.Option(metavar="DAYS", help="Days to keep audio once a job has ended, or 'default'.")
    ] = _DEFAULT
    text_days: Annotated[str, typer.Option(metavar="DAYS", help="Days to keep jobs and their text, or 'default'.")] = (
        _DEFAULT
    )


@dataclass(frozen=True, slots=True)
class EraseArgs:
    """Whether to ask."""

    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="List tenants, set how long they are kept, erase them.")
    command(group, "list")(list_tenants)
    command(group, "retain")(retain)
    command(group, "erase")(erase)
    app.add_typer(group, name="tenants")


def list_tenants(args: ListArgs) -> int:
    """List whose jobs there are: how many are kept, and for how many days."""
    from tympan.bootstrap import tenants  # noqa: PLC0415  (imports the database)

    settings = load_settings({})
    found = tenants.listing(settings)
    if args.as_json:
        write_stdout(json.dumps([asdict(tenant) for tenant in found], indent=2))
        return ExitCode.OK
    _show_table(found)
    say(f"Days by default: audio {settings.retain_audio_days:g}, text {settings.retain_text_days:g}.")
    return ExitCode.OK


def retain(tenant: TenantArgs, args: RetainArgs) -> int:
    """Set how long a tenant's audio and text are kept, also for jobs that have ended already.

    What has been kept long enough is removed by the server within about a minute.
    """
    from tympan.bootstrap import tenants  # noqa: PLC0415

    days = _days("--audio-days", args.audio_days), _days("--text-days", args.text_days)
    changed = tenants.retain(load_settings({}), tenant.tenant, *days)
    said = ["as the settings say" if value is None else f"{value:g} days" for value in days]
    say(f"{tenant.tenant}: audio {said[0]}, text {said[1]}; {changed} ended jobs follow.")
    return ExitCode.OK


def erase(tenant: TenantArgs, args: EraseArgs) -> int:
    """Remove everything about a tenant: jobs (running ones are cancelled), audio, text, uploads, webhooks.

    It cannot be undone; backups are not touched. If it fails in the middle, run it again.
    """
    from tympan.bootstrap import tenants  # noqa: PLC0415

    settings = load_settings({})
    if not args.yes and not _agreed(tenant.tenant):
        say("Nothing was erased.")
        return ExitCode.SOME_FAILED
    count = tenants.erase(settings, tenant.tenant)
    say(f"Erased {tenant.tenant}: {count} jobs and all that was theirs.")
    return ExitCode.OK


def _agreed(tenant: str) -> bool:
    if not sys.stdin.isatty():
        raise InvalidRequest("Erasing has to be confirmed, and nobody is there to ask.", remedy="Add --yes.")
    return typer.confirm(f"Erase everything about {tenant}? This cannot be undone.", err=True)


def _days(option: str, value: str) -> float | None:
    if value == _DEFAULT:
        return None
    try:
        days = float(value)
    except ValueError:
        days = math.nan
    if not 0 <= days < math.inf:
        raise InvalidRequest(f"{option} is {value!r}.", remedy="Give a number of days, or 'default'.")
    return days


def _show_table(found: "list[Tenant]") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tenant")
    for column in ("jobs", "audio days", "text days"):
        table.add_column(column, justify="right")
    for tenant in found:
        days = (_DEFAULT if value is None else f"{value:g}" for value in (tenant.audio_days, tenant.text_days))
        table.add_row(tenant.id, f"{tenant.n_jobs:,}", *days)
    stdout().print(table)
