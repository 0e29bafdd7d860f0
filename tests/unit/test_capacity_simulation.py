"""The simulated server: what is kept in it of the real one, and what must hold whatever the figures are."""

from dataclasses import replace

import pytest

from tests.capacity_support import FAST, SLOW, calls, crowd
from tympan.capacity.agenda import Agenda
from tympan.capacity.demand import Demand, Lengths
from tympan.capacity.outcome import Estimate, Outcome, Sample, percentiles
from tympan.capacity.profile import Door
from tympan.capacity.replica import House
from tympan.capacity.simulation import Came, Fleet, Span, replay, simulate

SPAN = Span(150, 20)


def turnarounds(run: Outcome, *, jobs: bool = False) -> list[float]:
    """Return how long each request took."""
    return run.times(lambda sample: sample.turnaround_s, jobs=jobs)


def test_the_same_seed_gives_the_same_run() -> None:
    """To the last digit; another seed another one."""
    first, second, other = (turnarounds(simulate(Fleet(FAST), calls(7_200.0), SPAN, seed)) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_a_request_alone_takes_what_its_machine_needs_for_it() -> None:
    """Preparation, then the engine; nobody to wait for."""
    (sample,) = replay(Fleet(FAST), [Came(1.0, 10.0)]).samples
    assert sample.turnaround_s == pytest.approx(FAST.alone_s(10.0), abs=0.002)
    assert sample.wait_s == pytest.approx(0.0, abs=0.002)


def test_requests_that_come_together_share_a_batch() -> None:
    """As in the server: the second half waits for the first, nobody is served one by one."""
    load = [Came(1.0, 10.0) for _ in range(8)]
    run = replay(Fleet(replace(FAST, door=Door(hands=8))), load)
    assert run.windows == 8
    assert run.batches < 5


def test_by_littles_law_callers_are_throughput_times_turnaround() -> None:
    """Whatever the scheduler does, as many are inside as there are callers."""
    run = simulate(Fleet(FAST), crowd(12), Span(400, 100))
    mean_s = sum(turnarounds(run)) / len(turnarounds(run))
    assert run.audio_s_per_s / 10.0 * mean_s == pytest.approx(12.0, rel=0.05)
    assert run.utilisation > 0.95


def test_two_machines_do_twice_as_much() -> None:
    """With twice the callers."""
    one, two = (simulate(Fleet(FAST, n), crowd(12 * n), Span(300 * n, 60)) for n in (1, 2))
    assert two.audio_s_per_s == pytest.approx(2.0 * one.audio_s_per_s, rel=0.05)


def test_calls_go_before_jobs() -> None:
    """A machine that hours of jobs keep busy answers a call after a batch or so, and the jobs still get on."""
    demand = Demand(Lengths((5.0,)), per_hour=1_800.0, job_share=0.04, job_lengths=Lengths((1_800.0,)))
    run = simulate(Fleet(FAST), demand, Span(150, 40))
    assert run.utilisation > 0.6
    assert sorted(turnarounds(run))[len(turnarounds(run)) * 9 // 10] < 4.0
    assert all(job_s < 3_600.0 for job_s in turnarounds(run, jobs=True))


def test_a_long_job_is_shared_out_in_sections() -> None:
    """An hour takes four machines about a quarter of the time."""
    hour = Demand(Lengths((3_600.0,)), per_hour=2.0, job_share=1.0)
    one, four = (min(turnarounds(simulate(Fleet(FAST, n), hour, Span(3, 0)), jobs=True)) for n in (1, 4))
    assert four < 0.4 * one


def test_more_than_can_be_done_is_refused() -> None:
    """Beyond the places in the house, and beyond the longest predicted wait; who was let in is answered in time."""
    flood = calls(20_000.0)
    few_places = simulate(Fleet(SLOW, 1, House(max_requests=4)), flood, SPAN)
    short_wait = simulate(Fleet(SLOW, 1, House(max_wait_s=10.0)), flood, SPAN)
    for run in (few_places, short_wait):
        assert 0.5 < run.refused_share < 1.0
        assert max(turnarounds(run)) < 20.0


def test_threads_are_bounded() -> None:
    """With one pipeline at a time nothing is batched."""
    run = simulate(Fleet(FAST, 1, House(max_concurrent=1)), crowd(8), SPAN)
    assert run.windows_a_batch == pytest.approx(1.0)


def test_who_is_with_a_machine_that_dies_is_cut_off_and_the_others_carry_on() -> None:
    """Its calls break; later ones go to the other machine and are answered."""
    run = simulate(Fleet(FAST, 2), crowd(12), Span(150, 40, dies_at=60))
    assert 1 <= run.broken <= 12
    later = [sample for sample in run.samples if sample.number > 90 and not sample.broken]
    assert later
    assert all(sample.turnaround_s < 60.0 for sample in later)


def test_sections_of_a_machine_that_dies_are_done_by_another_after_the_recovery() -> None:
    """No job is lost, none is done twice."""
    jobs = Demand(Lengths((600.0,)), per_hour=420.0, job_share=1.0)
    run = simulate(Fleet(FAST, 2, House(recovery_s=37.0)), jobs, Span(20, 2, dies_at=8))
    assert run.broken == 0
    assert all(0.0 < job_s < 600.0 for job_s in turnarounds(run, jobs=True))
    assert max(turnarounds(run, jobs=True)) > 37.0


def test_the_last_machine_that_dies_leaves_everybody_refused() -> None:
    """There is nobody to ask."""
    run = simulate(Fleet(FAST), calls(3_600.0), Span(60, 10, dies_at=20))
    assert all(sample.refused or sample.broken for sample in run.samples if sample.number > 20)


def test_who_shares_the_processor_with_the_engine_slows_it_down() -> None:
    """Preparation and engine both take longer where they compute on the same cores."""
    door = Door(request_ms=100.0, audio_ms=5.0, hands=2)
    free, shared = (
        simulate(Fleet(replace(FAST, door=replace(door, contention=share))), crowd(8), SPAN) for share in (0.0, 1.0)
    )
    assert shared.audio_s_per_s < 0.8 * free.audio_s_per_s


def test_ratios_scatter_what_batches_take() -> None:
    """With the same mean the work is the same, but waits are more uneven."""
    even = simulate(Fleet(FAST), calls(9_000.0), Span(400, 40))
    uneven = simulate(Fleet(replace(FAST, ratios=(0.2, 0.6, 2.2))), calls(9_000.0), Span(400, 40))
    assert max(turnarounds(uneven)) > max(turnarounds(even))


def test_the_agenda_keeps_order() -> None:
    """By time, then by who came first; nothing happens in the past."""
    agenda, seen = Agenda(), list[str]()
    agenda.at(2.0, lambda: seen.append("second"))
    agenda.at(1.0, lambda: seen.append("first"))
    agenda.at(2.0, lambda: agenda.at(0.0, lambda: seen.append("at once")))
    agenda.after(9.0, lambda: seen.append("too late"))
    agenda.run_until(5.0)
    assert seen == ["first", "second", "at once"]
    assert agenda.now_s == 5.0


def test_estimates_have_intervals_and_never_is_never() -> None:
    """The mean with Student's interval; one run has none; an answer that never came is no number."""
    found = Estimate.of([1.0, 2.0, 3.0])
    assert found.value == 2.0
    assert found.low == 0.0
    assert found.high == pytest.approx(2.0 + 4.30 / 3**0.5, abs=0.01)
    assert Estimate.of([1.0]) == Estimate(1.0)
    assert Estimate.of([1.0, float("inf")]).value is None
    run = Outcome([Sample(0, is_job=False, audio_s=1.0, came_s=0.0)])
    values = percentiles([run], lambda sample: sample.turnaround_s, jobs=False)
    assert values is not None
    assert values["p50"].value is None
    assert percentiles([run], lambda sample: sample.turnaround_s, jobs=True) is None
