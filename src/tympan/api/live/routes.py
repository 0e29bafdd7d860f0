"""The routes of live speech, all of them WebSockets, and what is answered to those who ask otherwise."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from tympan.api.errors import ErrorResponse, UpgradeRequired
from tympan.api.live import realtime, stream


async def _not_a_socket(_request: Request) -> Response:
    """Say that a WebSocket is wanted."""
    return ErrorResponse(UpgradeRequired(remedy="Connect with a WebSocket client."), {"upgrade": "websocket"})


LIVE_ROUTES: tuple[BaseRoute, ...] = (
    realtime.route,
    stream.route,
    *(Route(path, _not_a_socket, methods=["GET"], include_in_schema=False) for path in (realtime.PATH, stream.PATH)),
)
"""What a WebSocket may connect to, and the same paths for those who do not want to upgrade."""
