"""A machine's costs: fitted to what was measured, kept as JSON, taken from a benchmark."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.capacity_support import FAST
from tympan.bench.client import Item
from tympan.capacity.calibrating import Clip, Crowd, calibrated, simulated, steady_rate
from tympan.capacity.fitting import Timed, fitted, line, ratios
from tympan.capacity.from_bench import profile_from_bench
from tympan.capacity.measuring import middle_ms
from tympan.capacity.profile import WINDOW_S, BatchCost, Door, as_json, from_json
from tympan.errors import InvalidRequest

BENCH = Path(__file__).parents[2] / "docs" / "benchmarks" / "tympan-bench" / "engine.json"
KINDS = [(length_s,) * size for length_s in (2.0, 5.0, 12.0, 26.0) for size in (1, 2, 4, 8)]


@pytest.mark.parametrize(
    "cost",
    [
        BatchCost(batch_ms=10.0, audio_ms=40.0),
        BatchCost(batch_ms=5.0, window_ms=3.0, audio_ms=12.0, square_ms=0.4, longest_ms=8.0),
    ],
)
def test_a_cost_is_found_again_from_its_batches(cost: BatchCost) -> None:
    """Every term of it, and with it batches that were never measured."""
    found = fitted([Timed(lengths_s, cost.ms(lengths_s)) for lengths_s in KINDS])
    assert found.terms == pytest.approx(cost.terms, abs=0.01)
    assert found.ms((3.0, 20.0, 7.0)) == pytest.approx(cost.ms((3.0, 20.0, 7.0)), rel=1e-3)


def test_no_term_is_ever_negative() -> None:
    """Also where a straight line through noise would say so."""
    found = fitted([Timed((5.0,), 100.0), Timed((10.0,), 90.0), Timed((10.0, 10.0), 185.0)])
    assert min(found.terms) >= 0.0
    with pytest.raises(ValueError, match="no batch"):
        fitted([])


def test_ratios_say_how_far_batches_lie_from_their_cost() -> None:
    """In order of size, and no more than are needed."""
    cost = BatchCost(audio_ms=10.0)
    assert ratios(cost, [Timed((1.0,), 12.0), Timed((1.0,), 9.0)]) == (0.9, 1.2)
    assert len(ratios(cost, [Timed((1.0,), 10.0 + n / 100.0) for n in range(1_000)])) <= 200
    assert ratios(cost, []) == (1.0,)


def test_a_line_through_two_points_has_no_negative_part() -> None:
    """What is left beside the engine may come out negative by noise: then it is nothing."""
    assert line([(5.0, 30.0), (20.0, 60.0)]) == pytest.approx((20.0, 2.0))
    assert line([(5.0, -3.0), (20.0, -1.0)]) == (0.0, 0.0)


@pytest.mark.parametrize("audio_s", [0.1, 5.0, 28.0, 29.0, 60.0, 300.0, 3_600.0])
def test_windows_hold_all_of_the_speech(audio_s: float) -> None:
    """None is longer than the server's, and together they are the speech."""
    profile = replace(FAST, speech_share=0.8)
    windows = profile.windows_of(audio_s)
    assert sum(windows) == pytest.approx(max(0.2, 0.8 * audio_s))
    assert 0.0 < min(windows) <= max(windows) <= WINDOW_S


def test_a_profile_survives_json() -> None:
    """Nothing of it is lost."""
    profile = replace(FAST, ratios=(0.9, 1.1), measured=({"windows": 1},), origin={"date": "2026-01-31"})
    assert from_json(json.loads(json.dumps(as_json(profile)))) == profile


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "something else"},
        {"version": 99},
        {"cost": {"batch_ms": -1.0}},
        {"cost": {"unknown": 1.0}},
        {"cost": {}},
        {"door": {"hands": 0}},
        {"ratios": []},
        {"speech_share": 0.0},
        {"cost": {"audio_ms": float("nan")}},
        {"cost": {"audio_ms": "much"}},
    ],
)
def test_a_damaged_profile_is_refused_with_a_remedy(changes: dict[str, object]) -> None:
    """Rather than planned with."""
    with pytest.raises(InvalidRequest) as caught:
        from_json({**as_json(FAST), **changes})
    assert caught.value.remedy


def test_a_benchmark_of_engines_is_a_profile_of_its_fastest_configuration() -> None:
    """Its throughput in the simulation is about the one that was measured."""
    document = json.loads(BENCH.read_text(encoding="utf-8"))
    profile = profile_from_bench(document, "bench")
    best = max((row for row in document["rows"] if row.get("runs")), key=lambda row: row["realtime_factor"])
    assert (profile.model, profile.engine, profile.source) == (best["model"], best["engine"], "bench")
    clip = Clip(Item("clip", b"", 30.0), (28.0, 2.0))
    fastest = max(row["realtime_factor"] for row in document["rows"] if row["model"] == best["model"])
    assert simulated(profile, 16, clip)[0] == pytest.approx(fastest, rel=0.5)


def test_a_benchmark_of_one_length_and_size_tells_too_little() -> None:
    """The remedy names the command that tells enough."""
    document = json.loads(BENCH.read_text(encoding="utf-8"))
    with pytest.raises(InvalidRequest, match="one length"):
        profile_from_bench({**document, "rows": document["rows"][:1]}, "bench")
    with pytest.raises(InvalidRequest, match="no row"):
        profile_from_bench({"rows": []}, "bench")


def test_contention_is_what_makes_the_simulation_as_slow_as_the_server() -> None:
    """Found again from what a simulation with it does; none where the server is not slower."""
    clip = Clip(Item("clip", b"", 5.0), (5.0,))
    shared = replace(FAST, door=Door(request_ms=80.0, hands=2, contention=1.0))
    rate, p50_s = simulated(shared, 8, clip)
    plain = replace(shared, door=replace(shared.door, contention=0.0))
    assert calibrated(plain, [Crowd(8, 5.0, rate, p50_s)], [clip]) == 1.0
    rate, p50_s = simulated(plain, 8, clip)
    assert calibrated(shared, [Crowd(8, 5.0, rate, p50_s)], [clip]) == 0.0


def test_the_rate_of_a_crowd_is_that_of_its_middle() -> None:
    """A slow start and a thin end do not count."""
    ends_s = [10.0 + n for n in range(30)]
    assert steady_rate(ends_s, 4) == pytest.approx(1.0)


def test_measured_batches_are_shown_by_kind() -> None:
    """Medians, smallest first."""
    batches = [Timed((5.0,), 3.0), Timed((5.0,), 1.0), Timed((5.0,), 2.0), Timed((5.0, 5.0), 4.0)]
    assert middle_ms(batches) == [
        {"windows": 1, "length_s": 5.0, "ms": 2.0},
        {"windows": 2, "length_s": 5.0, "ms": 4.0},
    ]
