"""``/v1/quality`` and ``/v1/alarms``: what is known about quality, for who may know it."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.access_support import entry
from tests.api.doors_support import Guarded, guarded
from tests.api.support import wait_for
from tests.quality_support import SAID, make_set, measure
from tympan.access.callers import Scope
from tympan.access.tokens import Token
from tympan.api.operate import alarm_views
from tympan.api.watches import PartReport, PartState, Spells
from tympan.quality.alarms import AlarmBook
from tympan.quality.golden import GoldenDesk
from tympan.storage.golden import GoldenStore
from tympan.storage.golden_runs import GoldenRun
from tympan.storage.rollouts import RolloutStore
from tympan.storage.traffic import TrafficRow, TrafficStore

ROOT = Path(__file__).parents[2]
QUALITY, ALARMS = "/v1/quality", "/v1/alarms"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path_factory.mktemp("quality")) as opened:
        yield opened


@pytest.fixture(scope="module")
def desk(house: Guarded) -> GoldenDesk:
    """Return what keeps its golden sets."""
    service = house.app.state.services.jobs
    return GoldenDesk(GoldenStore(house.stores.database), house.stores.blobs, service, run_limit_s=600.0)


@pytest.fixture(scope="module")
def reader(house: Guarded) -> Token:
    """Return the key of who looks at the server's figures."""
    return house.give("operators", (Scope.METRICS,))


@pytest.fixture(scope="module")
def admin(house: Guarded) -> Token:
    """Return the operator's key."""
    return house.give("operators", (Scope.ADMIN,))


@pytest.fixture(scope="module")
def runs(desk: GoldenDesk) -> list[GoldenRun]:
    """Return three runs of a set: the baseline, one a day later, and one that is worse."""
    make_set(desk, "calls")
    make_set(desk, "other", 6, 0)
    wrong = dict.fromkeys(range(9), "a cold stone bridge offer the river")
    made_up = dict.fromkeys(range(12, 18), "thank you for watching")
    heard: list[dict[int, str | None]] = [{}, {0: f"{SAID} nil"}, {**wrong, **made_up, 10: None}]
    return [measure(desk, "calls", each) for each in heard]


def _refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_a_set_has_the_history_of_its_runs(house: Guarded, reader: Token, runs: list[GoldenRun]) -> None:
    """Newest first, each with its figures, their interval, what canaries brought, and the verdict."""
    sets = {each["name"]: each for each in house.ask("GET", QUALITY, reader).json()["golden_sets"]}
    assert set(sets) == {"calls", "other"}
    assert (sets["calls"]["clips"], sets["calls"]["version"], sets["other"]["runs"]) == (18, 1, [])
    worse, fine, first = sets["calls"]["runs"]
    assert [each["id"] for each in (first, fine, worse)] == [run.id for run in runs]
    assert [each["verdict"] for each in (first, fine, worse)] == ["not_compared", "no_worse", "worse"]
    assert (first["wer_percent"], first["is_baseline"], first["hallucination_percent"]) == (0, True, 0)
    assert (fine["is_baseline"], fine["comparison"]["baseline"]) == (False, first["id"])
    low, high = worse["wer_interval_percent"]
    assert 0 < low < worse["wer_percent"] < high
    assert worse["cer_percent"] > 0
    counted = [worse[name] for name in ("clips", "failed", "silent_clips", "hallucinated_clips")]
    assert counted == [18, 1, 6, 6]
    assert worse["hallucination_percent"] == 100


def test_nothing_that_was_said_is_among_the_figures(house: Guarded, reader: Token, runs: list[GoldenRun]) -> None:
    """Texts are for the operator alone: who reads metrics gets neither them nor the run they stand in."""
    told = house.ask("GET", QUALITY, reader)
    assert told.status_code == 200
    assert not re.search(r"stone|bridge|watching", told.text)
    refused = house.ask("GET", f"{QUALITY}/runs/{runs[2].id}", reader)
    assert _refusal(refused)[:2] == (403, "insufficient_scope")
    assert house.ask("GET", QUALITY).status_code == 401
    tenant = house.give("acme")
    for path in (QUALITY, ALARMS, f"{QUALITY}/runs/{runs[2].id}"):
        assert _refusal(house.ask("GET", path, tenant))[:2] == (403, "insufficient_scope")


def test_sets_and_days_narrow_it(house: Guarded, reader: Token, desk: GoldenDesk, runs: list[GoldenRun]) -> None:
    """Runs that began before are left out; a set that is not there is not found."""
    earlier = text("update golden_runs set created_at = created_at - 864000 where id = :id")
    desk.store.database.write(lambda tx: tx.execute(earlier, {"id": runs[0].id}))
    (found,) = house.ask("GET", f"{QUALITY}?set=calls&days=5", reader).json()["golden_sets"]
    assert [each["id"] for each in found["runs"]] == [runs[2].id, runs[1].id]
    (found,) = house.ask("GET", f"{QUALITY}?set=calls", reader).json()["golden_sets"]
    assert len(found["runs"]) == 3
    assert _refusal(house.ask("GET", f"{QUALITY}?set=nobodys", reader))[:2] == (404, "not_found")
    for query, param in (("days=0", "days"), ("days=soon", "days"), ("days=5000", "days"), ("sets=calls", "sets")):
        assert _refusal(house.ask("GET", f"{QUALITY}?{query}", reader)) == (400, "invalid_request", param)


def test_a_run_shows_its_worst_utterances_page_by_page(house: Guarded, admin: Token, runs: list[GoldenRun]) -> None:
    """What failed first, then by errors; each with both texts side by side, and none twice."""
    place = f"{QUALITY}/runs/{runs[2].id}"
    seen, after = [], ""
    while True:
        page = house.ask("GET", f"{place}?limit=6{after}", admin).json()
        seen += page["worst"]
        if not page["has_more"]:
            break
        after = f"&after={page['next']}"
    assert len(seen) == len({each["item"] for each in seen}) == 16
    assert (seen[0]["item"], seen[0]["error"], seen[0]["alignment"]) == ("s10", "corrupt_media", [])
    assert [each["errors"] for each in seen[1:10]] == sorted((each["errors"] for each in seen[1:10]), reverse=True)
    wrong = next(each for each in seen if each["item"] == "s0")
    assert wrong["reference"] == f"{SAID} 0"
    assert wrong["text"] == "a cold stone bridge offer the river"
    assert {"kind": "substitute", "reference": ["over"], "heard": ["offer"]} in wrong["alignment"]
    quiet = next(each for each in seen if each["item"] == "quiet12")
    assert (quiet["reference"], quiet["alignment"][0]["kind"]) == ("", "insert")
    assert page["all"]["wer_percent"] == page["wer_percent"]


def test_a_run_can_be_parted(house: Guarded, admin: Token, runs: list[GoldenRun]) -> None:
    """By language, speaker, tag or kind, as on the command line."""
    place = f"{QUALITY}/runs/{runs[2].id}"
    parts = house.ask("GET", f"{place}?by=language", admin).json()["parts"]
    assert [part["name"] for part in parts] == ["-", "de", "en"]
    assert sum(part["words"] for part in parts) == house.ask("GET", place, admin).json()["words"]
    assert house.ask("GET", place, admin).json()["parts"] == []


@pytest.mark.parametrize(
    ("query", "param"), [("by=weather", "by"), ("after=-1", "after"), ("after=x", "after"), ("limit=1000", "limit")]
)
def test_a_bad_question_about_a_run_is_refused(
    house: Guarded, admin: Token, runs: list[GoldenRun], query: str, param: str
) -> None:
    """By the name of what is wrong with it; and a run that is not there is not found."""
    answer = house.ask("GET", f"{QUALITY}/runs/{runs[2].id}?{query}", admin)
    assert _refusal(answer) == (400, "invalid_request", param)
    assert _refusal(house.ask("GET", f"{QUALITY}/runs/run_nobodys", admin))[:2] == (404, "not_found")


def test_traffic_stands_beside_its_baseline(house: Guarded, reader: Token) -> None:
    """Features with their tests and shares, languages together, and what the shadow model made of it."""
    today, rows = datetime.now(UTC).date(), []
    for ago in range(35):
        day = (today - timedelta(days=ago)).isoformat()
        rows += [TrafficRow(day, "call", "base", "language", "en", 20 if ago < 7 else 60)]
        rows += [TrafficRow(day, "call", "base", "language", "de", 60 if ago < 7 else 5)]
        rows += [TrafficRow(day, "job", "base", "language", "en", 10)]
        rows += [TrafficRow(day, "call", "base", "shadow", name, n) for name, n in (("windows", 5), ("words", 100))]
        rows += [TrafficRow(day, "call", "base", "shadow", "substitutions", 5 + ago % 3)]
    TrafficStore(house.stores.database).add(rows)
    told = house.ask("GET", QUALITY, reader).json()
    traffic = told["traffic"]
    assert traffic["window"]["last"] == today.isoformat()
    call, job = traffic["features"]
    assert (call["kind"], call["feature"], call["is_drift"], job["is_drift"]) == ("call", "language", True, False)
    assert [each["bin"] for each in call["bins"]] == ["de", "en"]
    assert call["bins"][0]["now"] > call["bins"][0]["before"]
    assert [each["language"] for each in traffic["languages"]] == ["de", "en"]
    assert sum(each["share"] for each in traffic["languages"]) == pytest.approx(1, abs=1e-3)
    (opinion,) = told["shadow"]["disagreement"]
    low, high = opinion["now"]["wer_interval_percent"]
    assert low <= opinion["now"]["wer_percent"] <= high
    assert (told["shadow"]["model"], told["rollout"]) == (None, None)


def test_a_model_on_trial_is_told_with_its_verdict(house: Guarded, reader: Token, runs: list[GoldenRun]) -> None:
    """And what is missing for one."""
    store = RolloutStore(house.stores.database)
    store.start("large-v3", "base", 0.05, entry("rollout.start"))
    try:
        trial = house.ask("GET", QUALITY, reader).json()["rollout"]
    finally:
        store.roll_back(entry("rollout.rollback"))
    assert (trial["candidate"], trial["share"], trial["verdict"]) == ("large-v3", 0.05, "not_known")
    assert len(trial["missing"]) == 2
    assert trial["golden_sets"][0] == {
        "golden_set": "calls", "difference_points": None, "low_points": None, "high_points": None, "worse": None
    }  # fmt: skip


def test_alarms_are_those_of_quality_and_of_parts(house: Guarded, reader: Token) -> None:
    """Each with how soon to look, since when, and where it says what to do; they go when they have ended."""
    book, services = AlarmBook(house.stores.database), house.app.state.services
    book.mark("wer_regression", "calls", {"points": 4.0})
    book.mark("run_overdue", "other", {"hours": 3})
    services.house.draining = True
    try:
        wait_for(lambda: house.ask("GET", ALARMS, reader).json()["data"][0]["name"] == "requests")
        told = house.ask("GET", ALARMS, reader).json()["data"]
    finally:
        services.house.draining = False
        book.mark("wer_regression", "calls", None)
        book.mark("run_overdue", "other", None)
    part, worse, unknown = told
    assert (part["source"], part["severity"], part["summary"]) == ("component", "ticket", "The server is stopping.")
    assert part["since"].endswith("Z")
    assert (worse["name"], worse["subject"], worse["detail"]) == ("wer_regression", "calls", {"points": 4.0})
    assert worse["runbook"].endswith("#tympantranscriptsworse")
    assert unknown["runbook"].endswith("#tympanqualityunknown")
    assert house.ask("GET", ALARMS, reader).json() == {"object": "list", "data": []}
    assert house.ask("GET", QUALITY, reader).json()["alarms"] == []


def test_a_silent_database_is_an_alarm_itself(tmp_path: Path) -> None:
    """What is known without it is told all the same."""
    with guarded(tmp_path, {"api_keys": "open"}) as house:
        house.stores.database.write(lambda tx: tx.execute(text("alter table alarms rename to alarms_away")))
        answer = house.ask("GET", ALARMS)
    assert answer.status_code == 200
    (only,) = answer.json()["data"]
    assert (only["name"], only["severity"]) == ("database", "page")


def test_every_alarm_leads_to_a_section_of_the_runbook() -> None:
    """The rule of the same name has the same severity."""
    headings = re.findall(r"^### (\w+)$", (ROOT / alarm_views.RUNBOOK).read_text(encoding="utf-8"), re.MULTILINE)
    rules = (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    severities = dict(re.findall(r"alert: (\w+)\n.*?severity: (\w+)", rules, re.DOTALL))
    for part in (*alarm_views._RULES, "redis"):
        told = alarm_views.part_alarm(part, PartReport(PartState.DOWN, "It is gone."), None)
        rule = alarm_views._RULES.get(part, "TympanPartNotWell")
        assert rule in headings
        assert told.runbook == f"{alarm_views.RUNBOOK}#{rule.lower()}"
        assert told.severity == severities[rule]


def test_a_part_is_not_well_since_it_was_first_seen_so() -> None:
    """Whatever becomes of it meanwhile; once it was well, the time begins anew."""
    now = [100.0]
    spells = Spells(lambda: now[0])
    bad = {"redis": PartReport(PartState.DEGRADED), "database": PartReport()}
    spells.note(bad)
    now[0] = 200.0
    spells.note({**bad, "redis": PartReport(PartState.DOWN)})
    assert spells.began == {"redis": 100.0}
    spells.note({"redis": PartReport()})
    now[0] = 300.0
    spells.note(bad)
    assert spells.began == {"redis": 300.0}
