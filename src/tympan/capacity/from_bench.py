"""A profile from the result of ``tympan bench engine``: coarser than a measured one, but of any machine. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from tympan.capacity.fitting import Timed, fitted, line, ratios
from tympan.capacity.profile import Door, Profile, checked
from tympan.errors import InvalidRequest

BENCH_KIND = "tympan.bench.engine"
_SAME = ("model", "engine", "quantization", "threads", "replicas")


def profile_from_bench(document: Mapping[str, Any], name: str) -> Profile:
    """Return the profile of the fastest configuration in a benchmark of engines.

    A row says how long the engine took for all recordings in batches of up to so many windows: from several lengths and
    batch sizes the cost of a batch follows. Raises ``InvalidRequest`` when too little was measured.
    """
    rows = [row for row in document.get("rows", []) if row.get("runs") and row.get("replicas") == 1]
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row[key] for key in _SAME), []).append(row)
    if not groups:
        raise InvalidRequest(
            f"{name} has no row that was measured with one engine.", remedy="Measure with --replicas 1."
        )
    chosen = max(groups.values(), key=lambda members: max(float(row["realtime_factor"]) for row in members))
    try:
        return _profile(chosen, document, name)
    except ValueError as error:
        raise InvalidRequest(f"{name} does not tell what a batch costs: {error}.") from error


def _profile(rows: Sequence[Mapping[str, Any]], document: Mapping[str, Any], name: str) -> Profile:
    plain = Profile(name, fitted([Timed((1.0,), 1.0)]))
    batches = [_batch(row, plain) for row in rows if row["inference_time_ms"] > 0]
    if len({batch.lengths_s for batch in batches}) < 2:
        raise InvalidRequest(
            f"{name} has one length and one batch size: that does not tell what a batch costs.",
            remedy="Measure several: tympan bench engine --length 5,30 --batch 1,8.",
        )
    cost = fitted(batches)
    beside = [
        (row["audio_duration_s"] / row["recordings"], _beside_ms(row)) for row in rows if row["total_time_ms"] > 0
    ]
    request_ms, audio_ms = line(beside)
    first = rows[0]
    machine = document.get("machine", {})
    found = Profile(
        name=name,
        cost=cost,
        door=Door(round(request_ms, 3), round(audio_ms, 4), max(1, int(machine.get("cores", 1)))),
        ratios=ratios(cost, batches),
        model=first["model"],
        engine=first["engine"],
        device="cuda" if first.get("gpu") else "cpu",
        compute_type=first["quantization"],
        threads=first["threads"],
        source="bench",
        measured=tuple(
            {"concurrency": row["requests"], "length_s": row["audio_duration_s"], "batch": row["batch"],
             "audio_s_per_s": row["realtime_factor"]} for row in rows
        ),
        origin={key: document[key] for key in ("machine", "versions", "date", "git_commit") if key in document},
    )  # fmt: skip
    checked(found)
    return found


def _batch(row: Mapping[str, Any], plain: Profile) -> Timed:
    """Return the mean batch of a row: all its windows, in as few batches as its size allows."""
    windows = plain.windows_of(row["audio_duration_s"] / row["recordings"])
    total = len(windows) * row["requests"]
    size = min(int(row["batch"]), total)
    mean_s = row["processed_s"] / total
    return Timed((mean_s,) * size, row["inference_time_ms"] / (total / size))


def _beside_ms(row: Mapping[str, Any]) -> float:
    """Return what a request took beside the engine: what was left of the time, shared out."""
    return max(0.0, float(row["total_time_ms"] - row["inference_time_ms"])) / max(1, int(row["requests"]))
