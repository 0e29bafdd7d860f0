"""``tympan doctor``: what this machine, its settings, its model and its decoder are fit for."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from tympan.cli import checks, probes
from tympan.cli.arguments import command
from tympan.cli.checks import Check, Status, failed
from tympan.cli.console import ExitCode, escaped, show_traceback, stdout, turn_debugging_on, write_stdout
from tympan.cli.deployment import examine_deployment
from tympan.cli.errand import Errand
from tympan.cli.options import EngineArgs, to_overrides
from tympan.cli.services import load_settings
from tympan.errors import TympanError

if TYPE_CHECKING:
    from tympan.config import Settings

_MARKS = {Status.OK: "[green] ok [/]", Status.WARN: "[yellow]warn[/]", Status.FAIL: "[bold red]FAIL[/]"}

_NAME_WIDTH = 28

Probe: TypeAlias = Callable[[], "Check | Sequence[Check]"]


@dataclass(frozen=True, slots=True)
class DoctorArgs:
    """How the answers are shown."""

    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array on stdout instead of lines.")] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks, like TYMPAN_DEBUG=1.")] = False
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Look at a running deployment instead, from outside.")
    ] = None
    key: Annotated[
        str | None,
        typer.Option(
            "--api-key",
            "--key",
            metavar="KEY",
            envvar="TYMPAN_API_KEY",
            help="API key for --url; better in TYMPAN_API_KEY.",
        ),
    ] = None


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    command(app, "doctor")(doctor)


def doctor(args: DoctorArgs, engine: EngineArgs) -> int:
    """Check this machine, the settings, the model, the decoder and the engine.

    Every line is ok, warn or FAIL, with what to do about it.
    The exit code is 1 when a check failed. Nothing is downloaded.
    With --url it asks a running deployment how it is, part by part, and has it transcribe a second of sound.
    """
    if args.debug:
        turn_debugging_on()
    answers = examine(to_overrides(engine)) if args.url is None else examine_deployment(Errand(args.url, args.key))
    found = _collected(answers, shows=not args.as_json)
    if args.as_json:
        write_stdout(json.dumps([asdict(check) for check in found], indent=2, ensure_ascii=False))
    else:
        stdout().print(_summary(found))
    return ExitCode.SOME_FAILED if any(check.status is Status.FAIL for check in found) else ExitCode.OK


def examine(overrides: dict[str, object]) -> Iterator[Check]:
    """Yield every check, as its answer comes; what depends on something that failed is left out."""
    yield checks.check_software()
    yield checks.check_system()
    try:
        settings = load_settings(overrides)
    except TympanError as error:
        yield failed("Settings", error)
        return
    yield from checks.check_settings(settings, overrides)
    yield checks.check_disk(settings)
    yield checks.check_data_dir(settings)
    yield checks.check_port(settings)
    yield from _asked("Hardware", lambda: probes.check_hardware(settings))
    model = list(_asked("Model", lambda: probes.check_model(settings)))
    yield from model
    yield from _asked("Models", lambda: probes.check_further_models(settings))
    # A model that is not here would be fetched by a start, and that is not for the doctor to do.
    if settings.engine == "fake" or all(check.status is Status.OK for check in model):
        yield from _running(settings)


def _running(settings: "Settings") -> Iterator[Check]:
    """Start everything once, and look at it from inside."""
    from tympan.bootstrap import running  # noqa: PLC0415

    started = time.monotonic()
    try:
        with running(settings) as services:
            yield Check("Start", Status.OK, f"decoder and engine ready in {time.monotonic() - started:.1f} s")
            yield from _asked("Decoder", lambda: probes.check_decoder(services))
            yield from _asked("Engine", lambda: probes.check_engine(services))
    except TympanError as error:
        show_traceback(error)
        yield failed("Start", error)


def _asked(name: str, probe: Probe) -> list[Check]:
    """Return the answers of ``probe``; an error is an answer too."""
    try:
        answer = probe()
    except TympanError as error:
        show_traceback(error)
        return [failed(name, error)]
    except Exception as error:  # noqa: BLE001  (the patient may fail in any way; the doctor says how)
        show_traceback(error)
        return [failed(name, TympanError(f"Unexpected {type(error).__name__}: {error}"))]
    return [answer] if isinstance(answer, Check) else list(answer)


def _collected(answers: Iterable[Check], *, shows: bool) -> list[Check]:
    """Return the answers, printed as they come when ``shows``."""
    found = []
    for check in answers:
        found.append(check)
        if shows:
            _show(check)
    return found


def _summary(found: Sequence[Check]) -> str:
    counts = Counter(check.status for check in found)
    if counts[Status.FAIL]:
        return f"{counts[Status.FAIL]} failed, {counts[Status.WARN]} with a warning, {counts[Status.OK]} fine."
    return f"Ready for work: {counts[Status.OK]} fine, {counts[Status.WARN]} with a warning."


def _show(check: Check) -> None:
    console = stdout()
    name = escaped(f"{check.name:<{_NAME_WIDTH - 1}} ")
    console.print(f"{_MARKS[check.status]}  [bold]{name}[/]{escaped(check.detail)}")
    if check.remedy:
        console.print(f"{'':{_NAME_WIDTH + 6}}{escaped(check.remedy)}")
