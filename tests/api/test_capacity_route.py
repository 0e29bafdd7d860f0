"""``POST /v1/capacity/plan``: the planner's answer over HTTP, made aside, one at a time, within a limit."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.doors_support import Guarded, guarded
from tests.capacity_support import FAST
from tympan.access.callers import Scope
from tympan.access.tokens import Token
from tympan.bootstrap import planning
from tympan.capacity import aside, desk
from tympan.capacity.demand import Demand, Goal, Lengths
from tympan.capacity.kept import KEY, kept_path, kept_text
from tympan.capacity.planner import Effort
from tympan.capacity.profile import as_json
from tympan.capacity.replica import House
from tympan.config import load
from tympan.errors import Cancelled, Overloaded
from tympan.storage.blobs import open_blobs

PLAN = "/v1/capacity/plan"
PATIENCE_S = 200.0
"""Plans give way to everything else on the machine."""

QUICK = {"per_hour": 100, "mean_length_s": 5, "runs": 2}


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Guarded]:
    """Return a server that asks for keys."""
    with guarded(tmp_path) as opened:
        yield opened


@pytest.fixture
def admin(house: Guarded) -> Token:
    """Return the operator's key."""
    return house.give("operators", (Scope.ADMIN,))


def _measured(folder: Path) -> None:
    path = kept_path(folder)
    path.parent.mkdir(exist_ok=True)
    path.write_text(kept_text(FAST, {"model": "base"}), encoding="utf-8")


def _refusal(answer: httpx.Response) -> tuple[int, str, str | None]:
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["param"]


def test_a_plan_is_that_of_the_command_line(house: Guarded, admin: Token) -> None:
    """From the profile that was measured last, with what was asked in it."""
    _measured(house.settings.data_dir)
    answer = house.ask(
        "POST", PLAN, admin, timeout=PATIENCE_S, json={**QUICK, "cost_per_hour": 2, "goal": {"turnaround_p95_s": 9}}
    )
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["kind"], told["command"], told["effort"]) == (
        "tympan.capacity.plan",
        f"POST {PLAN}",
        {"runs": 2, "seed": 1},
    )
    (plan,) = told["plans"]
    assert (plan["machine"]["name"], plan["replicas"], plan["cost"]["day"]) == ("fast", 1, 48)
    assert (plan["demand"]["per_hour"], plan["goal"]["turnaround_p95_s"]) == (100, 9)
    assert plan["figures"]["turnaround_s"]["p95"]["value"] < 9
    question = aside.Question(
        FAST, Demand(Lengths((5.0,)), per_hour=100), Goal(turnaround_p95_s=9), planning.house_of(house.settings),
        Effort(2), cost_per_hour=2,
    )  # fmt: skip
    here = aside.answer(question, "here")
    assert json.loads(json.dumps(here["plans"])) == told["plans"]


def test_without_a_demand_it_is_what_the_server_has_seen(house: Guarded, admin: Token) -> None:
    """Which has to be something."""
    _measured(house.settings.data_dir)
    assert _refusal(house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json={})) == (400, "invalid_request", "days")
    for _ in range(3):
        assert house.transcribe(house.give("acme")).status_code == 200
    house.app.state.services.desks.meter.flush()
    answer = house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json={"runs": 2})
    assert answer.status_code == 200, answer.text
    (plan,) = answer.json()["plans"]
    assert plan["demand"]["lengths"]["values_s"] == [pytest.approx(4.2)]
    assert len(plan["by_hour"]) == 24
    assert plan["notes"]


def test_nothing_is_planned_with_a_machine_that_was_never_measured(house: Guarded, admin: Token) -> None:
    """Nor with a profile that is damaged; one may come with the question."""
    refused = house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json=QUICK)
    assert _refusal(refused)[:2] == (409, "conflict")
    assert "tympan capacity" in refused.json()["error"]["message"]
    path = kept_path(house.settings.data_dir)
    path.parent.mkdir()
    for text in ("half of", "[]", '{"profile": []}', '{"profile": {"kind": "tympan.capacity.profile", "version": 9}}'):
        path.write_text(text, encoding="utf-8")
        assert _refusal(house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json=QUICK))[:2] == (409, "conflict"), text
    given = house.ask(
        "POST", PLAN, admin, timeout=PATIENCE_S, json={**QUICK, "profile": as_json(replace(FAST, name="mine"))}
    )
    assert given.json()["plans"][0]["machine"]["name"] == "mine"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"per_hour": 5, "peak_concurrent": 5}, "per_hour"),
        ({"per_hour": 0}, "per_hour"),
        ({"peak_concurrent": 0}, "peak_concurrent"),
        ({"peak_concurrent": 10**6}, "peak_concurrent"),
        ({"by_hour": [1] * 23}, "by_hour"),
        ({"by_hour": [0] * 24}, "by_hour"),
        ({"per_hour": 5, "mean_length_s": 5, "lengths_s": [5]}, "lengths_s"),
        ({"per_hour": 5, "mean_length_s": -1}, "mean_length_s"),
        ({"per_hour": 5, "lengths_s": []}, "lengths_s"),
        ({"per_hour": 5, "job_share": 1.5}, "job_share"),
        ({"per_hour": 5, "runs": 11}, "runs"),
        ({"per_hour": 5, "goal": {"headroom": 1}}, "goal.headroom"),
        ({"per_hour": 5, "goal": {"wait": 1}}, "goal.wait"),
        ({"per_hour": 5, "profile": {"kind": "other"}}, "profile"),
        ({"days": 0}, "days"),
    ],
)
def test_a_bad_demand_is_refused_by_name(house: Guarded, admin: Token, body: dict[str, Any], param: str) -> None:
    """Before anything is simulated."""
    assert _refusal(house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json=body)) == (400, "invalid_request", param)


def test_a_goal_that_cannot_be_met_is_said_to_be(house: Guarded, admin: Token) -> None:
    """With what to change."""
    _measured(house.settings.data_dir)
    refused = house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json={**QUICK, "goal": {"turnaround_p95_s": 0.001}})
    assert _refusal(refused)[:2] == (400, "invalid_request")
    assert "Allow more time" in refused.json()["error"]["message"]


def test_only_the_operator_may_plan(house: Guarded) -> None:
    """The demand of all tenants is in it."""
    key = house.give("acme", tuple(scope for scope in Scope if scope is not Scope.ADMIN))
    assert _refusal(house.ask("POST", PLAN, key, json=QUICK))[:2] == (403, "insufficient_scope")
    assert house.ask("POST", PLAN, json=QUICK).status_code == 401


def test_one_plan_is_made_at_a_time(house: Guarded, admin: Token, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes meanwhile is told when to come again."""
    _measured(house.settings.data_dir)
    begun, go_on = threading.Event(), threading.Event()

    def slow(*_: object) -> dict[str, object]:
        begun.set()
        assert go_on.wait(60)
        return {"kind": "tympan.capacity.plan"}

    monkeypatch.setattr(desk, "plan_aside", slow)
    first = threading.Thread(
        target=house.ask, args=("POST", PLAN, admin), kwargs={"json": QUICK, "timeout": PATIENCE_S}
    )
    first.start()
    try:
        assert begun.wait(60)
        second = httpx.post(house.url + PLAN, json=QUICK, headers={"authorization": f"Bearer {admin.text}"}, timeout=60)
    finally:
        go_on.set()
        first.join(60)
    assert _refusal(second)[:2] == (503, "overloaded")
    assert int(second.headers["retry-after"]) >= 1
    assert house.ask("POST", PLAN, admin, timeout=PATIENCE_S, json=QUICK).status_code == 200


def _question() -> aside.Question:
    demand = Demand(Lengths((20.0,)), callers=5_000)
    return aside.Question(FAST, demand, Goal(wait_p95_s=5.0), House(), Effort(10))


def test_a_plan_that_takes_too_long_is_given_up() -> None:
    """Its process is ended, and the refusal says when to try again."""
    with pytest.raises(Overloaded, match="takes longer") as caught:
        aside.plan_aside(_question(), "test", 0.1, lambda: False)
    assert caught.value.retry_after_s


def test_a_plan_that_nobody_waits_for_is_given_up() -> None:
    """So a server stops at once."""
    with pytest.raises(Cancelled):
        aside.plan_aside(_question(), "test", 600.0, lambda: True)


def test_a_cluster_shares_its_last_profile(tmp_path: Path) -> None:
    """An api process has measured nothing itself; what lies in its own folder counts where nothing is shared."""
    blobs = open_blobs(None, tmp_path / "blobs")
    settings = load({"data_dir": tmp_path})
    in_cluster = settings.model_copy(update={"mode": "cluster"})
    assert planning.last_profile(settings, blobs) is None
    assert planning.last_profile(in_cluster, blobs) is None
    _measured(tmp_path)
    assert planning.last_profile(in_cluster, blobs) == FAST
    blobs.put(KEY, kept_text(replace(FAST, name="a worker"), {}).encode())
    found = planning.last_profile(in_cluster, blobs)
    assert found is not None
    assert found.name == "a worker"
    assert planning.last_profile(settings, blobs) == FAST
