"""``tympan serve``: the HTTP server, with flags on top of the settings."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, stderr, turn_debugging_on
from tympan.cli.services import fetch_model, load_settings

if TYPE_CHECKING:
    from tympan.config import Settings


@dataclass(frozen=True, slots=True)
class ServeArgs:
    """Settings that can be given as flags; the name of a flag is the name of its setting."""

    PANEL: ClassVar[str] = "Settings (also TYMPAN_HOST, TYMPAN_PORT and so on, or tympan.toml)"

    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on; 127.0.0.1 unless set.")] = (
        None
    )
    port: Annotated[int | None, typer.Option(min=0, max=65535, metavar="PORT", help="Port; 8000 unless set.")] = None
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="NAME", help="Name, folder or 'auto'; base unless set.")
    ] = None
    device: Annotated[str | None, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, metal or vulkan.")] = None
    compute_type: Annotated[
        str | None, typer.Option(metavar="TYPE", help="auto, int8, int8_float16, float16, float32...")
    ] = None
    threads: Annotated[int | None, typer.Option(min=1, metavar="N", help="CPU threads of the engine.")] = None
    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where models and uploads in progress are kept.")
    ] = None
    max_upload_mb: Annotated[int | None, typer.Option(min=1, metavar="MB", help="Largest upload accepted.")] = None
    max_audio_s: Annotated[float | None, typer.Option(metavar="SECONDS", help="Longest audio accepted.")] = None
    api_keys: Annotated[
        str | None, typer.Option(metavar="WHO", help="'open' serves everybody who can reach a public address.")
    ] = None
    log_level: Annotated[str | None, typer.Option(metavar="LEVEL", help="debug, info, warning or error.")] = None
    log_format: Annotated[str | None, typer.Option(metavar="FORMAT", help="console or json.")] = None


@dataclass(frozen=True, slots=True)
class DebugArgs:
    """The flag every command has."""

    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, like TYMPAN_DEBUG=1.")] = False


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    command(app, "serve")(serve)
    command(app, "api")(api)
    command(app, "worker")(worker)
    command(app, "scheduler")(scheduler)


def serve(args: ServeArgs, debug: DebugArgs) -> int:
    """Serve speech to text over HTTP, until Ctrl-C or SIGTERM.

    The address answers OpenAI's audio routes: POST /v1/audio/transcriptions. Running requests get time to finish
    when the server is asked to stop.
    """
    from tympan import bootstrap  # noqa: PLC0415  (imports the web server)

    settings = _settings(args, debug)
    if stderr().is_terminal:
        # A person sees the model arrive; under a supervisor the server answers its health checks meanwhile.
        fetch_model(settings, quiet=False)
    bootstrap.serve(settings)
    return ExitCode.OK


def api(args: ServeArgs, debug: DebugArgs) -> int:
    """Answer HTTP as a part of a cluster, without an engine; the workers transcribe.

    Needs MODE=cluster with DATABASE_URL, BROKER_URL, STORAGE_URL and SECRET_KEY.
    """
    from tympan.bootstrap import cluster  # noqa: PLC0415  (imports the web server and Celery)

    cluster.serve_api(_settings(args, debug))
    return ExitCode.OK


def worker(args: ServeArgs, debug: DebugArgs) -> int:
    """Transcribe as a part of a cluster; HOST and PORT answer health checks and metrics.

    On SIGTERM it finishes what it can in DRAIN_S and leaves the rest to other workers.
    """
    from tympan.bootstrap import cluster  # noqa: PLC0415  (as above)

    settings = _settings(args, debug)
    fetch_model(settings, quiet=not stderr().is_terminal)
    cluster.run_worker(settings)
    return ExitCode.OK


def scheduler(args: ServeArgs, debug: DebugArgs) -> int:
    """Keep a cluster tidy: queue messages, lost work, webhooks, old data. Run one; a second does no harm.

    HOST and PORT answer health checks and metrics.
    """
    from tympan.bootstrap import cluster  # noqa: PLC0415  (as above)

    cluster.run_scheduler(_settings(args, debug))
    return ExitCode.OK


def _settings(args: ServeArgs, debug: DebugArgs) -> "Settings":
    if debug.debug:
        turn_debugging_on()
    return load_settings({name: value for name, value in asdict(args).items() if value is not None})
