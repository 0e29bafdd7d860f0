"""``/v1/quality``: how good the transcripts are, by golden sets, live traffic and a model on trial."""

from collections.abc import Callable
from typing import Any, Literal, TypeVar

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from tympan.api.deps import services_of
from tympan.api.fields.queries import PAGE_PARAMETERS, page_of, query_of
from tympan.api.operate.alarm_views import AlarmView, quality_alarm
from tympan.api.operate.quality_views import (
    PartView,
    RunView,
    SetView,
    UtteranceView,
    part_view,
    run_view,
    set_view,
    utterance_view,
)
from tympan.api.operate.traffic_views import (
    RolloutView,
    ShadowView,
    TrafficView,
    rollout_view,
    shadow_view,
    traffic_view,
)
from tympan.errors import InvalidRequest, Unavailable
from tympan.quality.board import BY, Board, RunDetails, groups, summary, worst

router = APIRouter(prefix="/v1/quality")

Found = TypeVar("Found")

_DAYS, _MOST_DAYS, _MOST_RUNS = 90, 3650, 200
_ANSWER_S = 20.0
_NAME_CHARS = 64
_NOWHERE = 1_000_000
_LIST: dict[str, Any] = {
    "parameters": [
        {"name": "set", "in": "query", "schema": {"type": "string"}, "description": "Only this golden set."},
        {
            "name": "days",
            "in": "query",
            "schema": {"type": "number", "minimum": 1, "maximum": _MOST_DAYS, "default": _DAYS},
            "description": f"Runs that began in these last days; {_MOST_RUNS} of each set at most.",
        },
    ]
}
_RUN: dict[str, Any] = {
    "parameters": [
        {
            "name": "by",
            "in": "query",
            "schema": {"type": "string", "enum": list(BY)},
            "description": "Part it in `parts` as well.",
        },
        *PAGE_PARAMETERS,
    ]
}


class QualityView(BaseModel):
    """Everything that is known about quality, but for what was said in the clips."""

    object: Literal["quality"] = "quality"
    golden_sets: list[SetView]
    traffic: TrafficView | None = Field(description="Null where traffic is not counted (`TRAFFIC_DAYS=0`).")
    shadow: ShadowView | None = Field(description="Null where traffic is not counted.")
    rollout: RolloutView | None = Field(description="Null while no model is on trial.")
    alarms: list[AlarmView] = Field(description="What is wrong now, oldest first.")


class RunDetailView(RunView):
    """A run with its parts and a page of its worst utterances."""

    all: PartView
    parts: list[PartView]
    worst: list[UtteranceView] = Field(description="Those with most errors first; those that failed before them.")
    has_more: bool
    next: str | None = Field(description="What to send as ``after`` for the next page.")


@router.get("", openapi_extra=_LIST)
async def get_quality(request: Request) -> QualityView:
    """Return golden sets with the history of their runs, live traffic beside its baseline, and alarms."""
    query = query_of(request, "set", "days")
    name, days = query.text("set", max_chars=_NAME_CHARS), query.number("days", 1, _MOST_DAYS) or _DAYS
    return await _ask(request, lambda board: _whole(board, name, days))


@router.get("/runs/{run_id}", openapi_extra=_RUN)
async def get_run(request: Request, run_id: str) -> RunDetailView:
    """Return a run: its figures, its parts, and its worst utterances with both texts side by side."""
    query = query_of(request, "by", "limit", "after")
    (limit, after), by = page_of(query), query.choice("by", ("", *BY), "")
    skipped = _place(after)
    return await _ask(request, lambda board: _run(board, run_id, by, (skipped, limit)))


async def _ask(request: Request, question: Callable[[Board], Found]) -> Found:
    """Return what the board answers, counted in a thread. Raises ``Unavailable`` where there is none."""
    services = services_of(request)
    board = services.desks.quality
    if board is None:
        raise Unavailable("This process does not measure quality.", remedy="Ask the server that answers the API.")
    return await services.runner.chore(lambda: question(board), _ANSWER_S)


def _whole(board: Board, name: str | None, days: float) -> QualityView:
    sets, traffic, rollout = board.history(name, days, _MOST_RUNS), board.traffic(), board.rollout()
    return QualityView(
        golden_sets=[set_view(each) for each in sets],
        traffic=None if traffic is None else traffic_view(traffic[0]),
        shadow=None if traffic is None else shadow_view(board.shadow_model, traffic[1]),
        rollout=None if rollout is None else rollout_view(rollout),
        alarms=[quality_alarm(alarm) for alarm in board.alarms()],
    )


def _run(board: Board, run_id: str, by: str, page: tuple[int, int]) -> RunDetailView:
    details, (skipped, limit) = board.run(run_id), page
    found = worst(details, limit + 1, skipped)
    has_more = len(found) > limit
    return RunDetailView(
        **run_view(board.line(details)).model_dump(),
        all=part_view(summary(details)),
        parts=_parts(details, by),
        worst=[utterance_view(each) for each in found[:limit]],
        has_more=has_more,
        next=str(skipped + limit) if has_more else None,
    )


def _parts(details: RunDetails, by: str) -> list[PartView]:
    return [part_view(each) for each in groups(details, by)] if by else []


def _place(after: str | None) -> int:
    """Return how many utterances come before a page. Raises ``InvalidRequest``."""
    if after is None:
        return 0
    if not (after.isascii() and after.isdigit() and int(after) < _NOWHERE):
        raise InvalidRequest(
            "after is not a position in this list.", param="after", remedy="Send the `next` of the page before."
        )
    return int(after)
