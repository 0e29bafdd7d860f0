"""The HTTP application: routes, middleware and error handlers put together."""

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tympan.api import models, ops, transcriptions
from tympan.api.deps import Services
from tympan.api.errors import on_error, on_http_error
from tympan.api.middleware import Exchange
from tympan.errors import TympanError


def create_app(services: Services) -> FastAPI:
    """Return the application over ``services``; it starts and stops nothing itself."""
    app = FastAPI(
        title="Tympan",
        summary="Speech to text, with OpenAI's interface.",
        version=services.version,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.services = services
    for module in (transcriptions, models, ops):
        app.include_router(module.router)
    app.add_exception_handler(TympanError, on_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_http_error)
    app.add_middleware(Exchange)
    return app
