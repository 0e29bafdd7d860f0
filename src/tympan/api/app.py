"""The HTTP application: routes, middleware and error handlers put together."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from tympan.api import models, ops, pages
from tympan.api.access.entrance import Doors, Entrance
from tympan.api.deps import Services
from tympan.api.elsewhere import asr, inference
from tympan.api.elsewhere import transcribe_async as drop_in
from tympan.api.errors import on_error, on_http_error
from tympan.api.intake.incoming import check_encoding
from tympan.api.intake.metering import Metering, let_in
from tympan.api.jobs import audio, batches, edits, jobs, usage, webhooks
from tympan.api.jobs.appointments import Appointments
from tympan.api.jobs.together import Together
from tympan.api.live.door import elsewhere
from tympan.api.live.routes import LIVE_ROUTES
from tympan.api.middleware import Exchange
from tympan.api.openapi import completed
from tympan.api.operate import alarms, capacity, keys, quality, tenants
from tympan.api.speech import detection, transcriptions
from tympan.api.tus import routes as tus
from tympan.api.wire.streaming import Streams
from tympan.errors import TympanError

Application: TypeAlias = FastAPI
"""What the server runs."""


class _Described(FastAPI):
    """The framework's application with the whole of its description."""

    def openapi(self) -> dict[str, Any]:
        """Return what ``/openapi.json`` says."""
        if self.openapi_schema is None:
            self.openapi_schema = completed(super().openapi())
        return self.openapi_schema


ROUTERS = tuple(
    module.router
    for module in (
        *(
            transcriptions,
            detection,
            jobs,
            audio,
            edits,
            batches,
            tus,
            webhooks,
            drop_in,
            asr,
            inference,
            models,
            usage,
        ),
        *(quality, alarms, capacity, keys, tenants, ops),
    )
)
"""The routes of the API, family by family."""

_TITLE, _SUMMARY = "Tympan", "Speech to text, with OpenAI's interface."


def create_app(services: Services) -> FastAPI:
    """Return the application over ``services``; it starts and stops nothing itself."""
    routers = (*ROUTERS, pages.router) if services.desks.doors.web_ui else ROUTERS
    return _application(services, routers, LIVE_ROUTES, services.desks.doors)


def create_ops_app(services: Services) -> FastAPI:
    """Return the application of a process that only works: health checks and metrics, for whoever reaches it."""
    return _application(services, (ops.router,), (), Doors())


def description() -> dict[str, Any]:
    """Return what ``/openapi.json`` of a server says, but for the version."""
    app = _Described(title=_TITLE, summary=_SUMMARY, version="0")
    for router in ROUTERS:
        app.include_router(router)
    return app.openapi()


def _application(
    services: Services, routers: Sequence[APIRouter], others: Sequence[BaseRoute], doors: Doors
) -> FastAPI:
    app = _Described(
        title=_TITLE,
        summary=_SUMMARY,
        version=services.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_encoding), Depends(let_in)],
    )
    app.state.services = services
    app.state.streams = Streams()
    app.state.together = Together()
    app.state.appointments = Appointments()
    app.state.loaded_models = inference.LoadedModels()
    for router in routers:
        app.include_router(router)
    known = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    app.router.routes.extend(_head_routes(known))
    app.state.routes = (*known, *(route for route in app.routes if isinstance(route, Route)))
    app.router.routes.extend(others)
    app.router.default = elsewhere(app.router.default)
    app.add_exception_handler(TympanError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_http_error)
    app.add_middleware(Metering, services=services)
    app.add_middleware(Entrance, doors=doors, query=services.runner.query, routes=app.router.routes)
    app.add_middleware(Exchange)
    return app


def _head_routes(routes: Iterable[APIRoute]) -> Iterator[APIRoute]:
    """Yield a route for HEAD beside each for GET: the server sends the headers of the answer and drops the body."""
    for route in routes:
        if "GET" in (route.methods or ()):
            yield APIRoute(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
