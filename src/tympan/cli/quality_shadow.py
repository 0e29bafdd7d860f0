"""``tympan quality shadow``: how far live transcripts lie from what a second model hears."""

import json
from typing import TYPE_CHECKING, Any

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, escaped, say, stdout, write_stdout
from tympan.cli.quality_traffic import TrafficArgs
from tympan.cli.services import load_settings

if TYPE_CHECKING:
    from tympan.bootstrap.drift import Opinion, SecondOpinions


def register(group: typer.Typer) -> None:
    """Add the command to ``group``."""
    command(group, "shadow")(shadow)


def shadow(args: TrafficArgs) -> int:
    """Show how much models differed from the shadow model lately, beside the days before.

    That is word errors with the shadow model's text as the reference, for the share of windows that it heard again; the
    interval holds 95 % of the rates that whole days, drawn by chance, would give. A minute may pass until a window is
    counted.
    """
    from tympan.bootstrap import drift as desk  # noqa: PLC0415  (imports the database)

    found = desk.opinions(load_settings({}), args.days)
    if args.as_json:
        write_stdout(json.dumps(_as_json(found), indent=2))
        return ExitCode.OK
    if found.comparisons:
        _show(found)
        (first, last), (before, until) = found.window, found.baseline
        say(f"{first} to {last} (UTC) beside {before} to {until}.")
    else:
        say("No window was heard again yet: SHADOW_MODEL says by which model.")
    return ExitCode.OK


def _as_json(found: "SecondOpinions") -> dict[str, Any]:
    return {
        "window": [day.isoformat() for day in found.window],
        "baseline": [day.isoformat() for day in found.baseline],
        "models": [
            {"model": each.model, "kind": each.kind, "now": _figures(each.window), "before": _figures(each.baseline)}
            for each in found.comparisons
        ],
    }


def _figures(opinion: "Opinion") -> dict[str, Any]:
    counts = opinion.counts
    return {
        "windows": counts.clips,
        "days": opinion.days,
        "words": counts.units,
        "substitutions": counts.substitutions,
        "deletions": counts.deletions,
        "insertions": counts.insertions,
        "wer_percent": round(counts.rate, 3) if counts.clips else None,
        "interval_percent": opinion.interval_percent and [round(bound, 3) for bound in opinion.interval_percent],
    }


def _show(found: "SecondOpinions") -> None:
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("model", "kind", ""):
        table.add_column(column)
    for column in ("windows", "words", "sub", "del", "ins", "differs", "95 % (days)"):
        table.add_column(column, justify="right")
    for each in found.comparisons:
        table.add_row(escaped(each.model), each.kind, "now", *_cells(each.window))
        table.add_row("", "", "before", *_cells(each.baseline))
    stdout().print(table)


def _cells(opinion: "Opinion") -> list[str]:
    counts, bounds = opinion.counts, opinion.interval_percent
    amounts = (counts.clips, counts.units, counts.substitutions, counts.deletions, counts.insertions)
    rate = f"{counts.rate:.2f} %" if counts.clips else ""
    return [*(f"{amount:,}" for amount in amounts), rate, f"{bounds[0]:.2f} to {bounds[1]:.2f}" if bounds else ""]
