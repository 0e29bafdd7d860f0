"""``tympan keys``: who may use the server, and what for."""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from tympan.access import key_rules
from tympan.access.callers import DEFAULT_TENANT, MEANINGS, USUAL, Scope
from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, escaped, say, stdout, write_stdout
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest

if TYPE_CHECKING:
    from tympan.bootstrap.access import StoredKey, Token

_SCOPES = "Scopes are " + ", ".join(f"{scope.value} ({MEANINGS[scope]})" for scope in Scope) + "."


@dataclass(frozen=True, slots=True)
class CreateArgs:
    """Whose key it is, and what it allows."""

    tenant: Annotated[str, typer.Option(metavar="NAME", help="Whose jobs, uploads and webhooks it opens.")] = (
        DEFAULT_TENANT
    )
    name: Annotated[str, typer.Option(metavar="TEXT", help="What it is for, to know it by.")] = ""
    scopes: Annotated[
        str,
        typer.Option(metavar="LIST", help=f"With commas between them. {_SCOPES}"),
    ] = ",".join(USUAL)
    days: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Days until it expires; without, it lasts until it is revoked.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, with the key in `key`.")] = False


@dataclass(frozen=True, slots=True)
class KeyListArgs:
    """Which keys are shown, and how."""

    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only this tenant's.")] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False


@dataclass(frozen=True, slots=True)
class KeyArgs:
    """One key."""

    key: Annotated[str, typer.Argument(metavar="ID", help="Its id, as in `tympan keys list`.")]


@dataclass(frozen=True, slots=True)
class RotateArgs:
    """How long both work."""

    overlap_hours: Annotated[
        float, typer.Option(metavar="HOURS", help="How long the old key goes on working; 0 ends it at once.")
    ] = 24.0
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object, with the key in `key`.")] = False


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Make, list, rotate and revoke API keys.")
    command(group, "create")(create)
    command(group, "list")(list_keys)
    command(group, "rotate")(rotate)
    command(group, "revoke")(revoke)
    app.add_typer(group, name="keys")


def create(args: CreateArgs) -> int:
    """Make a key. It is shown only once: the server keeps just a digest of it.

    A running server takes it at once. On a loopback address the first key locks the server: from then on every caller
    needs one, unless API_KEYS is 'open'.
    """
    from tympan.bootstrap import access  # noqa: PLC0415  (imports the database)

    wish = access.KeyWish(key_rules.tenant_name(args.tenant), _name(args.name), _scopes(args.scopes), _days(args.days))
    _show_new(*access.create(load_settings({}), wish), as_json=args.as_json)
    return ExitCode.OK


def list_keys(args: KeyListArgs) -> int:
    """List keys, expired and revoked ones too. The keys themselves are not kept and cannot be shown."""
    from tympan.bootstrap import access  # noqa: PLC0415

    found = access.listing(load_settings({}), args.tenant)
    if args.as_json:
        write_stdout(json.dumps([_told(key) for key in found], indent=2, ensure_ascii=False))
    else:
        _show_table(found)
    return ExitCode.OK


def rotate(key: KeyArgs, args: RotateArgs) -> int:
    """Replace a key with a new one; the old one goes on working for a while.

    The new key has the same tenant, scopes and lifetime.
    """
    from tympan.bootstrap import access  # noqa: PLC0415

    hours = args.overlap_hours
    if not key_rules.is_overlap(hours):
        most = key_rules.MAX_OVERLAP_HOURS
        raise InvalidRequest(f"--overlap-hours cannot be {hours:g}.", remedy=f"Give 0 to {most:g}.")
    _show_new(*access.rotate(load_settings({}), _key_id(key.key), hours * key_rules.HOUR_S), as_json=args.as_json)
    return ExitCode.OK


def revoke(key: KeyArgs) -> int:
    """End a key for good; every process of a running server refuses it within five seconds."""
    from tympan.bootstrap import access  # noqa: PLC0415

    ended = access.revoke(load_settings({}), _key_id(key.key))
    say(f"Revoked {ended.id} of {ended.tenant}.")
    return ExitCode.OK


def _show_new(token: "Token", stored: "StoredKey", *, as_json: bool) -> None:
    if as_json:
        write_stdout(json.dumps({"key": token.text} | _told(stored), indent=2, ensure_ascii=False))
        return
    write_stdout(token.text)
    end = "it does not expire" if stored.expires_at is None else f"it expires on {_date(stored.expires_at)}"
    say(f"This key is shown only now. Tenant {stored.tenant}, {' '.join(stored.scopes)}; {end}.")


def _told(key: "StoredKey") -> dict[str, object]:
    return asdict(key) | {"state": key.state}


def _show_table(found: "list[StoredKey]") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "tenant", "name", "state", "expires", "last used"):
        table.add_column(column, no_wrap=column in {"id", "state"})
    table.add_column("scopes", overflow="fold")
    for key in found:
        times = (_date(at) if at is not None else "never" for at in (key.expires_at, key.last_used_at))
        table.add_row(key.id, key.tenant, escaped(key.name), key.state, *times, " ".join(key.scopes))
    stdout().print(table)


def _date(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%MZ")


def _name(text: str) -> str:
    if not key_rules.is_key_name(text):
        most = key_rules.MAX_NAME_CHARS
        raise InvalidRequest("--name is too long or not printable.", remedy=f"Use up to {most} printable characters.")
    return text


def _scopes(text: str) -> tuple[Scope, ...]:
    return key_rules.scopes_named(part.strip() for part in text.split(",") if part.strip())


def _days(days: float | None) -> float | None:
    if days is not None and not key_rules.is_lifetime(days):
        raise InvalidRequest(f"--days cannot be {days:g}.", remedy=f"Give a number of days up to {key_rules.MAX_DAYS}.")
    return days


def _key_id(text: str) -> str:
    """Return the id in ``text``, which may also be a whole key: people have that at hand."""
    return text.split("_")[1] if text.startswith("tym_") and text.count("_") > 1 else text
