"""The formulas, and the simulation against them where a queue has one."""

import math
from collections.abc import Sequence
from statistics import fmean

import pytest

from tests.capacity_support import ONE_BY_ONE
from tympan.capacity import theory
from tympan.capacity.demand import Demand, Lengths
from tympan.capacity.profile import BatchCost, Door, Profile
from tympan.capacity.simulation import Fleet, Span, simulate

SERVICE_S, LENGTH_S = 0.1, 5.0
EQUAL = (1.0,)


def exponential(n: int = 400) -> tuple[float, ...]:
    """Return so many equally likely values whose distribution is about exponential, with mean 1."""
    values = [-math.log(1.0 - (i + 0.5) / n) for i in range(n)]
    return tuple(value / fmean(values) for value in values)


def simulated_wait_s(ratios: Sequence[float], servers: int, load: float) -> float:
    """Return the mean wait in the simulation: one window a batch, on several machines jobs that each takes in turn.

    Means of 7,500 waits on three machines vary by 7 to 11 % from seed to seed: eight of them leave 4 %.
    """
    profile = Profile("formula", BatchCost(audio_ms=1000.0 * SERVICE_S / LENGTH_S), Door(), ratios=tuple(ratios))
    is_shared = servers > 1
    per_hour = 3600.0 * load * servers / SERVICE_S
    demand = Demand(Lengths((LENGTH_S,)), per_hour=per_hour, job_share=float(is_shared))
    fleet = Fleet(profile, servers, ONE_BY_ONE)
    seeds = 8 if is_shared else 2
    runs = [
        simulate(fleet, demand, Span(2_500 * servers if is_shared else 2_000, 200), seed)
        for seed in range(1, 1 + seeds)
    ]
    return fmean(fmean(run.times(lambda sample: sample.wait_s, jobs=is_shared)) for run in runs)


@pytest.mark.parametrize(
    ("name", "ratios", "servers", "load", "tolerance"),
    [
        ("M/D/1", EQUAL, 1, 0.6, 0.06),
        ("M/M/1", exponential(), 1, 0.5, 0.08),
        pytest.param("M/D/3", EQUAL, 3, 0.6, 0.12, marks=pytest.mark.long),
        pytest.param("M/M/3", exponential(), 3, 0.6, 0.10, marks=pytest.mark.long),
    ],
)
def test_the_simulation_agrees_with_queueing_theory(
    name: str, ratios: tuple[float, ...], servers: int, load: float, tolerance: float
) -> None:
    """Without batches it is M/G/c: exact for one server and for exponential services, else Allen and Cunneen's."""
    variation = fmean(ratio * ratio for ratio in ratios) - 1.0
    expected_s = theory.mgc_wait_s(load * servers / SERVICE_S, SERVICE_S, variation, servers)
    assert simulated_wait_s(ratios, servers, load) == pytest.approx(expected_s, rel=tolerance), name


def test_erlangs_formula_has_its_known_values() -> None:
    """One server makes as many wait as it is busy; two at a load of one a third; all wait where it never settles."""
    assert theory.erlang_c(1, 0.7) == pytest.approx(0.7)
    assert theory.erlang_c(2, 1.0) == pytest.approx(1.0 / 3.0)
    assert theory.erlang_c(3, 3.0) == 1.0
    assert 0.0 < theory.erlang_c(400, 380.0) < 1.0


def test_waits_by_formula() -> None:
    """M/M/1 waits load / (1 - load) services, M/D/1 half of it, and what never settles for ever."""
    assert theory.mmc_wait_s(5.0, 0.1, 1) == pytest.approx(0.1)
    assert theory.mgc_wait_s(5.0, 0.1, 0.0, 1) == pytest.approx(0.05)
    assert math.isinf(theory.mmc_wait_s(10.0, 0.1, 1))


def test_moments_are_weighted() -> None:
    """Mean, and variance over the mean squared."""
    mean, variation = theory.moments((1.0, 3.0), (3.0, 1.0))
    assert mean == pytest.approx(1.5)
    assert variation == pytest.approx(0.75 / 2.25)
