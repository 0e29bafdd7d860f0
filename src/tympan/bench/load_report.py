"""A load benchmark as figures, a page and charts."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tympan.bench.chart import Axis, Chart, Point, Series, steps_of, svg
from tympan.bench.client import Target
from tympan.bench.load import NOT_SENT, Load, Outcome, Sample, Weighted, facts
from tympan.bench.pages import provenance_line, table
from tympan.bench.stats import quantile
from tympan.quality import scoring

KIND = "tympan.bench.load"
VERSION = 1
SHARES = (0.5, 0.9, 0.95, 0.99)
MAX_DOTS = 2_000
"""More dots than these are thinned out in a chart; the figures rest on all."""

_LATE_S = 0.05
_LENGTHS_S = (10.0, 30.0, 60.0, 300.0, math.inf)
_CURVE_POINTS = 200

Row = Mapping[str, Any]


def document(target: Target, load: Load, sent: Weighted, outcome: Outcome, origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return the result as a JSON object, every request included; ``origin`` says on what and by which command."""
    return {
        "kind": KIND,
        "version": VERSION,
        **origin,
        "asked": facts(target, load),
        "cut_short": outcome.cut_short,
        "items": [
            {"name": item.name, "duration_s": round(item.duration_s, 3), "weight": weight}
            for item, weight in zip(sent.items, sent.weights, strict=True)
        ],
        "figures": figures(sent, outcome),
        "requests": [_request(sample) for sample in outcome.samples],
    }


def figures(sent: Weighted, outcome: Outcome) -> dict[str, Any]:
    """Return throughput, percentiles, errors by kind, and how punctual the client was."""
    samples = outcome.samples
    good = [sample for sample in samples if sample.answer.error is None]
    audio_s = sum(sent.items[sample.item].duration_s for sample in good)
    asked_s = sum(sent.items[sample.item].duration_s for sample in samples)
    span_s = max((sample.due_s for sample in samples), default=0.0)
    late = [sample.start_s - sample.due_s for sample in samples if sample.start_s is not None]
    kinds = Counter(sample.answer.error for sample in samples if sample.answer.error is not None)
    return {
        "requests": len(samples),
        "answered": len(good),
        "errors": dict(sorted(kinds.items())),
        "error_examples": {kind: _example(samples, kind) for kind in sorted(kinds)},
        "error_percent": round(100.0 * (1 - len(good) / len(samples)), 3) if samples else None,
        "wall_s": round(outcome.wall_s, 3),
        "throughput_audio_s_per_s": round(audio_s / outcome.wall_s, 3),
        "throughput_requests_per_s": round(len(good) / outcome.wall_s, 4),
        "offered_audio_s_per_s": round(asked_s / span_s, 3) if span_s else None,
        "latency_ms": _percentiles([sample.latency_s for sample in good if sample.latency_s is not None]),
        "latency_of_all_ms": _percentiles([_or_never(sample) for sample in samples]),
        "by_length": _by_length(sent, samples),
        "client_late_ms": _percentiles(late),
        "wer": _wer(sent, good),
    }


def _or_never(sample: Sample) -> float:
    return math.inf if sample.answer.error is not None or sample.latency_s is None else sample.latency_s


def _percentiles(values_s: Sequence[float]) -> dict[str, float | None] | None:
    """Return percentiles and the greatest value in milliseconds; ``None`` in place of one that never came."""
    if not values_s:
        return None
    found = {f"p{100 * share:g}": quantile(values_s, share) for share in SHARES} | {"max": max(values_s)}
    return {name: None if math.isinf(value) else round(1e3 * value, 2) for name, value in found.items()}


def _by_length(sent: Weighted, samples: Sequence[Sample]) -> list[dict[str, Any]]:
    rows, above_s = [], 0.0
    for limit_s in _LENGTHS_S:
        mine = [sample for sample in samples if above_s < sent.items[sample.item].duration_s <= limit_s]
        if mine:
            good = [s.latency_s for s in mine if s.answer.error is None and s.latency_s is not None]
            upper = None if math.isinf(limit_s) else limit_s
            rows.append({"above_s": above_s, "up_to_s": upper, "requests": len(mine), "answered": len(good),
                         "latency_ms": _percentiles(good)})  # fmt: skip
        above_s = limit_s
    return rows


def _example(samples: Sequence[Sample], kind: str) -> str:
    return next(sample.answer.detail for sample in samples if sample.answer.error == kind)


def _wer(sent: Weighted, good: Sequence[Sample]) -> float | None:
    """Return the pooled word errors in percent, each text of an item counted once; ``None`` without references."""
    texts = {(s.item, s.answer.text) for s in good if sent.items[s.item].reference is not None}
    if not texts:
        return None
    times = Counter((s.item, s.answer.text) for s in good)
    total = scoring.Counts()
    for index, text in texts:
        item = sent.items[index]
        one = scoring.count(scoring.Pair(item.reference or "", text or "", item.language or "en"))
        n = times[index, text]
        total += scoring.Counts(n * one.units, n * one.substitutions, n * one.deletions, n * one.insertions, n)
    return round(total.rate, 3)


def _request(sample: Sample) -> dict[str, Any]:
    return {
        "number": sample.number,
        "item": sample.item,
        "due_s": round(sample.due_s, 4),
        "start_s": None if sample.start_s is None else round(sample.start_s, 4),
        "latency_s": None if sample.latency_s is None else round(sample.latency_s, 4),
        "error": sample.answer.error,
    }


def page(result: Row, charts: Iterable[str]) -> str:
    """Return the Markdown page; ``charts`` are the names of the SVG files beside it."""
    pictures = [f"![{name.rsplit('.', 1)[0]}]({name})" for name in charts]
    parts = ["# Load benchmark", provenance_line(result), _asked(result), *_warnings(result), *pictures]
    return "\n\n".join([*parts, *_tables(result)]) + "\n"


def _asked(result: Row) -> str:
    asked = result["asked"]
    how = (
        f"Poisson arrivals, {asked['rate_per_s']:g} a second, at most {asked['max_in_flight']} under way"
        if asked["loop"] == "open"
        else f"{asked['users']} users, each of whom asks again as soon as answered"
    )
    lengths = sorted({item["duration_s"] for item in result["items"]})
    span = f"{lengths[0]:g} s" if len(lengths) == 1 else f"{lengths[0]:g} to {lengths[-1]:g} s"
    return (
        f"{asked['api']} interface at {asked['url']}: {how}; recordings of {span}, seed {asked['seed']}, "
        f"{asked['warm_up']} requests to warm up that do not count, {asked['timeout_s']:g} s for each request. Latency "
        "counts from the moment at which a request should have started."
    )


def _warnings(result: Row) -> list[str]:
    found, numbers = [], result["figures"]
    if result["cut_short"]:
        found.append("**The run was cut short.**")
    if NOT_SENT in numbers["errors"]:
        found.append(
            f"**{numbers['errors'][NOT_SENT]} requests were not sent**: the client's own bound on requests under way "
            "was reached. They count as errors."
        )
    late = numbers["client_late_ms"]
    if late and late["p99"] > 1e3 * _LATE_S:
        found.append(
            f"**The client was late**: one request in a hundred started over {late['p99']:.0f} ms after its time, and "
            "that counts in its latency. Run it on another machine than the server."
        )
    return found


def _tables(result: Row) -> list[str]:
    numbers = result["figures"]
    wer = "-" if numbers["wer"] is None else f"{numbers['wer']:.2f} %"
    offered = numbers["offered_audio_s_per_s"]
    summary = [
        ("requests", numbers["requests"]),
        ("answered", numbers["answered"]),
        ("errors", f"{numbers['requests'] - numbers['answered']} ({numbers['error_percent'] or 0:.2f} %)"),
        ("audio-seconds done a second", f"{numbers['throughput_audio_s_per_s']:.2f}"),
        ("audio-seconds asked for a second", "-" if offered is None else f"{offered:.2f}"),
        ("requests answered a second", f"{numbers['throughput_requests_per_s']:.3f}"),
        ("word errors", wer),
        ("from the first request to the last answer", f"{numbers['wall_s']:.1f} s"),
    ]
    head = ["", *(f"p{100 * share:g}" for share in SHARES), "greatest"]
    rows = [
        ["answered", *_shown(numbers["latency_ms"])],
        ["all (an error is an answer that never came)", *_shown(numbers["latency_of_all_ms"])],
        *([_range(row), *_shown(row["latency_ms"])] for row in numbers["by_length"] if len(numbers["by_length"]) > 1),
    ]
    parts = [table(("", "figure"), summary), "## Latency, ms\n\n" + table(head, rows)]
    if numbers["errors"]:
        errors = [(kind, n, numbers["error_examples"][kind]) for kind, n in numbers["errors"].items()]
        parts.append("## Errors\n\n" + table(("kind", "number", "for example"), errors))
    return parts


def _range(row: Row) -> str:
    if row["up_to_s"] is None:
        return f"recordings over {row['above_s']:g} s"
    return f"recordings of {row['above_s']:g} to {row['up_to_s']:g} s ({row['requests']})"


def _shown(values: Mapping[str, float | None] | None) -> list[str]:
    if values is None:
        return ["-"] * (len(SHARES) + 1)
    return ["never" if value is None else f"{value:,.0f}" for value in values.values()]


def charts(result: Row) -> dict[str, str]:
    """Return the charts that the figures are enough for, as SVG by name."""
    good = [row for row in result["requests"] if row["error"] is None and row["latency_s"] is not None]
    if not good:
        return {}
    return {"latency": svg(_distribution(result, good)), "over-time": svg(_over_time(result, good))}


def _distribution(result: Row, good: Sequence[Row]) -> Chart:
    """Return the share of requests answered within a time; errors keep the curve below 100 %."""
    total = len(result["requests"])
    values = [float(row["latency_s"]) for row in good]
    curve = steps_of(values)
    kept = curve[:: max(1, len(curve) // _CURVE_POINTS)]
    if kept[-1] != curve[-1]:
        kept = (*kept, curve[-1])
    points = tuple(Point(value, 100.0 * share * len(good) / total) for value, share in kept)
    marks = tuple(
        Point(quantile(values, share), 100.0 * share * len(good) / total, label=f"p{100 * share:g}") for share in SHARES
    )
    series = (Series("answered", points, marked=False), Series("percentiles", marks, joined=False))
    log = max(values) > 20 * min(values)
    return Chart("Requests answered within a time", Axis("seconds from when the request should have started", log=log),
                 Axis("share of all requests, %", ticks=(0, 25, 50, 75, 90, 100)), series)  # fmt: skip


def _over_time(result: Row, good: Sequence[Row]) -> Chart:
    lengths = [item["duration_s"] for item in result["items"]]
    groups: dict[float, list[Point]] = {}
    step = max(1, len(good) // MAX_DOTS)
    for row in good[::step]:
        limit = next(limit for limit in _LENGTHS_S if lengths[row["item"]] <= limit)
        groups.setdefault(limit, []).append(Point(row["due_s"], row["latency_s"]))
    series = tuple(
        Series("longer" if math.isinf(limit) else f"up to {limit:g} s of audio", tuple(points), joined=False)
        for limit, points in sorted(groups.items())
    )
    failed = tuple(Point(row["due_s"], 0.0) for row in result["requests"] if row["error"] is not None)[:MAX_DOTS]
    if failed:
        series = (*series, Series("errors", failed, joined=False))
    return Chart("Latency over the run", Axis("seconds after the beginning"), Axis("latency, s"), series)
