"""An engine benchmark as a page: Markdown tables, and charts of speed by threads, by batch and against errors."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tympan.bench.chart import Axis, Chart, Point, Series, svg
from tympan.bench.pages import provenance_line, table

Row = Mapping[str, Any]

_HEAD = (
    "model", "engine", "format", "threads", "replicas", "batch", "audio", "s", "load ms", "inference ms", "total ms",
    "least to greatest", "x real time", "RTF", "peak MB", "WER %",
)  # fmt: skip
_CONFIGURATION = ("model", "engine", "quantization", "threads", "replicas", "batch")
_LINE = ("model", "engine", "quantization", "audio_file")


def page(document: Row, charts: Iterable[str]) -> str:
    """Return the Markdown page; ``charts`` are the names of the SVG files beside it."""
    rows = document["rows"]
    pictures = [f"![{name.rsplit('.', 1)[0]}]({name})" for name in charts]
    body = [table(_HEAD, [_cells(row) for row in rows if "runs" in row])]
    failed = [row for row in rows if row["error"]]
    if failed:
        body.append(
            "## Failed\n\n" + table(("cell", "error"), [(_name(row), row["error"]["message"]) for row in failed])
        )
    notes = (
        "Times are medians of the rounds, in milliseconds. `load` is from the start of the engine's process until it "
        "is ready, `total` from handing the recordings over until the last transcript (decoding, speech detection and "
        "waiting included), `inference` the part that the engine computed. x real time is seconds of audio per second; "
        "RTF is its inverse. `peak` is the highest resident memory of the engine's process, in MB of 1,000,000 bytes."
    )
    return "\n\n".join(["# Engine benchmark", provenance_line(document), *pictures, notes, *body]) + "\n"


def charts(document: Row) -> dict[str, str]:
    """Return the charts that the figures are enough for, as SVG by name."""
    rows = [row for row in document["rows"] if "runs" in row]
    if not rows:
        return {}
    found = {
        "rtf-by-threads": _by_threads(rows),
        "throughput-by-batch": _by_batch(rows),
        "speed-and-errors": _against_errors(rows),
    }
    return {name: svg(chart) for name, chart in found.items() if chart is not None}


def _cells(row: Row) -> list[object]:
    total = row["spread"]["total_time_ms"]
    return [
        row["model"], row["engine"], row["quantization"], row["threads"], row["replicas"], row["batch"],
        row["audio_file"], f"{row['audio_duration_s']:g}", f"{row['load_time_ms']:.0f}",
        f"{row['inference_time_ms']:.0f}", f"{row['total_time_ms']:.0f}", f"{total['min']:.0f} to {total['max']:.0f}",
        f"{row['realtime_factor']:.1f}", f"{row['rtf']:.4f}", f"{row['memory_peak_mb']:.0f}",
        "-" if row["wer"] is None else f"{row['wer']:.2f}",
    ]  # fmt: skip


def _name(row: Row) -> str:
    return ", ".join(f"{name} {row[name]}" for name in (*_CONFIGURATION, "audio_file"))


def _by_threads(rows: Sequence[Row]) -> Chart | None:
    """Return a line for each model, format and recording: the largest batch, the fewest replicas."""
    batch, replicas = max(row["batch"] for row in rows), min(row["replicas"] for row in rows)
    shown = [row for row in rows if (row["batch"], row["replicas"]) == (batch, replicas)]
    threads = sorted({row["threads"] for row in shown})
    if len(threads) < 2:
        return None
    axis = Axis("threads of one engine", log=True, ticks=tuple(float(value) for value in threads))
    y = Axis("seconds per second of audio (less is faster)", log=True)
    about = f"batches of up to {batch} windows" + (f", {replicas} engines" if replicas > 1 else "")
    return Chart("Real-time factor by threads", axis, y, _series(shown, "threads", _rtf), about)


def _by_batch(rows: Sequence[Row]) -> Chart | None:
    """Return a line for each model, format and recording, at the number of threads that suits it best."""
    batches = sorted({row["batch"] for row in rows})
    if len(batches) < 2:
        return None
    best: dict[tuple[Any, ...], Row] = {}
    for row in sorted(rows, key=lambda row: float(row["realtime_factor"])):
        best[*_line_of(row), row["batch"]] = row
    axis = Axis("windows in a batch, at most", log=True, ticks=tuple(float(value) for value in batches))
    lines = list(dict.fromkeys(_line_of(row) for row in rows))  # The colours of the other chart.
    series = _series(sorted(best.values(), key=lambda row: lines.index(_line_of(row))), "batch", _speed)
    about = "with the threads and replicas that are fastest for each"
    return Chart("Throughput by batch", axis, Axis("seconds of audio per second"), series, about)


def _against_errors(rows: Sequence[Row]) -> Chart | None:
    """Return a dot for each configuration, all recordings that have a reference pooled."""
    pooled: dict[tuple[Any, ...], list[Row]] = {}
    for row in (row for row in rows if row["wer"] is not None):
        pooled.setdefault(tuple(row[name] for name in _CONFIGURATION), []).append(row)
    names = dict.fromkeys(key[:3] for key in pooled)
    if len(names) < 2:
        return None
    lines = {name: sorted(_pooled(members) for key, members in pooled.items() if key[:3] == name) for name in names}
    series = tuple(
        Series(
            " ".join(name),
            tuple(Point(x, y, label=" ".join(name) if (x, y) == dots[-1] else "") for x, y in dots),
            joined=False,
        )
        for name, dots in lines.items()
    )
    return Chart(
        "Speed against word errors",
        Axis("seconds of audio per second"),
        Axis("word errors, %"),
        series,
        "right and below is better; one dot for each number of threads, replicas and batch",
    )


def _pooled(rows: Sequence[Row]) -> tuple[float, float]:
    """Return speed and word errors of some rows taken together."""
    counts = [pair for row in rows for pair in row["errors_by_recording"]]
    speed = 1e3 * sum(row["processed_s"] for row in rows) / sum(row["total_time_ms"] for row in rows)
    return speed, 100.0 * sum(wrong for _, wrong in counts) / max(1, sum(units for units, _ in counts))


def _line_of(row: Row) -> tuple[Any, ...]:
    return tuple(row[name] for name in _LINE)


def _series(rows: Sequence[Row], along: str, point: Callable[[Row, float], Point]) -> tuple[Series, ...]:
    """Return a line for each model, format and recording, named by what differs."""
    differs = [name for name in _LINE if len({row[name] for row in rows}) > 1]
    if "quantization" in differs and len({(row["engine"], row["quantization"]) for row in rows}) == len(
        {row["quantization"] for row in rows}
    ):
        differs = [name for name in differs if name != "engine"]  # The format says which.
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_line_of(row), []).append(row)
    return tuple(
        Series(
            " ".join(str(members[0][name]) for name in differs) or members[0]["audio_file"],
            tuple(point(row, float(row[along])) for row in sorted(members, key=lambda row: int(row[along]))),
        )
        for members in groups.values()
    )


def _rtf(row: Row, x: float) -> Point:
    total, processed_ms = row["spread"]["total_time_ms"], 1e3 * row["processed_s"]
    return Point(x, row["rtf"], total["min"] / processed_ms, total["max"] / processed_ms)


def _speed(row: Row, x: float) -> Point:
    total, processed_ms = row["spread"]["total_time_ms"], 1e3 * row["processed_s"]
    return Point(x, row["realtime_factor"], processed_ms / total["max"], processed_ms / total["min"])
