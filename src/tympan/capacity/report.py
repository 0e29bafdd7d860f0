"""A plan as JSON, as a page, and as the few lines that a person wants. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tympan.bench.pages import table
from tympan.capacity.autoscale import DRAIN_S, Targets, backlog_target_s
from tympan.capacity.demand import Demand, Goal
from tympan.capacity.outcome import Estimate
from tympan.capacity.planner import Figures, Plan
from tympan.capacity.profile import Profile

KIND = "tympan.capacity.plan"
VERSION = 1


def targets(plan: Plan) -> Targets:
    """Return what the autoscaler is told: as much waiting audio a worker as it does in the time that jobs have."""
    drain_s = min(DRAIN_S, plan.goal.job_p95_s / 2.0) if plan.goal.job_p95_s else DRAIN_S
    most = plan.for_double or 2 * plan.figures.replicas
    return Targets(backlog_target_s(plan.per_machine_s, drain_s), min([plan.figures.replicas, *plan.by_hour]), most)


def document(plans: Sequence[Plan], origin: Mapping[str, Any], effort: Mapping[str, Any]) -> dict[str, Any]:
    """Return all answers as a JSON object, the best machine first."""
    return {"kind": KIND, "version": VERSION, **origin, "effort": dict(effort), "plans": [as_json(p) for p in plans]}


def as_json(plan: Plan) -> dict[str, Any]:
    """Return one answer as a JSON object."""
    found = {name: value for name, value in asdict(plan).items() if name not in {"profile", "cost_per_hour"}}
    profile = plan.profile
    machine = {name: getattr(profile, name) for name in ("name", "model", "engine", "device", "compute_type", "source")}
    day = plan.cost_per_day
    return {
        "machine": machine,
        **found,
        "audio_hours_per_hour": {"machine": plan.per_machine_s, "demand": plan.audio_s_per_s},
        "replicas": plan.figures.replicas,
        "cost": None
        if day is None
        else {"machine_hour": plan.cost_per_hour, "audio_hour": plan.cost_per_audio_hour, "day": day[0],
              "day_autoscaled": day[1]},
        "autoscaling": asdict(targets(plan)),
    }  # fmt: skip


def finite(value: Any) -> Any:
    """Return a JSON value in which what never comes is ``null``: JSON knows no infinity."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and value in (float("inf"), float("-inf")) else value


def in_order(plans: Iterable[Plan]) -> list[Plan]:
    """Return plans of several machines, the one to choose first: the cheapest, or else the one with fewest machines."""
    found = list(plans)
    priced = all(plan.cost_per_hour is not None for plan in found)

    def key(plan: Plan) -> tuple[float, float]:
        cost = plan.figures.replicas * (plan.cost_per_hour or 0.0)
        return (cost if priced else 0.0, float(plan.figures.replicas))

    return sorted(found, key=key)


def page(plans: Sequence[Plan], charts: Iterable[str] = ()) -> str:
    """Return the answer as Markdown, the chosen machine first."""
    parts = ["# Capacity", f"Asked: {asked(plans[0].demand)}. Goal: {wanted(plans[0].goal)}."]
    if len(plans) > 1:
        parts.append("## Machines compared\n\n" + _compared(plans))
    parts += [_section(plan) for plan in plans]
    parts += [f"![{name.rsplit('.', 1)[0]}]({name})" for name in charts]
    return "\n\n".join(parts) + "\n"


def machine_page(profile: Profile, curve: Sequence[tuple[int, float, float]], length_s: float) -> str:
    """Return what one machine does, by callers at once: what is told where nothing was asked for."""
    rows = [(callers, f"{rate:.1f}", f"{p50:.2f}") for callers, rate, p50 in curve]
    head = ("callers at once", "audio-hours an hour", "median turnaround, s")
    best = max(rate for _, rate, _ in curve)
    said = f"{_described(profile)} does {best:.1f} audio-hours an hour with recordings of {length_s:g} s."
    parts = ["# Capacity of one machine", said, table(head, rows)]
    loads = [row for row in profile.measured if "simulated_p50_s" in row]
    if loads:
        parts.append(
            "Measured when the profile was made, and what the simulation says to the same:\n\n" + _loads(loads)
        )
    parts.append("To plan, say what is asked: `tympan capacity --per-hour 2000 --mean-length 30s`.")
    return "\n\n".join(parts) + "\n"


def asked(demand: Demand) -> str:
    """Return the demand in words."""
    jobs = f", {100 * demand.job_share:.0f} % of them jobs" if demand.job_share else ""
    if demand.callers is not None:
        pause = f" {demand.think_s:g} s after each answer" if demand.think_s else " as soon as they are answered"
        return f"{demand.callers} callers at once who ask again{pause}{jobs}, {demand.mean_s:.3g} s of audio each"
    return f"{demand.per_hour or 0:,.6g} requests in the busiest hour{jobs}, {demand.mean_s:.3g} s of audio each"


def wanted(goal: Goal) -> str:
    """Return the goal in words."""
    limits = (("wait", goal.wait_p95_s), ("turnaround", goal.turnaround_p95_s), ("jobs' turnaround", goal.job_p95_s))
    words = [f"p95 of the {what} up to {limit:g} s" for what, limit in limits if limit is not None]
    return ", ".join([*words, f"{100 * goal.headroom:.0f} % headroom"])


def _compared(plans: Sequence[Plan]) -> str:
    head = ("machine", "audio-hours an hour", "machines", "an hour of all", "an hour of audio")
    rows = [
        (plan.profile.name, f"{plan.per_machine_s:.1f}", plan.figures.replicas,
         _money(plan.cost_per_hour and plan.cost_per_hour * plan.figures.replicas), _money(plan.cost_per_audio_hour))
        for plan in plans
    ]  # fmt: skip
    return table(head, rows) + f"\n\nChoose **{plans[0].profile.name}**."


def _section(plan: Plan) -> str:
    n = plan.figures.replicas
    parts = [f"## {n} x {plan.profile.name}", _summary(plan), _waits(plan)]
    if len(plan.tried) > 1:
        rows = [(f.replicas, _time(f.wait_s, "p95"), _time(f.turnaround_s, "p95"), _percent(f.utilisation.value),
                 "; ".join(f.misses(plan.goal)) or "yes") for f in plan.tried]  # fmt: skip
        head = ("machines", "wait p95, s", "turnaround p95, s", "busy", "meets the goal")
        parts.append(table(head, rows))
    return "\n\n".join(parts)


def _summary(plan: Plan) -> str:
    n, room = plan.figures.replicas, plan.headroom
    goal = targets(plan)
    rows = [
        ("machine", _described(plan.profile)),
        ("one machine does", f"{plan.per_machine_s:.1f} audio-hours an hour at most"),
        ("the demand is", f"{plan.audio_s_per_s:.1f} audio-hours an hour"),
        ("machines needed", n),
        ("headroom", "as asked, in callers" if room is None else _percent(room)),
        ("if one machine dies", _death(plan)),
        ("at twice the demand", _double(plan)),
        *_costs(plan),
        (
            "autoscaler",
            f"a worker for every {goal.backlog_s} s of audio that wait, {goal.least} to {goal.most} workers",
        ),
    ]
    if plan.formula_wait_s is not None:
        words = "never settles" if plan.formula_wait_s == float("inf") else f"mean wait {plan.formula_wait_s:.2f} s"
        rows.append(("by formula (M/G/c, one window at a time)", words))
    notes = "".join(f"\n\n{note}" for note in plan.notes)
    return table(("", ""), rows) + notes


def _waits(plan: Plan) -> str:
    head = ("seconds", "wait p50", "p95", "p99", "turnaround p50", "p95", "p99", "refused", "busy")
    rows = [("as asked", *_times(plan.figures))]
    if plan.without_one is not None:
        rows.append(("after one died", *_times(plan.without_one)))
    rows.append(("twice as much", *_times(plan.doubled)))
    jobs = plan.figures.job_turnaround_s
    extra = (
        "" if jobs is None else f"\n\nJobs are done after {_time(jobs, 'p50')} s (p50), {_time(jobs, 'p95')} s (p95)."
    )
    return table(head, rows) + "\n\n± is the 95 % interval over the simulated runs." + extra


def _times(figures: Figures) -> tuple[str, ...]:
    shares = ("p50", "p95", "p99")
    times = [_time(values, share) for values in (figures.wait_s, figures.turnaround_s) for share in shares]
    return (*times, _percent(figures.refused_share), _percent(figures.utilisation.value))


def _time(values: Mapping[str, Estimate] | None, share: str) -> str:
    if values is None:
        return "-"
    found = values[share]
    if found.value is None:
        return "never"
    half = "" if found.high is None else f" ±{found.high - found.value:.2f}"
    return f"{found.value:.2f}{half}"


def _death(plan: Plan) -> str:
    after = plan.without_one
    if after is None:
        return "nothing is served until it is back"
    misses = after.misses(plan.goal)
    broken = f"about {after.broken:.0f} calls break" if after.broken >= 1.5 else "about one call breaks"
    return f"{broken}; then the goal is " + (f"missed: {'; '.join(misses)}" if misses else "still met")


def _double(plan: Plan) -> str:
    n, misses = plan.figures.replicas, plan.doubled.misses(plan.goal)
    more = (
        f"it takes {plan.for_double} machines"
        if plan.for_double
        else "more machines are needed than can be planned for"
    )
    if misses:
        return f"with {n}: {'; '.join(misses)}; {more}"
    return f"{n} still meet the goal" if plan.for_double == n else f"{n} meet the times, without the headroom; {more}"


def _costs(plan: Plan) -> list[tuple[str, str]]:
    day = plan.cost_per_day
    if day is None:
        return []
    scaled = f", {_money(day[1])} if each hour has the machines it needs" if plan.by_hour else ""
    return [("an hour of audio costs", f"{_money(plan.cost_per_audio_hour)} in the busiest hour"),
            ("a day costs", f"{_money(day[0])}{scaled}")]  # fmt: skip


def _loads(rows: Sequence[Mapping[str, Any]]) -> str:
    head = ("callers", "audio, s", "measured audio-h/h", "simulated", "measured p50, s", "simulated")
    return table(head, [
        (row["concurrency"], f"{row['length_s']:g}", f"{row['audio_s_per_s']:.1f}",
         f"{row['simulated_audio_s_per_s']:.1f}", f"{row['p50_s']:.2f}", f"{row['simulated_p50_s']:.2f}")
        for row in rows
    ])  # fmt: skip


def _described(profile: Profile) -> str:
    what = ", ".join(filter(None, (profile.model, profile.engine, profile.device, profile.compute_type)))
    return f"{profile.name} ({what})" if what else profile.name


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"


def _money(value: float | None) -> str:
    return "-" if value is None else f"{value:,.4g}"
