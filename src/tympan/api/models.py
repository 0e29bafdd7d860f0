"""``GET /v1/models``: the model that is served, in OpenAI's shape."""

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request

from tympan.api.deps import DEFAULT_MODEL_ALIAS, ModelCard, services_of
from tympan.api.transcriptions import require_model

router = APIRouter()


@router.get("/v1/models")
async def list_models(request: Request) -> dict[str, Any]:
    """List the loaded model, under its own name and as ``whisper-1``; empty while it is being loaded."""
    card = services_of(request).backend.card
    data = [_model(card, name) for name in (card.id, DEFAULT_MODEL_ALIAS)] if card else []
    return {"object": "list", "data": data}


@router.get("/v1/models/{model_id:path}")
async def get_model(request: Request, model_id: str) -> dict[str, Any]:
    """Return the loaded model under any of its names."""
    backend = services_of(request).backend
    card = backend.card or backend.require()[1]
    require_model(model_id, card)
    return _model(card, model_id)


def _model(card: ModelCard, name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": card.created,
        "owned_by": card.owner,
        "served_as": card.id,
        "aliases": list(card.aliases),
    }
