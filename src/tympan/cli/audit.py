"""``tympan audit``: who did what, when and from where."""

import csv
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode
from tympan.cli.services import load_settings

if TYPE_CHECKING:
    from tympan.bootstrap.access import AuditRow


class AuditFormat(StrEnum):
    """How rows are written."""

    TEXT = "text"
    JSON = "json"
    CSV = "csv"


@dataclass(frozen=True, slots=True)
class AuditArgs:
    """Which rows are shown, and how."""

    tenant: Annotated[str | None, typer.Option(metavar="NAME", help="Only what was done to this tenant's things.")] = (
        None
    )
    output: Annotated[
        AuditFormat, typer.Option("--format", metavar="FORMAT", help="text, json (an object a line) or csv.")
    ] = AuditFormat.TEXT


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "audit")(audit)


def audit(args: AuditArgs) -> int:
    """Print the audit log, oldest first: keys, tenants, erasures, retention, webhooks, models, golden sets, rollouts.

    What a request does is written down before it is done, as `asked`; when it fails, a second row with the same
    request id tells its status.
    """
    from tympan.bootstrap import access  # noqa: PLC0415  (imports the database)

    pages = access.audit_rows(load_settings({}), args.tenant)
    if args.output is AuditFormat.CSV:
        sys.stdout.write(_line([field.name for field in fields(access.AuditRow)]))
    for page in pages:
        sys.stdout.write("".join(_written(row, args.output) for row in page))
    sys.stdout.flush()
    return ExitCode.OK


def _written(row: "AuditRow", output: AuditFormat) -> str:
    values = asdict(row) | {"at": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="milliseconds")}
    if output is AuditFormat.JSON:
        return json.dumps(values, ensure_ascii=False) + "\n"
    detail = json.dumps(values["detail"], sort_keys=True) if values["detail"] is not None else ""
    if output is AuditFormat.CSV:
        return _line(list((values | {"detail": detail}).values()))
    return _sentence(values, detail)


def _sentence(values: Mapping[str, object], detail: str) -> str:
    words = (values[name] or "-" for name in ("at", "tenant", "actor", "action", "target", "outcome", "address"))
    return " ".join(str(word) for word in (*words, detail)).rstrip() + "\n"


def _line(cells: list[object]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow("" if cell is None else cell for cell in cells)
    return line.getvalue()
