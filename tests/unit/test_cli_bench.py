"""``tympan bench`` from the shell: flags, files, exit codes."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from tympan.bench.recordings import write_wav
from tympan.cli import app, bench_load
from tympan.cli.bench_options import counting, listed, named, weighted
from tympan.cli.console import ExitCode
from tympan.errors import FetchFailed, InvalidRequest


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TYMPAN_ENGINE", "fake")
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path / "data"))


def _run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["bench", *(str(word) for word in words)])


def test_engines_are_measured_written_and_known_the_next_time(tmp_path: Path) -> None:
    """JSON, page and charts lie in the output folder; a second run measures nothing; two results can be compared."""
    flags = ("engine", "--length", "5", "--threads", "1,2", "--rounds", "1", "-o", tmp_path / "out")
    first = _run(*flags)
    assert first.exit_code == ExitCode.OK, first.output
    document = json.loads((tmp_path / "out" / "engine.json").read_text(encoding="utf-8"))
    assert [row["threads"] for row in document["rows"]] == [1, 2]
    assert (tmp_path / "out" / "engine-rtf-by-threads.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "engine-rtf-by-threads.svg" in (tmp_path / "out" / "engine.md").read_text(encoding="utf-8")
    second = _run(*flags)
    assert "2 of 2 rounds are known" in second.output
    assert json.loads((tmp_path / "out" / "engine.json").read_text(encoding="utf-8"))["rows"] == document["rows"]
    same = _run("compare", tmp_path / "out" / "engine.json", tmp_path / "out" / "engine.json")
    assert same.exit_code == ExitCode.OK
    assert "too little to say" in same.output
    assert _run("--compare", tmp_path / "out" / "engine.json", tmp_path / "out" / "engine.json").output == same.output


def test_silence_is_measured_too(tmp_path: Path) -> None:
    """Audio in which nobody speaks never reaches the engine: no inference, and no failure."""
    write_wav(tmp_path / "silence.wav", np.zeros(32_000, np.int16))
    done = _run("engine", tmp_path / "silence.wav", "--threads", "1", "--rounds", "1", "-q", "-o", tmp_path)
    assert done.exit_code == ExitCode.OK, done.output
    row = json.loads((tmp_path / "engine.json").read_text(encoding="utf-8"))["rows"][0]
    assert (row["inference_time_ms"], row["wer"]) == (0.0, None)
    assert row["memory_peak_mb"] > 0


def test_a_failed_cell_is_told_and_counts_in_the_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are written all the same."""
    monkeypatch.setenv("TYMPAN_ENGINE_OPTIONS", '{"load_error": "no room"}')
    done = _run("engine", "--length", "5", "--threads", "1", "--no-wer", "-o", tmp_path)
    assert done.exit_code == ExitCode.SOME_FAILED
    assert "no room" in done.output
    assert "no room" in (tmp_path / "engine.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("engine", "gone.wav"), "There is no gone.wav"),
        (("engine", "--threads", "1,x"), "cannot be in --threads"),
        (("engine", "--threads", "0"), "cannot be in --threads"),
        (("engine", "--length", "2"), "cannot be made"),
        (("load", "localhost", "-c", "1", "--requests", "1"), "not the address"),
        (("load", "http://h"), "--rate or --concurrency"),
        (("load", "http://h", "-c", "1"), "never end"),
        (("load", "http://h", "-c", "1", "--requests", "1", "--field", "x"), "not a field"),
        (("compare", "gone.json", "gone.json"), "cannot be read"),
        (("--compare", "a", "b", "engine"), "--compare stands alone"),
    ],
)
def test_wrong_usage_is_explained(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    """Before anything is measured, with the remedy."""
    done = _run(*words, *(() if words[0] in {"compare", "--compare"} else ("-o", tmp_path)))
    assert isinstance(done.exception, InvalidRequest)
    assert told in str(done.exception)


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A refused connection ends the command before the load starts, and nothing is written."""
    done = _run("load", "http://127.0.0.1:9", "-c", "1", "--requests", "1", "--length", "5", "-o", tmp_path)
    assert isinstance(done.exception, FetchFailed)
    assert list(tmp_path.glob("load*")) == []


def test_a_load_in_which_all_fail_is_still_a_result(tmp_path: Path) -> None:
    """Without the warm-up every refused connection is counted; the exit code says so."""
    flags = ("--requests", "3", "--warm-up", "0", "--length", "5:2,8", "-o", tmp_path)
    done = _run("load", "http://127.0.0.1:9", "-c", "1", *flags)
    assert done.exit_code == ExitCode.SOME_FAILED
    assert "3 x connect" in done.output
    document = json.loads((tmp_path / "load.json").read_text(encoding="utf-8"))
    assert [(item["duration_s"], item["weight"]) for item in document["items"]] == [(5.0, 2.0), (8.0, 1.0)]


def test_the_kept_command_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither spelling of the flag leaves the secret in the result."""
    words = ["tympan", "bench", "load", "--api-key", "s3cret", "--api-key=s3cret", "-o", "/home/me/x"]
    monkeypatch.setattr(sys, "argv", words)
    assert bench_load._command() == "tympan bench load --api-key KEY --api-key=KEY -o DIR"


def test_lists_and_weights_are_read() -> None:
    """Commas separate, repetition is harmless, a weight follows a colon."""
    assert listed("1, 2,2", counting, "--x") == (1, 2)
    assert listed("5:6,30", weighted, "--x") == ((5.0, 6.0), (30.0, 1.0))
    for text, kind in (("", named), ("5:0", weighted), ("5:nan", weighted), ("1025", counting), ("a:b", weighted)):
        with pytest.raises(InvalidRequest):
            listed(text, kind, "--x")


def test_without_a_command_the_help_is_shown() -> None:
    """As everywhere else, that is wrong usage."""
    done = _run()
    assert done.exit_code == ExitCode.USAGE
    assert "compare" in done.output
