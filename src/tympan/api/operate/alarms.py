"""``GET /v1/alarms``: what is wrong now, with quality and with the parts that ``/health`` tells of."""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request

from tympan.api.deps import Services, services_of
from tympan.api.fields.queries import query_of
from tympan.api.health import parts_of
from tympan.api.operate.alarm_views import AlarmView, is_wrong, part_alarm, quality_alarm
from tympan.api.watches import PartReport, PartState
from tympan.errors import StorageUnavailable

router = APIRouter()

_DATABASE = "database"
_SILENT = PartReport(
    PartState.DOWN, "The database does not answer, so alarms about quality are not known.", "Try again in a moment."
)


class AlarmList(BaseModel):
    """What is wrong now: parts first, then quality, oldest first."""

    object: Literal["list"] = "list"
    data: list[AlarmView]


@router.get("/v1/alarms")
async def list_alarms(request: Request) -> AlarmList:
    """List what is wrong now: parts that are degraded or down, and alarms about quality that have not ended."""
    query_of(request)
    services = services_of(request)
    parts = {name: part for name, part in parts_of(services).items() if is_wrong(part)}
    if services.backend.loading:
        parts.pop("engine", None)  # Nothing is wrong with a model that is on its way.
    quality = await _of_quality(services, parts)
    since = services.spells.began
    return AlarmList(data=[*(part_alarm(name, part, since.get(name)) for name, part in parts.items()), *quality])


async def _of_quality(services: Services, parts: dict[str, PartReport]) -> list[AlarmView]:
    """Return the alarms about quality; a database that is silent becomes one of ``parts`` that are wrong."""
    board = services.desks.quality
    if board is None:
        return []
    try:
        return [quality_alarm(alarm) for alarm in await services.runner.query(board.alarms)]
    except StorageUnavailable:
        parts.setdefault(_DATABASE, _SILENT)
        return []
