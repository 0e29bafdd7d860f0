"""The HTTP application: routes, middleware and error handlers put together."""

from collections.abc import Iterable
from typing import TypeAlias

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tympan.api import batches, drop_in, jobs, models, ops, transcriptions, tus, webhooks
from tympan.api.deps import Services
from tympan.api.errors import on_error, on_http_error
from tympan.api.middleware import Exchange
from tympan.api.streaming import Streams
from tympan.errors import TympanError

Application: TypeAlias = FastAPI
"""What the server runs."""

ROUTERS = tuple(module.router for module in (transcriptions, jobs, batches, tus, webhooks, drop_in, models, ops))
"""The routes, family by family."""


def create_app(services: Services) -> FastAPI:
    """Return the application over ``services``; it starts and stops nothing itself."""
    return _application(services, ROUTERS)


def create_ops_app(services: Services) -> FastAPI:
    """Return the application of a process that only works: health checks and metrics."""
    return _application(services, (ops.router,))


def _application(services: Services, routers: Iterable[APIRouter]) -> FastAPI:
    app = FastAPI(
        title="Tympan",
        summary="Speech to text, with OpenAI's interface.",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    app.state.streams = Streams()
    for router in routers:
        app.include_router(router)
    app.add_exception_handler(TympanError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_http_error)
    app.add_middleware(Exchange)
    return app
