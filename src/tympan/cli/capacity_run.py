"""``tympan capacity`` from flags to an answer."""

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from tympan.bench.facts import command_line, cores, provenance, source_digest
from tympan.bench.pages import read, write, write_all
from tympan.bootstrap.planning import house_of
from tympan.capacity import report
from tympan.capacity.autoscale import patch
from tympan.capacity.charts import charts as drawn
from tympan.capacity.demand import Demand, Goal, Lengths, Seen, arrivals_in, lengths_in, seconds
from tympan.capacity.desk import DEFAULT_LENGTH_S, DEFAULT_WAIT_S
from tympan.capacity.from_bench import BENCH_KIND, profile_from_bench
from tympan.capacity.kept import kept_path, kept_text, known
from tympan.capacity.measuring import Grid
from tympan.capacity.planner import Effort, Plan, plan, throughput
from tympan.capacity.profile import KIND, Profile, as_json, from_json
from tympan.capacity.replica import House
from tympan.cli.capacity_options import DemandArgs, GoalArgs, MachineArgs, OutputArgs
from tympan.cli.console import ExitCode, say, write_stdout
from tympan.cli.services import load_settings
from tympan.cli.stopping import stopping_on_signals
from tympan.errors import InvalidRequest, TympanError

if TYPE_CHECKING:
    from tympan.config import Settings

NAME = "capacity"
QUICK_SHARE = 1.0
"""How long simulated runs are beside the usual; tests make them shorter."""

_COMPONENTS = ("keda", "hpa")


def execute(asked: DemandArgs, wanted: GoalArgs, machines: MachineArgs, out: OutputArgs) -> int:
    """Measure where that is needed, plan, tell, and return the exit code."""
    if out.kubernetes is not None and out.kubernetes not in _COMPONENTS:
        raise InvalidRequest(f"--kubernetes cannot be {out.kubernetes!r}.", remedy="Write --kubernetes keda or hpa.")
    settings = load_settings({} if machines.data_dir is None else {"data_dir": machines.data_dir})
    demand, goal, notes = _demand(asked, settings), _goal(wanted), _notes(asked, settings)
    if demand is None and out.kubernetes is not None:
        raise InvalidRequest("Targets for an autoscaler need a demand.", remedy="Give for example --per-hour 2000.")
    profiles = _profiles(machines, settings, quiet=out.quiet)
    costs = _costs(machines, len(profiles))
    house = house_of(settings)
    tell: Callable[[str], None] = (lambda _: None) if out.quiet else (lambda what: say(f"simulating {what} ..."))
    if demand is None:
        return _show_machines(profiles, _lengths(asked, Seen()), house, out)
    effort = Effort(out.runs, out.seed, QUICK_SHARE)
    plans = [
        replace(plan(profile, demand, goal, house, effort, tell), cost_per_hour=cost, notes=notes)
        for profile, cost in zip(profiles, costs, strict=True)
    ]
    return _show(report.in_order(plans), profiles, out)


def _show(plans: Sequence[Plan], profiles: Sequence[Profile], out: OutputArgs) -> int:
    origin = {**provenance(), "command": command_line("tympan", sys.argv[1:])}
    document = report.document(plans, origin, {"runs": out.runs, "seed": out.seed})
    if out.output is not None:
        pictures = drawn(plans)
        page = report.page(plans, [f"{NAME}-{name}.svg" for name in pictures])
        written = write_all(out.output, NAME, report.finite(document), pictures, page)
        written += _keep(profiles, out.output)
        if not out.quiet:
            say(f"Written: {', '.join(str(path) for path in written)}.")
    if out.kubernetes is not None:
        write_stdout(patch(report.targets(plans[0]), out.kubernetes))
    elif out.as_json:
        write_stdout(json.dumps(report.finite(document), indent=1, ensure_ascii=False))
    else:
        write_stdout(report.page(plans))
    return ExitCode.OK


def _show_machines(profiles: Sequence[Profile], lengths: Lengths, house: House, out: OutputArgs) -> int:
    """Tell what each machine does: nothing was asked of it."""
    if out.output is not None:
        _keep(profiles, out.output)
    effort = Effort(out.runs, out.seed, QUICK_SHARE)
    curves = [(profile, throughput(profile, Demand(lengths, callers=1), house, effort)) for profile in profiles]
    if out.as_json:
        write_stdout(
            json.dumps(report.finite([{"profile": as_json(p), "throughput": curve} for p, curve in curves]), indent=1)
        )
        return ExitCode.OK
    for profile, curve in curves:
        write_stdout(report.machine_page(profile, curve, lengths.mean_s))
    return ExitCode.OK


def _keep(profiles: Sequence[Profile], folder: Path) -> list[Path]:
    names = [f"profile-{n}.json" if len(profiles) > 1 else "profile.json" for n in range(1, len(profiles) + 1)]
    return [write(folder / name, _text(profile)) for name, profile in zip(names, profiles, strict=True)]


def _text(profile: Profile) -> str:
    return json.dumps(as_json(profile), indent=1, ensure_ascii=False) + "\n"


# The demand.


def _demand(asked: DemandArgs, settings: "Settings") -> Demand | None:
    """Return what is asked of the machines; ``None`` when nothing is."""
    ways = [
        asked.peak_concurrent is not None,
        asked.per_hour is not None,
        asked.arrivals is not None,
        asked.from_database,
    ]
    if not any(ways):
        return None
    if sum(ways) > 1:
        raise InvalidRequest(
            "The demand is given in more than one way.",
            remedy="Give one of --peak-concurrent, --per-hour, --arrivals and --from-database.",
        )
    seen = _seen(asked, settings)
    job_lengths = Lengths((seconds(asked.job_length),)) if asked.job_length is not None else seen.job_lengths
    share = asked.job_share if asked.job_share is not None else seen.job_share
    busiest = max(seen.by_hour, default=None) if asked.per_hour is None else asked.per_hour
    return Demand(
        lengths=_lengths(asked, seen),
        callers=asked.peak_concurrent,
        think_s=seconds(asked.think),
        per_hour=busiest,
        by_hour=seen.by_hour,
        job_share=share,
        job_lengths=job_lengths,
    )


def _seen(asked: DemandArgs, settings: "Settings") -> Seen:
    if asked.arrivals is not None:
        return arrivals_in(_file(asked.arrivals))
    if asked.from_database:
        from tympan.bootstrap import demand  # noqa: PLC0415 (imports the database)

        return demand.seen(settings, asked.days)
    return Seen()


def _notes(asked: DemandArgs, settings: "Settings") -> tuple[str, ...]:
    return _seen(asked, settings).notes if asked.from_database else ()


def _lengths(asked: DemandArgs, seen: Seen) -> Lengths:
    if asked.lengths is not None:
        if asked.mean_length is not None:
            raise InvalidRequest("--lengths and --mean-length were both given.", remedy="Give one of them.")
        return lengths_in(_file(asked.lengths))
    if asked.mean_length is not None:
        return Lengths((seconds(asked.mean_length),))
    return seen.lengths or Lengths((DEFAULT_LENGTH_S,))


def _goal(wanted: GoalArgs) -> Goal:
    wait, turnaround, jobs = (
        None if text is None else seconds(text)
        for text in (wanted.slo_wait_p95, wanted.slo_turnaround_p95, wanted.slo_job_p95)
    )
    goal = Goal(wait, turnaround, jobs, wanted.headroom)
    return goal if goal.has_limit else replace(goal, wait_p95_s=DEFAULT_WAIT_S)


def _file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}.", remedy="Name a CSV file in UTF-8.") from error


# The machines.


def _profiles(machines: MachineArgs, settings: "Settings", *, quiet: bool) -> list[Profile]:
    if machines.profile:
        if machines.fresh:
            raise InvalidRequest("--fresh measures this machine; --profile names others.", remedy="Leave one out.")
        return [_read(path) for path in machines.profile]
    return [_own(machines, settings, quiet=quiet)]


def _read(path: Path) -> Profile:
    document = read(path, (KIND, BENCH_KIND))
    if document["kind"] == KIND:
        return replace(from_json(document), name=path.stem if path.stem != "profile" else str(document["name"]))
    return profile_from_bench(document, path.stem)


def _own(machines: MachineArgs, settings: "Settings", *, quiet: bool) -> Profile:
    """Return the profile of this machine, measured now unless it is known for the same settings and software."""
    about = _about(machines, settings)
    kept = kept_path(settings.data_dir)
    before = None if machines.fresh else _measured_before(kept, about)
    if before is not None:
        if not quiet:
            say(f"This machine was measured before; --fresh measures again. ({kept})")
        return before
    from tympan.cli.capacity_measure import measured, params  # noqa: PLC0415 (heavy)

    if not quiet:
        say(f"This machine is measured first, in about {2.5 * seconds(machines.measure_for) + 20:.0f} s.")
    signals: list[int] = []
    stop = Event()
    grid = Grid(limit_s=seconds(machines.measure_for), params=params(machines.beam_size))
    with ExitStack() as stack:
        stack.enter_context(stopping_on_signals(stop, signals))
        profile = measured(settings, machines.audio or (), grid, stop, quiet=quiet)
    text = kept_text(profile, about)
    write(kept, text)
    _share(settings, text, quiet=quiet)
    return profile


def _measured_before(kept: Path, about: dict[str, Any]) -> Profile | None:
    """Return the profile that is kept, if there is one and it is about this; what cannot be read is measured anew."""
    try:
        return known(kept.read_bytes(), about)
    except OSError:
        return None


def _share(settings: "Settings", text: str, *, quiet: bool) -> None:
    """Let the servers of a cluster plan with this profile; who only measures can do without them."""
    from tympan.bootstrap import demand  # noqa: PLC0415 (imports the database)

    try:
        demand.share_profile(settings, text)
    except TympanError as error:
        if not quiet:
            say(f"Servers will not plan with this profile: {error}")


def _about(machines: MachineArgs, settings: "Settings") -> dict[str, Any]:
    """Return what a profile holds for."""
    names = ("model", "engine", "engine_options", "device", "compute_type", "threads", "max_batch_ms", "gpus")
    said = {name: getattr(settings, name) for name in names}
    audio = [str(path) for path in machines.audio or ()]
    facts = {**said, "cores": cores(), "source": source_digest(), "beam_size": machines.beam_size, "audio": audio}
    plain: dict[str, Any] = json.loads(json.dumps(facts, default=str))
    return plain


def _costs(machines: MachineArgs, n: int) -> list[float | None]:
    given = machines.cost_per_hour or []
    if len(given) not in {0, n}:
        raise InvalidRequest(
            f"There are {n} machines and {len(given)} costs.", remedy="Give --cost-per-hour once for each --profile."
        )
    return [*given] if given else [None] * n
