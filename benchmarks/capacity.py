"""The planner's error: what it predicts for a load that was drawn beforehand, and what a server then does.

The profile is measured first, as `tympan capacity` does it. Then the same arrivals meet the simulation and the server.
The engine of the first part takes a fixed time; in the second the real model runs five times.
"""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any, Self

from benchmarks.setup import Setup
from benchmarks.store import Check, write_result
from tympan.audio.decode import Decoder
from tympan.bench import recordings
from tympan.bench.arrivals import End, poisson
from tympan.bench.client import Target
from tympan.bench.load import Load, Outcome, Weighted, run
from tympan.bench.pages import table
from tympan.bench.stats import quantile
from tympan.capacity import serving
from tympan.capacity.calibrating import Clip
from tympan.capacity.measuring import Grid
from tympan.capacity.profile import Profile
from tympan.capacity.simulation import Came, Fleet, replay
from tympan.cli.capacity_measure import clip_of, environment_of, measured, params
from tympan.config import Settings, load

FIXED: Mapping[str, str] = {"ms_per_batch": "20", "ms_per_audio_s": "100"}
"""The engine that takes a fixed time: made-up text, ten times real time."""

LENGTHS_S, WEIGHTS = (5.0, 12.0, 30.0), (6.0, 3.0, 1.0)
GOAL = 0.15
_SHARES = {"p50": 0.5, "p95": 0.95}


@dataclass(frozen=True, slots=True)
class Plan:
    """Shares of the engine's time that are asked for, how long each load is, how long measuring takes, real runs."""

    loads: tuple[float, ...] = (0.3, 0.5, 0.7)
    duration_s: float = 90.0
    measure_s: float = 20.0
    runs: int = 5
    real_load: float = 0.5
    real_s: float = 60.0


QUICK = Plan((0.4,), 12.0, 3.0, 2, real_s=10.0)
"""A smoke run."""


def benchmark(setup: Setup, plan: Plan) -> Path:
    """Measure both parts, write ``capacity.json`` and return its path."""
    steps = setup.steps("capacity", repr(plan))
    with tempfile.TemporaryDirectory(prefix="tympan-capacity-") as name:
        folder = Path(name)
        result = {
            "fixed": steps.value("fixed", lambda: fixed_time(folder, plan)),
            "real": steps.value("real", lambda: real(setup, folder, plan)),
        }
    payload = {"model": setup.model_facts(), **result}
    return write_result(setup.results, "capacity", payload, checks(result))


def fixed_time(folder: Path, plan: Plan) -> dict[str, Any]:
    """Return predicted and measured figures of loads on the engine that takes a fixed time."""
    settings = load({"engine": "fake", "engine_options": dict(FIXED), "data_dir": folder / "fixed"})
    with _Range(settings, plan) as here:
        return {
            "cost": here.cost,
            "rows": [here.compared(share, 3 + n, plan.duration_s) for n, share in enumerate(plan.loads)],
        }


def real(setup: Setup, folder: Path, plan: Plan) -> dict[str, Any]:
    """Return predicted figures for the real model and those of several runs with the same load."""
    chosen = {name.removeprefix("TYMPAN_").lower(): value for name, value in setup.environment.items()}
    settings = load({**chosen, "data_dir": Path(chosen.get("data_dir", folder / "real"))})
    with _Range(settings, plan) as here:
        rows = [here.compared(plan.real_load, 3, plan.real_s) for _ in range(plan.runs)]
        return {"cost": here.cost, "predicted": rows[0]["predicted"], "runs": [row["measured"] for row in rows]}


class _Range:
    """A measured machine and recordings to load it with; a server for each load."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self._settings, self._plan = settings, plan
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Measure the machine."""
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="tympan-range-")))
        grid = Grid(limit_s=self._plan.measure_s, params=params(5))
        self._profile: Profile = measured(self._settings, (), grid, Event(), quiet=True)
        with Decoder() as decoder:
            decode = recordings.Decode(decoder.stream, recordings.MAX_LENGTH_S)
            made = recordings.made(LENGTHS_S, self._folder, decode)
            self._clips: list[Clip] = [clip_of(decoder, group.recordings[0]) for group in made]
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the recordings."""
        self._stack.close()

    @property
    def cost(self) -> dict[str, Any]:
        """The profile in a few figures."""
        profile = self._profile
        return {"terms": list(profile.cost.terms), "request_ms": profile.door.request_ms,
                "audio_ms": profile.door.audio_ms, "contention": profile.door.contention}  # fmt: skip

    def compared(self, share: float, seed: int, duration_s: float) -> dict[str, Any]:
        """Return predicted and measured figures of one load, which asks for ``share`` of the engine's time."""
        engine_s = [sum(self._profile.cost.ms([w]) for w in clip.windows_s) / 1000.0 for clip in self._clips]
        mean_s = sum(s * w for s, w in zip(engine_s, WEIGHTS, strict=True)) / sum(WEIGHTS)
        rate, end = share / mean_s, End(duration_s=duration_s)
        drawn = poisson(rate, end, WEIGHTS, seed)
        came = [Came(a.at_s, self._clips[a.item].item.duration_s, self._clips[a.item].windows_s) for a in drawn]
        simulated = replay(Fleet(self._profile), came, seed).samples
        times = [sample.turnaround_s for sample in simulated]
        wall_s = max(sample.done_s for sample in simulated)
        found = self._measured(Load(end, rate_per_s=rate, seed=seed))
        latencies = [sample.latency_s for sample in found.samples if sample.answer.error is None and sample.latency_s]
        return {
            "share": share,
            "requests": len(drawn),
            "errors": len(found.samples) - len(latencies),
            "predicted": _figures(times, sum(each.audio_s for each in came), wall_s),
            "measured": _figures(latencies, sum(each.audio_s for each in came), found.wall_s),
        }

    def _measured(self, asked: Load) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="tympan-served-") as name:
            folder = Path(name)
            with serving.server(environment_of(self._settings, folder), folder) as url:
                items = Weighted(tuple(clip.item for clip in self._clips), WEIGHTS)
                return run(Target(url), asked, items, lambda: False, lambda _sample: None)


def _figures(times_s: Sequence[float], audio_s: float, wall_s: float) -> dict[str, float]:
    found = {name: round(quantile(times_s, share), 4) for name, share in _SHARES.items()}
    return {**found, "audio_s_per_s": round(audio_s / wall_s, 3)}


def errors(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the relative error of each predicted figure."""
    return {name: value / row["measured"][name] - 1.0 for name, value in row["predicted"].items()}


def checks(result: Mapping[str, Any]) -> list[Check]:
    """Return the goals and what was measured."""
    found = []
    for row in result["fixed"]["rows"]:
        name, worst = max(errors(row).items(), key=lambda item: abs(item[1]))
        figure = f"largest error of p50, p95 and throughput, engine {100 * row['share']:.0f} % busy"
        met = abs(worst) <= GOAL and not row["errors"]
        found.append(Check(figure, f"<= {GOAL:.0%}", f"{worst:+.1%} ({name})", met))
    for name, value in result.get("real", {}).get("predicted", {}).items():
        seen = [run[name] for run in result["real"]["runs"]]
        figure = f"predicted {name}, real model"
        goal = f"within {len(seen)} runs: {min(seen):.2f} to {max(seen):.2f}"
        found.append(Check(figure, goal, f"{value:.2f}", min(seen) <= value <= max(seen)))
    return found


def body(result: Mapping[str, Any]) -> list[str]:
    """Return the page's parts."""
    intro = (
        "The planner measures a machine, then predicts what a server does with a load that was drawn beforehand: "
        "recordings of 5, 12 and 30 s at random moments. The same arrivals are sent to `tympan serve`. Times are from "
        "when a request should have started until its answer; both sides share the machine with the client."
    )
    head = ("engine busy", "requests", "p50 s", "predicted", "p95 s", "predicted", "audio-s/s", "predicted", "errors")
    rows = [_cells(row) for row in result["fixed"]["rows"]]
    knobs = ", ".join(f"{name} {value}" for name, value in FIXED.items())
    parts = [intro, f"## An engine that takes a fixed time\n\nThe fake engine with {knobs}.\n\n" + table(head, rows)]
    if "real" in result:
        found = result["real"]
        names = list(found["predicted"])
        lines = [("predicted", *(f"{found['predicted'][name]:.2f}" for name in names))]
        lines += [(f"run {n}", *(f"{each[name]:.2f}" for name in names)) for n, each in enumerate(found["runs"], 1)]
        parts.append("## The real model, the same load each time\n\n" + table(("", *names), lines))
    return parts


def _cells(row: Mapping[str, Any]) -> list[str]:
    sides = [(row["measured"][name], row["predicted"][name]) for name in row["predicted"]]
    wrong = ", ".join(f"{error:+.1%}" for error in errors(row).values())
    return [f"{100 * row['share']:.0f} %", str(row["requests"]), *(f"{v:.2f}" for side in sides for v in side), wrong]
