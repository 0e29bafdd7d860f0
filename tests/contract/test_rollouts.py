"""Models on trial, from the table to the verdict and the alarm, on SQLite and PostgreSQL."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update

from tests.golden_support import Gold, silence, speech
from tests.jobs_support import open_shop
from tympan.errors import Conflict, NotFound
from tympan.quality.trial import TrialDesk, TrialRules
from tympan.storage.audit import AuditEntry, AuditStore
from tympan.storage.quality_tables import rollouts
from tympan.storage.rollouts import RolloutStore
from tympan.storage.traffic import TrafficRow, TrafficStore

_WHO = AuditEntry("cli:tester", "rollout.test")


@pytest.fixture(params=["sqlite", "postgres"])
def gold(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Gold]:
    """Return four clips of speech and one without, on an empty database."""
    url = None if request.param == "sqlite" else request.getfixturevalue("postgres").url
    with open_shop(tmp_path / "shop", url) as shop:
        yield Gold(shop, [*speech(4), *silence(1)])


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Gold]:
    """Return the same on SQLite alone."""
    with open_shop(tmp_path / "shop") as shop:
        yield Gold(shop, [*speech(4), *silence(1)])


def _desk(gold: Gold) -> TrialDesk:
    return TrialDesk(gold.desk, TrialRules(starter=False))


def _states(store: RolloutStore) -> list[tuple[str, str]]:
    return [(each.candidate, each.state) for each in store.listing()]


def _traffic(gold: Gold, model: str, shares: Mapping[str, Mapping[str, int]], *, days_ahead: int = 0) -> None:
    day = (datetime.now(UTC).date() + timedelta(days=days_ahead)).isoformat()
    rows = [
        TrafficRow(day, "call", model, feature, name, count)
        for feature, bins in shares.items()
        for name, count in bins.items()
    ]
    TrafficStore(gold.shop.database).add(rows)


def _usual(made_up: int = 10) -> dict[str, Mapping[str, int]]:
    """Return counts of 1000 transcripts, of which so many are likely made up."""
    return {"empty": {"0": 980, "1": 20}, "hallucination": {"0": 1_000 - made_up, "0.5": made_up}}


def test_one_rollout_runs_at_a_time_and_every_decision_is_in_the_audit_log(gold: Gold) -> None:
    """Begun, its share changed, promoted, another promoted over it, and all of it undone in reverse order."""
    store = RolloutStore(gold.shop.database)
    assert (store.standing().running, store.standing().promoted) == (None, None)
    first = store.start("b", "a", 0.05, _WHO)
    with pytest.raises(Conflict, match="running already"):
        store.start("c", "a", 0.05, _WHO)
    assert store.change_share(0.5, _WHO).share == 0.5
    with pytest.raises(NotFound, match="is no longer running"):
        store.promote("rol_other", _WHO)
    assert store.promote(first.id, _WHO).state == "promoted"
    with pytest.raises(NotFound, match="No rollout"):
        store.change_share(0.1, _WHO)
    second = store.start("c", "b", 0.1, _WHO)
    store.promote(second.id, _WHO)
    assert _states(store) == [("c", "promoted"), ("b", "replaced")]
    assert store.roll_back(_WHO).candidate == "c"
    assert _states(store) == [("c", "rolled_back"), ("b", "promoted")]
    third = store.start("d", "b", 0.1, _WHO)
    assert store.roll_back(_WHO).id == third.id
    assert store.roll_back(_WHO).id == first.id
    with pytest.raises(NotFound, match="no rollout to roll back"):
        store.roll_back(_WHO)
    assert _states(store) == [("d", "rolled_back"), ("c", "rolled_back"), ("b", "rolled_back")]
    rows = AuditStore(gold.shop.database).page()
    assert [row.target for row in rows] == [first.id] * 3 + [second.id] * 3 + [third.id] * 2 + [first.id]


def test_of_many_who_begin_at_once_one_does(gold: Gold) -> None:
    """The others hear why not."""
    store = RolloutStore(gold.shop.database)

    def begin(number: int) -> bool:
        with suppress(Conflict):
            store.start(f"m{number}", "a", 0.1, _WHO)
            return True
        return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(begin, range(16))) == 1
    assert len(store.listing()) == 1


def test_a_rollout_has_golden_sets_measured_and_needs_them_to_be_promoted(lone: Gold) -> None:
    """Without figures it is not known, with them and enough traffic it is no worse; then it may be promoted."""
    lone.add()
    desk = _desk(lone)
    rollout, measured = desk.start("b", "demo", 0.5, _WHO)
    assert measured == ["calls"]
    assert {run.asked_model for run in lone.desk.runs.running()} == {"b", "demo"}
    assert desk.current().verdict == "not known"
    assert len(desk.current().missing) == 2
    with pytest.raises(Conflict, match="not known whether 'b' is worse"):
        desk.promote(_WHO, anyway=False)
    lone.work()
    assert [each.split()[0] for each in desk.current().missing] == ["enough"]
    _traffic(lone, "b", _usual())
    _traffic(lone, "demo", _usual(12))
    found = desk.current()
    assert (found.verdict, found.candidates, found.incumbents) == ("no worse", 1_000, 1_000)
    assert desk.promote(_WHO, anyway=False).id == rollout.id
    with pytest.raises(NotFound):
        desk.current()


def test_a_candidate_with_more_word_errors_is_worse_and_an_alarm(lone: Gold) -> None:
    """The alarm ends with the rollout."""
    lone.add()
    lone.run()
    desk = _desk(lone)
    lone.mishear = lambda _, text: text.replace("bridge", "fridge")
    desk.start("b", "demo", 0.5, _WHO)
    assert [run.asked_model for run in lone.desk.runs.running()] == ["b"]
    lone.work()
    found = desk.current()
    assert found.verdict == "worse"
    assert found.reasons[0].startswith("calls: +")
    with pytest.raises(Conflict, match="'b' is worse: calls"):
        desk.promote(_WHO, anyway=False)
    desk.look()
    desk.look()
    assert ("candidate_worse", "b") in lone.alarms
    desk.store.roll_back(_WHO)
    desk.look()
    assert ("candidate_worse", "b") not in lone.alarms


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [(_usual(120), "worse"), ({**_usual(), "empty": {"0": 800, "1": 200}}, "worse"), (_usual(14), "not known")],
    ids=["made up", "empty", "chance"],
)
def test_traffic_that_was_divided_by_lot_tells_of_a_worse_candidate(
    lone: Gold, shares: Mapping[str, Mapping[str, int]], verdict: str
) -> None:
    """More of it likely made up, or empty, than with the incumbent on the same days; not what chance explains."""
    desk = _desk(lone)
    desk.start("b", "a", 0.5, _WHO)
    _traffic(lone, "b", shares)
    _traffic(lone, "a", _usual())
    assert desk.current().verdict == verdict


def test_how_sure_a_model_is_of_itself_is_shown_and_not_judged(lone: Gold) -> None:
    """Nor is audio that differs, which only tells that the calls were not divided by lot."""
    desk = _desk(lone)
    desk.start("b", "a", 0.5, _WHO)
    _traffic(lone, "b", {**_usual(), "confidence": {"-1": 900, "-0.1": 100}, "codec": {"opus": 900, "pcm": 100}})
    _traffic(lone, "a", {**_usual(), "confidence": {"-1": 100, "-0.1": 900}, "codec": {"opus": 100, "pcm": 900}})
    found = desk.current()
    assert {each.feature.name for each in found.contrasts if each.differs} == {"confidence", "codec"}
    assert [each.feature.name for each in found.contrasts if each.is_unfair] == ["codec"]
    assert found.reasons == []


def test_the_first_day_counts_only_while_there_is_no_other(lone: Gold) -> None:
    """On it the incumbent has also answered before the trial began."""
    desk = _desk(lone)
    rollout, _ = desk.start("b", "a", 0.5, _WHO)
    _traffic(lone, "b", _usual())
    _traffic(lone, "a", _usual(300))
    assert desk.judgement(rollout).incumbents == 1_000
    a_day_ago = update(rollouts).values(began_at=rollouts.c.began_at - 86_400)
    lone.shop.database.write(lambda tx: tx.execute(a_day_ago))
    for model in ("b", "a"):
        _traffic(lone, model, _usual(), days_ahead=-1)
    later = desk.current()
    assert (later.candidates, later.incumbents) == (1_000, 1_000), "yesterday, its first day, is left out"


def test_a_chore_looks_now_and_then(lone: Gold) -> None:
    """However often it is called; it survives there being no rollout."""
    now = [0.0]
    desk = TrialDesk(lone.desk, TrialRules(starter=False), clock=lambda: now[0])
    desk.tend()
    desk.start("b", "a", 0.5, _WHO)
    _traffic(lone, "b", _usual(300))
    _traffic(lone, "a", _usual())
    desk.tend()
    assert lone.alarms == []
    now[0] = 601.0
    desk.tend()
    assert lone.alarms == [("candidate_worse", "b")]
