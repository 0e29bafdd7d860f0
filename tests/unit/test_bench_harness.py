"""The benchmarks' machinery: what is picked, drawn, sent, remembered and printed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from email.message import EmailMessage
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from benchmarks.accuracy import compare, texts_of
from benchmarks.contenders import BenchmarkError, Item, Job, Outcome
from benchmarks.facts import command_line
from benchmarks.load import run_job, target_of
from benchmarks.nonspeech import share_of
from benchmarks.render import render
from benchmarks.run import main
from benchmarks.scoring import Clip
from benchmarks.short import checks, pick
from benchmarks.store import Check, OutOfTimeError, Steps, write_result
from benchmarks.synth import KINDS, draw, write_clips
from benchmarks.tree import TreeSampler, tree
from benchmarks.worker import timed
from tympan.bench.pages import table
from tympan.bench.stats import quantile


def clip(name: str, duration_s: float = 5.0, language: str = "en", reference: str = "red green") -> Clip:
    """Return a clip whose file does not matter."""
    return Clip(name, Path("x.wav"), duration_s, language, reference)


class Echo:
    """A contender that answers with the item's id and remembers its jobs."""

    def __init__(self) -> None:
        """Start with no job."""
        self.jobs: list[Job] = []

    def run(self, job: Job) -> Outcome:
        """Answer at once."""
        self.jobs.append(job)
        return Outcome(1.0, {item.id: f"text of {item.id}" for item in job.items})


def test_librispeech_clips_of_fitting_length_are_picked_first() -> None:
    """Others fill up; clips that are too short, too long or not English are never picked."""
    clips = [clip("lj-1"), clip("ls-1"), clip("ls-short", 2.9), clip("ls-long", 15.1), clip("ls-de", 5, "de")]
    assert [found.id for found in pick([*clips, clip("ls-2")], 3)] == ["ls-1", "ls-2", "lj-1"]


def test_goals_differ_for_one_user_and_many() -> None:
    """3x is enough for one user at a time and too little for eight."""
    rows = [{"concurrency": c, "beam": 1, "ratio": 3.5, "http_share": 0.96} for c in (1, 8)]
    assert [check.met for check in checks(rows)] == [True, True, False, True]


def test_every_kind_of_sound_is_drawn_the_same_way_twice() -> None:
    """The same number gives the same samples, another seed gives others; lengths are 1 to 20 s."""
    for number, kind in enumerate(KINDS):
        sound, again = draw(number), draw(number)
        assert sound.kind == kind
        assert np.array_equal(sound.samples, again.samples)
        assert 16_000 <= len(sound.samples) <= 320_000
    assert not np.array_equal(draw(0, seed=1).samples, draw(0, seed=2).samples)


def test_sounds_have_the_level_they_claim() -> None:
    """The loudest sample is at the drawn level; digital silence is zero and dither is one step."""
    for number in range(2 * len(KINDS)):
        sound = draw(number)
        peak = int(np.abs(sound.samples.astype(np.int32)).max())
        if sound.level_dbfs is None:
            assert peak == (0 if sound.kind == "digital silence" else 1)
        else:
            assert peak == pytest.approx(32767 * 10 ** (sound.level_dbfs / 20), abs=1)


def test_drawn_clips_expect_no_text(tmp_path: Path) -> None:
    """Their reference is empty and their language unset."""
    clips = write_clips(tmp_path / "drawn", 3)
    assert [found.reference for found in clips] == ["", "", ""]
    assert all(found.language is None and found.path.stat().st_size > 32_000 for found in clips)


def test_any_text_counts_as_invented() -> None:
    """A lone full stop is text; white space is not."""
    sounds = [clip(f"tone -3 dBFS {n}", reference="") for n in range(3)]
    share = share_of(sounds, {sounds[0].id: ".", sounds[1].id: " \n", sounds[2].id: ""}, kinds=True)
    assert (share["with_text"], share["clips"], share["by_kind"]) == (1, 3, {"tone": 1})


def test_a_finished_step_is_not_measured_again(tmp_path: Path) -> None:
    """A second run reads it from the file; another scope or a fresh start does not."""
    path, calls = tmp_path / "steps.jsonl", []

    def measure() -> list[int]:
        calls.append(1)
        return [len(calls)]

    assert Steps(path, limit_s=60, scope="a").value("k", measure) == [1]
    assert Steps(path, limit_s=60, scope="a").value("k", measure) == [1]
    assert Steps(path, limit_s=60, scope="b").value("k", measure) == [2]
    assert Steps(path, limit_s=60, scope="a", fresh=True).value("k", measure) == [3]


def test_only_lasting_steps_outlive_a_change_of_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A baseline's texts stay; what our code produced is measured anew."""
    steps = Steps(tmp_path / "s", limit_s=60)
    steps.value("ours", lambda: 1)
    steps.value("baseline", lambda: 1, lasting=True)
    monkeypatch.setattr("benchmarks.store.source_digest", lambda: "another")
    later = Steps(tmp_path / "s", limit_s=60)
    assert (later.has("ours"), later.has("baseline")) == (False, True)


def test_a_sub_benchmark_stops_when_its_time_is_up(tmp_path: Path) -> None:
    """It says how to go on; a known step is still given."""
    Steps(tmp_path / "s", limit_s=60).value("known", lambda: 1)
    late = Steps(tmp_path / "s", limit_s=-1)
    assert late.value("known", lambda: 2) == 1
    with pytest.raises(OutOfTimeError, match="again to go on"):
        late.value("new", lambda: 2)


def test_long_sets_are_run_in_resumable_parts(tmp_path: Path) -> None:
    """100 clips are three jobs, and none at all the second time."""
    clips, echo = [clip(f"ls-{n}") for n in range(100)], Echo()
    for _ in range(2):
        texts = texts_of(Steps(tmp_path / "s", limit_s=60), "k", echo, clips, beam=5)
        assert len(texts) == 100
    assert [len(job.items) for job in echo.jobs] == [40, 40, 20]
    assert all(job.beam == 5 and job.items[0].language == "en" for job in echo.jobs)


def test_a_comparison_names_both_sides_and_the_sources() -> None:
    """Pooled counts, the difference, and each source's counts."""
    clips = [clip("ls-1"), clip("lj-1")]
    row = compare(clips, {"ls-1": "red", "lj-1": "red green"}, {"ls-1": "red green", "lj-1": "red green"})
    assert (row["tympan"]["errors"], row["faster_whisper"]["errors"]) == (1, 0)
    assert row["difference"]["difference_points"] == pytest.approx(25.0)
    assert row["by_source"]["ls"]["tympan"]["deletions"] == 1


def test_a_worker_times_every_item_and_the_whole() -> None:
    """Two threads do two items at the same time."""
    gate = threading.Barrier(2, timeout=10)

    def transcribe(item: Item, job: Job) -> str:
        gate.wait()
        return item.id.upper()

    outcome = timed(transcribe, Job((Item("a", "a.wav"), Item("b", "b.wav")), concurrency=2))
    assert outcome.texts == {"a": "A", "b": "B"}
    assert outcome.wall_s >= max(outcome.latency_s.values()) > 0


def test_a_job_survives_the_pipe() -> None:
    """What the parent sends is what the child runs."""
    job = Job.of([clip("ls-1")], beam=5, concurrency=8, vad=False, variant="2x1")
    assert Job.from_dict(json.loads(json.dumps(asdict(job)))) == job


def test_the_form_leaves_out_what_the_server_shall_decide() -> None:
    """No VAD field unless the job sets it."""
    assert dict(target_of("http://h", Job(())).fields) == {"beam_size": "1"}
    assert dict(target_of("http://h", Job((), vad=False, beam=5)).fields) == {"beam_size": "5", "vad": "false"}


class Transcriptions(BaseHTTPRequestHandler):
    """A server that answers with the uploaded bytes, or refuses files named ``bad``; it counts requests in flight."""

    protocol_version = "HTTP/1.1"
    lock: ClassVar[threading.Lock] = threading.Lock()
    in_flight: ClassVar[int] = 0
    most: ClassVar[int] = 0
    together: ClassVar[threading.Barrier] = threading.Barrier(1)

    def do_POST(self) -> None:
        """Answer one upload."""
        self._count(1)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.together.wait(60)
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        file = self._file(BytesParser(policy=HTTP).parsebytes(head + body))
        bad = file.get_filename() == "bad"
        self._count(-1)
        answer = json.dumps({"text": f" {file.get_content().decode()} "}).encode()
        self.send_response(503 if bad else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _file(self, form: EmailMessage) -> EmailMessage:
        parts = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        file = parts["file"]
        assert isinstance(file, EmailMessage)
        return file

    def _count(self, change: int) -> None:
        with self.lock:
            cls = type(self)
            cls.in_flight += change
            cls.most = max(cls.most, cls.in_flight)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Stay quiet."""


@pytest.fixture
def address() -> Iterator[str]:
    """Run the server and give its address."""
    Transcriptions.most, Transcriptions.together = 0, threading.Barrier(1)
    with ThreadingHTTPServer(("127.0.0.1", 0), Transcriptions) as server, ThreadPoolExecutor(1) as pool:
        pool.submit(server.serve_forever, poll_interval=0.01)
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def write_items(folder: Path, *names: str) -> tuple[Item, ...]:
    """Write a file for each name, holding its name."""
    for name in names:
        (folder / name).write_text(f"bytes of {name}")
    return tuple(Item(name, str(folder / name), "en") for name in names)


def test_the_client_sends_the_bytes_and_keeps_to_its_number_of_users(tmp_path: Path, address: str) -> None:
    """Six files, three at a time: every text belongs to its file, and never more than three are under way."""
    names = [f"f{n}" for n in range(6)]
    Transcriptions.together = threading.Barrier(3)  # Nobody is answered before there are three.
    outcome = run_job(address, Job(write_items(tmp_path, *names), concurrency=3))
    assert outcome.texts == {name: f"bytes of {name}" for name in names}
    assert Transcriptions.most == 3
    assert outcome.wall_s >= max(outcome.latency_s.values())


def test_a_refused_file_ends_the_benchmark(tmp_path: Path, address: str) -> None:
    """A figure with failed requests in it would be no figure; the error names the file and the status."""
    with pytest.raises(BenchmarkError, match="bad: http_503"):
        run_job(address, Job(write_items(tmp_path, "good", "bad"), concurrency=2))


def test_memory_is_summed_over_the_whole_tree() -> None:
    """A child's 64 MiB count, though the sampled process is its parent."""
    code = "x = bytearray(64 << 20); x[::4096] = b'1' * len(x[::4096]); print('up', flush=True); input()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with TreeSampler(process.pid) as sampler:
            time.sleep(0.3)
        process.communicate("\n", timeout=60)
    assert sampler.peak_rss_mib > 64
    assert sampler.peak_rss_mib >= sampler.peak_pss_mib > 64
    assert len(sampler.at_peak) == 2
    assert sampler.samples >= 3


def test_a_process_that_has_ended_uses_no_memory() -> None:
    """It is left out rather than reported as a fault."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(timeout=10)
    assert tree(process.pid) == ()
    assert tree(os.getpid())[0].pid == os.getpid()


def test_a_result_says_where_it_comes_from_and_becomes_pages(tmp_path: Path) -> None:
    """Machine, versions, commit and goals are in the JSON; the page and the summary show them."""
    rows = [{"command": "tympan serve", "median_s": 1.2, "max_s": 1.5, "runs_s": [1.2, 1.5]}]
    check = Check("ready | serve", "<= 5 s", "1.20 s", met=True)
    path = write_result(tmp_path / "results", "ready", {"rows": rows, "licences": ["CC0"]}, [check])
    document = json.loads(path.read_text())
    assert {"machine", "versions", "git_commit", "date", "command", "source_digest"} <= document.keys()
    assert document["machine"]["cores"] >= 1
    pages = {page.name: page.read_text() for page in render(tmp_path / "results", tmp_path)}
    assert "| `tympan serve` | 1.20 | 1.20, 1.50 |" in pages["ready.md"]
    assert "Recordings: CC0." in pages["ready.md"]
    assert "ready \\| serve | <= 5 s | 1.20 s | yes |" in pages["summary.md"]


def test_published_pages_are_what_their_results_say(tmp_path: Path) -> None:
    """Nobody has written on a page, and none was left behind when the way pages are made changed."""
    published = Path(__file__).parents[2] / "docs" / "benchmarks"
    pages = render(published / "results", tmp_path)
    assert len(pages) > 5
    stale = [page.name for page in pages if page.read_text() != (published / page.name).read_text()]
    assert stale == []


def test_tables_escape_bars() -> None:
    """A bar inside a cell must not open another cell."""
    assert table(["a"], [["x|y"]]) == "| a |\n| --- |\n| x\\|y |"


def test_the_published_command_names_no_folder_of_this_machine() -> None:
    """Absolute paths are replaced, also after an equals sign."""
    words = ["short", "--corpus", "/a/b", "--work=/c", "--beams", "1"]
    assert command_line(words) == "python -m benchmarks.run short --corpus DIR --work=DIR --beams 1"


def test_quantiles_are_values_that_were_measured() -> None:
    """The 95 % quantile of twenty values is the nineteenth."""
    values = [float(n) for n in range(1, 21)]
    assert (quantile(values, 0.5), quantile(values, 0.95), quantile([7.0], 0.95)) == (10.0, 19.0, 7.0)


@pytest.mark.parametrize(("words", "hint"), [(["short"], "--corpus"), (["fast"], "Choose among")])
def test_wrong_arguments_are_answered_with_the_remedy(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The exit code is 2 and the message names what to give."""
    assert main(words) == 2
    assert hint in capsys.readouterr().err
