"""``POST /v1/capacity/plan``: how many machines a demand needs, by what `tympan capacity` measured last."""

import json
import threading
from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.deps import services_of
from tympan.api.errors import blaming
from tympan.api.intake.json_bodies import JsonBody, json_body, takes
from tympan.capacity.demand import MAX_CALLERS, MAX_LENGTH_S, MAX_LENGTHS
from tympan.capacity.desk import DEFAULT_WAIT_S, Goal, Lengths, PlanDesk, PlanWish
from tympan.capacity.planner import Effort
from tympan.capacity.profile import Profile, from_json
from tympan.errors import InvalidRequest, Unavailable

router = APIRouter(prefix="/v1/capacity")

_ASKED_HERE = "POST /v1/capacity/plan"
_MAX_BODY_BYTES = 256 << 10
_MARGIN_S = 15.0
"""How long the demand of a large database may take to be read beside the plan itself."""

_MOST_RATE, _MOST_COST = 1e9, 1e9
_HOURS = 24

Seconds = Annotated[StrictFloat, Field(gt=0, le=MAX_LENGTH_S, allow_inf_nan=False)]
Pause = Annotated[StrictFloat, Field(ge=0, le=MAX_LENGTH_S, allow_inf_nan=False)]
Rate = Annotated[StrictFloat, Field(ge=0.001, le=_MOST_RATE, allow_inf_nan=False)]
Requests = Annotated[StrictFloat, Field(ge=0, le=_MOST_RATE, allow_inf_nan=False)]
Share = Annotated[StrictFloat, Field(ge=0, le=1, allow_inf_nan=False)]
Headroom = Annotated[StrictFloat, Field(ge=0, le=0.9, allow_inf_nan=False)]
Cost = Annotated[StrictFloat, Field(ge=0, le=_MOST_COST, allow_inf_nan=False)]
Growth = Annotated[StrictFloat, Field(ge=0.01, le=1000, allow_inf_nan=False)]
Callers = Annotated[StrictInt, Field(ge=1, le=MAX_CALLERS)]


class GoalBody(JsonBody):
    """What has to hold; without any time, 95 % of calls wait no longer than 5 s for their turn."""

    wait_p95_s: Seconds | None = Field(None, description="95 % of calls wait at most this long for their turn.")
    turnaround_p95_s: Seconds | None = Field(None, description="95 % of calls are answered within this.")
    job_p95_s: Seconds | None = Field(None, description="95 % of jobs are done within this.")
    headroom: Headroom = Field(0.2, description="Share of the machines' capacity to keep free.")


class PlanBody(JsonBody):
    """A demand: callers at once, requests by the hour, or neither: then it is what this server has seen."""

    peak_concurrent: Callers | None = Field(
        None, description="Callers at once, each of whom asks again as soon as answered."
    )
    think_s: Pause = Field(0, description="With `peak_concurrent`: pause between an answer and the next request.")
    per_hour: Rate | None = Field(None, description="Requests in the busiest hour.")
    by_hour: list[Requests] | None = Field(
        None, min_length=_HOURS, max_length=_HOURS, description="Requests of each hour of a day, from 0 to 23."
    )
    days: Annotated[StrictInt, Field(ge=1, le=366)] = Field(7, description="Without any of these: days that are read.")
    growth: Growth = Field(1, description="Multiplies the demand: 1.5 is half as much again.")
    mean_length_s: Seconds | None = Field(None, description="Length of each recording; 30 unless known.")
    lengths_s: list[Seconds] | None = Field(
        None, min_length=1, max_length=MAX_LENGTHS, description="Instead: lengths of recordings, as often as they come."
    )
    job_share: Share | None = Field(None, description="How many of the requests are jobs.")
    job_length_s: Seconds | None = Field(None, description="Length of the jobs' recordings, if different.")
    goal: GoalBody = Field(default_factory=lambda: GoalBody.model_validate({}), description="What has to hold.")
    cost_per_hour: Cost | None = Field(None, description="What an hour of a machine costs.")
    runs: Annotated[StrictInt, Field(ge=2, le=10)] = Field(5, description="Simulated runs for each answer.")
    seed: StrictInt = Field(1, description="Random seed: the same seed gives the same arrivals and lengths.")
    profile: dict[str, Any] | None = Field(
        None, description="A machine's profile, as `tympan capacity --output` writes it; else the last one measured."
    )


class PlanView(BaseModel):
    """The plan for one kind of machine; more fields, as `tympan capacity --json` has them. Null is never, or not known.

    ``figures`` are what is to be expected of ``replicas`` machines: waits and turnarounds with their intervals.
    """

    model_config = ConfigDict(extra="allow")

    replicas: int
    machine: dict[str, Any]
    demand: dict[str, Any]
    goal: dict[str, Any]
    audio_hours_per_hour: dict[str, float | None]
    figures: dict[str, Any]
    headroom: float | None
    without_one: dict[str, Any] | None = Field(description="After one machine has died.")
    doubled: dict[str, Any] = Field(description="At twice the demand, on as many machines.")
    for_double: int | None = Field(description="Machines for twice the demand; null when none are enough.")
    by_hour: list[int] = Field(description="Machines by the hour of the day, where the demand is known so.")
    cost: dict[str, Any] | None
    autoscaling: dict[str, Any]
    notes: list[str]


class PlanDocument(BaseModel):
    """What `tympan capacity --json` prints: plans, and what they were made with."""

    model_config = ConfigDict(extra="allow")

    kind: Literal["tympan.capacity.plan"]
    version: int
    plans: list[PlanView]


@router.post("/plan", responses={200: {"model": PlanDocument}}, openapi_extra=takes(PlanBody), response_class=Response)
async def make_plan(request: Request) -> Response:
    """Return how many machines a demand needs, from a simulation of the server's own scheduler.

    It takes seconds, two minutes at most, in a process that gives way to everything else; one is made at a time.
    """
    body = await json_body(request, PlanBody, max_bytes=_MAX_BODY_BYTES)
    wish, desk, over = _wish(body), _desk(request), threading.Event()
    try:
        found = await services_of(request).runner.chore(
            lambda: desk.plan(wish, _ASKED_HERE, over.is_set), desk.limit_s + _MARGIN_S
        )
    finally:
        over.set()
    return Response(json.dumps(found, ensure_ascii=False), media_type="application/json")


def _desk(request: Request) -> PlanDesk:
    desk = services_of(request).desks.plans
    if desk is None:
        raise Unavailable("This process makes no capacity plans.", remedy="Use `tympan capacity`.")
    return desk


def _wish(body: PlanBody) -> PlanWish:
    """Return what is asked. Raises ``InvalidRequest`` naming the field."""
    ways = [name for name in ("peak_concurrent", "per_hour", "by_hour") if getattr(body, name) is not None]
    if len(ways) > 1:
        raise InvalidRequest(
            f"The demand is given in more than one way: {' and '.join(ways)}.", param=ways[1], remedy="Give one."
        )
    if body.lengths_s is not None and body.mean_length_s is not None:
        raise InvalidRequest(
            "lengths_s and mean_length_s were both given.", param="lengths_s", remedy="Give one of them."
        )
    if body.by_hour is not None and not any(body.by_hour):
        raise InvalidRequest("No hour in by_hour has a request.", param="by_hour", remedy="Give an hour above 0.")
    lengths = body.lengths_s or ([body.mean_length_s] if body.mean_length_s is not None else [])
    return PlanWish(
        callers=body.peak_concurrent,
        think_s=float(body.think_s),
        per_hour=body.per_hour,
        by_hour=tuple(map(float, body.by_hour or ())),
        days=body.days,
        growth=float(body.growth),
        lengths=Lengths(tuple(map(float, lengths))) if lengths else None,
        job_share=body.job_share,
        job_lengths=None if body.job_length_s is None else Lengths((float(body.job_length_s),)),
        goal=_goal(body.goal),
        effort=Effort(body.runs, body.seed),
        cost_per_hour=body.cost_per_hour,
        profile=_profile(body.profile),
    )


def _goal(body: GoalBody) -> Goal:
    goal = Goal(body.wait_p95_s, body.turnaround_p95_s, body.job_p95_s, float(body.headroom))
    return goal if goal.has_limit else Goal(DEFAULT_WAIT_S, headroom=float(body.headroom))


def _profile(document: dict[str, Any] | None) -> Profile | None:
    if document is None:
        return None
    with blaming("profile"):
        return from_json(document)
