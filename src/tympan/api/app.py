"""The HTTP application: routes, middleware and error handlers put together."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route

from tympan.api import batches, drop_in, jobs, models, ops, transcriptions, tus, webhooks
from tympan.api.deps import Services
from tympan.api.errors import on_error, on_http_error
from tympan.api.middleware import Exchange
from tympan.api.queries import check_path
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


def _application(services: Services, routers: Sequence[APIRouter]) -> FastAPI:
    app = FastAPI(
        title="Tympan",
        summary="Speech to text, with OpenAI's interface.",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_path)],
    )
    app.state.services = services
    app.state.streams = Streams()
    for router in routers:
        app.include_router(router)
    known = [route for router in routers for route in router.routes if isinstance(route, APIRoute)]
    app.router.routes.extend(_head_routes(known))
    app.state.routes = (*known, *(route for route in app.routes if isinstance(route, Route)))
    app.add_exception_handler(TympanError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_http_error)
    app.add_middleware(Exchange)
    return app


def _head_routes(routes: Iterable[APIRoute]) -> Iterator[APIRoute]:
    """Yield a route for HEAD beside each for GET: the server sends the headers of the answer and drops the body."""
    for route in routes:
        if "GET" in (route.methods or ()):
            yield APIRoute(route.path, route.endpoint, methods=["HEAD"], include_in_schema=False)
