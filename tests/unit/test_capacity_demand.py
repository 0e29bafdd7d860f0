"""What is asked: times, lengths and arrivals as people write them, and what makes no sense."""

from random import Random

import pytest

from tympan.bootstrap.planning import put_together
from tympan.capacity.demand import MAX_LENGTHS, Demand, Goal, Lengths, arrivals_in, lengths_in, seconds, thinned
from tympan.errors import InvalidRequest
from tympan.storage.demand import PastJob
from tympan.storage.usage import Used

TEN = Lengths((10.0,))


@pytest.mark.parametrize(
    ("text", "value"),
    [("30", 30.0), ("30s", 30.0), ("500ms", 0.5), ("2m", 120.0), ("2min", 120.0), ("1.5h", 5_400.0), (" 5 S ", 5.0)],
)
def test_times_are_read_as_people_write_them(text: str, value: float) -> None:
    """With or without a unit."""
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "soon", "5 weeks", "-3s", "inf", "nan", "s", "1e400"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The remedy shows how to write one."""
    with pytest.raises(InvalidRequest) as caught:
        seconds(text)
    assert caught.value.remedy


def test_lengths_come_with_a_heading_and_with_counts() -> None:
    """The mean follows the counts."""
    found = lengths_in("seconds,count\n10,3\n50,1\n")
    assert found.mean_s == pytest.approx(20.0)
    assert lengths_in("5\n7\n").weights == (1.0, 1.0)


def test_many_lengths_are_thinned_and_keep_their_mean() -> None:
    """The largest and the smallest have their part in it."""
    found = thinned([(float(n), 1.0) for n in range(1, 10_001)])
    assert len(found.values_s) <= MAX_LENGTHS
    assert found.mean_s == pytest.approx(5_000.5)


@pytest.mark.parametrize("text", ["", "seconds\n", "ten\n1\nmany,1\n", "0\n", "-5\n", "5,-1\n", "nan\n", "5,0\n"])
def test_lengths_that_cannot_be_are_refused(text: str) -> None:
    """Nothing, no number, no length."""
    with pytest.raises(InvalidRequest):
        lengths_in(text)


def test_arrivals_by_the_hour() -> None:
    """Hours that are not named have none."""
    found = arrivals_in("hour,requests\n9,100\n10:00,250\n")
    assert (found.by_hour[9], found.by_hour[10], sum(found.by_hour)) == (100.0, 250.0, 350.0)


def test_moments_of_arrivals_are_a_mean_day() -> None:
    """Two days of data are halved; lengths beside them count."""
    found = arrivals_in("at,length\n2026-01-30T09:10:00,10\n2026-01-30T09:20:00,20\n2026-01-31T09:30:00+00:00,30\n")
    assert found.by_hour[9] == pytest.approx(1.5)
    assert found.lengths is not None
    assert found.lengths.mean_s == pytest.approx(20.0)


@pytest.mark.parametrize("text", ["", "24,5\n", "9,-1\n", "9\n", "x\n9,many\n", "2026-01-30T09:10:00\nyesterday-1\n"])
def test_arrivals_that_cannot_be_are_refused(text: str) -> None:
    """With the line that is wrong."""
    with pytest.raises(InvalidRequest):
        arrivals_in(text)


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"callers": 1, "per_hour": 1.0},
        {"callers": 0},
        {"per_hour": 0.0},
        {"per_hour": 5.0, "job_share": 1.5},
        {"callers": 1_000_000},
    ],
)
def test_a_demand_is_one_thing_and_possible(wrong: dict[str, float]) -> None:
    """Callers at once, or requests by the hour."""
    with pytest.raises(InvalidRequest):
        Demand(TEN, **wrong)  # type: ignore[arg-type]  # that is the point


def test_a_demand_grows_in_all_its_parts() -> None:
    """Twice the requests in every hour, twice the callers."""
    double = Demand(TEN, per_hour=100.0, by_hour=(1.0, 2.0)).times(2.0)
    assert (double.per_hour, double.by_hour) == (200.0, (2.0, 4.0))
    assert Demand(TEN, callers=3).times(1.25).callers == 4


def test_seconds_of_audio_count_calls_and_jobs_by_their_lengths() -> None:
    """A tenth of the requests, but most of the audio."""
    demand = Demand(TEN, per_hour=3_600.0, job_share=0.1, job_lengths=Lengths((1_000.0,)))
    assert demand.audio_s_per_s == pytest.approx(109.0)
    rng = Random(1)  # noqa: S311 (repeatable, not secret)
    drawn = [demand.draw(rng) for _ in range(1_000)]
    assert 60 < sum(is_job for is_job, _ in drawn) < 140
    assert {length_s for is_job, length_s in drawn if is_job} == {1_000.0}
    assert Demand(TEN, callers=5).audio_s_per_s is None


def test_a_goal_without_times_says_so() -> None:
    """The command line then brings one."""
    assert not Goal().has_limit
    assert Goal(job_p95_s=60.0).has_limit


def test_the_database_tells_of_jobs_by_the_hour_and_of_calls_by_the_day() -> None:
    """Jobs keep their lengths and hours; calls get a tenth of a day in the busiest hour while jobs are few."""
    nine = 1_769_850_000.0  # 31 January 2026, 9 o'clock (UTC).
    found = put_together([PastJob(nine, 600.0), PastJob(nine + 60.0, None)], Used(1_000, 0, 20_000.0), 2)
    assert found.by_hour[9] == pytest.approx(1.0 + 500.0 * 0.9 / 23.0)
    assert max(found.by_hour) == pytest.approx(50.0)
    assert found.job_share == pytest.approx(1.0 / 501.0)
    assert found.lengths == Lengths((20.0,))
    assert found.job_lengths == Lengths((600.0,))
    assert "busiest hour has 10 %" in found.notes[0]


def test_calls_follow_the_jobs_over_the_day_where_those_are_many() -> None:
    """A hundred jobs in one hour say when people work."""
    found = put_together([PastJob(0.0, 60.0)] * 100, Used(700, 0, 700.0), 7)
    assert found.by_hour[0] == pytest.approx((100 + 700) / 7)
    assert sum(found.by_hour[1:]) == 0.0


def test_an_empty_database_is_said_to_be_one() -> None:
    """Nothing can be planned from nothing."""
    with pytest.raises(InvalidRequest, match="no requests in the last 7 days"):
        put_together([], Used(), 7)
