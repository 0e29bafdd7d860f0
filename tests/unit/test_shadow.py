"""A second model's opinion: which windows it is asked about, that it gives way, and what is counted of it."""

import gc
import json
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from benchmarks.weeks import START_S, Watched
from tests.jobs_support import open_shop
from tests.live_support import OPTIONS as LISTENING
from tests.live_support import HearsLoudness, eventually, heard, joined, quiet, read, spoken
from tests.log_support import captured_log
from tests.pipeline_support import INFO, SOURCE, ArraySource, HearsAll, Reply, WindowDesk, answer, blocks
from tympan import telemetry
from tympan.batching.queue import Origin
from tympan.batching.stats import BatcherStats
from tympan.bootstrap import shadow as wiring
from tympan.cli import app
from tympan.cli.console import stderr, stdout
from tympan.config import Settings, load
from tympan.domain import (
    SAMPLE_RATE_HZ,
    DecodeParams,
    Lane,
    Options,
    Piece,
    Ranking,
    Task,
    Window,
    WindowResult,
    WindowTask,
)
from tympan.engine.base import EngineInfo, EngineSpec
from tympan.engine.fake import FakeEngine, create
from tympan.errors import ConfigError, EngineError, EngineHang, Overloaded, TympanError, Unavailable
from tympan.fallback import first_attempt
from tympan.live import LiveSession
from tympan.pipeline import RequestContext, Transcriber
from tympan.pipeline.sampling import FinalWindow
from tympan.quality import second_opinions
from tympan.quality.scoring import Counts, Pair, count
from tympan.quality.second_opinions import amounts_of, comparisons
from tympan.quality.shadow import MAX_WAITING, Shadow, ShadowRules
from tympan.storage.database import sqlite_url
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.traffic import TrafficRow, TrafficStore

ALL = ShadowRules(1.0, patience_s=0.0)
ENGLISH = Options(vad=None, language="en")
SAID = " an old stone bridge"


@dataclass
class Second:
    """The second model's slot: it is there, or another stands in, or it cannot be had."""

    desk: WindowDesk
    name: str = "second"
    answers_as: str = "second"
    gone: TympanError | None = None

    @property
    def info(self) -> EngineInfo | None:
        """What is loaded."""
        return self.desk.info

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return True

    def submit(self, task: WindowTask, origin: Origin) -> Future[WindowResult]:
        """Accept a window."""
        return self.desk.submit(task, origin)

    def stats(self) -> BatcherStats:
        """Nothing waits here."""
        return self.desk.stats()

    @contextmanager
    def hold(self, check: Callable[[], None]) -> Iterator["Second"]:
        """Yield what answers."""
        check()
        if self.gone is not None:
            raise self.gone
        yield replace(self, name=self.answers_as)


def second(reply: Callable[[WindowTask], Reply] | None = None, **knobs: Any) -> Second:
    """Return a second model that hears ``SAID``, or what ``reply`` says; ``knobs`` are those of its desk."""
    return Second(WindowDesk(reply or hears(SAID), info=replace(INFO, model="second"), **knobs))


def hears(text: str) -> Callable[[WindowTask], WindowResult]:
    """Return an engine that hears one text in everything."""
    tokens = tuple(range(len(text.split())))
    return lambda task: replace(answer(task), text=text, tokens=tokens, language=task.params.language or "en")


def window(seconds: float = 2.0, index: int = 0) -> Window:
    """Return a window of noise."""
    samples = np.random.default_rng(index).integers(-400, 400, round(seconds * SAMPLE_RATE_HZ)).astype(np.int16)
    return Window(index, samples, (Piece(0, 0, len(samples)),))


TASK = WindowTask(window(), DecodeParams())


def final(text: str = SAID, language: str = "en", **fields: object) -> FinalWindow:
    """Return a window of the first model's."""
    found = window()
    result = WindowResult(text, (1,), language, (), -0.1, 0.0, 1.0, 0.0, full_context=False)
    return replace(
        FinalWindow(found, result, ENGLISH, "first", "tenant", Lane.INTERACTIVE),
        **fields,  # type: ignore[arg-type]
    )


@dataclass
class Ledger:
    """Takes what is counted."""

    entries: list[tuple[str, str, dict[tuple[str, str], int]]] = field(default_factory=list)
    error: Exception | None = None

    def count(self, kind: str, model: str, amounts: Mapping[tuple[str, str], int]) -> None:
        """Take note."""
        if self.error is not None:
            raise self.error
        self.entries.append((kind, model, dict(amounts)))


class Outcomes:
    """What became of windows since this was made."""

    def __init__(self) -> None:
        """Begin."""
        self._before = self._all()

    def __call__(self) -> dict[str, float]:
        """Return what has grown, by how much."""
        return {name: now - self._before[name] for name, now in self._all().items() if now != self._before[name]}

    @staticmethod
    def _all() -> dict[str, float]:
        samples = next(iter(telemetry.SHADOW_WINDOWS.collect())).samples
        return {each.labels["outcome"]: each.value for each in samples}


# Which windows there are to choose from.


def told(reply: Callable[[WindowTask], Reply], seconds: float, options: Options) -> tuple[list[FinalWindow], str]:
    """Return what a sampler is told while a file is transcribed, and the transcript's text."""
    seen: list[FinalWindow] = []
    pipeline = Transcriber(
        ArraySource(blocks(seconds)), HearsAll(), WindowDesk(reply), max_window_s=5.0, sampler=seen.append
    )
    return seen, pipeline.transcribe(SOURCE, options, RequestContext("r", "tenant")).text


def test_every_window_is_told_of_once_with_its_samples_and_its_final_text() -> None:
    """Its text is the reader's, and it says who asked and how."""
    seen, text = told(answer, 12.0, ENGLISH)
    assert [each.window.index for each in seen] == list(range(len(seen)))
    assert len(seen) > 2
    assert "".join(each.result.text for each in seen).strip() == text
    assert sum(len(each.window.samples) for each in seen) == 12 * SAMPLE_RATE_HZ
    assert {(each.model, each.tenant, each.lane) for each in seen} == {("demo", "tenant", Lane.INTERACTIVE)}


def test_what_was_heard_before_the_language_was_known_is_told_of_once_it_is_final() -> None:
    """A window that was outvoted is told of in the language of all, and not as it was heard first."""
    votes: list[Ranking] = [(("de", 0.4), ("en", 0.3)), (("en", 0.45), ("de", 0.2)), (("en", 0.4), ("de", 0.1))]

    def reply(task: WindowTask) -> WindowResult:
        heard_first = task.params.language is None
        vote = votes[task.window.index] if heard_first else ()
        language = vote[0][0] if heard_first else str(task.params.language)
        return replace(answer(task), language=language, language_probabilities=vote)

    seen, _ = told(reply, 24.0, Options(vad=None))
    assert sorted(each.window.index for each in seen) == list(range(len(seen)))
    assert {each.result.language for each in seen} == {"en"}
    assert all(len(each.window.samples) for each in seen)


def test_a_window_without_speech_has_no_text() -> None:
    """As in the transcript: what was made up over silence is not compared with anything."""
    seen, text = told(lambda task: replace(answer(task), no_speech_prob=0.95, avg_logprob=-1.5), 4.0, ENGLISH)
    assert text == ""
    assert {each.result.text for each in seen} == {""}


@pytest.mark.parametrize("failure", [EngineError("It was poison."), EngineHang()])
def test_a_window_that_failed_is_nobodys_sample(failure: TympanError) -> None:
    """Nor is one whose caller has left."""
    seen: list[FinalWindow] = []
    left = RequestContext("r")

    def leave(_: WindowTask) -> None:
        left.cancel.set()

    replies: tuple[Callable[[WindowTask], Reply], ...] = (lambda _: failure, leave)
    for reply in replies:
        pipeline = Transcriber(ArraySource(blocks(4.0)), HearsAll(), WindowDesk(reply), sampler=seen.append)
        with pytest.raises(TympanError):
            pipeline.transcribe(SOURCE, ENGLISH, left)
    assert seen == []


def test_the_language_alone_is_no_text_to_compare() -> None:
    """Who only asks for it is not sampled."""
    seen: list[FinalWindow] = []
    Transcriber(ArraySource(blocks(4.0)), HearsAll(), WindowDesk(), sampler=seen.append).detect_language(
        SOURCE, RequestContext("r")
    )
    assert seen == []


def test_utterances_of_a_live_session_are_told_of() -> None:
    """On the lane of live speech."""
    seen: list[FinalWindow] = []
    pipeline = Transcriber(ArraySource([]), HearsLoudness(), WindowDesk(read), sampler=seen.append)
    session = LiveSession(pipeline, LISTENING, RequestContext("r"))
    heard(session, joined(quiet(0.5), spoken(1, 2, 3), quiet(1.5)))
    session.close()
    assert {each.lane for each in seen} == {Lane.LIVE}
    assert seen[-1].result.text.strip() == "w1 w2 w3"


# Which of them are chosen.


def test_chance_chooses_the_share_that_was_set() -> None:
    """A draw below it is chosen, one at it is not; over many windows it is the share."""
    draws = iter([0.0, 0.249, 0.25, 0.9])
    shadow = Shadow(second(), Ledger(), ShadowRules(0.25, draw=lambda: next(draws)))
    for _ in range(4):
        shadow.offer(final())
    assert shadow._waiting.qsize() == 2
    outcomes = Outcomes()
    many = Shadow(second(), Ledger(), ShadowRules(0.01, draw=np.random.default_rng(5).random))
    found = final()
    for _ in range(20_000):
        many.offer(found)
    assert outcomes()["full"] + MAX_WAITING == pytest.approx(200, abs=40)


@pytest.mark.parametrize(
    "found",
    [
        final(tenant=MEASURING_TENANT),
        final(model="second"),
        final(options=replace(ENGLISH, task=Task.TRANSLATE)),
    ],
    ids=["a golden set's", "the second model's own", "a translation"],
)
def test_some_windows_are_never_chosen(found: FinalWindow) -> None:
    """What has a reference anyway, what would agree with itself, and what can be said in many ways."""
    outcomes = Outcomes()
    shadow = Shadow(second(), Ledger(), ALL)
    for _ in range(9):
        shadow.offer(found)
    assert shadow._waiting.empty()
    assert outcomes() == {}


def test_who_transcribes_never_waits_for_the_second_model() -> None:
    """So many wait, the rest is left out and counted; also while the second model hangs."""
    outcomes, model, ledger = Outcomes(), second(hold=True), Ledger()
    shadow = Shadow(model, ledger, ALL)
    shadow.start()
    shadow.offer(final())
    eventually(lambda: model.desk.open == 1)
    for _ in range(MAX_WAITING + 3):
        shadow.offer(final())
    assert outcomes() == {"full": 3}
    shadow.stop()
    assert model.desk.open == 0  # What was with the engine is withdrawn.
    assert ledger.entries == []


def test_the_second_model_has_what_the_first_was_told_and_gives_way() -> None:
    """The language that was settled, in the lane of jobs, for the tenant that counts for nobody."""
    model = second()
    found = final(
        options=replace(ENGLISH, language=None, multilingual=True, prompt="Stones", beam_size=3), language="de"
    )
    Shadow(model, Ledger(), ALL).hear(found)
    ((task, origin),) = zip(model.desk.tasks, model.desk.origins, strict=True)
    assert (task.params.language, task.params.prompt, task.params.beam_size) == ("de", "Stones", 3)
    assert (origin.lane, origin.tenant, origin.weight) == (Lane.BATCH, MEASURING_TENANT, 0.1)


def test_a_text_that_looks_wrong_is_decoded_again_as_for_a_caller() -> None:
    """A loop of the second model's would be counted as the first one's errors."""

    def reply(task: WindowTask) -> WindowResult:
        loops = not task.params.full_context
        return replace(hears(SAID)(task), compression_ratio=9.0 if loops else 1.0, text=SAID * 9 if loops else SAID)

    ledger = Ledger()
    Shadow(second(reply), ledger, ALL).hear(final())
    assert ledger.entries[0][2] == {("disagreement", "0"): 1, ("shadow", "windows"): 1, ("shadow", "words"): 4}


# It gives way, and fails for itself.


def test_no_window_is_heard_again_while_callers_wait() -> None:
    """It is left out after a while, and nothing is handed to an engine."""
    outcomes, model, looks = Outcomes(), second(), iter([True, True, False])
    Shadow(model, Ledger(), ShadowRules(1.0, lambda: True, patience_s=0.0)).hear(final())
    assert (outcomes(), model.desk.submissions) == ({"busy": 1}, 0)
    Shadow(model, Ledger(), ShadowRules(1.0, lambda: next(looks))).hear(final())
    assert outcomes() == {"busy": 1, "compared": 1}


@pytest.mark.parametrize(
    ("model", "found", "outcome"),
    [
        (replace(second(), gone=Unavailable("It cannot be loaded.")), final(), "unavailable"),
        (replace(second(), answers_as="third"), final(), "unavailable"),
        (second(), final(language="sw"), "unsupported"),
        (second(refusals={1: Overloaded()}), final(), "busy"),
        (second(lambda _: EngineError("Out of order.")), final(), "failed"),
        (second(lambda _: RuntimeError("a mistake of ours")), final(), "failed"),
    ],
    ids=["not loaded", "stood in for", "another language", "queue full", "engine failed", "mistake"],
)
def test_whatever_happens_to_the_second_model_is_counted_and_no_more(
    model: Second, found: FinalWindow, outcome: str
) -> None:
    """Nothing is raised, and nothing is counted as a difference."""
    outcomes, ledger = Outcomes(), Ledger()
    Shadow(model, ledger, ALL).hear(found)
    assert outcomes() == {outcome: 1}
    assert ledger.entries == []


def test_a_second_model_that_takes_too_long_is_given_up() -> None:
    """And its window is withdrawn from the engine."""
    outcomes, model = Outcomes(), second(hold=True)
    Shadow(model, Ledger(), replace(ALL, longest_s=0.3)).hear(final())
    assert outcomes() == {"late": 1}
    assert model.desk.open == 0


def test_books_that_cannot_be_kept_end_nothing() -> None:
    """A mistake in counting is one window's."""
    outcomes = Outcomes()
    Shadow(second(), Ledger(error=ValueError("no day")), ALL).hear(final())
    assert outcomes() == {"failed": 1}


def test_callers_get_the_same_whatever_the_second_model_does() -> None:
    """Their text, their windows and their errors are those without it; the next window is heard all the same."""
    replies: Iterator[Reply] = iter([EngineError("Poison."), *[hears(SAID)(TASK)] * 9])
    model, ledger, outcomes = second(lambda _: next(replies)), Ledger(), Outcomes()
    shadow = Shadow(model, ledger, ALL)
    shadow.start()
    texts = []
    for sampler in (None, shadow.offer):
        pipeline = Transcriber(ArraySource(blocks(12.0)), HearsAll(), WindowDesk(), max_window_s=5.0, sampler=sampler)
        texts.append(pipeline.transcribe(SOURCE, ENGLISH, RequestContext("r")).text)
    n_windows = texts[1].count("w")
    eventually(lambda: sum(outcomes().values()) == n_windows)
    shadow.stop()
    assert texts[0] == texts[1]
    assert outcomes() == {"failed": 1, "compared": n_windows - 1}
    assert [entry[:2] for entry in ledger.entries] == [("call", "demo")] * (n_windows - 1)


def test_nothing_of_text_or_audio_is_kept_or_logged() -> None:
    """Samples go with the window, and counts and log lines have no words in them."""
    ledger, outcomes = Ledger(), Outcomes()
    model = second(lambda task: EngineError("Poison.") if ledger.entries else hears(SAID)(task))
    shadow = Shadow(model, ledger, ALL)
    with captured_log() as log:
        shadow.start()
        samples = []
        for _ in range(2):
            found = final(" an umbrella")
            samples.append(weakref.ref(found.window.samples))
            shadow.offer(found)
            del found
        eventually(lambda: sum(outcomes().values()) == 2)
        model.desk.tasks.clear()
        model.desk.futures.clear()
        # An error and what it failed with refer to each other, until they are looked for.
        eventually(lambda: gc.collect() >= 0 and all(ref() is None for ref in samples))
        shadow.stop()
    assert outcomes() == {"compared": 1, "failed": 1}
    assert "shadow_failed" in log.getvalue()
    for word in ("umbrella", "bridge"):
        assert word not in log.getvalue() + repr(ledger.entries)


def test_a_desk_that_never_began_is_stopped_at_once() -> None:
    """As when the start of the server failed half way; one that has much to do is, too."""
    Shadow(second(), Ledger(), ALL).stop()
    waits = threading.Event()

    def callers_wait() -> bool:
        waits.set()
        return True

    shadow = Shadow(second(), Ledger(), ShadowRules(1.0, callers_wait, patience_s=600.0))
    shadow.start()
    for _ in range(9):
        shadow.offer(final())
    assert waits.wait(30)
    shadow.stop()
    assert not shadow._background._thread.is_alive()


# What is counted.


@pytest.mark.parametrize(
    ("reference", "hypothesis", "place", "exact"),
    [
        ("", "", "0", {}),
        ("", "you", "1", {"insertions": 1}),
        ("An old stone bridge.", "an old stone bridge", "0", {"words": 4}),
        ("an old stone bridge", "", "1", {"words": 4, "deletions": 4}),
        ("an old stone bridge", "an cold stone bridge now", "0.5", {"words": 4, "substitutions": 1, "insertions": 1}),
        ("old stone", "a b c d e f g", "1", {"words": 2, "substitutions": 2, "insertions": 5}),
    ],
)
def test_a_window_is_one_in_a_bin_and_its_exact_counts(
    reference: str, hypothesis: str, place: str, exact: dict[str, int]
) -> None:
    """The second model's text is the reference; case, points and spelled numbers do not count."""
    amounts = amounts_of(count(Pair(reference, hypothesis, "en")))
    assert amounts.pop(("disagreement", place)) == 1
    assert {name: n for (_, name), n in amounts.items()} == {"windows": 1, **exact}
    assert {feature for feature, _ in amounts} == {"shadow"}


def row(day: int, name: str, n: int, model: str = "base", kind: str = "call") -> TrafficRow:
    """Return a count of the second day and so on of a month."""
    return TrafficRow(f"2026-02-{day:02}", kind, model, second_opinions.FEATURE, name, n)


def test_counts_of_days_are_pooled_by_model_and_way_of_asking() -> None:
    """All errors over all words; the interval is that of days drawn again, and needs some."""
    new = [row(day, name, n) for day in range(8, 15) for name, n in (("words", 100), ("windows", 10))]
    new += [row(day, "substitutions", 2 * (day - 8)) for day in range(9, 15)]
    old = [row(1, "words", 50, kind="job"), row(1, "deletions", 5, kind="job"), row(1, "windows", 4, kind="job")]
    old += [row(1, "words", 9, model="aaa"), replace(row(1, "0", 1), feature="disagreement"), row(1, "strange", 7)]
    first, call, job = comparisons(new, old)
    assert [(each.model, each.kind) for each in (first, call, job)] == [
        ("aaa", "call"),
        ("base", "call"),
        ("base", "job"),
    ]
    assert call.window.counts == Counts(700, 42, 0, 0, 70)
    assert (call.window.counts.rate, call.window.days) == (6.0, 7)
    assert call.window.interval_percent is not None
    low, high = call.window.interval_percent
    assert 2.0 < low < 6.0 < high < 10.0
    assert (call.baseline.counts, call.baseline.interval_percent) == (Counts(), None)
    assert (job.baseline.counts.rate, job.baseline.interval_percent) == (10.0, None)


def test_metrics_tell_words_and_errors_by_model() -> None:
    """And no more labels than there are models and kinds of errors."""

    def totals() -> list[float]:
        errors = [telemetry.SHADOW_ERRORS.labels("first", kind) for kind in ("substitution", "deletion", "insertion")]
        return [metric._value.get() for metric in (telemetry.SHADOW_WORDS.labels("first"), *errors)]

    before = totals()
    Shadow(second(), Ledger(), ALL).hear(final(" a cold stone bridge now"))
    assert [now - then for now, then in zip(totals(), before, strict=True)] == [4, 2, 0, 1]


# Two engines that disagree, in simulated weeks.


def engine(model: str, mishears: int) -> FakeEngine:
    """Return a made-up engine that takes one word in so many for another; 0: none."""
    return create(EngineSpec("fake", model, options=(("mishears", str(mishears)),)))


def live_through(watched: Watched, days: int, mishears: int, seed: int) -> list[set[str]]:
    """Return which alarms were open at the end of each day of windows by an engine, with a sure one behind it."""
    behind, ahead = engine("second", 0), engine("first", mishears)
    model = Second(WindowDesk(lambda task: behind.transcribe([task])[0], info=behind.info))
    shadow = Shadow(model, watched.meter, ALL)
    rng, opened_at = np.random.default_rng(seed), []
    for _ in range(days):
        for number in range(int(rng.poisson(12))):
            found = window(float(rng.choice([2.0, 4.0, 6.0])), 1_000 * watched.days + number)
            (result,) = ahead.transcribe([WindowTask(found, first_attempt(ENGLISH, "en"))])
            shadow.hear(FinalWindow(found, result, ENGLISH, "first", "tenant", Lane.INTERACTIVE))
        watched.meter.flush()
        watched.watch.look()
        opened_at.append(set(watched.alarms.open))
        watched.days += 1
    return opened_at


def test_a_worse_model_that_is_as_sure_of_itself_raises_the_alarm_within_its_week(tmp_path: Path) -> None:
    """One word in ten differed for two weeks; one in five does now. Days like those before raise nothing."""
    watched = Watched(tmp_path)
    clean = live_through(watched, 14, mishears=10, seed=1)
    swapped = live_through(watched, 7, mishears=5, seed=2)
    first = datetime.fromtimestamp(START_S, UTC).date()
    store = TrafficStore(watched.database)
    rows = (
        store.between(first, first + timedelta(days=13)),
        store.between(first + timedelta(days=14), first + timedelta(days=20)),
    )
    watched.close()
    assert set().union(*clean) == set()
    assert "disagreement_drift" in swapped[-1]
    (found,) = comparisons(rows[1], rows[0])
    assert (found.window.counts.rate, found.window.counts.deletions, found.window.counts.insertions) == (20.0, 0, 0)
    assert found.baseline.counts.rate == pytest.approx(7.5, abs=2.5)


# What an operator says and sees.


def settings(tmp_path: Path, **values: object) -> Settings:
    """Return settings with two made-up models."""
    return load({"data_dir": tmp_path, "engine": "fake", "models": "second", **values})


def test_a_second_model_is_off_unless_it_is_named(tmp_path: Path) -> None:
    """Nor is there one where nothing would be counted of it."""
    named = settings(tmp_path, shadow_model="second")
    assert settings(tmp_path).shadow_model is None
    assert named.shadow_share == 0.01
    for chosen, ledger in ((settings(tmp_path), Ledger()), (named, None)):
        with wiring.shadowing(chosen, None, {}, "base", ledger) as sampler:  # type: ignore[arg-type]
            assert sampler is None
    with pytest.raises(ConfigError, match="SHADOW_MODEL needs TRAFFIC_DAYS"):
        settings(tmp_path, shadow_model="second", traffic_days=0)
    for share in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="SHADOW_SHARE"):
            settings(tmp_path, shadow_model="second", shadow_share=share)


@pytest.mark.parametrize(
    ("name", "said"),
    [("tiny", "not served here"), ("fake", "is the default model"), ("whisper-1", "is the default model")],
)
def test_a_second_model_that_is_none_is_refused(name: str, said: str) -> None:
    """With what to do about it."""
    with pytest.raises(ConfigError, match=said) as refused:
        wiring._shadow_of(name, {"fake": "fake", "whisper-1": "fake", "second": "second"}, "fake")
    assert "MODELS" in str(refused.value.remedy)


@pytest.fixture
def counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TrafficStore]:
    """Return the counts that the command line finds."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path))
    stdout.cache_clear()
    stderr.cache_clear()
    with open_shop(tmp_path, sqlite_url(tmp_path / "tympan.db")) as shop:
        yield TrafficStore(shop.database)


def _shadow(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["quality", "shadow", *arguments], env={"COLUMNS": "140"})


def test_the_command_shows_both_stretches_of_days(counted: TrafficStore) -> None:
    """As a table for people and as JSON for programs; nothing is said where nothing was heard again."""
    nothing = _shadow()
    assert (nothing.exit_code, nothing.stdout) == (0, "")
    assert "SHADOW_MODEL" in nothing.stderr
    now = datetime.now(UTC).date()
    counted.add(
        [
            TrafficRow((now - timedelta(days=back)).isoformat(), "call", "base", "shadow", name, amount)
            for back in range(20)
            for name, amount in {"windows": 10, "words": 100, "substitutions": 20 if back < 7 else 5}.items()
        ]
    )
    shown = [line.split() for line in _shadow().stdout.splitlines()]
    assert ["base", "call", "now", "70", "700", "140", "0", "0", "20.00", "%", "20.00", "to", "20.00"] in shown
    assert ["before", "130", "1,300", "65", "0", "0", "5.00", "%", "5.00", "to", "5.00"] in shown
    (found,) = json.loads(_shadow("--days", "1", "--json").stdout)["models"]
    assert found["now"] == {
        "windows": 10, "days": 1, "words": 100, "substitutions": 20, "deletions": 0, "insertions": 0,
        "wer_percent": 20.0, "interval_percent": None,
    }  # fmt: skip
    assert found["before"]["windows"] == 190
