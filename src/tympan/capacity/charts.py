"""Charts of a plan: waits by the number of machines, what one does by callers, machines by the hour. Pure."""

from collections.abc import Sequence

from tympan.bench.chart import Axis, Chart, Point, Series, svg
from tympan.capacity.outcome import Estimate
from tympan.capacity.planner import Plan


def charts(plans: Sequence[Plan]) -> dict[str, str]:
    """Return the charts that the plans are enough for, as SVG by name."""
    found = {"throughput": svg(_throughput(plans)), "percentiles": svg(_percentiles(plans[0]))}
    if len(plans[0].tried) > 1:
        found["machines"] = svg(_machines(plans[0]))
    if plans[0].by_hour:
        found["day"] = svg(_day(plans[0]))
    return found


def _throughput(plans: Sequence[Plan]) -> Chart:
    series = tuple(
        Series(plan.profile.name, tuple(Point(callers, rate) for callers, rate, _ in plan.curve)) for plan in plans
    )
    callers = tuple(float(row[0]) for row in plans[0].curve)
    axis = Axis("callers at once", log=True, ticks=callers)
    return Chart("What one machine does", axis, Axis("audio-hours an hour"), series, "simulated from measured costs")


def _percentiles(plan: Plan) -> Chart:
    cases = [("as asked", plan.figures), ("after one died", plan.without_one), ("twice as much", plan.doubled)]
    series = tuple(
        Series(name, points)
        for name, figures in cases
        if figures is not None and figures.turnaround_s and (points := _points(figures.turnaround_s))
    )
    if not series:
        series = (Series("none", (Point(50.0, 0.0),)),)
    axis = Axis("percentile of the turnaround", ticks=(50.0, 95.0, 99.0), from_zero=False)
    return Chart(f"{plan.figures.replicas} machines: how soon callers are answered", axis, Axis("seconds"), series)


def _points(values: dict[str, Estimate]) -> tuple[Point, ...]:
    return tuple(
        Point(float(name[1:]), found.value, found.low, found.high)
        for name, found in values.items()
        if found.value is not None
    )


def _machines(plan: Plan) -> Chart:
    def points(share: str) -> tuple[Point, ...]:
        return tuple(
            Point(float(f.replicas), value)
            for f in plan.tried
            if f.wait_s is not None and (value := f.wait_s[share].value) is not None
        )

    series = tuple(Series(f"wait {share}", found) for share in ("p50", "p95") if (found := points(share)))
    if not series:
        series = (Series("none", (Point(float(plan.figures.replicas), 0.0),)),)
    return Chart("Waiting by the number of machines", Axis("machines", from_zero=False), Axis("seconds"), series)


def _day(plan: Plan) -> Chart:
    points = tuple(Point(float(hour), float(machines)) for hour, machines in enumerate(plan.by_hour))
    axis = Axis("hour of the day", ticks=(0.0, 6.0, 12.0, 18.0, 23.0))
    return Chart(
        "Machines that each hour needs", axis, Axis("machines"), (Series("machines", points),), "in proportion"
    )
