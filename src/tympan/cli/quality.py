"""``tympan quality``: how good the transcripts are, by golden sets and by alarms."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tympan.cli import quality_shadow, quality_traffic
from tympan.cli import quality_views as views
from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, say, write_stdout
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest, TympanError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from tympan.bootstrap.quality import GoldenRun, Quality

_WEEKLY = "0 3 * * 1"
_NEVER = "off"
_POLL_S = 1.0
_FEW_CANARIES = 6


@dataclass(frozen=True, slots=True)
class FormArgs:
    """How the answer is written."""

    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


@dataclass(frozen=True, slots=True)
class AlarmArgs:
    """Which alarms are shown."""

    days: Annotated[
        float, typer.Option(metavar="DAYS", min=0, max=3650, help="Also those that ended in the last days.")
    ] = 0.0


@dataclass(frozen=True, slots=True)
class AddArgs:
    """A folder with ``manifest.jsonl``, and how to measure with it."""

    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with manifest.jsonl and audio.")]
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the set; the folder's unless said.")] = None
    language: Annotated[str | None, typer.Option(metavar="CODE", help="Language of lines that name none.")] = None
    schedule: Annotated[
        str, typer.Option(metavar="CRON", help="When to run it by itself, in UTC: five fields as cron has, or 'off'.")
    ] = _WEEKLY
    sample: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Clips of speech in a scheduled run, others each week; all.")
    ] = None
    model: Annotated[str, typer.Option(metavar="NAME", help="Model to measure; the server's default.")] = ""
    detect: Annotated[bool, typer.Option("--detect", help="Do not name the language: measure its detection too.")] = (
        False
    )


@dataclass(frozen=True, slots=True)
class SetArgs:
    """One set."""

    name: Annotated[str, typer.Argument(metavar="SET", help="Name, as in `tympan quality sets`.")]


@dataclass(frozen=True, slots=True)
class ScheduleArgs:
    """When a set is run."""

    schedule: Annotated[str, typer.Argument(metavar="CRON", help="Five fields as cron has, in UTC, or 'off'.")]


@dataclass(frozen=True, slots=True)
class RunArgs:
    """With which model, and whether to wait."""

    model: Annotated[str, typer.Option(metavar="NAME", help="Model to measure; the set's own or the default.")] = ""
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the end and show the result.")] = False


@dataclass(frozen=True, slots=True)
class RunsArgs:
    """Which runs are shown."""

    name: Annotated[str | None, typer.Argument(metavar="[SET]", help="Runs of this set only.")] = None
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="How many, newest first.")] = 20


@dataclass(frozen=True, slots=True)
class OneRunArgs:
    """One run."""

    run: Annotated[str, typer.Argument(metavar="RUN", help="Id, as in `tympan quality runs`.")]


@dataclass(frozen=True, slots=True)
class ShowArgs:
    """What of a run is shown."""

    worst: Annotated[int, typer.Option(metavar="N", min=0, max=1000, help="Worst utterances to show.")] = 5
    by: Annotated[
        str | None, typer.Option(metavar="WHAT", help="Part it by language, speaker, tag or kind as well.")
    ] = None


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="Measure how good the transcripts are, and say when they get worse.")
    commands: dict[str, Callable[..., int]] = {
        "add": add, "sets": sets, "schedule": schedule, "remove": remove, "run": run, "runs": runs, "show": show,
        "baseline": baseline, "alarms": alarms,
    }  # fmt: skip
    for name, function in commands.items():
        command(group, name)(function)
    quality_traffic.register(group)
    quality_shadow.register(group)
    app.add_typer(group, name="quality")


def add(args: AddArgs, form: FormArgs) -> int:
    """Add a golden set: a folder of recordings with `manifest.jsonl`, which says what is said in them.

    Every line is checked, and the audio is copied. Adding a changed folder under the same name makes a new version,
    which has a baseline of its own.
    """
    from tympan.bootstrap.quality import SPEECH, SetPlan  # noqa: PLC0415  (imports the database)

    plan = SetPlan(_schedule(args.schedule), args.sample, args.model, args.detect)
    with _open() as quality:
        found, items = quality.add(args.folder, args.name, args.language, plan)
    n_silent = sum(item.kind != SPEECH for item in items)
    if form.as_json:
        _write(asdict(found))
    else:
        say(f"{found.name} is version {found.version}: {found.n_items} clips, {n_silent} of them without speech.")
    if 0 < n_silent < _FEW_CANARIES:
        say(f"An alarm about text for clips without speech needs {_FEW_CANARIES} of them.")
    return ExitCode.OK


def sets(form: FormArgs) -> int:
    """List golden sets: version, clips, and when each is run."""
    with _open() as quality:
        found = quality.desk.store.all()
    if form.as_json:
        _write([asdict(each) for each in found])
    else:
        views.show_sets(found)
    return ExitCode.OK


def schedule(args: SetArgs, when: ScheduleArgs) -> int:
    """Set when a golden set runs by itself, in UTC; 'off' for never."""
    with _open() as quality:
        found = quality.schedule(args.name, _schedule(when.schedule))
    say(f"{found.name}: {'never' if found.next_at is None else 'next on ' + views.moment(found.next_at) + ' UTC'}.")
    return ExitCode.OK


def remove(args: SetArgs) -> int:
    """Remove a golden set with its audio, its runs and its alarms."""
    with _open() as quality:
        quality.remove(args.name)
    say(f"{args.name} is removed.")
    return ExitCode.OK


def run(args: SetArgs, how: RunArgs, form: FormArgs) -> int:
    """Measure with a golden set now: all clips, on the batch lane of the server that is running."""
    with _open() as quality:
        begun = quality.run(args.name, how.model)
        if not quality.has_workers:
            say("No server has been seen lately; the run begins when one does the work.")
        if how.wait:
            begun = _wait(quality, begun)
            return _show(quality, begun.id, ShowArgs(), form)
    if form.as_json:
        _write(asdict(begun))
    else:
        say(f"{begun.id}: {begun.n_items} clips. `tympan quality show {begun.id}` tells how they come out.")
    return ExitCode.OK


def runs(args: RunsArgs, form: FormArgs) -> int:
    """List runs of golden sets, newest first."""
    with _open() as quality:
        found = quality.desk.runs.page(args.name, args.limit)
    if form.as_json:
        _write([asdict(each) for each in found])
    else:
        views.show_runs(found)
    return ExitCode.OK


def show(args: OneRunArgs, what: ShowArgs, form: FormArgs) -> int:
    """Show a run: error rates with intervals, its parts, the comparison, and its worst utterances side by side."""
    with _open() as quality:
        return _show(quality, args.run, what, form)


def baseline(args: OneRunArgs) -> int:
    """Compare later runs of the same version and model with this one; alarms about its set end."""
    with _open() as quality:
        found = quality.make_baseline(args.run)
    say(f"{found.id} is the baseline of {found.subject} now.")
    return ExitCode.OK


def alarms(args: AlarmArgs, form: FormArgs) -> int:
    """Show what is wrong with quality now. The exit code is 1 when something is."""
    with _open() as quality:
        found = quality.alarms(args.days)
    if form.as_json:
        _write([asdict(alarm) for alarm in found])
    else:
        views.show_alarms(found)
    return ExitCode.SOME_FAILED if any(alarm.until is None for alarm in found) else ExitCode.OK


def _open() -> "AbstractContextManager[Quality]":
    from tympan.bootstrap.quality import open_quality  # noqa: PLC0415  (imports the database)

    settings = load_settings({})
    return open_quality(settings)


def _schedule(text: str) -> str | None:
    return None if text.strip().lower() == _NEVER else text.strip()


def _wait(quality: "Quality", begun: "GoldenRun") -> "GoldenRun":
    """Return the run once it has ended, which it does at its deadline at the latest."""
    while begun.state == "running":
        if quality.desk.store.now_s() > begun.deadline + 60 * _POLL_S:
            raise TympanError("The run has not ended in time.", remedy="Start a server; it ends the run.")
        time.sleep(_POLL_S)
        begun = quality.desk.runs.get(begun.id)
    return begun


def _show(quality: "Quality", run_id: str, what: ShowArgs, form: FormArgs) -> int:
    from tympan.quality import report  # noqa: PLC0415  (loads numpy)

    if what.by is not None and what.by not in report.BY:
        raise InvalidRequest(f"--by cannot be {what.by!r}.", remedy=f"Give one of {', '.join(report.BY)}.")
    details = quality.desk.details(run_id)
    parts = [] if what.by is None else report.groups(details, what.by)
    bad = report.worst(details, what.worst) if what.worst else []
    if form.as_json:
        whole: Mapping[str, Any] = report.as_dict(details)
        _write({**whole, "parts": [each.as_dict() for each in parts], "worst": [each.as_dict() for each in bad]})
    else:
        views.show_run(details.run, [report.summary(details), *parts])
        views.show_worst(bad)
    return ExitCode.SOME_FAILED if details.run.state == "failed" else ExitCode.OK


def _write(value: Any) -> None:
    write_stdout(json.dumps(value, indent=2, default=list))
