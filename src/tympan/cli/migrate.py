"""``tympan migrate``: the database's schema brought up to date."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, say, turn_debugging_on
from tympan.cli.serve import DebugArgs
from tympan.cli.services import load_settings


@dataclass(frozen=True, slots=True)
class MigrateArgs:
    """What to do."""

    PANEL: ClassVar[str] = "Options"

    check: Annotated[bool, typer.Option("--check", help="Only say whether the schema is up to date.")] = False
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="Also copy the jobs, audio and webhooks of an embedded DATA_DIR."),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "migrate")(migrate)


def migrate(args: MigrateArgs, debug: DebugArgs) -> int:
    """Bring the database's schema up to date; safe to run twice, and while the previous version still runs.

    With --from, everything that a stopped embedded server kept moves here: give it the settings of the new
    installation, such as MODE=cluster with DATABASE_URL and STORAGE_URL.
    """
    from tympan.bootstrap import schema  # noqa: PLC0415  (imports the database)

    if debug.debug:
        turn_debugging_on()
    settings = load_settings({})
    if args.source is not None:
        moved = schema.move(settings, args.source)
        say(f"Copied {moved.rows} rows and {moved.blobs} files ({moved.n_bytes / 1e6:.1f} MB).")
        return ExitCode.OK
    before, after = schema.check(settings) if args.check else schema.upgrade(settings)
    if before == after:
        say(f"The schema is up to date ({after}).")
        return ExitCode.OK
    say(f"The schema is {before or 'missing'}; this version needs {after}." if args.check else f"Migrated to {after}.")
    return ExitCode.SOME_FAILED if args.check else ExitCode.OK
