"""Spreads, quantiles and how sure a ratio is."""

import math

import numpy as np
import pytest

from tympan.bench.stats import Spread, _student, quantile, ratio_interval


def test_a_spread_is_least_middle_and_greatest() -> None:
    """The middle of an even number of values lies between the two in the middle."""
    assert Spread.of([4.0, 1.0, 3.0, 2.0]).as_dict() == {"min": 1.0, "median": 2.5, "max": 4.0}


def test_quantiles_are_measured_values() -> None:
    """No quantile lies between two measurements."""
    assert [quantile([4.0, 1.0, 3.0, 2.0], share) for share in (0.0, 0.5, 0.75, 0.99)] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize(("freedom", "quantile_of_t"), [(1, 12.706), (2, 4.303), (7, 2.365), (30, 2.042)])
def test_students_t_is_that_of_the_tables(freedom: int, quantile_of_t: float) -> None:
    """The 97.5 % quantile agrees with the published tables."""
    assert _student(0.975, freedom) == pytest.approx(quantile_of_t, rel=0.003)


def test_equal_ratios_have_a_narrow_interval() -> None:
    """Without any scatter the interval is the value itself."""
    found = ratio_interval([[math.log(1.5)] * 6])
    assert (found.value, found.low, found.high, found.pairs) == pytest.approx((1.5, 1.5, 1.5, 6))


def test_cells_count_alike_however_many_runs_they_have() -> None:
    """A cell with many runs does not outvote one with few."""
    found = ratio_interval([[math.log(4.0)] * 2, [0.0] * 20])
    assert found.value == pytest.approx(2.0)


def test_a_single_run_is_refused() -> None:
    """One run says nothing about scatter."""
    with pytest.raises(ValueError, match="two paired runs"):
        ratio_interval([[0.1]])


@pytest.mark.parametrize("heavy", [False, True])
def test_the_interval_misses_the_truth_as_rarely_as_it_says(heavy: bool) -> None:  # noqa: FBT001
    """Of 300 measurements of eight pairs, the 95 % interval misses a ratio of 1 in at most 7 %, outliers or not."""
    missed = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        noise = rng.standard_t(3, 8) * 0.02 if heavy else rng.normal(0.0, 0.03, 8)
        found = ratio_interval([list(noise)], resamples=4_000, seed=seed)
        missed += not found.low <= 1.0 <= found.high
    assert missed <= 21
