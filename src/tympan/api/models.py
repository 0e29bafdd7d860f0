"""``/v1/models``: the models of this server in OpenAI's shape; loading and unloading them."""

import asyncio
import time
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse

from tympan.api.deps import services_of
from tympan.api.fields.queries import query_of
from tympan.api.model_names import DEFAULT_MODEL_ALIAS
from tympan.api.registry import ModelRegistry, ModelView
from tympan.errors import Unavailable

router = APIRouter()

_POLL_S = 0.05
_ID = "/v1/models/{model_id:path}"
_LOAD: dict[str, Any] = {
    "parameters": [
        {
            "name": "wait",
            "in": "query",
            "schema": {"type": "boolean", "default": False},
            "description": "Answer when the model is loaded, within the time that a request has.",
        }
    ]
}


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the models, and the default once more as ``whisper-1``; empty while the server is starting."""
    registry = services_of(request).backend.registry
    views = list(registry.views()) if registry else []
    data = [_body(view, view.card.id) for view in views]
    if registry:
        data.insert(1, _body(registry.view(DEFAULT_MODEL_ALIAS), DEFAULT_MODEL_ALIAS))
    return {"object": "list", "data": data}


@router.get(_ID)
async def get_model(request: Request, model_id: str) -> dict[str, Any]:
    """Return a model under any of its names."""
    return _body(_registry(request).view(model_id), model_id)


@router.post(_ID, responses={202: {"description": "It is being loaded."}}, openapi_extra=_LOAD)
async def load_model(request: Request, model_id: str) -> JSONResponse:
    """Load a model: 200 when it is loaded, 202 while it is on its way.

    Only the models in the list can be loaded; none is fetched because a request names it.
    """
    wait = query_of(request, "wait").flag("wait", default=False)
    view = await load_and_wait(request, model_id) if wait else _registry(request).load(model_id)
    return JSONResponse(_body(view, model_id), 200 if view.state == "loaded" else 202)


async def load_and_wait(request: Request, name: str) -> ModelView:
    """Load a model and return how it stands when it is loaded, or when the time that a request has is over.

    Raises ``ModelNotFound``, and ``Unavailable`` when it cannot be loaded.
    """
    registry = _registry(request)
    view = registry.view(name)
    if view.state != "loaded":
        view = registry.load(name)
    until_s = time.monotonic() + services_of(request).limits.request_timeout_s
    while view.state != "loaded" and time.monotonic() < until_s:
        await asyncio.sleep(_POLL_S)
        view = registry.view(name)
        if view.state == "failed":
            raise Unavailable(f"The model {view.card.id!r} cannot be loaded: {view.error}", retry_after_s=30.0)
    return view


@router.delete(_ID)
async def unload_model(request: Request, model_id: str) -> dict[str, Any]:
    """Unload a model that nobody uses; 409 otherwise. It stays in the list and is loaded again when it is asked for."""
    query_of(request)
    services, registry = services_of(request), _registry(request)
    view = await services.runner.chore(lambda: registry.unload(model_id), services.limits.request_timeout_s)
    return {**_body(view, model_id), "deleted": view.state != "unloading"}


def _registry(request: Request) -> ModelRegistry:
    """Return the models, which may all be out of order. Raises ``Unavailable`` while the server is starting."""
    backend = services_of(request).backend
    return backend.registry or backend.require()


def _body(view: ModelView, name: str) -> dict[str, Any]:
    card, facts = view.card, view.facts
    return {
        "id": name,
        "object": "model",
        "created": card.created,
        "owned_by": card.owner,
        "served_as": card.id,
        "aliases": list(card.aliases),
        "state": view.state,
        "default": view.is_default,
        "pinned": view.pinned,
        "in_use": view.uses,
        "memory_mb": None if view.memory_bytes is None else round(view.memory_bytes / 1e6, 1),
        "engine": facts.engine if facts else None,
        "device": facts.device if facts else None,
        "compute_type": facts.compute_type if facts else None,
        "error": view.error,
    }
