"""The gate: equals pass, a slowed or a worse tree fails, however the dice fall; and what it needs of git."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from benchmarks import gate
from benchmarks.contenders import BenchmarkError, Item, Job, Outcome
from benchmarks.gate import Plan, Start
from tests.batching_support import make_task, origin
from tympan.batching.batcher import Batcher
from tympan.bench.compare import Strictness, Verdict, is_worse
from tympan.bench.recordings import Recording
from tympan.engine.base import EngineSpec

ITEMS = tuple(Item(str(n), str(n)) for n in range(4))
SPOKEN = tuple(Recording(Path(f"{n}.wav"), 5.0, "en", "one two three four five six") for n in range(12))
TRIALS = 200


@dataclass
class Imagined:
    """A contender that takes no time: a start is a few percent faster or slower, and so is each job."""

    rng: np.random.Generator
    slowdown: float
    text: str = "one two three four five six"
    start: float = field(init=False)

    def __post_init__(self) -> None:
        """Draw what this start is like."""
        self.start = float(self.rng.normal(0.0, 0.02))

    def run(self, job: Job) -> Outcome:
        """Draw how long the job takes."""
        noise = self.start + self.rng.normal(0.0, 0.03) + abs(self.rng.standard_t(3)) * 0.01
        return Outcome(self.slowdown * float(np.exp(noise)), {item.id: self.text for item in job.items})


def _imagined(rng: np.random.Generator, slowdown: float = 1.0, text: str = SPOKEN[0].reference or "") -> Start:
    @contextmanager
    def start() -> Iterator[Imagined]:
        yield Imagined(rng, slowdown, text)

    return start


def _failures(slowdown: float) -> int:
    plan = Plan((Job(ITEMS), Job(ITEMS, concurrency=4)), rounds=8)
    failed = 0
    for seed in range(TRIALS):
        rng = np.random.default_rng(seed)
        failed += is_worse(gate.judge(plan, _imagined(rng), _imagined(rng, slowdown)))
    return failed


@pytest.fixture(autouse=True)
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "say", lambda _words: None)


def test_equal_trees_pass_whatever_the_seed() -> None:
    """Of 200 comparisons of equals, each start and job as noisy as on a shared machine, at most 1 % fail."""
    assert _failures(1.0) <= TRIALS // 100


def test_a_slower_tree_fails() -> None:
    """A loss of 12 % is found in at least 95 % of 200 comparisons."""
    assert _failures(1.12) >= 0.95 * TRIALS


def test_a_tree_that_errs_more_fails() -> None:
    """Equal speed, but a word is lost in every recording."""
    plan, rng = Plan((Job(ITEMS),), SPOKEN, rounds=6), np.random.default_rng(1)
    speed, errors = gate.judge(plan, _imagined(rng), _imagined(rng, text="one two three four five"))
    assert (speed.verdict, errors.verdict) == (Verdict.SAME, Verdict.WORSE)


def test_the_clock_ends_the_rounds_but_leaves_enough() -> None:
    """With no time at all there are still the five rounds that a verdict needs."""
    plan, rng = Plan((Job(ITEMS),), rounds=50, limit_s=0.0), np.random.default_rng(1)
    assert "5 pairs" in gate.judge(plan, _imagined(rng), _imagined(rng))[0].figures


class Engine:
    """A contender on the fake engine in a process of its own."""

    def __init__(self, batcher: Batcher) -> None:
        """Use a batcher that is ready."""
        self._batcher = batcher

    def run(self, job: Job) -> Outcome:
        """Send a window for each item and wait for all of them."""
        began = time.perf_counter()
        replies = [self._batcher.submit(make_task(n), origin(item.id)) for n, item in enumerate(job.items)]
        texts = {item.id: reply.result(30).text for item, reply in zip(job.items, replies, strict=True)}
        return Outcome(time.perf_counter() - began, texts)


def _engine(ms_per_window: float) -> Start:
    @contextmanager
    def start() -> Iterator[Engine]:
        batcher = Batcher(EngineSpec("fake", "fake", options=(("ms_per_window", str(ms_per_window)),)))
        batcher.start()
        batcher.wait_ready(30)
        try:
            yield Engine(batcher)
        finally:
            batcher.close(0.0)

    return start


@pytest.mark.alone
@pytest.mark.parametrize(("ms_per_window", "fails"), [(15.0, False), (60.0, True)])
def test_a_slowed_engine_fails_the_gate_and_an_equal_one_passes(ms_per_window: float, fails: bool) -> None:  # noqa: FBT001
    """Real processes and real time: an engine that takes four times as long is found, the same one is not."""
    plan = Plan((Job(ITEMS),), rounds=5, visits=3, strictness=Strictness(0.99, 0.02))
    assert is_worse(gate.judge(plan, _engine(15.0), _engine(ms_per_window))) is fails


def test_a_checkout_of_the_base_is_made_and_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tree holds the commit's files while it is needed; afterwards git knows of no further worktree."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout

    git("init", "-q")
    for name in ("one", "two"):
        (tmp_path / name).write_text(name, encoding="utf-8")
        git("add", name)
        git("-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "-m", name)
    monkeypatch.setattr(gate, "REPOSITORY", tmp_path)
    assert gate.default_base() == "HEAD~1"
    (tmp_path / "two").write_text("changed", encoding="utf-8")
    assert gate.default_base() == "HEAD"
    git("tag", "v1")
    assert gate.default_base() == "v1"
    with gate.tree_of("HEAD~1") as tree:
        assert [path.name for path in tree.iterdir() if path.name != ".git"] == ["one"]
    assert len(git("worktree", "list").splitlines()) == 1
    assert not tree.exists()
    with pytest.raises(BenchmarkError, match="no commit"), gate.tree_of("nothing"):
        pass


def test_another_trees_package_is_not_measured_unnoticed(tmp_path: Path) -> None:
    """Where Python would import some other Tympan, the gate refuses to begin."""
    with pytest.raises(BenchmarkError, match="not the one"):
        gate.starter("base", tmp_path / "elsewhere", tmp_path, {})


def test_a_gate_that_cannot_be_measured_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, which is neither passed nor failed."""
    monkeypatch.setattr(gate, "default_base", lambda: "no-such-commit")
    assert gate.main([]) == 2


def test_english_models_hear_english_only(tmp_path: Path) -> None:
    """A model for English alone is not asked for other languages; the multilingual one is."""
    english = gate.clips_for("tiny.en", tmp_path)
    assert {clip.language for clip in english} == {"en"}
    assert len(gate.clips_for("base", tmp_path)) > len(english) > 14
    alone, together = gate.speed_jobs(english)
    assert (alone.concurrency, together.concurrency) == (1, 4)
    assert set(alone.items) < set(together.items)


@pytest.mark.alone
@pytest.mark.long
@pytest.mark.timeout(900)
def test_two_servers_of_one_tree_pass_and_a_slowed_one_fails() -> None:
    """From the command line to the verdict: the last commit against this tree, and against this tree slowed."""
    words = ["--base", "HEAD", "--model", "tiny.en", "--rounds", "5", "--limit-s", "1"]
    for side in ("base", "candidate"):
        words += [f"--{side}-env", "TYMPAN_ENGINE=fake"]
    slow = '{"ms_per_window": "200"}'
    quick = '{"ms_per_window": "100"}'
    assert gate.main([*words, "--base-env", f"TYMPAN_ENGINE_OPTIONS={quick}",
                      "--candidate-env", f"TYMPAN_ENGINE_OPTIONS={quick}"]) == 0  # fmt: skip
    assert gate.main([*words, "--base-env", f"TYMPAN_ENGINE_OPTIONS={quick}",
                      "--candidate-env", f"TYMPAN_ENGINE_OPTIONS={slow}"]) == 1  # fmt: skip
