"""The command line: ``tympan serve``, ``api``, ``worker``, ``scheduler``, ``migrate``, ``keys``, ``transcribe``...

Modules that cost time to import (engine, decoder, web server) are imported by the commands that use them.
"""

import sys
from typing import Annotated

import typer

from tympan import __version__
from tympan.cli import (
    audit,
    bench,
    capacity,
    diarize,
    doctor,
    keys,
    live,
    migrate,
    models,
    quality,
    rollout,
    serve,
    tenants,
    transcribe,
    usage,
)
from tympan.cli.console import exit_code_for, show_error, turn_debugging_on
from tympan.errors import StorageUnavailable, TympanError

_PANELS = {
    "Serve": ("serve", "api", "worker", "scheduler", "doctor"),
    "Transcribe here, without a server": ("transcribe", "batch", "diarize", "live"),
    "Manage": ("models", "keys", "tenants", "usage", "audit", "migrate"),
    "Measure and plan": ("bench", "capacity", "quality", "rollout"),
    "Other": ("version",),
}
"""Commands under the titles that help shows them by."""

app = typer.Typer(
    name="tympan",
    help="Speech to text: a server, and transcripts of files from the shell.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
serve.register(app)
doctor.register(app)
transcribe.register(app)
diarize.register(app)
live.register(app)
models.register(app)
keys.register(app)
tenants.register(app)
usage.register(app)
audit.register(app)
migrate.register(app)
bench.register(app)
capacity.register(app)
quality.register(app)
rollout.register(app)


def main() -> None:
    """Run the command line and end the process with its exit code; errors are shown, not raised."""
    try:
        app(prog_name="tympan")
    except TympanError as error:
        if isinstance(error, StorageUnavailable) and error.remedy in (None, "Try again."):
            error.remedy = "Check that the database of DATABASE_URL runs, or the disk of DATA_DIR, and try again."
        show_error(error)
        sys.exit(exit_code_for(error))
    except Exception as error:  # noqa: BLE001  (the last resort of the process: said, not swallowed)
        failure = TympanError(
            f"Unexpected {type(error).__name__}: {error}",
            remedy="Run it again with TYMPAN_DEBUG=1 and report what it shows.",
        )
        failure.__cause__ = error
        show_error(failure)
        sys.exit(exit_code_for(failure))


@app.command("version")
def show_version() -> None:
    """Print the version."""
    typer.echo(f"tympan {__version__}")


_TITLES = {name: title for title, names in _PANELS.items() for name in names}
for _command in app.registered_commands:
    _command.rich_help_panel = _TITLES[str(_command.name)]
for _group in app.registered_groups:
    _group.rich_help_panel = _TITLES[str(_group.name)]


def _leave_with_version(asked: object) -> None:
    if asked:
        show_version()
        raise typer.Exit


_VERSION = Annotated[
    bool,
    typer.Option("--version", metavar=" ", is_eager=True, callback=_leave_with_version, help="Print the version."),
]
_DEBUG = Annotated[bool, typer.Option("--debug", metavar=" ", help="Show tracebacks, like TYMPAN_DEBUG=1.")]


@app.callback()
def _root(*, version: _VERSION = False, debug: _DEBUG = False) -> None:
    del version
    if debug:
        turn_debugging_on()
