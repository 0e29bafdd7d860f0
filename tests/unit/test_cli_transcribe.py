"""From the words on the command line to the job that is done."""

import hashlib
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tympan.cli import app, transcribe
from tympan.cli.job import Job
from tympan.cli.outputs import Format
from tympan.domain import DiarizeBy, Options, Shape, Task, Timestamps
from tympan.errors import InvalidRequest
from tympan.options import KnownVoice


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Return the jobs that the commands would do."""
    seen: list[Job] = []

    def note(job: Job) -> int:
        seen.append(job)
        return 0

    monkeypatch.setattr(transcribe, "execute", note)
    return seen


def _run(*arguments: str) -> int:
    return CliRunner().invoke(app, list(arguments)).exit_code


def test_a_bare_file_is_the_default_job(jobs: list[Job]) -> None:
    """Without flags: text on stdout, four files in flight, the product's options but for times, which text lacks."""
    assert _run("transcribe", "a.wav") == 0
    plain = Options(timestamps=Timestamps.NONE)
    assert jobs == [Job(("a.wav",), recursive=False, formats=(Format.TXT,), options=plain, overrides={})]


def test_every_flag_of_the_run_arrives(jobs: list[Job]) -> None:
    """Input, output and run flags end up in the job."""
    command = "transcribe a b - -r -f srt -f txt -f srt -o out --report r.json -w 2 --force --fail-fast -q"
    assert _run(*command.split()) == 0
    (job,) = jobs
    assert (job.paths, job.recursive, job.formats) == (("a", "b", "-"), True, (Format.SRT, Format.TXT))
    assert (job.output_dir, job.report, job.workers) == (Path("out"), "r.json", 2)
    assert (job.force, job.fail_fast, job.quiet, job.prints) == (True, True, True, True)


def test_decoding_and_engine_flags_arrive(jobs: list[Job]) -> None:
    """Options and overrides end up in the job."""
    words = "transcribe a -l French --translate --word-timestamps --no-vad -f verbose_json -m tiny --threads 3"
    assert _run(*words.split()) == 0
    wanted = Options(language="fr", task=Task.TRANSLATE, timestamps=Timestamps.WORD, vad=None)
    assert jobs[0].options == wanted
    assert jobs[0].overrides == {"model": "tiny", "threads": 3}


def test_speakers_are_told_apart_in_formats_that_name_them(jobs: list[Job], tmp_path: Path) -> None:
    """Both commands take the flag; one such format among others is enough."""
    assert _run("transcribe", "a", "--diarize", "-f", "vtt", "-f", "txt") == 0
    assert _run("batch", str(tmp_path), "r.json", "--diarize", "-f", "verbose_json") == 0
    assert _run("transcribe", "a", "-f", "diarized_json") == 0
    assert [job.options.diarize for job in jobs] == [True, True, True]


@pytest.mark.parametrize("formats", ["", "-f tsv -f txt", "-f json"])
def test_speakers_that_no_format_names_are_refused(jobs: list[Job], formats: str) -> None:
    """Telling them apart for nothing is a mistake, and the error names a format."""
    done = CliRunner().invoke(app, ["transcribe", "a", "--diarize", *formats.split()])
    assert isinstance(done.exception, InvalidRequest)
    assert "--format diarized_json" in str(done.exception)
    assert jobs == []


def test_known_speakers_are_told_apart_by_voice(jobs: list[Job], tmp_path: Path) -> None:
    """A name and a file each; the sample is known by its digest until it is heard."""
    sample = tmp_path / "a=b.wav"
    sample.write_bytes(b"voice")
    assert _run("transcribe", "a", "-f", "vtt", "--known-speaker", f"Ann Lee={sample}", "--speakers", "2") == 0
    (job,) = jobs
    assert job.samples == {"Ann Lee": sample}
    digest = hashlib.sha256(b"voice").hexdigest()
    assert job.options.known_voices == (KnownVoice("Ann Lee", digest),)
    assert (job.options.diarize, job.options.diarize_by, job.options.max_speakers) == (True, DiarizeBy.VOICES, 2)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--known-speaker Ann", "is not a name and a file"),
        ("--known-speaker =a.wav", "is not a name and a file"),
        ("--known-speaker Ann=nowhere.wav", "There is no file nowhere.wav"),
        ("--known-speaker Ann=README.md --known-speaker Ann=README.md", "is given twice"),
        ("--known-speaker Ann=README.md --diarize-by channels", "Leave --known-speaker out"),
        (" ".join(f"--known-speaker {n}=README.md" for n in range(11)), "more than 10"),
    ],
)
def test_known_speakers_who_cannot_be_are_refused(jobs: list[Job], words: str, message: str) -> None:
    """Before a model is loaded."""
    done = CliRunner().invoke(app, ["transcribe", "a", "-f", "vtt", *words.split()])
    assert isinstance(done.exception, InvalidRequest)
    assert message in str(done.exception)
    assert jobs == []


def test_batch_is_a_recursive_job_with_a_report(jobs: list[Job], tmp_path: Path) -> None:
    """``batch DIR REPORT`` prints nothing but the report."""
    assert _run("batch", str(tmp_path), "r.json", "-f", "vtt", "-o", "out") == 0
    (job,) = jobs
    assert (job.paths, job.recursive, job.report, job.prints) == ((str(tmp_path),), True, "r.json", False)
    assert (job.formats, job.output_dir) == ((Format.VTT,), Path("out"))


@pytest.mark.parametrize(
    "words",
    [
        "transcribe",
        "batch x",
        "transcribe a -w 0",
        "transcribe a -w 17",
        "transcribe a -f doc",
        "transcribe a --preset best",
        "transcribe a --beam-size=x",
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(jobs: list[Job], words: str) -> None:
    """A wrong flag is refused before anything is done."""
    assert _run(*words.split()) == 2
    assert jobs == []


def test_the_journal_lies_where_the_results_are() -> None:
    """Beside the outputs, or beside the report; nowhere when transcripts are only printed."""
    base = Job(("a",), recursive=True, formats=(Format.TXT,), options=Options(), overrides={})
    assert base.journal_path is None
    assert Job(("a",), True, (), Options(), {}, output_dir=Path("out")).journal_path == Path("out/.tympan-state.jsonl")
    beside = Job(("a",), True, (), Options(), {}, report="x/r.json", prints=False).journal_path
    assert beside == Path("x/.r.json.tympan-state.jsonl")
    assert Job(("a",), True, (), Options(), {}, report="x/r.json").journal_path is None
    assert Job(("a",), True, (), Options(), {}, report="-", prints=False).journal_path is None


def test_version_is_one_word_and_a_number() -> None:
    """``--version`` and ``version`` say the same, in a form a script can read."""
    outputs = {CliRunner().invoke(app, [word]).output for word in ("--version", "version")}
    assert len(outputs) == 1
    assert re.fullmatch(r"tympan \d+\.\d+\.\d+\n", outputs.pop())


def test_any_flag_about_subtitles_cuts_them(jobs: list[Job]) -> None:
    """The others take their defaults; the times of words are computed for it; a line of few words stands alone."""
    assert _run(*["transcribe", "a", "-f", "srt", "--max-line-width", "30"]) == 0
    assert _run(*["transcribe", "a", "-f", "vtt", "--max-words-per-line", "3", "--min-cue-s", "0.5"]) == 0
    assert [job.shape for job in jobs] == [
        Shape(max_line_width=30),
        Shape(max_words_per_line=3, max_line_count=1, min_cue_s=0.5),
    ]
    assert {job.options.timestamps for job in jobs} == {Timestamps.WORD}


def test_without_subtitles_or_flags_about_them_nothing_is_cut(jobs: list[Job]) -> None:
    """Text is not aligned for a shape that it does not have."""
    assert _run(*["transcribe", "a", "--max-line-width", "30"]) == 0
    assert _run(*["transcribe", "a", "-f", "srt"]) == 0
    assert [(job.shape, job.options.timestamps) for job in jobs] == [
        (None, Timestamps.NONE),
        (None, Timestamps.SEGMENT),
    ]


def test_a_shape_that_contradicts_itself_is_refused() -> None:
    """The shortest cue cannot be longer than the longest."""
    with pytest.raises(InvalidRequest, match="--min-cue-s"):
        transcribe.SubtitleArgs(min_cue_s=5.0, max_cue_s=2.0).shape()
