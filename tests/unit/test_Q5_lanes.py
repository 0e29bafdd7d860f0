"""Short and live work beside long files, in simulated time: who waits how long, and what it costs the files."""

import math
from collections.abc import Sequence

import pytest

from tests.batching_support import make_item, origin
from tests.lanes_support import CLIP_S, LEAD_S, LONG_S, Simulation, engine_s
from tympan.batching.cost import CostModel
from tympan.batching.queue import BatchLimits, WindowQueue
from tympan.domain import DecodeParams, Lane

LIMITS = BatchLimits(max_ms=300.0, idle_ms=2000.0)
WINDOW_S = engine_s([LONG_S])
ALONE_S = engine_s([CLIP_S])


def p95(values: Sequence[float]) -> float:
    """Return the 95th percentile."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def long_windows(simulation: Simulation, for_s: float) -> int:
    """Let time pass and return how many windows of the long file were taken in it."""
    before = simulation.windows_of("long")
    simulation.run(for_s)
    return simulation.windows_of("long") - before


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
@pytest.mark.parametrize("think_s", [0.05, 1.0, 2.5])
def test_Q5_clips_beside_a_long_file_wait_for_one_of_its_windows(lane: Lane, think_s: float) -> None:
    """From the third clip on, none waits for a batch of several windows, nor for one that was handed over ahead."""
    simulation = Simulation(LIMITS)
    simulation.long_file(lane=lane)
    simulation.run(10.0)
    simulation.clips(60, lambda: think_s)
    simulation.run(300.0)
    waits_s = simulation.waits_s["clip"]
    assert len(waits_s) == 60
    assert p95(waits_s[2:]) <= ALONE_S + WINDOW_S + 0.01
    assert max(waits_s) <= ALONE_S + LIMITS.idle_ms / 1000.0 + WINDOW_S


def test_Q5_a_clip_that_comes_every_half_minute_costs_a_long_file_nothing() -> None:
    """Full batches go on, since nobody is expected for so long; the clip waits for one of them."""
    alone, beside = Simulation(LIMITS), Simulation(LIMITS)
    for simulation in (alone, beside):
        simulation.long_file()
        simulation.run(10.0)
    beside.clips(20, lambda: 30.0)
    fewer = long_windows(beside, 600.0) / long_windows(alone, 600.0)
    assert fewer >= 0.98
    assert len(beside.waits_s["clip"]) >= 18
    assert max(beside.waits_s["clip"]) <= ALONE_S + LIMITS.idle_ms / 1000.0 + LEAD_S


def test_Q5_a_long_file_alone_has_full_batches() -> None:
    """Its own windows are no newcomers."""
    simulation = Simulation(LIMITS)
    simulation.long_file()
    simulation.run(60.0)
    assert min(map(len, simulation.batches[1:])) >= 5


def test_Q5_batches_are_full_again_when_no_more_clips_come() -> None:
    """After twenty quiet seconds the long file is as fast as before."""
    simulation = Simulation(LIMITS)
    simulation.long_file()
    before = long_windows(simulation, 60.0)
    simulation.clips(30, lambda: 0.5)
    during = long_windows(simulation, 30.0)
    assert len(simulation.waits_s["clip"]) == 30
    simulation.run(20.0)
    after = long_windows(simulation, 60.0)
    assert during < 0.9 * before / 2
    assert after >= 0.95 * before


def test_Q5_several_long_files_make_way_for_clips_together() -> None:
    """Windows of different long files do not ride together while somebody much shorter is expected."""
    simulation = Simulation(LIMITS)
    for name in ("long", "another", "third"):
        simulation.long_file(name)
    simulation.run(10.0)
    simulation.clips(40, lambda: 0.5)
    simulation.run(120.0)
    assert p95(simulation.waits_s["clip"][2:]) <= engine_s([LONG_S, CLIP_S]) + 0.01


@pytest.mark.parametrize("lane", [Lane.INTERACTIVE, Lane.BATCH])
def test_live_windows_wait_for_one_window_of_a_file(lane: Lane) -> None:
    """From the second one on, also after a pause of three seconds."""
    simulation = Simulation(LIMITS)
    for name in ("long", "another"):
        simulation.long_file(name, lane)
    simulation.run(10.0)
    simulation.clips(40, lambda: 3.0, "speaker", Lane.LIVE)
    simulation.run(300.0)
    waits_s = simulation.waits_s["speaker"]
    assert len(waits_s) == 40
    assert max(waits_s[1:]) <= ALONE_S + WINDOW_S + 0.01


def test_clips_beside_clips_share_batches_as_ever() -> None:
    """Where everybody is short, nobody has to make way: batches are as full, and handed over ahead."""
    queue = WindowQueue()
    for number in range(12):
        queue.put(make_item(origin(f"clip{number}"), 5.0, at_s=100.0 + number / 10))
    assert not queue.better_waits(102.0, LIMITS)
    assert len(queue.take(102.0, LIMITS, CostModel())) == 12


@pytest.mark.parametrize(
    ("length_s", "lane", "waits"), [(28.0, Lane.INTERACTIVE, True), (28.0, Lane.BATCH, True), (5.0, Lane.BATCH, False)]
)
def test_what_would_hold_up_the_next_clip_is_not_handed_over_ahead(length_s: float, lane: Lane, *, waits: bool) -> None:
    """A long window had better wait outside while clips are expected, a short one need not; after 20 s, neither."""
    queue = WindowQueue()
    for number in range(2):
        queue.put(make_item(origin(f"clip{number}"), 5.0, at_s=100.0 + number), others_run=True)
    assert len(queue.take(101.0, LIMITS, CostModel())) == 2
    assert not queue.better_waits(101.0, LIMITS)
    queue.put(make_item(origin("file", lane=lane), length_s, at_s=90.0))
    assert queue.better_waits(102.0, LIMITS) is waits
    assert not queue.better_waits(122.0, LIMITS)


def test_batches_of_other_lanes_stay_short_while_somebody_speaks() -> None:
    """A live window that comes next waits for ``max_ms``, and for longer batches only the longer nobody speaks."""
    for quiet_s, allowed_ms in ((0.1, 300.0), (3.0, 300.0), (10.0, 1000.0), (20.0, 2000.0)):
        queue = WindowQueue()
        queue.put(make_item(origin("speaker", lane=Lane.LIVE), 1.0, 100.0))
        (live,) = queue.take(100.0, LIMITS, CostModel())
        assert live.origin.lane is Lane.LIVE
        for number in range(20):
            queue.put(make_item(origin(f"file{number}", lane=Lane.BATCH), 5.0, 100.0 + quiet_s))
        assert queue.better_waits(100.0 + quiet_s, LIMITS) is (quiet_s < 20.0)
        taken = queue.take(100.0 + quiet_s, LIMITS, CostModel())
        predicted_ms = CostModel().predict_ms(DecodeParams(), [item.audio_s for item in taken])
        assert allowed_ms - 170.0 < predicted_ms <= allowed_ms
