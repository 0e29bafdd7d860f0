"""What is said of other servers: goals, tables, and where Tympan is behind."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.store import Check
from tympan.bench.pages import table

OURS, GREEDY = "Tympan", "Tympan, greedy"

INTRO = (
    "Servers of others and Tympan answer the same requests over HTTP with the same model, in turns, on the same cores "
    "as their callers. [How](README.md#how) says how each is set up."
)
"""What the page says before its tables."""


def figures(result: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, float], bool]]:
    """Yield what is compared: its name, its unit, the value of every server, and whether more is better."""
    for row in result["load"]:
        crowd = f"{row['callers']} caller{'s' if row['callers'] > 1 else ''}"
        yield f"short clips, {crowd}: speed", "x real time", _values(row["sides"], "rate"), True
        yield f"short clips, {crowd}: p95", "s", _values(row["sides"], "p95_s"), False
    yield "short clips beside a long file: p95", "s", _values(result["beside"]["sides"], "p95_s"), False
    yield f"health, {result['load'][-1]['callers']} callers: p99", "ms", _values(result["health"], "p99_ms"), False
    yield "CPU after all callers hang up", "s", _values(result["vanish"], "burnt_cpu_s"), False
    yield "highest memory", "MiB", dict(result["memory"]), False
    yield "word errors", "%", _values(result["errors"], "rate_percent"), False


def checks(result: Mapping[str, Any]) -> list[Check]:
    """Hold Tympan against the best of the others in every figure; in word errors only what is beyond chance counts."""
    found = []
    for figure, unit, values, more in figures(result):
        best = (max if more else min)((name for name in values if name != OURS), key=lambda name: values[name])
        ours, theirs = values[OURS], values[best]
        met = ours >= theirs if more else ours <= theirs
        goal = f"{'>=' if more else '<='} {theirs:g} {unit} ({best})"
        if unit == "%":
            met = all(
                not row["difference"] or row["difference"]["low_points"] <= 0 for row in result["errors"].values()
            )
            goal = f"<= {theirs:g} % ({best}), or within chance"
        found.append(Check(figure, goal, f"{ours:g} {unit}", met))
    return found


def behind(result: Mapping[str, Any]) -> str:
    """Return in which figures another server is better than Tympan, by how much, in a sentence."""
    lost = []
    for figure, unit, values, more in figures(result):
        for name, theirs in values.items():
            if theirs > values[OURS] if more else theirs < values[OURS]:
                chance = ", within chance" if unit == "%" and _by_chance(result["errors"][name]) else ""
                lost.append(f"{figure} ({name} {theirs:g} {unit}, Tympan {values[OURS]:g}{chance})")
    return f"Tympan is behind in: {'; '.join(lost)}." if lost else "Tympan is behind in none of the figures below."


def body(result: Mapping[str, Any]) -> list[str]:
    """Return the parts of the page."""
    parts = [INTRO, behind(result), _servers(result)]
    return parts + [f"## {title}\n\n{text}{table(head, rows)}" for title, text, head, rows in _tables(result)]


def _by_chance(row: Mapping[str, Any]) -> bool:
    return bool(row["difference"]["low_points"] <= 0.0)


def _values(sides: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, float]:
    """Return one figure by server; Tympan's greedy search is a column, not a contender."""
    return {name: float(side[key]) for name, side in sides.items() if name != GREEDY}


def _servers(result: Mapping[str, Any]) -> str:
    rows = [[one["name"], one["versions"], one["settings"], _shapes(one["calibration"])] for one in result["servers"]]
    head = ["server", "versions", "settings beyond its defaults", "threads x calls at once"]
    return table(head, rows)


def _shapes(rates: Mapping[str, float]) -> str:
    if len(rates) == 1:
        return next(iter(rates))
    single = next(iter(rates))
    tried = ", ".join(f"{shape} {rate:.1f}x" for shape, rate in rates.items())
    return f"{single} for one caller, else {max(rates, key=lambda shape: rates[shape])} ({tried})"


Table = tuple[str, str, Sequence[str], list[list[Any]]]


def _tables(result: Mapping[str, Any]) -> Iterator[Table]:
    yield _speed(result)
    yield _waits(result)
    yield _beside(result)
    yield _health(result)
    yield _vanish(result)
    yield _errors(result)
    yield (
        "Memory",
        "The highest sum over a server's processes, shared pages counted once, in all of the above but hanging up.\n\n",
        ["server", "MiB"],
        [[name, f"{mib:.0f}"] for name, mib in result["memory"].items()],
    )


def _speed(result: Mapping[str, Any]) -> Table:
    rows = [
        [row["callers"], row["clips"], row["audio_s"], name, f"**{side['rate']:.1f}**",
         ", ".join(f"{rate:.1f}" for rate in side["rates"]), "" if name == OURS else f"{side['ratio']:.1f}x",
         f"{side['cpu_s']:.1f}"]
        for row in result["load"] for name, side in row["sides"].items()
    ]  # fmt: skip
    text = (
        f"Beam {result['beam']}, but for *{GREEDY}*. Audio-seconds a second, the median of the turns; a server that "
        f"took {result['enough_s']:g} s or more for its first turn has no second one. *Tympan's lead* is the median of "
        "the ratios of times in a turn.\n\n"
    )
    head = ["callers", "clips", "s", "server", "x real time", "each turn", "Tympan's lead", "CPU s"]
    return "Short clips", text, head, rows


def _waits(result: Mapping[str, Any]) -> Table:
    names = list(result["load"][0]["sides"])
    rows = [
        [row["callers"], *(f"{row['sides'][name]['p50_s']:.2f} / {row['sides'][name]['p95_s']:.2f}" for name in names)]
        for row in result["load"]
    ]
    return "How long a caller waits", "Seconds for a clip, p50 / p95.\n\n", ["callers", *names], rows


def _beside(result: Mapping[str, Any]) -> Table:
    beside = result["beside"]
    rows = [
        [name, f"{side['p50_s']:.2f}", f"{side['p95_s']:.2f}", side["files"],
         ", ".join(f"{each:.1f}" for each in side["took_s"])]
        for name, side in beside["sides"].items()
    ]  # fmt: skip
    text = (
        f"{beside['clips']} short clips, one every {result['every_s']:g} s, while another caller sends a file of "
        f"{result['long_s'] / 60:.3g} minutes, and sends it again if it is done before the last clip is sent.\n\n"
    )
    return "Short clips beside a long file", text, ["server", "p50 s", "p95 s", "files sent", "each clip, s"], rows


def _health(result: Mapping[str, Any]) -> Table:
    rows = [[name, *(row[key] for key in ("probes", "p50_ms", "p99_ms", "max_ms"))]
            for name, row in result["health"].items()]  # fmt: skip
    text = (
        f"`/livez` of Tympan, `/health` of the others, while {result['load'][-1]['callers']} callers send; asked again "
        "50 ms after each answer. Whoever would have asked while an answer was late counts too, at every 50 ms.\n\n"
    )
    return "Health under load", text, ["server", "answers", "p50 ms", "p99 ms", "max ms"], rows


def _vanish(result: Mapping[str, Any]) -> Table:
    whole = {name: side["cpu_s"] for name, side in result["load"][-1]["sides"].items()}
    rows = [
        [name, row["answered"], f"{'' if row['rests'] else 'more than '}{row['burnt_cpu_s']:.1f}",
         f"{whole[name]:.1f}", row["watched_s"]]
        for name, row in result["vanish"].items()
    ]  # fmt: skip
    callers = next(iter(result["vanish"].values()))["callers"]
    text = (
        f"{callers} callers send a clip each and hang up {result['hang_up_s']:g} s later. Processor time from then "
        f"until the server rests, {result['watch_s']:g} s at most.\n\n"
    )
    head = ["server", "answered by then", "CPU s after", "CPU s of a whole turn", "watched s"]
    return "All callers hang up", text, head, rows


def _errors(result: Mapping[str, Any]) -> Table:
    rows = [
        [name, row["units"], f"{row['rate_percent']:.2f} %",
         f"{row['substitutions']} / {row['deletions']} / {row['insertions']}", _interval(row["difference"])]
        for name, row in result["errors"].items()
    ]  # fmt: skip
    text = (
        "The same clips, first turn. *Tympan above it* is in points, with the 95 % interval of a paired bootstrap over "
        "clips: few clips, wide intervals. [Word errors](accuracy.md) has more of them.\n\n"
    )
    return "Word errors", text, ["server", "words", "wrong", "sub / del / ins", "Tympan above it"], rows


def _interval(values: Mapping[str, float] | None) -> str:
    if values is None:
        return "-"
    return f"{values['difference_points']:+.2f} [{values['low_points']:+.2f}, {values['high_points']:+.2f}]"
