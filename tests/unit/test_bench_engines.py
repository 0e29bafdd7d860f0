"""The engine benchmark with the fake engine: what a row says, what is kept, what fails alone."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tympan.audio.decode import Decoder
from tympan.bench import engine_report, engines
from tympan.bench.engines import Plan
from tympan.bench.grid import Cell, Grid, Reading, cells, requests_at_once
from tympan.bench.journal import open_journal
from tympan.bench.measure import Bench, peak_rss_bytes
from tympan.bench.recordings import AudioSet, Decode, made
from tympan.bench.specs import Home, spec_of
from tympan.domain import Options, Timestamps
from tympan.engine import layouts, models
from tympan.engine.models import ResolvedModel
from tympan.errors import ConfigError, EngineError, InvalidRequest, TympanError

CELL = Cell("fake", "fake", "auto", 1, 1, 4, "speech-5s")
READING = Reading("fake", "fake", "r", "none", None, 100.0, 50.0, 40.0, 30.0, 2, 10.0, "digest", ((9, 1), (1, 1)))
NAMED_BY_THE_CONTRACT = {
    "load_time_ms", "inference_time_ms", "total_time_ms", "realtime_factor", "memory_peak_mb", "model", "quantization",
    "audio_file", "audio_duration_s", "threads", "gpu", "wer",
}  # fmt: skip


class Watcher:
    """Remembers what it was told, and may call for a stop."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        """``stop`` is set at the first finished round."""
        self.totals: tuple[int, int] | None = None
        self.begun: list[tuple[str, int]] = []
        self._stop = stop

    def total(self, rounds: int, done: int) -> None:
        """Remember."""
        self.totals = rounds, done

    def begin(self, cell: Cell, number: int) -> None:
        """Remember."""
        self.begun.append((cell.engine, number))

    def end(self, cell: Cell, reading: Reading | None, error: TympanError | None) -> None:
        """Stop, if asked to."""
        if self._stop is not None:
            self._stop.set()


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, AudioSet]]:
    """Return a bench with a decoder, and five seconds of speech."""
    with Decoder() as decoder:
        folder = tmp_path_factory.mktemp("speech")
        audio = made((5.0,), folder, Decode(decoder.stream, 100.0))[0]
        yield Bench(decoder, Options(beam_size=1, timestamps=Timestamps.NONE)), audio


def _plan(tmp_path: Path, audio: AudioSet, rounds: int = 2, **grid: Any) -> Plan:
    asked = Grid(**{"models": ("fake",), "engines": ("fake",), "threads": (1,), **grid})
    return Plan(asked, (audio,), rounds, tmp_path / "rounds.jsonl")


def test_a_row_has_the_named_figures_and_none_is_zero(bench: tuple[Bench, AudioSet], tmp_path: Path) -> None:
    """Load, inference, total, memory: measured, and they add up; more engines and batches mean more requests."""
    home = Home(tmp_path, options={"ms_per_window": "60"})
    plan = _plan(tmp_path, bench[1], rounds=1, replicas=(1, 2), batches=(2,))
    document, cut_short = engines.run(plan, bench[0], home, Watcher(), "tympan bench engine")
    assert cut_short is False
    one, two = document["rows"]
    assert one.keys() >= NAMED_BY_THE_CONTRACT
    assert one["load_time_ms"] > 50
    assert one["memory_peak_mb"] > 10
    assert 100 < one["inference_time_ms"] < one["total_time_ms"]
    assert one["realtime_factor"] == pytest.approx(1 / one["rtf"], rel=0.01)
    assert one["realtime_factor"] == pytest.approx(1e3 * one["processed_s"] / one["total_time_ms"], rel=0.01)
    assert (one["requests"], two["requests"]) == (2, 4)
    assert two["memory_peak_mb"] > 1.5 * one["memory_peak_mb"]
    assert one["wer"] > 50  # Made-up words.
    assert one["gpu"] is None
    assert document["machine"]["cores"] >= 1


def test_finished_rounds_are_not_measured_again(bench: tuple[Bench, AudioSet], tmp_path: Path) -> None:
    """A stop after the first round keeps it; the next run measures the rest, and a third nothing."""
    stop = threading.Event()
    home, plan = Home(tmp_path), _plan(tmp_path, bench[1])
    stopped = replace(bench[0], cancel=stop)
    document, cut_short = engines.run(plan, stopped, home, Watcher(stop), "")
    assert cut_short is True
    assert len(document["rows"][0]["runs"]) == 1
    second, third = Watcher(), Watcher()
    document, cut_short = engines.run(plan, bench[0], home, second, "")
    assert (cut_short, second.totals, second.begun) == (False, (2, 1), [("fake", 1)])
    again, _ = engines.run(plan, bench[0], home, third, "")
    assert (third.totals, third.begun) == ((2, 2), [])
    assert again["rows"] == document["rows"]


def test_other_options_are_another_benchmark(bench: tuple[Bench, AudioSet], tmp_path: Path) -> None:
    """Figures taken with another beam or other knobs are not used."""
    plan = _plan(tmp_path, bench[1], rounds=1)
    engines.run(plan, bench[0], Home(tmp_path), Watcher(), "")
    for changed, home in (
        (replace(bench[0], options=Options(beam_size=2)), Home(tmp_path)),
        (bench[0], Home(tmp_path, options={"language": "de"})),
    ):
        watcher = Watcher()
        engines.run(plan, changed, home, watcher, "")
        assert watcher.totals == (1, 0)


@pytest.mark.parametrize("knobs", [{"fail_at": "1-99"}, {"load_error": "no room"}, {"exit_at": "2"}])
def test_a_cell_that_fails_says_so_and_has_no_figures(
    bench: tuple[Bench, AudioSet], tmp_path: Path, knobs: dict[str, str]
) -> None:
    """An engine that fails, cannot be loaded or had to be replaced in the middle gives an error and not a number."""
    warmed = replace(bench[0], warm_up=bench[1].recordings[0])
    plan = _plan(tmp_path, bench[1], rounds=1, batches=(1,))
    document, _ = engines.run(plan, warmed, Home(tmp_path, options=knobs), Watcher(), "")
    (row,) = document["rows"]
    assert row["error"]["message"]
    assert "total_time_ms" not in row
    assert "## Failed" in engine_report.page(document, [])


def test_an_engine_there_is_not_fails_its_cells_alone(bench: tuple[Bench, AudioSet], tmp_path: Path) -> None:
    """The other cells are measured all the same, and the failed one is not tried in every round."""
    plan = _plan(tmp_path, bench[1], engines=("fake", "steam"))
    watcher = Watcher()
    document, _ = engines.run(plan, bench[0], Home(tmp_path / "none"), watcher, "")
    assert [row["error"] is None for row in document["rows"]] == [True, False]
    assert watcher.begun == [("fake", 0), ("steam", 0), ("fake", 1)]


def test_too_many_cells_are_refused(bench: tuple[Bench, AudioSet], tmp_path: Path) -> None:
    """Nobody means to measure ten thousand cells."""
    plan = _plan(tmp_path, bench[1], threads=tuple(range(1, 101)), batches=tuple(range(1, 101)))
    with pytest.raises(InvalidRequest, match="10000 cells"):
        engines.run(plan, bench[0], Home(tmp_path), Watcher(), "")


def test_two_at_a_time_cannot_write_one_journal(tmp_path: Path) -> None:
    """The second is told; so is the owner of a place that cannot be written."""
    path = tmp_path / "rounds.jsonl"
    with (
        open_journal(path, "scope"),
        pytest.raises(InvalidRequest, match="Another benchmark"),
        open_journal(path, "scope"),
    ):
        pass
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="cannot be written"), open_journal(tmp_path / "file" / "x", "scope"):
        pass


def test_a_line_cut_short_costs_its_round_alone(tmp_path: Path) -> None:
    """After a crash in the middle of a line the rounds before it are known, and the next line is whole again."""
    path = tmp_path / "rounds.jsonl"
    with open_journal(path, "scope") as journal:
        journal.add(CELL, 0, READING)
        journal.add(CELL, 1, READING)
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with open_journal(path, "scope") as journal:
        assert (journal.get(CELL, 0), journal.get(CELL, 1)) == (READING, None)
        journal.add(CELL, 1, READING)
    with open_journal(path, "scope") as journal:
        assert journal.get(CELL, 1) == READING
    with open_journal(path, "another scope") as journal:
        assert journal.get(CELL, 0) is None
    with open_journal(path, "scope", fresh=True) as journal:
        assert journal.get(CELL, 0) is None


def test_every_combination_is_a_cell_and_models_stay_together() -> None:
    """Two models, two numbers of threads and two recordings are eight cells."""
    found = cells(Grid(models=("a", "b"), threads=(1, 2)), ["x", "y"])
    assert len(set(found)) == 8
    assert [cell.model for cell in found] == ["a"] * 4 + ["b"] * 4


@pytest.mark.parametrize(
    ("batch", "replicas", "durations_s", "expected"),
    [(1, 1, [5.0], 1), (8, 1, [5.0], 8), (8, 2, [5.0], 16), (8, 1, [600.0], 1), (16, 2, [56.0], 16), (4, 1, [0.0], 4)],
)
def test_enough_requests_run_at_once_to_fill_the_batches(
    batch: int, replicas: int, durations_s: list[float], expected: int
) -> None:
    """Short recordings come many at a time; a long one has windows enough of its own."""
    cell = replace(CELL, batch=batch, replicas=replicas)
    assert requests_at_once(cell, durations_s, 28.0) == expected


def test_rounds_become_medians_with_their_spread() -> None:
    """Plain names hold medians, memory the highest, errors are pooled over recordings."""
    readings = [replace(READING, total_ms=value, memory_peak_mb=value) for value in (40.0, 90.0, 50.0)]
    row = engines._figures(readings)
    assert (row["total_time_ms"], row["memory_peak_mb"], row["wer"], row["wer_words"]) == (50.0, 90.0, 20.0, 10)
    assert row["spread"]["total_time_ms"] == {"min": 40.0, "median": 50.0, "max": 90.0}
    assert row["realtime_factor"] == 200.0
    assert json.loads(json.dumps(row))["texts_repeat"] is True


def test_the_peak_outlasts_what_was_given_back() -> None:
    """The highest memory counts, not what happens to be in use; a process that is gone has none."""
    code = "import sys; data = b'x' * 200_000_000; del data; print('ready', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        assert 200e6 < peak_rss_bytes(process.pid) < 300e6
        process.communicate()
    with pytest.raises(EngineError, match="memory"):
        peak_rss_bytes(2**22 + 5)


def test_a_number_format_that_cannot_run_here_is_a_typed_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The words are those of the server's own settings."""
    monkeypatch.setattr(models, "resolve", lambda *_words: ResolvedModel("mine", tmp_path, "r", "local"))
    with pytest.raises(ConfigError, match="does not run on cpu"):
        spec_of(replace(CELL, engine="auto", compute_type="float8"), Home(tmp_path, device="cpu"))


def test_a_ggml_file_decides_its_number_format_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever format is asked for, and the device is left to the engine's own process."""
    found = ResolvedModel("mine", tmp_path, "r", "local")
    monkeypatch.setattr(models, "resolve", lambda *_words: found)
    monkeypatch.setattr(layouts, "look", lambda _path: layouts.Finding(layouts.GGML, ()))
    spec = spec_of(replace(CELL, model="mine", engine="auto", compute_type="int8"), Home(tmp_path))
    assert (spec.kind, spec.compute_type, spec.device) == ("whispercpp", "auto", "auto")


def _document() -> dict[str, Any]:
    """Return a made-up result with two models, formats, threads and batches."""
    rows = []
    for cell in cells(Grid(("a", "b"), ("auto",), ("int8",), (1, 2), (1,), (1, 8)), ["x"]):
        wrong = 1 if cell.model == "a" else 3
        reading = replace(READING, model=cell.model, total_ms=100.0 / cell.threads, errors=((50, wrong),))
        rows.append(engines._row(cell, AudioSet("x", ()), [reading, reading], None))
    return {"rows": rows, "machine": {"cpu": "c", "cores": 2, "ram_gib": 1, "gpus": ["G"], "system": "L", "kernel": "k",
            "python": "3"}, "versions": {"numpy": "2", "jiwer": "not installed"}, "date": "2026-01-01T00:00:00",
            "git_commit": None, "load_average": 7.5, "command": "tympan bench engine"}  # fmt: skip


def test_all_three_charts_and_the_table_are_made() -> None:
    """Threads, batches and errors differ, so there is a chart of each; the page shows them and names the machine."""
    document = _document()
    charts = engine_report.charts(document)
    assert set(charts) == {"rtf-by-threads", "throughput-by-batch", "speed-and-errors"}
    page = engine_report.page(document, ["engine-rtf-by-threads.svg"])
    assert "![engine-rtf-by-threads](engine-rtf-by-threads.svg)" in page
    assert page.count("| onnx |") == 0
    assert page.count("| a | fake | none |") == 4
    assert "on c, 2 cores, 1 GiB, G, L k" in page
    assert "load average 7.5" in page


def test_a_chart_needs_something_that_differs() -> None:
    """With one number of threads, one batch and one model there is nothing to draw."""
    document = _document()
    document["rows"] = document["rows"][:1]
    assert engine_report.charts(document) == {}
