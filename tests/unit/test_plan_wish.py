"""What a plan is asked for over HTTP becomes a demand: as was seen, or as was said, and so many times as much."""

import pytest

from tympan.capacity.demand import Seen
from tympan.capacity.desk import Lengths, PlanWish


def test_growth_multiplies_what_was_seen() -> None:
    """Every hour grows; lengths and the share of jobs stay."""
    seen = Seen(lengths=Lengths((10.0, 60.0)), by_hour=(5.0, 20.0, 0.0), job_share=0.25)
    now, later = PlanWish().demand(seen), PlanWish(growth=1.5).demand(seen)
    assert (now.per_hour, now.by_hour) == (20.0, (5.0, 20.0, 0.0))
    assert (later.per_hour, later.by_hour) == (30.0, (7.5, 30.0, 0.0))
    assert (later.lengths, later.job_share) == (now.lengths, now.job_share)


@pytest.mark.parametrize(("growth", "callers"), [(1.0, 10), (2.0, 20), (0.01, 1)])
def test_growth_multiplies_callers(growth: float, callers: int) -> None:
    """There is always one."""
    assert PlanWish(callers=10, growth=growth).demand(Seen()).callers == callers
