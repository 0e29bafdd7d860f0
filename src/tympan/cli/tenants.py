"""``tympan tenants``: whose jobs there are, how long they are kept, limits, and erasing all that is somebody's."""

import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from tympan.access.tenant_limits import MAX_WEIGHT, MIN_WEIGHT, MOST
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
class LimitArgs:
    """Limits of the tenant's own: a number, 0 for none, or 'default' for what the settings say."""

    requests_per_min: Annotated[str | None, typer.Option(metavar="N", help="Requests in a minute.")] = None
    audio_minutes_per_min: Annotated[str | None, typer.Option(metavar="MIN", help="Audio in a minute.")] = None
    audio_minutes_per_day: Annotated[str | None, typer.Option(metavar="MIN", help="Audio in 24 hours.")] = None
    requests_at_once: Annotated[str | None, typer.Option(metavar="N", help="Requests at a time.")] = None
    jobs_at_once: Annotated[str | None, typer.Option(metavar="N", help="Jobs queued or running at a time.")] = None
    live_at_once: Annotated[str | None, typer.Option(metavar="N", help="Live sessions at a time.")] = None
    storage_mb: Annotated[str | None, typer.Option(metavar="MB", help="Uploads and audio kept here.")] = None
    upload_mb: Annotated[str | None, typer.Option(metavar="MB", help="Largest body or upload.")] = None
    audio_minutes: Annotated[str | None, typer.Option(metavar="MIN", help="Longest recording.")] = None


@dataclass(frozen=True, slots=True)
class WeightArgs:
    """The tenant's share beside others who want something too."""

    weight: Annotated[
        float | None,
        typer.Option(metavar="N", min=MIN_WEIGHT, max=MAX_WEIGHT, help="2 gets twice as much as 1, the default."),
    ] = None


@dataclass(frozen=True, slots=True)
class EraseArgs:
    """Whether to ask."""

    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(
        no_args_is_help=True, help="List tenants, set their limits and how long they are kept, erase them."
    )
    command(group, "list")(list_tenants)
    command(group, "retain")(retain)
    command(group, "limit")(limit)
    command(group, "erase")(erase)
    app.add_typer(group, name="tenants")


def list_tenants(args: ListArgs) -> int:
    """List tenants: jobs kept, days kept, weight, and their own limits."""
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
    said = ["server's setting" if value is None else f"{value:g} days" for value in days]
    say(f"{tenant.tenant}: audio {said[0]}, text {said[1]}; {changed} ended jobs follow.")
    return ExitCode.OK


def limit(tenant: TenantArgs, args: LimitArgs, weight: WeightArgs) -> int:
    """Set a tenant's limits; those not named stay as they are. Running servers follow within 5 seconds."""
    from tympan.bootstrap import tenants  # noqa: PLC0415

    changes = {name: _number(name, value) for name, value in asdict(args).items() if value is not None}
    if not changes and weight.weight is None:
        raise InvalidRequest("There is nothing to change.", remedy="Name a limit; see --help.")
    tenants.limit(load_settings({}), tenant.tenant, changes, weight.weight)
    said = [f"{name} {'as the settings say' if value is None else _amount(value)}" for name, value in changes.items()]
    if weight.weight is not None:
        said.append(f"weight {weight.weight:g}")
    say(f"{tenant.tenant}: {', '.join(said)}.")
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
        raise InvalidRequest(f"{option} cannot be {value!r}.", remedy="Give a number of days, or 'default'.")
    return days


def _number(name: str, value: str) -> float | None:
    """Return a limit, ``None`` for the one of the settings. Raises ``InvalidRequest``."""
    if value == _DEFAULT:
        return None
    whole = not name.startswith("audio_minutes")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= MOST or (whole and number != int(number)):
        raise InvalidRequest(
            f"--{name.replace('_', '-')} cannot be {value!r}.",
            remedy=f"Give a {'whole ' if whole else ''}number, 0 for no limit, or 'default'.",
        )
    return int(number) if whole else number


def _amount(value: float) -> str:
    return f"{value:g}" if value else "without limit"


def _own(limits: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {_amount(value)}" for name, value in limits.items()) or _DEFAULT


def _show_table(found: "list[Tenant]") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("tenant")
    for column in ("jobs", "audio days", "text days", "weight"):
        table.add_column(column, justify="right")
    table.add_column("limits")
    for tenant in found:
        days = (_DEFAULT if value is None else f"{value:g}" for value in (tenant.audio_days, tenant.text_days))
        table.add_row(tenant.id, f"{tenant.n_jobs:,}", *days, f"{tenant.weight:g}", _own(tenant.limits))
    stdout().print(table)
