"""Records, reports and the summary line."""

import json
from dataclasses import asdict
from pathlib import Path, PurePath

import pytest

from tympan.cli.report import Record, failure_record, record_from_json, success_record, summarise, write_report
from tympan.cli.sources import Source
from tympan.domain import Accounting, Task, Transcript
from tympan.errors import Cancelled, CorruptMedia

SOURCE = Source(Path("a.wav"), "a.wav", PurePath("a.wav"), "/in/a.wav")


def _transcript(audio_s: float = 10.0) -> Transcript:
    return Transcript(
        "Hällo.", (), Task.TRANSCRIBE, "de", 0.9, (("de", 0.9),), Accounting(audio_s, audio_s, 0.0, audio_s), "base"
    )


def test_a_success_says_how_fast_it_was() -> None:
    """Text, language, times, and the factor as seconds of audio per second of work."""
    record = success_record(SOURCE, _transcript(), 2.0, [Path("out/a.txt")])
    assert (record.text, record.language, record.duration_s, record.processing_s) == ("Hällo.", "de", 10.0, 2.0)
    assert (record.realtime_factor, record.success, record.error) == (5.0, True, None)
    assert record.outputs == ("out/a.txt",)


def test_a_failure_carries_code_and_message() -> None:
    """A failure has no text, and names the fault in the words of the other doors."""
    record = failure_record(SOURCE, CorruptMedia("Bad.", remedy="Send another."), 0.5)
    assert (record.success, record.text) == (False, None)
    assert record.error == {"code": "corrupt_media", "message": "Bad.", "remedy": "Send another."}


def test_the_report_is_an_array_of_records(tmp_path: Path) -> None:
    """A program reads the report with one call, and finds every field in every record."""
    records = [success_record(SOURCE, _transcript(), 2.0, []), failure_record(SOURCE, CorruptMedia())]
    write_report(str(tmp_path / "new" / "r.json"), records)
    read = json.loads((tmp_path / "new" / "r.json").read_text(encoding="utf-8"))
    wanted = {"filename", "text", "language", "duration_s", "processing_s", "realtime_factor", "success", "error"}
    assert all(wanted <= set(entry) for entry in read)
    assert [entry["success"] for entry in read] == [True, False]
    assert [record_from_json(entry) for entry in read] == records


def test_the_report_can_go_to_stdout(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """``--report -`` feeds a pipe."""
    write_report("-", [failure_record(SOURCE, CorruptMedia())])
    assert json.loads(capfdbinary.readouterr().out)[0]["filename"] == "a.wav"


def test_the_summary_adds_up() -> None:
    """Files, audio, speed, skipped and failed, in one line."""
    done = Record("a", "/a", duration_s=90.0, success=True)
    records = [done, done, Record("b", "/b", duration_s=5000.0, success=True, skipped=True), Record("c", "/c")]
    line = summarise(records, elapsed_s=20.0)
    assert line == "2 files transcribed, 3:00 of audio in 20.0 s (9.0x real time); 1 skipped, done earlier; 1 failed."


def test_the_summary_of_nothing_is_no_division_by_zero() -> None:
    """An empty run has a summary too."""
    assert summarise([], 0.0) == "0 files transcribed."


def test_records_survive_json() -> None:
    """What is written to the journal comes back equal."""
    record = success_record(SOURCE, _transcript(0.0), 0.0, [Path("x")])
    assert record_from_json(json.loads(json.dumps(asdict(record)))) == record


def test_interrupted_files_are_not_called_failures() -> None:
    """After Ctrl-C the summary tells broken files from those that had no chance."""
    records = [failure_record(SOURCE, Cancelled()), failure_record(SOURCE, CorruptMedia())]
    assert summarise(records, 1.0, Path("out")) == "0 files transcribed into out; 1 failed; 1 not finished."
