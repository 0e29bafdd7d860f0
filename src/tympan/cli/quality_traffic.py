"""``tympan quality traffic`` and ``tympan quality drift``: what live traffic is like, and whether it has changed."""

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, escaped, say, stdout, write_stdout
from tympan.cli.services import load_settings
from tympan.errors import InvalidRequest

if TYPE_CHECKING:
    from tympan.bootstrap.drift import Finding, Report

_BAR = 24


@dataclass(frozen=True, slots=True)
class TrafficArgs:
    """Which days are shown, and how."""

    days: Annotated[
        int | None, typer.Option(metavar="DAYS", min=1, max=400, help="Days up to today; DRIFT_DAYS by default.")
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False


@dataclass(frozen=True, slots=True)
class DriftArgs(TrafficArgs):
    """What traffic is compared with."""

    keep: Annotated[
        int | None,
        typer.Option("--keep-baseline", metavar="DAYS", min=3, max=365, help="Compare with the last DAYS from now on."),
    ] = None
    move: Annotated[
        bool, typer.Option("--move-baseline", help="Compare with the days before again; undoes --keep-baseline.")
    ] = False


def register(group: typer.Typer) -> None:
    """Add the commands to ``group``."""
    command(group, "traffic")(traffic)
    command(group, "drift")(drift)


def traffic(args: TrafficArgs) -> int:
    """Show what transcriptions were like in the last days, beside the days before.

    A minute may pass until a transcription is counted.
    """
    from tympan.bootstrap import drift as desk  # noqa: PLC0415  (imports the database)

    found = desk.report(load_settings({}), args.days)
    if args.as_json:
        write_stdout(json.dumps(_as_json(found, with_bins=True), indent=2))
        return ExitCode.OK
    for each in found.findings:
        _show_bins(each, desk.shares(each.window), desk.shares(each.baseline))
    _say_days(found)
    return ExitCode.OK


def drift(args: DriftArgs) -> int:
    """Show how the last days differ from those before, feature by feature. The exit code is 1 when one has drifted."""
    from tympan.bootstrap import drift as desk  # noqa: PLC0415

    settings = load_settings({})
    if args.keep is not None and args.move:
        raise InvalidRequest("--keep-baseline and --move-baseline were both given.", remedy="Give one of them.")
    if args.keep is not None or args.move:
        kept = desk.keep_baseline(settings, args.keep)
        say(f"Compared with {kept[0]} to {kept[1]} from now on." if kept else "Compared with the days before again.")
        return ExitCode.OK
    found = desk.report(settings, args.days)
    if args.as_json:
        write_stdout(json.dumps(_as_json(found, with_bins=False), indent=2))
    else:
        _show_tests(found)
        _say_days(found)
    return ExitCode.SOME_FAILED if any(each.is_drift for each in found.findings) else ExitCode.OK


def _as_json(found: "Report", *, with_bins: bool) -> dict[str, Any]:
    return {
        "window": [day.isoformat() for day in found.window],
        "baseline": [day.isoformat() for day in found.baseline],
        "baseline_is_kept": found.is_kept,
        "features": [
            {"kind": each.kind, "feature": each.feature.name, **asdict(each.drift), "is_drift": each.is_drift}
            | ({"window": each.window, "baseline": each.baseline} if with_bins else {})
            for each in found.findings
        ],
    }


def _show_bins(each: "Finding", new: dict[str, float], old: dict[str, float]) -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = f"{each.kind}: {each.feature.title}"
    table.add_column("from" if each.feature.edges else "")
    for column in ("now", "before"):
        table.add_column(column, justify="right")
    table.add_column("")
    for name in each.feature.bins:
        if name in new or name in old:
            now = new.get(name, 0.0)
            table.add_row(escaped(name), f"{now:.1%}", f"{old.get(name, 0.0):.1%}", "#" * round(now * _BAR))
    stdout().print(table)


def _show_tests(found: "Report") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("kind", "feature"):
        table.add_column(column)
    for column in ("now", "before", "PSI", "by chance", "p"):
        table.add_column(column, justify="right")
    table.add_column("")
    for each in found.findings:
        test = each.drift
        verdict = test.reason or ("has drifted" if each.is_drift else "")
        figures = ("", "", "") if test.reason else (f"{test.psi:.3f}", f"{test.chance_psi:.3f}", f"{test.p:.1e}")
        table.add_row(each.kind, each.feature.title, f"{test.n_window:,}", f"{test.n_baseline:,}", *figures, verdict)
    stdout().print(table)


def _say_days(found: "Report") -> None:
    (first, last), (before, until) = found.window, found.baseline
    kept = ", which are kept" if found.is_kept else ""
    say(f"{first} to {last} (UTC) beside {before} to {until}{kept}." if found.findings else "Nothing was counted yet.")
