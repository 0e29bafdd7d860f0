"""Whether one result is worse than another beyond noise: speed from paired runs, errors from paired recordings."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist, fmean
from typing import Any

from tympan.bench.engines import KIND as ENGINE
from tympan.bench.load_report import KIND as LOAD
from tympan.bench.pages import table
from tympan.bench.stats import Interval, ratio_interval
from tympan.errors import InvalidRequest
from tympan.quality.scoring import bootstrap_difference

KINDS = (ENGINE, LOAD)
MIN_PAIRS = 5
"""With fewer pairs no interval is worth its name, and no verdict is given."""

_BLOCKS = 20
_CELL = ("model", "threads", "replicas", "batch", "audio_file", "audio_duration_s")

Row = Mapping[str, Any]


class Verdict(StrEnum):
    """What can be said of the second result against the first."""

    WORSE = "worse"
    BETTER = "better"
    SAME = "no difference beyond noise"
    UNKNOWN = "too little to say"


@dataclass(frozen=True, slots=True)
class Strictness:
    """How sure to be. A loss of speed within ``tolerance`` (a share) is never called worse."""

    confidence: float = 0.99
    tolerance: float = 0.02


@dataclass(frozen=True, slots=True)
class Finding:
    """One comparison: what of, the figures with their interval in words, and the verdict."""

    about: str
    figures: str
    verdict: Verdict


def compare(first: Row, second: Row, strictness: Strictness = Strictness()) -> list[Finding]:
    """Return what can be said of ``second`` against ``first``, the findings that decide first.

    Raises ``InvalidRequest`` when the two are not results of the same measurement.
    """
    if first["kind"] != second["kind"]:
        raise InvalidRequest("One is an engine benchmark and the other a load benchmark.")
    return (_engines if first["kind"] == ENGINE else _loads)(first, second, strictness)


def page(findings: Iterable[Finding]) -> str:
    """Return the findings as a Markdown table."""
    return table(("", "second against first", "verdict"), [(f.about, f.figures, f.verdict) for f in findings])


def is_worse(findings: Iterable[Finding]) -> bool:
    """Return whether any finding is a loss."""
    return any(finding.verdict is Verdict.WORSE for finding in findings)


def speed_finding(about: str, groups: Sequence[Sequence[float]], strictness: Strictness) -> Finding:
    """Judge speed from logarithms of paired ratios: above 0 the second is the faster one.

    One group for each cell; see ``ratio_interval``. Worse is what lies wholly below 1 - ``tolerance``.
    """
    pairs = sum(len(group) for group in groups)
    if not groups or pairs < MIN_PAIRS or min(len(group) for group in groups) < 2:
        centre = math.exp(fmean([fmean(group) for group in groups])) if groups else math.nan
        return Finding(about, f"{centre:.3f}x as fast ({pairs} pairs)", Verdict.UNKNOWN)
    interval = ratio_interval(groups, confidence=strictness.confidence)
    return Finding(about, _ratio(interval, strictness), _speed_verdict(interval, strictness))


def _ratio(interval: Interval, strictness: Strictness) -> str:
    return (
        f"{interval.value:.3f}x as fast [{interval.low:.3f}, {interval.high:.3f}] "
        f"at {100 * strictness.confidence:g} %, {interval.pairs} pairs"
    )


def _speed_verdict(interval: Interval, strictness: Strictness) -> Verdict:
    if interval.high < 1.0 - strictness.tolerance:
        return Verdict.WORSE
    return Verdict.BETTER if interval.low > 1.0 else Verdict.SAME


def errors_finding(
    about: str, pairs: Sequence[tuple[tuple[int, int], tuple[int, int]]], strictness: Strictness
) -> Finding:
    """Judge word errors from recordings that both transcribed: (units, errors) of the first and of the second.

    Recordings are resampled in pairs; worse is a difference whose whole interval is above 0.
    """
    excess, units = [b[1] - a[1] for a, b in pairs], [a[0] for a, _ in pairs]
    if not sum(units):
        return Finding(about, "no reference", Verdict.UNKNOWN)
    points = 100.0 * sum(excess) / sum(units)
    if len(pairs) < MIN_PAIRS:
        return Finding(about, f"{points:+.2f} points ({len(pairs)} recordings)", Verdict.UNKNOWN)
    found = bootstrap_difference(excess, units, confidence=strictness.confidence)
    verdict = Verdict.WORSE if found.low_points > 0 else Verdict.BETTER if found.high_points < 0 else Verdict.SAME
    figures = (
        f"{points:+.2f} points [{found.low_points:+.2f}, {found.high_points:+.2f}] "
        f"at {100 * strictness.confidence:g} %, {len(pairs)} recordings"
    )
    return Finding(about, figures, verdict)


def _engines(first: Row, second: Row, strictness: Strictness) -> list[Finding]:
    asked = [{name: value for name, value in d["options"].items() if name not in {"rounds", "engine"}}
             for d in (first, second)]  # fmt: skip
    if asked[0] != asked[1]:
        raise InvalidRequest("The two were measured with other options.", remedy="Measure them the same way.")
    ours, theirs = ({_key(row): row for row in d["rows"] if "runs" in row} for d in (first, second))
    common = [key for key in ours if key in theirs]
    if not common:
        raise InvalidRequest("The two have no cell in common.", remedy="Measure the same models and recordings.")
    groups = {key: _log_ratios(ours[key], theirs[key]) for key in common}
    alone = len({*ours, *theirs}) - len(common)
    about = f"speed, {len(common)} cells" + (f" ({alone} in one of them only)" if alone else "")
    whole = [
        speed_finding(about, list(groups.values()), strictness),
        errors_finding("word errors", _paired_errors(ours, theirs, common), strictness),
    ]
    return [*whole, *(speed_finding(_words(key), [groups[key]], strictness) for key in common if len(common) > 1)]


def _key(row: Row) -> tuple[Any, ...]:
    return (row["asked"]["engine"], row["asked"]["compute_type"], *(row[name] for name in _CELL))


def _words(key: tuple[Any, ...]) -> str:
    engine, compute_type, model, threads, replicas, batch, audio, _ = key
    return f"{model} {compute_type} ({engine}), {threads} threads x {replicas}, batch {batch}, {audio}"


def _log_ratios(ours: Row, theirs: Row) -> list[float]:
    """Return one value for each round that both have; rounds pair in their order."""
    return [
        math.log((b["processed_s"] / b["total_ms"]) / (a["processed_s"] / a["total_ms"]))
        for a, b in zip(ours["runs"], theirs["runs"], strict=False)
    ]


def _paired_errors(
    ours: Mapping[tuple[Any, ...], Row], theirs: Mapping[tuple[Any, ...], Row], common: Iterable[tuple[Any, ...]]
) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return each recording once for a model and format, however many cells it was transcribed in."""
    found: dict[tuple[Any, ...], tuple[tuple[int, int], tuple[int, int]]] = {}
    for key in common:
        a, b = ours[key]["errors_by_recording"], theirs[key]["errors_by_recording"]
        if a is None or b is None or len(a) != len(b):
            continue
        engine, compute_type, model, *_, audio, _ = key
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            found.setdefault((engine, compute_type, model, audio, number), (tuple(one), tuple(other)))
    return list(found.values())


def _loads(first: Row, second: Row, strictness: Strictness) -> list[Finding]:
    same = ("loop", "rate_per_s", "users", "seed", "max_in_flight")
    lengths = [[item["duration_s"] for item in d["items"]] for d in (first, second)]
    if lengths[0] != lengths[1] or any(first["asked"][name] != second["asked"][name] for name in same):
        raise InvalidRequest(
            "The two are not the same load.",
            remedy="Repeat one with the rate, users, seed and recordings of the other.",
        )
    ours, theirs = ({row["number"]: row for row in d["requests"]} for d in (first, second))
    both = [(ours[n], theirs[n]) for n in sorted(ours.keys() & theirs.keys())]
    ratios = [
        math.log(a["latency_s"] / b["latency_s"])
        for a, b in both
        if a["error"] is None is b["error"] and a["latency_s"] and b["latency_s"]
    ]
    return [
        speed_finding("latency of requests answered by both", [_blocks(ratios)] if ratios else [], strictness),
        _failures(first["figures"], second["figures"], strictness),
        _throughput(first["figures"], second["figures"]),
    ]


def _blocks(ratios: Sequence[float]) -> list[float]:
    """Return the means of neighbours: requests that were under way together wait for one another."""
    size = max(1, len(ratios) // _BLOCKS)
    return [fmean(ratios[at : at + size]) for at in range(0, len(ratios) - size + 1, size)]


def _failures(first: Row, second: Row, strictness: Strictness) -> Finding:
    """Judge the shares of errors with the pooled test of two proportions."""
    n, m = first["requests"], second["requests"]
    x, y = n - first["answered"], m - second["answered"]
    words = f"{x} of {n}, then {y} of {m}"
    if not n or not m:
        return Finding("errors", words, Verdict.UNKNOWN)
    pooled = (x + y) / (n + m)
    scale = math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    if not scale:
        return Finding("errors", words, Verdict.SAME)
    z, limit = (y / m - x / n) / scale, NormalDist().inv_cdf(0.5 + strictness.confidence / 2)
    return Finding("errors", words, Verdict.WORSE if z > limit else Verdict.BETTER if z < -limit else Verdict.SAME)


def _throughput(first: Row, second: Row) -> Finding:
    """Return the two throughputs; one value each, so nothing is judged."""
    a, b = first["throughput_audio_s_per_s"], second["throughput_audio_s_per_s"]
    return Finding("audio-seconds a second", f"{a:.2f}, then {b:.2f}", Verdict.UNKNOWN)
