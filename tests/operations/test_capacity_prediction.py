"""The planner against a real server: what it predicts for a load that was drawn beforehand, and what is measured."""

from pathlib import Path

import pytest

from benchmarks.capacity import Plan, checks, fixed_time


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(600)
def test_what_is_predicted_is_measured_within_15_percent(tmp_path: Path) -> None:
    """Throughput, p50 and p95 of an open loop at low and high load; the engine has a fixed time, the rest is real."""
    result = fixed_time(tmp_path, Plan(loads=(0.4, 0.7), duration_s=60.0, measure_s=10.0))
    missed = [check for check in checks({"fixed": result}) if not check.met]
    assert not missed, missed
