"""The scale plan: counts add up, the simulation agrees with queueing theory, the page with its figures."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale import __main__ as command
from benchmarks.scale import model
from benchmarks.scale.document import FIGURES, PAGE, RESULTS, build, costs_from, engine_rates, load, save
from benchmarks.scale.measure import percentile, synthetic_words
from benchmarks.scale.model import ASSUMPTIONS, MIXES, Costs, FileKind, Part, Plant
from benchmarks.scale.queues import Clock, Station
from benchmarks.scale.report import TABLES, fill
from benchmarks.scale.simulate import Seen, simulate

DAY_S = 86_400.0
COSTS = Costs(
    cpu_ms=dict.fromkeys(model.transactions_per_s(Plant(MIXES["mixed"], Costs({}, {}, 1, 1))), 0.5),
    log_bytes=dict.fromkeys(model.transactions_per_s(Plant(MIXES["mixed"], Costs({}, {}, 1, 1))), 1000.0),
    worker_rate=50.0,
    prepare_rate=800.0,
)
each_mix = pytest.mark.parametrize("name", MIXES)


def plant(name: str = "mixed", **changes: float) -> Plant:
    """Return a small cluster's day, one hundredth of the planned one, unless changed."""
    assumed = {name: a.value for name, a in ASSUMPTIONS.items()} | changes
    return Plant(MIXES[name], COSTS, hours_a_day=10_000.0, workers=10.0, assumed=assumed)


def part(found: Plant, name: str) -> Part:
    """Return one part of a cluster by its name."""
    return next(p for p in model.parts(found) if p.name == name)


def line(servers: int, service_s: float, per_s: float, *, seed: int = 1, until_s: float = 4_000.0) -> Station:
    """Return a station that random arrivals have visited for a while."""
    clock = Clock(seed)
    station = Station(clock, servers)
    clock.poisson(per_s, lambda: station.visit(service_s, lambda: None))
    clock.run_until(500.0)
    station.reset()
    clock.run_until(until_s)
    return station


def by_station(found: list[Seen]) -> dict[str, Seen]:
    """Return what was seen, by the station's name."""
    return {seen.station: seen for seen in found}


@each_mix
def test_the_shares_of_a_mix_make_a_whole(name: str) -> None:
    """Every audio-hour belongs to one kind of file."""
    assert sum(kind.share for kind in MIXES[name]) == pytest.approx(1.0)


def test_a_day_of_calls_and_newscasts_is_counted_by_hand() -> None:
    """A million hours of 4-minute calls are 15 million jobs; of 45-minute files, 1.33 million with 9 sections each."""
    calls, news = Plant(MIXES["calls"], COSTS), Plant(MIXES["news"], COSTS)
    assert model.jobs_per_s(calls) * DAY_S == pytest.approx(15e6)
    assert model.steps_per_s(calls) * DAY_S == pytest.approx(45e6)
    assert model.jobs_per_s(news) * DAY_S == pytest.approx(1e6 / 0.75)
    assert model.sections_per_s(news) == pytest.approx(9 * model.jobs_per_s(news))


@each_mix
def test_no_audio_is_lost_between_files_and_sections(name: str) -> None:
    """The steps of a day are those that its files imply, and the sections hold all of its audio."""
    found = Plant(MIXES[name], COSTS)
    files = {kind: model.audio_s_per_s(found) * kind.share / kind.length_s for kind in found.mix}
    assert sum(per_s * kind.length_s for kind, per_s in files.items()) == pytest.approx(1e6 * 3600 / DAY_S)
    steps = sum(per_s * (2 + model.sections_of(kind, found.section_s)) for kind, per_s in files.items())
    assert model.steps_per_s(found) == pytest.approx(steps)
    counted = model.transactions_per_s(found)
    deliveries = 2 * model.jobs_per_s(found)
    assert counted["claim"] == pytest.approx(steps + deliveries)
    assert counted["add_section"] == counted["commit_section"] == model.sections_per_s(found)


@given(st.floats(min_value=0.01, max_value=100), st.sampled_from(sorted(MIXES)))
def test_load_and_workers_in_step_change_every_rate_in_step(factor: float, name: str) -> None:
    """Doubling both doubles all; only what everyone sends to everyone grows with the square."""
    small = Plant(MIXES[name], COSTS)
    large = small.scaled(factor)
    for kind, per_s in model.transactions_per_s(small).items():
        assert model.transactions_per_s(large)[kind] == pytest.approx(per_s * factor)
    for rate in (model.database_cores, model.log_bytes_per_s, model.dead_rows_per_s, model.store_bytes_per_s):
        assert rate(large) == pytest.approx(rate(small) * factor)
    square = model.GOSSIP
    if factor > 2:
        assert part(large, square).load > part(small, square).load * factor


@given(st.floats(min_value=1, max_value=1e5), st.floats(min_value=30, max_value=3600))
def test_sections_cover_a_file_with_none_to_spare(length_s: float, section_s: float) -> None:
    """As many as needed, and not one more."""
    n_sections = model.sections_of(FileKind("file", length_s, 1.0), section_s)
    assert (n_sections - 1) * section_s < length_s <= n_sections * section_s * (1 + 1e-12)


def test_a_part_is_full_where_its_load_meets_its_capacity() -> None:
    """Half used at a million hours means full at two million; without load, never."""
    half, idle = Part("p", 50.0, 100.0, "x", "assumed"), Part("p", 0.0, 100.0, "x", "assumed")
    assert (half.utilisation, half.saturates_at_hours) == (0.5, 2e6)
    assert idle.saturates_at_hours == math.inf


def test_larger_sections_mean_fewer_steps() -> None:
    """Sections twice as long halve the sections of long files, and nothing else."""
    small = Plant(MIXES["news"], COSTS)
    large = replace(small, section_s=900.0)
    assert model.sections_per_s(large) == pytest.approx(model.sections_per_s(small) / 3)
    assert model.jobs_per_s(large) == model.jobs_per_s(small)
    assert model.database_cores(large) < model.database_cores(small)


def test_a_busier_database_bears_an_old_snapshot_for_less_time() -> None:
    """The time left falls with the square of the steps, and there is none when the cores are full."""
    found = Plant(MIXES["mixed"], COSTS)
    limit_s = model.snapshot_limit_s(found, 50e-9)
    spare = 16 * 0.7 - model.database_cores(found)
    assert limit_s == pytest.approx(spare / (50e-9 * model.steps_per_s(found) ** 2))
    assert model.snapshot_limit_s(found.scaled(100.0), 50e-9) == 0.0


@pytest.mark.parametrize(("servers", "per_s"), [(1, 0.7), (4, 3.2), (16, 14.4)])
def test_utilisation_is_arrivals_times_service_over_servers(servers: int, per_s: float) -> None:
    """M/D/c: each arrival takes a second of one server."""
    station = line(servers, 1.0, per_s)
    assert station.utilisation == pytest.approx(per_s / servers, rel=0.04)
    assert station.growth_per_s == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_the_wait_for_one_server_is_what_theory_says(share: float) -> None:
    """M/D/1: the mean wait is service x share / (2 x (1 - share))."""
    station = line(1, 1.0, share, until_s=40_000.0)
    assert station.mean_wait_s == pytest.approx(share / (2 * (1 - share)), rel=0.1)


def test_an_overloaded_line_grows_by_what_cannot_be_served() -> None:
    """Three arrivals a second at two servers leave one more in the line each second."""
    station = line(2, 1.0, 3.0)
    assert station.utilisation == pytest.approx(1.0)
    assert station.growth_per_s == pytest.approx(1.0, rel=0.1)


def test_who_came_first_is_served_first() -> None:
    """One server, three visitors at once: they end in their order, one service apart."""
    clock, ended = Clock(1), list[tuple[str, float]]()
    station = Station(clock, 1)
    for name in "abc":
        station.visit(2.0, lambda name=name: ended.append((name, clock.now_s)))  # type: ignore[misc]
    clock.run_until(10.0)
    assert ended == [("a", 2.0), ("b", 4.0), ("c", 6.0)]
    assert station.mean_wait_s == pytest.approx(2.0)


def test_the_same_seed_gives_the_same_day_and_another_seed_another() -> None:
    """Nothing but the seed is left to chance."""
    small = plant()
    assert simulate(small, seed=3) == simulate(small, seed=3)
    assert simulate(small, seed=3) != simulate(small, seed=4)


def test_the_simulation_and_the_count_agree() -> None:
    """Two ways to the same load: what stations were busy with is what the model says, where nothing is full."""
    small = plant("calls", publish_s=0.001)
    small = replace(small, hours_a_day=100_000.0, workers=200.0)
    seen = by_station(simulate(small))
    assert seen["workers"].utilisation == pytest.approx(part(small, "workers").utilisation, rel=0.1)
    cores = seen["database"].utilisation * 11  # Whole cores: 0.7 of 16.
    assert cores == pytest.approx(model.database_cores(small), rel=0.1)
    assert seen["relay"].utilisation == pytest.approx(model.steps_per_s(small) * 0.001, rel=0.1)
    assert seen["storage bandwidth"].utilisation == pytest.approx(
        part(small, "object storage, bandwidth").utilisation, rel=0.1
    )


def test_behind_a_full_part_the_others_idle() -> None:
    """A relay that does a tenth of the messages is full, its line grows, and the workers see little."""
    seen = by_station(simulate(plant(publish_s=1.0)))
    assert seen["relay"].is_full
    assert seen["relay"].growth_per_s > 1.0
    assert seen["workers"].utilisation < 0.3
    assert not seen["workers"].is_full


def test_percentiles_and_words() -> None:
    """The 99th of a hundred values is the last; invented text is the same each time, and some words recur."""
    assert percentile([float(n) for n in range(100)], 0.99) == 99.0
    assert percentile([3.0], 0.5) == 3.0
    words = synthetic_words(1_000, 7)
    assert words == synthetic_words(1_000, 7)
    assert len(set(words)) < len(words) == 1_000


def test_engine_rates_come_from_the_published_figures() -> None:
    """The rate of a worker is that of long files at beam 5, not a figure of its own."""
    rates = engine_rates(RESULTS)
    long = json.loads((RESULTS / "longform.json").read_text(encoding="utf-8"))["result"]["rows"]
    assert rates["worker_rate"] in {row["rate"]["http"] for row in long if row["beam"] == 5}
    assert rates["prepare_rate"] > 5 * rates["worker_rate"]


@pytest.mark.long
def test_the_published_computation_follows_from_the_published_constants() -> None:
    """What is computed is computed from what is measured and assumed in the same file."""
    published = load()
    again = build(published["measured"], scales=(0.1,))
    assert json.loads(json.dumps(again["computed"])) == published["computed"]
    assert again["assumed"] == published["assumed"]
    assert again["simulated"]["as_it_stands"]["runs"][0] == published["simulated"]["as_it_stands"]["runs"][0]
    assert set(costs_from(published["measured"]).cpu_ms) >= set(model.transactions_per_s(plant()))


def test_the_page_shows_what_the_file_holds() -> None:
    """Every table of the page is in the file's figures, and every table there is, is on the page."""
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, load()) == page
    for name in TABLES:
        assert f"<!-- figures: {name} -->" in page
    assert len(page.splitlines()) <= 150


def test_a_page_is_filled_between_its_marks_only(tmp_path: Path) -> None:
    """Text around a block stays, even when filled twice; an unknown name is refused."""
    document = load()
    filled = fill("before\n<!-- figures: stored -->\nold\n\nafter\n", document)
    assert filled.startswith("before\n<!-- figures: stored -->\nWhatever the mix: ")
    assert filled.endswith(".\n\nafter\n")
    assert "old" not in filled
    assert fill(filled, document) == filled
    with pytest.raises(KeyError, match="nothing"):
        fill("<!-- figures: nothing -->\n", document)
    save(document, tmp_path / "scale.json")
    assert load(tmp_path / "scale.json") == document


def test_the_command_refuses_words_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    """It says how it is called, and writes nothing."""
    before = FIGURES.read_bytes()
    assert command.main(["mesure"]) == 2
    assert "measure" in capsys.readouterr().err
    assert FIGURES.read_bytes() == before
