"""The figures as Markdown tables, and the page that holds them between its marks."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

JsonObject = Mapping[str, Any]

_MARK = re.compile(r"(<!-- figures: (\w+) -->\n)(?:.+\n)*")
_CLIENTS_SHOWN = (1, 4, 16)


def fill(page: str, document: JsonObject) -> str:
    """Return the page with what follows every ``<!-- figures: NAME -->``, up to an empty line, written anew.

    Raises ``KeyError`` for a name that is no table.
    """
    return _MARK.sub(lambda found: f"{found[1]}{TABLES[found[2]](document)}\n", page)


def parts_table(document: JsonObject) -> str:
    """Return what each part of the cluster is asked for and can do, the fullest first."""
    head = ["part", "load", "capacity", "used", "full at, million h/day", "load / capacity is"]
    rows = [
        [
            part["name"],
            f"{_short(part['load'])} {part['unit']}",
            _short(part["capacity"]),
            f"{part['utilisation']:.0%}",
            f"{part['saturates_at_hours'] / 1e6:.2g}",
            part["basis"],
        ]
        for part in sorted(document["computed"]["mixed"]["parts"], key=lambda part: -part["utilisation"])
    ]
    return table(head, rows)


def mixes_table(document: JsonObject) -> str:
    """Return what each mix of files asks for in a day of a million hours."""
    mixes = document["computed"]
    rows = [[name, *(_short(mix["rates"][name]) for mix in mixes.values())] for name in mixes["mixed"]["rates"]]
    rows.append(["full first, once settings and relay are mended", *(mix["first_full"] for mix in mixes.values())])
    return table(["per second, unless said", *mixes], rows)


def stored_line(document: JsonObject) -> str:
    """Return in one line what a day leaves behind, whatever the mix."""
    stored = document["computed"]["mixed"]["stored"].items()
    return f"Whatever the mix: {', '.join(f'{name} {_short(value)}' for name, value in stored)}."


def stands_table(document: JsonObject) -> str:
    """Return how busy each station was as the design stands, by scale."""
    return _simulation(document["simulated"]["as_it_stands"]["runs"], (0.1, 0.5, 1.0, 10.0))


def mended_table(document: JsonObject) -> str:
    """Return how busy each station was with the relay mended and workers to match, by scale."""
    return _simulation(document["simulated"]["relay_mended"]["runs"], (1.0, 2.0, 3.0, 10.0))


def _simulation(runs: Sequence[JsonObject], shown: Sequence[float]) -> str:
    stations = [seen["station"] for seen in runs[0]["stations"]]
    rows = [[f"{run['scale']:g}", *(_busy(seen) for seen in run["stations"])] for run in runs if run["scale"] in shown]
    return table(["million hours", *stations], rows)


def _busy(seen: JsonObject) -> str:
    share = f"{seen['utilisation']:.0%}"
    return f"**{share}**" if seen["utilisation"] >= 0.99 else share


def costs_table(document: JsonObject) -> str:
    """Return the measured cost of each kind of call, how often the planned day makes it, and the cores that takes."""
    calls = document["computed"]["mixed"]["calls"]
    rows = [
        [
            name,
            cost["cpu_ms"],
            _short(cost["log_bytes"]),
            cost["median_ms"],
            _short(calls[name]) if name in calls else "",
            f"{calls[name] * cost['cpu_ms'] / 1000:.2f}" if name in calls else "",
        ]
        for name, cost in document["measured"]["transactions"].items()
    ]
    return table(["call", "server CPU, ms", "log, bytes", "median, ms", "calls a second", "cores"], rows)


def claims_table(document: JsonObject) -> str:
    """Return claims by depth of the queue and number of clients."""
    runs = [run for run in document["measured"]["claims"] if run["clients"] in _CLIENTS_SHOWN]
    head = [f"{_short(run['ready'])} ready, c = {run['clients']}" for run in runs]
    lines = {"claims a second": "per_s", "p99, ms": "claim_p99_ms"}
    return table(["", *head], [[name, *(run[key] for run in runs)] for name, key in lines.items()])


def snapshot_table(document: JsonObject) -> str:
    """Return what a claim costs while an old snapshot keeps claimed steps from vacuum."""
    seen = document["measured"]["old_snapshot"]
    head = [_short(run["claims"]) for run in seen["held"]]
    costs = [run["cpu_ms"] for run in seen["held"]]
    return table(
        ["steps claimed since the snapshot", *head, "after it, vacuumed"],
        [["CPU of a claim, ms", *costs, seen["vacuumed"]["cpu_ms"]]],
    )


def assumptions_table(document: JsonObject) -> str:
    """Return every assumption, by part of the cluster, and how to replace it."""
    parts: dict[str, tuple[list[str], list[str]]] = {}
    for a in document["assumed"].values():
        said, how = parts.setdefault(a["part"], ([], []))
        said.append(" ".join(word for word in (_short(a["value"]), a["unit"], a["what"]) if word))
        how += [a["how"]] if a["how"] not in how else []
    rows = [[part, "; ".join(said), ", ".join(how)] for part, (said, how) in parts.items()]
    return table(["of", "assumed", "how to measure it"], rows)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _short(value: float) -> str:
    """Return three significant digits with a suffix for thousands."""
    for limit, suffix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {suffix}"
    return f"{value:.3g}"


TABLES: dict[str, Callable[[JsonObject], str]] = {
    "parts": parts_table,
    "mixes": mixes_table,
    "stored": stored_line,
    "stands": stands_table,
    "mended": mended_table,
    "costs": costs_table,
    "claims": claims_table,
    "snapshot": snapshot_table,
    "assumptions": assumptions_table,
}
