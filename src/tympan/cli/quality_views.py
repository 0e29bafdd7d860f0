"""What ``tympan quality`` shows: tables, and utterances with their errors marked."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from tympan.cli.console import escaped, printable, say, stdout

if TYPE_CHECKING:
    from rich.table import Table

    from tympan.bootstrap.quality import Alarm, GoldenRun, GoldenSet, Group, Utterance

_PIPE_COLUMNS = 300
_STYLES = {"substitute": "yellow", "delete": "red", "insert": "green"}


def moment(at_s: float) -> str:
    """Return a time in UTC to the minute."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M")


def show_alarms(found: "Sequence[Alarm]") -> None:
    """Show alarms, and how many of them are open."""
    table = new_table("kind", "about", "since (UTC)", "until", "figures")
    for alarm in found:
        until = "" if alarm.until is None else moment(alarm.until)
        table.add_row(alarm.kind, escaped(alarm.subject), moment(alarm.since), until, escaped(_figures(alarm.detail)))
    if found:
        show_table(table)
    n_open = sum(alarm.until is None for alarm in found)
    say(f"{n_open} open." if n_open else "Nothing is wrong.")


def show_sets(found: "Sequence[GoldenSet]") -> None:
    """Show sets."""
    table = new_table("set", ">version", ">clips", ">MB", "schedule (UTC)", ">sample", "model", "next (UTC)")
    for each in found:
        plan = each.plan
        table.add_row(
            each.name, str(each.version), f"{each.n_items:,}", f"{each.n_bytes / 1e6:.1f}", plan.schedule or "off",
            "all" if plan.sample is None else str(plan.sample), escaped(plan.model or "default"),
            "" if each.next_at is None else moment(each.next_at),
        )  # fmt: skip
    show_table(table)
    if not found:
        say("There is no golden set; `tympan quality add` makes one.")


def show_runs(found: "Sequence[GoldenRun]") -> None:
    """Show runs with the figures of the whole."""
    table = new_table(
        "run", "set", "model", "began (UTC)", "state", ">clips", ">failed", ">WER", ">CER", ">from nothing"
    )
    for run in found:
        table.add_row(
            run.id, run.set_name, escaped(run.model or run.asked_model or "default"), moment(run.created_at), run.state,
            f"{run.n_items:,}", f"{run.n_failed:,}", *_rates(run.totals),
        )  # fmt: skip
    show_table(table)


def show_run(run: "GoldenRun", found: "Sequence[Group]") -> None:
    """Show a run, its parts, and how it stands to its baseline."""
    model = run.model or run.asked_model or "default"
    say(f"{run.id}: {run.set_name} with {model}, {run.state}, {run.n_failed} of {run.n_items} clips failed.")
    table = new_table("part", ">clips", ">WER", "95 %", ">sub", ">del", ">ins", ">words", ">CER", ">from nothing")
    for each in found:
        words, totals = each.totals.words, each.totals
        counted = (words.substitutions, words.deletions, words.insertions, words.units)
        table.add_row(
            escaped(each.name), f"{words.clips + totals.silent:,}", f"{words.rate:.1f} %",
            "" if each.low is None else f"{each.low:.1f}-{each.high:.1f}", *(f"{n:,}" for n in counted),
            f"{totals.characters.rate:.1f} %", f"{totals.hallucinated}/{totals.silent}" if totals.silent else "",
        )  # fmt: skip
    show_table(table)
    if run.comparison is not None:
        say(_compared(run.comparison))


def show_worst(found: "Iterable[Utterance]") -> None:
    """Show utterances: what was said, what of it was lost, and what was heard instead or besides."""
    for each in found:
        head = f"{each.clip.item}: {each.error or f'{each.words.errors} errors in {each.words.units}'}"
        if not each.clip.reference and not each.error:
            head = f"{each.clip.item}: text where nothing was said"
        stdout().print(f"\n[bold]{escaped(printable(head))}[/]")
        if each.chunks:
            stdout().print("  " + " ".join(_chunk(*chunk) for chunk in each.chunks))


def _chunk(kind: str, reference: Iterable[str], heard: Iterable[str]) -> str:
    """Return marked words; signs tell without colours what was lost and what was heard."""
    said, got = (escaped(printable(" ".join(words))) for words in (reference, heard))
    if kind == "equal":
        return said
    style = _STYLES[kind]
    lost = f"[{style}]{escaped('[')}-{said}-][/]" if said else ""
    added = f"[{style}]{{+{got}+}}[/]" if got else ""
    return lost + added


def _compared(found: Mapping[str, Any]) -> str:
    parts = []
    if found["difference_points"] is not None:
        interval = f"{found['low_points']:+.1f} to {found['high_points']:+.1f}"
        verdict = "WORSE" if found["worse_words"] else "no worse than chance allows"
        parts.append(f"{found['difference_points']:+.1f} points of word errors ({interval}, 99 %): {verdict}")
    if found["silent"]:
        verdict = "WORSE" if found["worse_silence"] else "no worse than chance allows"
        changed = (
            f"{found['newly']} of {found['silent']} clips without speech newly got text, {found['cured']} no longer"
        )
        parts.append(f"{changed}: {verdict}")
    return f"Against {found['baseline']}: " + "; ".join(parts) + "."


def _rates(totals: Mapping[str, Any] | None) -> tuple[str, str, str]:
    if not totals:
        return "", "", ""
    words, characters = (_percent(totals[name]) for name in ("words", "characters"))
    return words, characters, f"{totals['hallucinated']}/{totals['silent']}" if totals["silent"] else ""


def _percent(counts: Mapping[str, int]) -> str:
    errors = counts["substitutions"] + counts["deletions"] + counts["insertions"]
    return f"{100 * errors / counts['units']:.1f} %" if counts["units"] else ""


def _figures(detail: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in detail.items())


def show_table(table: "Table") -> None:
    """Show a table; in a pipe it is as wide as it needs to be."""
    console = stdout()
    if not console.is_terminal:
        console.width = _PIPE_COLUMNS
    console.print(table)


def new_table(*columns: str) -> "Table":
    """Return an empty table; a column whose name begins with ``>`` is set to the right."""
    from rich.table import Table  # noqa: PLC0415  (keeps ``--help`` quick)

    table = Table(box=None, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        side: Literal["left", "right"] = "right" if column.startswith(">") else "left"
        table.add_column(column.lstrip(">"), justify=side, no_wrap=place == 0)  # A name is there to be copied.
    return table
