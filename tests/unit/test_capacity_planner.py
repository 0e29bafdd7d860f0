"""The answer: as few machines as will do, what one less and twice as much means, what it costs."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from tests.capacity_support import FAST, SLOW, calls, crowd
from tympan.capacity import planner, report
from tympan.capacity.autoscale import DRAIN_S, Targets, backlog_target_s, patch
from tympan.capacity.charts import charts
from tympan.capacity.demand import Demand, Goal, Lengths
from tympan.capacity.planner import Effort, Plan, evaluate, formula_wait_s, plan, throughput
from tympan.capacity.simulation import Fleet
from tympan.errors import InvalidRequest

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes" / "components"
QUICK = Effort(runs=2, share=0.15)
GOAL = Goal(wait_p95_s=2.0)


@pytest.fixture(autouse=True)
def _fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "CONCURRENCY", (1, 8))


@cache
def answer() -> Plan:
    """Return the plan of two requests of ten seconds in a second: some thirty seconds of audio, on slow machines."""
    hours = tuple(7_200.0 if 9 <= hour < 17 else 720.0 for hour in range(24))
    found = plan(SLOW, replace(calls(7_200.0), by_hour=hours), GOAL, effort=QUICK)
    return replace(found, cost_per_hour=0.5)


def test_the_answer_is_the_smallest_number_that_meets_the_goal_with_its_headroom() -> None:
    """One machine less either misses the goal or has too little left."""
    found = answer()
    n = found.figures.replicas
    assert not found.figures.misses(GOAL)
    assert found.headroom is not None
    assert found.headroom >= GOAL.headroom
    fewer = evaluate(Fleet(SLOW, n - 1), found.demand, QUICK)
    assert fewer.misses(GOAL) or 1.0 - found.audio_s_per_s / (found.per_machine_s * (n - 1)) < GOAL.headroom


def test_more_machines_wait_less() -> None:
    """Whatever else is said, this has to hold."""
    waits = [evaluate(Fleet(SLOW, n), calls(3_000.0), QUICK).wait_s for n in (1, 2, 4)]
    p95 = [values["p95"].value or 0.0 for values in waits if values is not None]
    assert p95 == sorted(p95, reverse=True)


def test_twice_the_demand_takes_more_machines() -> None:
    """About twice as many, and the same ones are busier."""
    found = answer()
    assert found.for_double is not None
    assert found.figures.replicas < found.for_double <= 2 * found.figures.replicas
    assert (found.doubled.utilisation.value or 0.0) > (found.figures.utilisation.value or 1.0)


def test_after_a_death_those_who_are_left_have_more_to_do() -> None:
    """The wait grows; calls that were under way break."""
    found = answer()
    assert found.without_one is not None
    assert found.without_one.wait_s is not None
    assert found.figures.wait_s is not None
    assert (found.without_one.wait_s["p50"].value or 0.0) >= (found.figures.wait_s["p50"].value or 0.0)


def test_costs_are_of_the_machines_and_by_the_hours_they_are_needed() -> None:
    """All on all day, or as many as each hour has work for."""
    found = answer()
    n = found.figures.replicas
    assert found.by_hour[10] == n
    assert found.by_hour[3] == 1
    assert found.cost_per_day == (12.0 * n, 0.5 * sum(found.by_hour))
    assert found.cost_per_audio_hour == pytest.approx(0.5 * n / found.audio_s_per_s)


def test_callers_at_once_are_planned_for_with_more_of_them() -> None:
    """The headroom is in callers; what is told is for as many as were asked."""
    found = plan(FAST, crowd(6), Goal(wait_p95_s=1.0, headroom=0.5), effort=QUICK)
    assert found.headroom is None
    assert not evaluate(Fleet(FAST, found.figures.replicas), crowd(12), QUICK).misses(Goal(wait_p95_s=1.0))


def test_a_goal_that_no_machine_meets_is_said_to_be_one() -> None:
    """A request that takes a second alone is not answered in a tenth of it: more machines do not help."""
    with pytest.raises(InvalidRequest, match="turnaround p95") as caught:
        plan(SLOW, calls(360.0), Goal(turnaround_p95_s=0.1), effort=QUICK)
    assert caught.value.remedy


def test_more_machines_than_can_be_planned_for_are_refused() -> None:
    """The remedy: plan for a part."""
    with pytest.raises(InvalidRequest, match="at least"):
        plan(SLOW, calls(1e7), GOAL, effort=QUICK)


def test_jobs_are_planned_for_too() -> None:
    """Their turnaround is told beside that of calls."""
    demand = Demand(Lengths((5.0,)), per_hour=600.0, job_share=0.2, job_lengths=Lengths((120.0,)))
    found = plan(FAST, demand, Goal(wait_p95_s=2.0, job_p95_s=60.0), effort=QUICK)
    assert found.figures.job_turnaround_s is not None
    assert "Jobs are done after" in report.page([found])


def test_throughput_grows_with_callers_up_to_what_the_engine_does() -> None:
    """A batch of ten-second windows costs fifty times less than they last."""
    rows = throughput(FAST, crowd(1), effort=QUICK)
    assert [callers for callers, _, _ in rows] == [1, 8]
    assert max(rate for _, rate, _ in rows) == pytest.approx(50.0, rel=0.1)
    assert rows[0][1] < rows[1][1]
    assert rows[0][2] < rows[-1][2]


def test_the_formula_counts_calls_and_jobs() -> None:
    """And is silent where callers wait for their answers: there is no rate."""
    few, jobs = calls(600.0), calls(600.0, job_share=0.5)
    assert formula_wait_s(SLOW, few, 2) == pytest.approx(formula_wait_s(SLOW, jobs, 2) or 0.0)
    long_jobs = replace(jobs, job_lengths=Lengths((100.0,)))
    assert (formula_wait_s(SLOW, long_jobs, 2) or 0.0) > (formula_wait_s(SLOW, jobs, 2) or 0.0)
    assert formula_wait_s(SLOW, calls(36_000.0), 1) == float("inf")
    assert formula_wait_s(SLOW, crowd(3), 1) is None


def test_the_page_says_what_an_operator_asks() -> None:
    """Machines, headroom, waits, a death, twice the demand, costs, autoscaling."""
    text = report.page([answer()], ["capacity-throughput.svg"])
    for words in ("audio-hours an hour at most", "machines needed", "headroom", "if one machine dies", "wait p50",
                  "at twice the demand", "a day costs", "autoscaler", "M/G/c", "![capacity-throughput]"):  # fmt: skip
        assert words in text, words


def test_machines_are_compared_by_cost_else_by_number() -> None:
    """A dear machine is worth it only where it saves enough of the others."""
    cheap, dear = answer(), replace(answer(), profile=replace(SLOW, name="dear"), cost_per_hour=5.0)
    assert [each.profile.name for each in report.in_order([dear, cheap])] == ["slow", "dear"]
    fewer = replace(dear, cost_per_hour=None, figures=replace(dear.figures, replicas=1))
    assert report.in_order([cheap, fewer])[0] is fewer
    assert "Choose **slow**" in report.page(report.in_order([dear, cheap]))


def test_the_answer_is_json_too() -> None:
    """With its targets, and no infinity in it once the command line has taken them out."""
    document = report.document([answer()], {"date": "today"}, {"runs": 2})
    (one,) = document["plans"]
    assert one["replicas"] == answer().figures.replicas
    assert one["autoscaling"]["backlog_s"] > 0
    assert json.loads(json.dumps(one))["machine"]["name"] == "slow"


def test_every_chart_is_drawn() -> None:
    """What one machine does, percentiles, machines, hours."""
    drawn = charts([answer()])
    assert {"throughput", "percentiles", "day"} <= set(drawn)
    assert all(text.startswith("<svg") for text in drawn.values())


def test_a_worker_may_have_as_much_waiting_as_it_does_in_three_minutes() -> None:
    """The target in the manifests is that of a worker which does ten seconds of audio a second."""
    (keda,) = yaml.safe_load_all((KUBERNETES / "keda" / "scaledobject.yaml").read_text(encoding="utf-8"))
    assert keda["spec"]["triggers"][0]["metadata"]["threshold"] == str(backlog_target_s(10.0, DRAIN_S)) == "1800"
    assert backlog_target_s(0.001) == 1
    assert backlog_target_s(36.7) == 6600


@pytest.mark.parametrize(("component", "file"), [("keda", "scaledobject.yaml"), ("hpa", "hpa.yaml")])
def test_the_kustomization_changes_values_that_the_manifests_have(component: str, file: str) -> None:
    """Every path of the patch leads to something in the component."""
    (manifest,) = yaml.safe_load_all((KUBERNETES / component / file).read_text(encoding="utf-8"))
    made = yaml.safe_load(patch(Targets(600, 2, 9), component))
    (one,) = made["patches"]
    assert one["target"] == {"kind": manifest["kind"], "name": manifest["metadata"]["name"]}
    for change in yaml.safe_load(one["patch"]):
        *way, last = change["path"].strip("/").split("/")
        place = manifest
        for step in way:
            place = place[int(step)] if isinstance(place, list) else place[step]
        assert type(place[last]) is type(change["value"]), change["path"]
