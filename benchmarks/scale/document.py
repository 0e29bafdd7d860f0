"""The published figures: what is measured is kept, what follows from it is computed and simulated anew."""

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.contenders import REPOSITORY
from benchmarks.scale import model
from benchmarks.scale.model import ASSUMPTIONS, HOURS_A_DAY, MIXES, Costs, Mix, Plant
from benchmarks.scale.simulate import simulate

JsonObject = dict[str, Any]

RESULTS = REPOSITORY / "docs" / "benchmarks" / "results"
FIGURES = RESULTS / "scale.json"
PAGE = REPOSITORY / "docs" / "scale.md"
SCALES = (0.1, 0.2, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
_PIPELINED_S = 0.0001  # One of a hundred messages whose confirmations are awaited together, ten milliseconds in all.

_MENDED = (model.GOSSIP, model.CONNECTIONS, model.RELAY)


def engine_rates(results: Path) -> dict[str, float]:
    """Return published audio-seconds a second at beam 5, all the way, and up to the engine, from the other figures."""
    long = next(row for row in _read(results / "longform.json")["result"]["rows"] if row["beam"] == 5)
    fake = next(row for row in _read(results / "memory.json")["result"]["rows"] if row["engine"] == "fake")
    return {"worker_rate": long["rate"]["http"], "prepare_rate": fake["hours"] * 3600 / fake["wall_s"]}


def costs_from(measured: Mapping[str, Any]) -> Costs:
    """Return the measured constants as the model takes them."""
    kinds = measured["transactions"]
    return Costs(
        cpu_ms={name: cost["cpu_ms"] for name, cost in kinds.items()},
        log_bytes={name: cost["log_bytes"] for name, cost in kinds.items()},
        worker_rate=measured["worker_rate"],
        prepare_rate=measured["prepare_rate"],
    )


def build(measured: Mapping[str, Any], scales: tuple[float, ...] = SCALES) -> JsonObject:
    """Return the whole document; the same constants give the same document."""
    costs = costs_from(measured)
    return {
        "name": "scale",
        "measured": dict(measured),
        "assumed": {name: asdict(assumption) for name, assumption in ASSUMPTIONS.items()},
        "computed": {name: _computed(mix, costs, measured) for name, mix in MIXES.items()},
        "simulated": _simulated(costs, scales),
    }


def load(path: Path = FIGURES) -> JsonObject:
    """Return the published document. Raises ``FileNotFoundError`` before the first measurement."""
    return _read(path)


def save(document: Mapping[str, Any], path: Path = FIGURES) -> None:
    """Write the document."""
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> JsonObject:
    found: JsonObject = json.loads(path.read_text(encoding="utf-8"))
    return found


def _computed(mix: Mix, costs: Costs, measured: Mapping[str, Any]) -> JsonObject:
    plant = Plant(mix, costs)
    held = measured["old_snapshot"]["held"]
    dead_entry_s = (held[-1]["cpu_ms"] - held[0]["cpu_ms"]) / (held[-1]["claims"] - held[0]["claims"]) / 1000
    rates = {
        "files": model.jobs_per_s(plant),
        "sections": model.sections_per_s(plant),
        "steps, and doorbells": model.steps_per_s(plant),
        "calls of the store": sum(model.transactions_per_s(plant).values()),
        "database cores busy": model.database_cores(plant),
        "write-ahead log, bytes": model.log_bytes_per_s(plant),
        "dead rows": model.dead_rows_per_s(plant),
        "seconds a snapshot may stay open": model.snapshot_limit_s(plant, dead_entry_s),
    }
    text_bytes = model.text_bytes_per_day(plant)
    stored = {
        "bytes of transcripts a day:": text_bytes,
        "days until they fill the database's disk:": ASSUMPTIONS["database_disk_bytes"].value / text_bytes,
        "bytes of recordings a day in object storage:": model.source_bytes_per_day(plant),
    }
    found = [
        {**asdict(p), "utilisation": p.utilisation, "saturates_at_hours": p.saturates_at_hours}
        for p in model.parts(plant)
    ]
    calls = _rounded(model.transactions_per_s(plant))
    return {
        "rates": _rounded(rates),
        "calls": calls,
        "stored": _rounded(stored),
        "parts": [_rounded(part) for part in found],
        "first_full": _first_full(plant),
    }


def _first_full(plant: Plant) -> str:
    """Return the part that is full first when everything cheap to mend is mended, and where."""
    first = min((p for p in model.parts(plant) if p.name not in _MENDED), key=lambda p: p.saturates_at_hours)
    return f"{first.name}, {first.saturates_at_hours / 1e6:.2g} million h"


def _simulated(costs: Costs, scales: tuple[float, ...]) -> JsonObject:
    plant = Plant(MIXES["mixed"], costs)
    piped = replace(plant, assumed={**plant.assumed, "publish_s": _PIPELINED_S})
    series = {
        "as_it_stands": (
            "1,000 workers, one relay that awaits each confirmation:",
            {scale: replace(plant, hours_a_day=HOURS_A_DAY * scale) for scale in scales},
        ),
        "relay_mended": (
            "1,000 workers for each million hours, and a relay that awaits a hundred confirmations together:",
            {scale: piped.scaled(scale) for scale in scales},
        ),
    }
    return {
        name: {"what": what, "runs": [{"scale": scale, "stations": _seen(p)} for scale, p in plants.items()]}
        for name, (what, plants) in series.items()
    }


def _seen(plant: Plant) -> list[JsonObject]:
    return [_rounded(asdict(seen)) for seen in simulate(plant)]


def _rounded(values: Mapping[str, Any]) -> JsonObject:
    return {name: float(f"{v:.5g}") if isinstance(v, float) else v for name, v in values.items()}
