"""A whole run of the command line with a transcriber that needs no model."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tympan.cli.job import Job, execute
from tympan.cli.outputs import Format
from tympan.domain import Accounting, Options, Progress, Segment, Task, Transcript
from tympan.engine.base import EngineInfo
from tympan.errors import (
    Cancelled,
    CorruptMedia,
    DecoderUnavailable,
    EngineError,
    InvalidRequest,
    ModelUnavailable,
    Overloaded,
    TympanError,
    Unavailable,
    UnsupportedLanguage,
)
from tympan.options import KnownVoice

WAIT_S = 10.0


@dataclass
class Pretender:
    """A transcriber that reads a file's bytes as its text; ``broken`` in them makes it fail."""

    calls: list[str] = field(default_factory=list)
    opened: int = 0
    before: Callable[[Path, threading.Event], None] = lambda _path, _cancel: None
    info: EngineInfo | None = None

    def transcribe(
        self, path: Path, options: Options, cancel: threading.Event, on_progress: Callable[[Progress], None]
    ) -> Transcript:
        """Return the file's content as a transcript of one segment."""
        self.calls.append(path.name)
        self.before(path, cancel)
        text = path.read_text()
        if "broken" in text:
            raise CorruptMedia("Nothing of it could be decoded.")
        on_progress(Progress(1.0, 2.0))
        segment = Segment(0, 0.0, 2.0, text)
        accounting = Accounting(2.0, 2.0, 0.0, 2.0)
        return Transcript(text, (segment,), Task.TRANSCRIBE, options.language or "en", 1.0, (), accounting, "fake")

    def measure(self, path: Path, cancel: threading.Event) -> float:
        """Return a length; nobody asks without a terminal."""
        raise AssertionError(path, cancel)

    def hear(self, samples: Mapping[str, Path]) -> Mapping[str, str]:
        """Return what the files hold as voices."""
        if any("noise" in path.read_text() for path in samples.values()):
            raise InvalidRequest("Sample 1 of a voice holds less than 1 s of speech.", remedy="Send another.")
        return {name: path.read_text() for name, path in samples.items()}

    @contextmanager
    def open(self, settings: object, *, quiet: bool) -> Iterator["Pretender"]:
        """Count how often the engine is started."""
        self.opened += 1
        yield self


@pytest.fixture
def audio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with two good files and a broken one between them."""
    for name in list(os.environ):
        if name.startswith("TYMPAN_"):
            monkeypatch.delenv(name)
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.wav").write_text("first")
    (folder / "b.wav").write_text("broken")
    (folder / "sub" / "c.wav").write_text("third")
    return folder


def _job(audio: Path, **changes: object) -> Job:
    job = Job((str(audio),), recursive=True, formats=(Format.TXT,), options=Options(), overrides={})
    return replace(job, **changes)  # type: ignore[arg-type]


def _report(path: Path) -> dict[str, dict[str, object]]:
    return {record["filename"]: record for record in json.loads(path.read_text())}


def test_a_broken_file_never_stops_the_rest(audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Transcripts are on stdout in order with headers; the failure is on stderr by name; the exit code says so."""
    assert execute(_job(audio), Pretender().open) == 1
    out, err = capfd.readouterr()
    assert out == "==> a.wav <==\nfirst\n==> sub/c.wav <==\nthird\n"
    assert "error [corrupt_media] b.wav: Nothing of it could be decoded." in err
    assert "2 files transcribed" in err
    assert "1 failed" in err


def test_one_file_alone_has_no_header(audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A single transcript can be piped as it is."""
    assert execute(_job(audio / "a.wav"), Pretender().open) == 0
    assert capfd.readouterr().out == "first\n"


def test_several_formats_of_one_file_are_told_apart(audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two formats on stdout have a header each."""
    execute(_job(audio / "a.wav", formats=(Format.TXT, Format.TSV)), Pretender().open)
    out = capfd.readouterr().out
    assert out.startswith("==> ")
    assert "a.wav (txt) <==\nfirst\n" in out
    assert "a.wav (tsv) <==\nstart\tend\ttext\n" in out


def test_stdout_keeps_the_order_of_the_arguments(audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A slow first file does not make the output depend on luck."""
    third_done = threading.Event()

    def before(path: Path, _cancel: threading.Event) -> None:
        if path.name == "a.wav":
            assert third_done.wait(WAIT_S)
        elif path.name == "c.wav":
            third_done.set()

    execute(_job(audio), Pretender(before=before).open)
    assert [line for line in capfd.readouterr().out.splitlines() if "==>" not in line] == ["first", "third"]


def test_output_files_keep_the_folders(audio: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """With an output folder nothing is on stdout and every format of every file is in its place."""
    out = tmp_path / "out"
    assert execute(_job(audio, output_dir=out, formats=(Format.TXT, Format.SRT)), Pretender().open) == 1
    files = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert files == [".tympan-state.jsonl", "a.srt", "a.txt", "sub/c.srt", "sub/c.txt"]
    assert (out / "sub" / "c.txt").read_text() == "third\n"
    assert capfd.readouterr().out == ""


def test_the_report_has_every_file(audio: Path, tmp_path: Path) -> None:
    """One record per file, failures included, with the figures."""
    execute(_job(audio, report=str(tmp_path / "r.json"), output_dir=tmp_path / "out"), Pretender().open)
    records = _report(tmp_path / "r.json")
    assert list(records) == ["a.wav", "b.wav", "sub/c.wav"]
    assert (records["a.wav"]["text"], records["a.wav"]["duration_s"]) == ("first", 2.0)
    assert records["a.wav"]["outputs"] == [str(tmp_path / "out" / "a.txt")]
    assert records["b.wav"]["error"] == {"code": "corrupt_media", "message": "Nothing of it could be decoded."}


def test_a_second_run_does_only_what_is_left(audio: Path, tmp_path: Path) -> None:
    """Finished files are skipped, failed ones tried again, and the report is complete all the same."""
    job = _job(audio, output_dir=tmp_path / "out", report=str(tmp_path / "r.json"))
    execute(job, Pretender().open)
    again = Pretender()
    execute(job, again.open)
    assert again.calls == ["b.wav"]
    records = _report(tmp_path / "r.json")
    assert (records["a.wav"]["skipped"], records["a.wav"]["text"]) == (True, "first")


def test_nothing_left_starts_no_engine(audio: Path, tmp_path: Path) -> None:
    """A run with nothing to do costs no model load and succeeds."""
    (audio / "b.wav").unlink()
    job = _job(audio, output_dir=tmp_path / "out")
    assert execute(job, Pretender().open) == 0
    again = Pretender()
    assert execute(job, again.open) == 0
    assert again.opened == 0


@pytest.mark.parametrize(
    "changes", [{"force": True}, {"options": Options(beam_size=1)}, {"overrides": {"model": "tiny"}}]
)
def test_force_other_options_or_another_model_do_it_again(
    audio: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    """What was asked for differently is done again, into the same files."""
    job = _job(audio, output_dir=tmp_path / "out")
    execute(job, Pretender().open)
    again = Pretender()
    execute(replace(job, **changes), again.open)  # type: ignore[arg-type]
    assert sorted(again.calls) == ["a.wav", "b.wav", "c.wav"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".tympan-state.jsonl", "a.txt", "sub"]


def test_a_file_that_changes_while_it_is_read_is_done_again(audio: Path, tmp_path: Path) -> None:
    """A recording still being written is not taken for finished."""

    def grow(path: Path, _cancel: threading.Event) -> None:
        with path.open("a") as file:
            file.write(" more")

    job = _job(audio / "a.wav", output_dir=tmp_path / "out")
    execute(job, Pretender(before=grow).open)
    again = Pretender()
    execute(job, again.open)
    assert again.calls == ["a.wav"]


def test_batch_resumes_from_beside_the_report(audio: Path, tmp_path: Path) -> None:
    """With a report and no output folder, what was done is remembered next to the report."""
    job = _job(audio, report=str(tmp_path / "r.json"), prints=False)
    execute(job, Pretender().open)
    again = Pretender()
    execute(job, again.open)
    assert again.calls == ["b.wav"]
    assert _report(tmp_path / "r.json")["sub/c.wav"]["text"] == "third"


def test_report_on_stdout_is_all_that_is_on_stdout(audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """``--report -`` gives a pipe nothing but JSON."""
    execute(_job(audio, report="-"), Pretender().open)
    assert [record["success"] for record in json.loads(capfd.readouterr().out)] == [True, False, True]


def test_ctrl_c_keeps_what_is_finished(audio: Path, tmp_path: Path) -> None:
    """The first Ctrl-C cancels what runs, writes the report, and a later run takes up the rest."""

    def interrupt(path: Path, cancel: threading.Event) -> None:
        if path.name == "c.wav":
            os.kill(os.getpid(), signal.SIGINT)
            assert cancel.wait(WAIT_S)
            raise Cancelled

    (audio / "b.wav").write_text("second")
    job = _job(audio, output_dir=tmp_path / "out", report=str(tmp_path / "r.json"), workers=1)
    assert execute(job, Pretender(before=interrupt).open) == 130
    records = _report(tmp_path / "r.json")
    assert [record["success"] for record in records.values()] == [True, True, False]
    assert records["sub/c.wav"]["error"] == {"code": "cancelled", "message": Cancelled().message}
    again = Pretender()
    assert execute(job, again.open) == 0
    assert again.calls == ["c.wav"]


def test_signals_are_given_back(audio: Path) -> None:
    """After a run Ctrl-C does again what it did before."""
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    execute(_job(audio), Pretender().open)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_fail_fast_ends_the_run(audio: Path, tmp_path: Path) -> None:
    """With ``--fail-fast`` what comes after the failure is reported as not begun."""
    job = _job(audio, fail_fast=True, workers=1, report=str(tmp_path / "r.json"))
    assert execute(job, Pretender().open) == 1
    error = _report(tmp_path / "r.json")["sub/c.wav"]["error"]
    assert isinstance(error, dict)
    assert error["code"] == "cancelled"


def test_a_missing_file_needs_no_engine(audio: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A typo is answered at once."""
    pretender = Pretender()
    assert execute(_job(audio / "typo.wav"), pretender.open) == 1
    assert pretender.opened == 0
    assert "error [not_found]" in capfd.readouterr().err


def test_an_engine_that_does_not_start_ends_the_run(audio: Path) -> None:
    """Without a model there is one error, not one per file."""

    def refuse(settings: object, *, quiet: bool) -> AbstractContextManager[Pretender]:
        raise ModelUnavailable

    with pytest.raises(ModelUnavailable):
        execute(_job(audio), refuse)


def test_a_language_the_model_lacks_is_refused_once(audio: Path) -> None:
    """An English-only model says so before it reads a file."""
    info = EngineInfo("fake", "tiny.en", "", "cpu", "int8", 1, ("en",), multilingual=False)
    pretender = Pretender(info=info)
    with pytest.raises(UnsupportedLanguage, match=r"tiny\.en"):
        execute(_job(audio, options=Options(language="de")), pretender.open)
    assert pretender.calls == []


def test_an_engine_error_is_a_failure_of_its_file(audio: Path) -> None:
    """An engine that fails on one file goes on with the next; the file is not thrown at it again."""

    def fail(path: Path, _cancel: threading.Event) -> None:
        if path.name == "a.wav":
            raise EngineError

    pretender = Pretender(before=fail)
    assert execute(_job(audio), pretender.open) == 1
    assert sorted(pretender.calls) == ["a.wav", "b.wav", "c.wav"]


@pytest.mark.parametrize("error", [Overloaded, Unavailable, DecoderUnavailable])
@pytest.mark.parametrize(("failures", "code"), [(2, 0), (99, 1)])
def test_a_bad_moment_is_waited_out_but_not_for_ever(
    audio: Path, error: type[TympanError], failures: int, code: int
) -> None:
    """A full queue or an engine being replaced costs a file some tries; after four it has failed."""
    raised: list[TympanError] = []

    def refuse(_path: Path, _cancel: threading.Event) -> None:
        if len(raised) < failures:
            raised.append(error(retry_after_s=0.001))
            raise raised[-1]

    assert execute(_job(audio / "a.wav"), Pretender(before=refuse).open) == code
    assert len(raised) == min(failures, 4)


def test_stdin_is_transcribed(audio: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """``-`` takes audio from a pipe."""
    with (audio / "a.wav").open() as pipe:
        monkeypatch.setattr("sys.stdin", pipe)
        assert execute(_job(audio, paths=("-",)), Pretender().open) == 0
    assert capfd.readouterr().out == "first\n"


@pytest.mark.parametrize("place", ["", "file/r.json"])
def test_a_report_that_cannot_be_written_is_found_before_the_work(audio: Path, tmp_path: Path, place: str) -> None:
    """An hour of work does not end in "cannot write"."""
    (tmp_path / "file").write_text("")
    pretender = Pretender()
    with pytest.raises(InvalidRequest):
        execute(_job(audio, report=str(tmp_path / place)), pretender.open)
    assert pretender.opened == 0


def test_an_empty_folder_is_said(audio: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A folder without audio is no failure, and no silence either."""
    (tmp_path / "empty").mkdir()
    assert execute(_job(tmp_path / "empty"), Pretender().open) == 0
    assert "No audio files" in capfd.readouterr().err


def test_known_speakers_are_heard_once_for_all_files(audio: Path, tmp_path: Path) -> None:
    """Before the first one; the voice is with the options of each."""
    sample = tmp_path / "ann"
    sample.write_text("a voice")
    pretender, seen = Pretender(), []
    original = pretender.transcribe

    def transcribe(path: Path, options: Options, *rest: object) -> Transcript:
        seen.append(options.known_voices)
        return original(path, options, *rest)  # type: ignore[arg-type]

    pretender.transcribe = transcribe  # type: ignore[method-assign, assignment]
    options = Options(diarize=True, known_voices=(KnownVoice("Ann", "digest"),))
    execute(_job(audio, options=options, samples={"Ann": sample}), pretender.open)
    assert seen == [(KnownVoice("Ann", "digest", "a voice"),)] * 3


def test_a_sample_that_is_none_ends_the_run(audio: Path, tmp_path: Path) -> None:
    """By the name of the speaker; nothing is transcribed."""
    sample = tmp_path / "ann"
    sample.write_text("noise")
    options = Options(diarize=True, known_voices=(KnownVoice("Ann", "digest"),))
    pretender = Pretender()
    with pytest.raises(InvalidRequest, match=r"--known-speaker Ann: Sample 1 .*less than 1 s of speech"):
        execute(_job(audio, options=options, samples={"Ann": sample}), pretender.open)
    assert pretender.calls == []
