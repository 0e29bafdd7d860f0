"""Golden sets from a folder to an alarm, on SQLite and PostgreSQL, over a made-up engine."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from tests.golden_support import Gold, silence, speech, write_set
from tests.jobs_support import open_shop
from tympan import telemetry
from tympan.access.limits import LimitBook
from tympan.access.tenant_limits import UNLIMITED, TenantLimits
from tympan.errors import EngineError, InvalidRequest, NotFound
from tympan.faultpoints import InjectedFault
from tympan.quality import starter
from tympan.quality.conductor import ConductorRules
from tympan.quality.manifest import read_folder
from tympan.quality.watch import QualityWatch
from tympan.storage.golden import SetPlan
from tympan.storage.ids import MEASURING_TENANT
from tympan.storage.quality_tables import golden_results, golden_runs, golden_sets
from tympan.storage.tables import jobs, usage

_HOURLY = SetPlan("0 * * * *")


@pytest.fixture(params=["sqlite", "postgres"])
def gold(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gold]:
    """Return three clips of speech and one without, on an empty database."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url) as shop:
        yield Gold(shop, [*speech(3), *silence(1)])


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Gold]:
    """Return the same on SQLite alone."""
    with open_shop(tmp_path / "shop") as shop:
        yield Gold(shop, [*speech(3), *silence(1)])


def _make_due(gold: Gold) -> None:
    gold.shop.database.write(lambda tx: tx.execute(update(golden_sets).values(next_at=1.0)))


def _count(gold: Gold, table: object) -> int:
    return gold.shop.database.read(lambda tx: tx.scalar(select(func.count()).select_from(table))) or 0  # type: ignore[arg-type]


def test_a_clean_run_is_its_own_baseline_and_the_next_is_no_worse(gold: Gold) -> None:
    """Every clip is scored, nothing is left of the jobs, and nobody's usage is counted."""
    gold.add()
    first = gold.run()
    assert (first.state, first.n_failed, first.model, first.comparison) == ("succeeded", 0, "demo", None)
    assert first.totals is not None
    assert first.totals["words"] == {"units": 15, "substitutions": 0, "deletions": 0, "insertions": 0, "clips": 3}
    assert (first.totals["silent"], first.totals["hallucinated"]) == (1, 0)
    assert first.totals["words_interval_percent"] == [0.0, 0.0]
    second = gold.run()
    assert second.comparison is not None
    assert (second.comparison["baseline"], second.comparison["difference_points"]) == (first.id, 0.0)
    assert [run.id for run in gold.desk.runs.page("calls", days=1)] == [second.id, first.id]
    assert gold.desk.runs.page("calls", days=0) == []
    assert gold.desk.runs.baselines() == {first.id}
    assert gold.alarms == []
    assert _count(gold, jobs) == _count(gold, usage) == 0
    assert not list(gold.shop.blobs.list("jobs/"))


def test_a_worse_decoder_is_an_alarm_until_it_is_mended(lone: Gold) -> None:
    """One word of each clip is wrong from now on; a good run ends the alarm."""
    lone.add()
    lone.run()
    lone.mishear = lambda _, text: text.replace("bridge", "fridge")
    bad = lone.run()
    assert lone.alarms == [("wer_regression", "calls")]
    assert bad.comparison is not None
    assert bad.comparison["difference_points"] == pytest.approx(20.0)
    assert bad.comparison["low_points"] > 0.5
    lone.mishear = lambda _, text: text
    lone.run()
    assert lone.alarms == []


def test_text_out_of_silence_is_an_alarm_from_six_clips_on(lone: Gold) -> None:
    """Five that newly get text could be chance; six are not."""
    lone.rows = [*speech(1), *silence(6)]
    lone.add()
    lone.run()
    for n, expected in ((5, []), (6, [("hallucination_regression", "calls")])):
        lone.mishear = lambda number, text, n=n: text or ("thank you" if number <= 1 + n else "")  # type: ignore[misc]
        run = lone.run()
        assert run.totals is not None
        assert run.totals["hallucinated"] == n
        assert lone.alarms == expected


def test_a_new_baseline_ends_the_alarm(lone: Gold) -> None:
    """Who changed the model on purpose says so; from then on it is what others are compared with."""
    lone.add()
    lone.run()
    lone.mishear = lambda _, text: text.replace("bridge", "fridge")
    bad = lone.run()
    assert lone.alarms == [("wer_regression", "calls")]
    lone.desk.make_baseline(bad.id)
    assert lone.alarms == []
    again = lone.run()
    assert again.comparison is not None
    assert (again.comparison["baseline"], again.comparison["worse_words"]) == (bad.id, False)
    with pytest.raises(NotFound):
        lone.desk.make_baseline("run_none")


def test_the_same_folder_is_the_same_version_and_a_changed_one_another(lone: Gold) -> None:
    """A new version has its own baseline; the audio of the old one goes."""
    assert lone.add().version == 1
    assert lone.add(plan=_HOURLY).version == 1
    lone.run()
    lone.rows = [*lone.rows[:2], *silence(1)]
    changed = lone.add()
    assert (changed.version, changed.n_items, changed.next_at) == (2, 3, None)
    assert lone.run().comparison is None
    lone.conductor().tidy()
    kept = {blob.key.split("/")[1] for blob in lone.shop.blobs.list("golden/")}
    assert kept == {changed.version_id}


def test_a_set_that_is_removed_leaves_nothing(gold: Gold) -> None:
    """Neither rows nor audio nor jobs nor alarms, whatever was going on."""
    gold.add()
    gold.run()
    gold.mishear = lambda _, text: text.replace("bridge", "fridge")
    gold.run()
    gold.desk.run("calls")
    gold.conductor().tick()
    assert _count(gold, jobs) == 4
    gold.desk.remove("calls")
    assert _count(gold, jobs) == _count(gold, golden_runs) == _count(gold, golden_results) == 0
    assert not list(gold.shop.blobs.list("golden/"))
    assert not list(gold.shop.blobs.list("jobs/"))
    assert gold.alarms == []
    gold.conductor().tick()
    with pytest.raises(NotFound):
        gold.desk.remove("calls")


def test_a_schedule_that_was_missed_runs_once(gold: Gold) -> None:
    """However long the machine was off; the next time is in the future."""
    gold.add(plan=_HOURLY)
    _make_due(gold)
    gold.work()
    (run,) = gold.desk.runs.page()
    assert (run.cause, run.state) == ("schedule", "succeeded")
    found = gold.desk.store.get("calls")
    assert found.next_at is not None
    assert 0 < found.next_at - gold.desk.store.now_s() <= 3600
    gold.conductor().tick()
    assert len(gold.desk.runs.page()) == 1


def test_a_time_that_comes_while_a_run_goes_on_is_passed_over(lone: Gold) -> None:
    """There are never two runs of the same by schedule."""
    lone.add(plan=_HOURLY)
    lone.desk.run("calls")
    _make_due(lone)
    lone.work()
    assert [run.cause for run in lone.desk.runs.page()] == ["request"]


def test_two_schedulers_at_once_begin_one_run_and_score_each_clip_once(gold: Gold) -> None:
    """Both without a turn to wait for: what one has done, the other's write leaves alone."""
    gold.add(plan=_HOURLY)
    _make_due(gold)
    desks, barrier = [gold.desk, gold.desk], threading.Barrier(2)
    due = gold.desk.store.due()[0]

    def begin(number: int) -> str | None:
        barrier.wait(10)
        return desks[number].begin_due(due)

    with ThreadPoolExecutor(2) as pool:
        begun = list(pool.map(begin, range(2)))
    assert sorted(each is None for each in begun) == [False, True]
    conductors = [gold.conductor("one"), gold.conductor("two")]
    (run,) = gold.desk.runs.running()
    for _ in range(8):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda each: each._advance(run), conductors))
        gold.shop.work_off()
        if not gold.desk.runs.running():
            break
    (ended,) = gold.desk.runs.page()
    assert (ended.state, ended.n_failed) == ("succeeded", 0)
    assert _count(gold, jobs) == 0


@pytest.mark.parametrize("point", ["job.insert", "job.committed", "golden.record", "golden.finish", "erase.rows"])
def test_a_scheduler_that_dies_between_steps_leaves_a_run_that_another_ends_once(
    lone: Gold, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not committed is done again, what was is not."""
    lone.add()
    begun = lone.desk.run("calls")
    monkeypatch.setattr("tympan.faultpoints._seen", {})
    monkeypatch.setenv("TYMPAN_FAULT", f"{point}:raise")
    died = False
    for _ in range(12):
        try:
            lone.conductor("one").tick()
        except InjectedFault:
            died = True
            break
        monkeypatch.delenv("TYMPAN_FAULT")  # Only who looks after runs dies here.
        lone.shop.work_off()
        monkeypatch.setenv("TYMPAN_FAULT", f"{point}:raise")
    monkeypatch.delenv("TYMPAN_FAULT")
    assert died
    lone.shop.database.write(lambda tx: tx.exec_driver_sql("delete from chores"))  # Its turn is over.
    lone.work(lone.conductor("two"))
    ended = lone.desk.runs.get(begun.id)
    assert (ended.state, ended.n_failed, ended.n_items) == ("succeeded", 0, 4)
    assert [each.state for each in lone.desk.runs.results(begun.id)] == ["done"] * 4
    assert _count(lone, jobs) == 0


def test_while_one_has_the_turn_another_does_nothing(lone: Gold) -> None:
    """Double work is saved."""
    lone.add()
    lone.desk.run("calls")
    first, second = lone.conductor("one"), lone.conductor("two")
    first.tick()
    lone.shop.work_off()
    second.tick()
    assert len(lone.desk.runs.results(lone.desk.runs.page()[0].id, "handed")) == 4
    first.tick()
    assert len(lone.desk.runs.results(lone.desk.runs.page()[0].id, "done")) == 4


def test_clips_that_fail_are_named_and_too_many_fail_the_run(lone: Gold, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are counted and left out; with more, nothing is known any more, and that is an alarm."""
    monkeypatch.setattr("tympan.quality.conductor._MOST_FAILED", 0.25)
    monkeypatch.setattr("tympan.jobs.workbench.delay_s", lambda *_: 0.0)  # Tries follow one another at once.
    lone.add()
    lone.run()
    bad = {3}

    def reply(task: object) -> object:
        heard = int(task.window.samples[0])  # type: ignore[attr-defined]
        return EngineError("no") if heard in bad else lone.hear(task)  # type: ignore[arg-type]

    lone.shop.desk.reply = reply  # type: ignore[assignment]
    one = lone.run()
    assert (one.state, one.n_failed) == ("succeeded", 1)
    assert one.comparison is not None
    assert one.comparison["clips"] == 2
    (failed,) = lone.desk.runs.results(one.id, "failed")
    assert (failed.idx, failed.error) == (2, "engine_failed")
    bad.add(4)
    assert lone.run().state == "failed"
    assert lone.alarms == [("run_failed", "calls")]
    bad.clear()
    lone.run()
    assert lone.alarms == []


def test_a_run_ends_at_its_deadline(lone: Gold) -> None:
    """Nobody does the work: the clips were not in time, their jobs are gone, the run failed."""
    lone.add()
    begun = lone.desk.run("calls")
    lone.conductor().tick()
    lone.shop.database.write(lambda tx: tx.execute(update(golden_runs).values(deadline=1.0)))
    lone.conductor().tick()
    ended = lone.desk.runs.get(begun.id)
    assert (ended.state, ended.n_failed) == ("failed", 4)
    assert {each.error for each in lone.desk.runs.results(begun.id)} == {"not_in_time"}
    assert _count(lone, jobs) == 0
    assert lone.alarms == [("run_failed", "calls")]


def test_audio_that_is_gone_is_a_clip_that_failed(lone: Gold) -> None:
    """The run goes on with the others."""
    found = lone.add()
    lone.shop.blobs.delete_prefix(f"golden/{found.version_id}/")
    run = lone.run()
    assert (run.state, run.n_failed) == ("failed", 4)
    assert {each.error for each in lone.desk.runs.results(run.id)} == {"media_missing"}


def test_jobs_that_somebody_erased_are_clips_that_failed(lone: Gold) -> None:
    """The run is none the worse for it than for any other loss."""
    lone.add()
    begun = lone.desk.run("calls")
    lone.conductor().tick()
    lone.shop.service.erase_tenant(MEASURING_TENANT)
    lone.work()
    ended = lone.desk.runs.get(begun.id)
    assert (ended.state, ended.n_failed) == ("failed", 4)
    assert {each.error for each in lone.desk.runs.results(begun.id, "failed")} == {"job_lost"}


def test_a_sample_is_the_same_all_week_and_is_compared_clip_by_clip(lone: Gold) -> None:
    """The first run is of everything, and all clips without speech are always in it."""
    lone.add(plan=replace(_HOURLY, sample=2))
    for expected in (4, 3, 3):
        _make_due(lone)
        lone.work()
        newest = lone.desk.runs.page(limit=1)[0]
        assert newest.n_items == expected
    first, second = (({each.idx for each in lone.desk.runs.results(run.id)}) for run in lone.desk.runs.page(limit=2))
    assert first == second
    assert newest.comparison is not None
    assert (newest.comparison["clips"], newest.comparison["silent"]) == (2, 1)


def test_an_equal_result_is_not_taken_for_a_measurement(lone: Gold) -> None:
    """Another run at the same time transcribes anew, although jobs with equal audio have results."""
    lone.rows = speech(1)
    lone.add()
    for _ in range(2):
        lone.desk.run("calls")
    lone.conductor().tick()
    lone.shop.work_off()
    assert len(lone.shop.desk.tasks) == 2


def test_no_limit_and_no_key_is_for_what_is_measured() -> None:
    """A tenant's limits do not hold it up."""
    book = LimitBook(TenantLimits(jobs_at_once=1, audio_minutes=0.1))
    assert book.of("someone").jobs_at_once == 1
    assert book.of(MEASURING_TENANT) is UNLIMITED


def test_every_process_tells_the_same_figures(gold: Gold) -> None:
    """They come from the database; a set that nobody measures any more is overdue, wherever one looks."""
    gold.add(plan=_HOURLY)
    gold.mishear = lambda number, text: "well" if number == 4 else text.replace("bridge", "")
    gold.run()
    watch = QualityWatch(gold.desk.store)
    watch.look()
    told = telemetry.metrics_text().decode()
    assert 'tympan_wer_ratio{golden_set="calls",model="demo"} 0.2' in told
    assert 'tympan_hallucination_ratio{model="demo"} 1.0' in told
    assert 'tympan_quality_run_age_seconds{golden_set="calls"}' in told
    assert gold.alarms == []
    _make_due(gold)
    watch.look()
    assert gold.alarms == [("run_overdue", "calls")]
    assert 'tympan_quality_alarms{kind="run_overdue"} 1.0' in telemetry.metrics_text().decode()
    gold.work()
    assert gold.alarms == []
    gold.desk.remove("calls")
    watch.look()
    assert 'golden_set="calls"' not in telemetry.metrics_text().decode()


def test_a_run_beyond_its_deadline_is_overdue(lone: Gold) -> None:
    """Who should end it is gone."""
    lone.add()
    lone.desk.run("calls")
    lone.shop.database.write(lambda tx: tx.execute(update(golden_runs).values(deadline=1.0)))
    QualityWatch(lone.desk.store).look()
    assert lone.alarms == [("run_overdue", "calls")]


def test_old_results_go_and_what_they_came_to_stays(lone: Gold) -> None:
    """Clip by clip, results of the last runs are kept, and those of the baseline."""
    lone.add()
    first, second, third = (lone.run() for _ in range(3))
    assert lone.desk.runs.thin(1) == 4
    left = [len(lone.desk.runs.results(run.id)) for run in (first, second, third)]
    assert left == [4, 0, 4]
    assert lone.desk.runs.get(second.id).totals == third.totals
    with pytest.raises(InvalidRequest):
        lone.desk.make_baseline(second.id)


def test_the_starter_set_is_there_once_and_stays_away_once_removed(lone: Gold) -> None:
    """It is run first an hour after it was made, then every Monday."""
    lone.rules = ConductorRules(starter=True)
    lone.conductor().tick()
    found = lone.desk.store.get(starter.NAME)
    assert found.plan.schedule == starter.SCHEDULE
    assert found.next_at is not None
    assert found.next_at - found.created_at <= starter.FIRST_RUN_AFTER_S + 60
    assert found.n_items == 62
    lone.desk.remove(starter.NAME)
    lone.conductor().tick()
    assert lone.desk.store.all() == []


def test_without_the_starter_set_nothing_of_it_is_run_or_missed(lone: Gold) -> None:
    """The setting turns it off, whether or not it is there."""
    lone.conductor().tick()
    assert lone.desk.store.all() == []
    lone.desk.add_starter()
    _make_due(lone)
    lone.conductor().tick()
    QualityWatch(lone.desk.store, starter=False).look()
    assert (lone.desk.runs.page(), lone.alarms) == ([], [])


def test_a_set_that_cannot_be_added_leaves_nothing(lone: Gold, tmp_path: Path) -> None:
    """A file that changes between the check and the copy, and a name of the wrong shape."""
    items = read_folder(write_set(tmp_path / "other", speech(2)))
    items[1].path.write_bytes(b"another")
    with pytest.raises(InvalidRequest, match="changed while"):
        lone.desk.add("other", items, SetPlan())
    with pytest.raises(InvalidRequest, match="is not a valid name"):
        lone.desk.add("../other", items, SetPlan())
    with pytest.raises(InvalidRequest, match="not a schedule"):
        lone.desk.add("other", items, SetPlan("sometimes"))
    assert lone.desk.store.all() == []
    with suppress(NotFound):
        lone.desk.store.get("other")
