"""``/inference`` and ``/load`` as whisper.cpp's server has them, so that its clients need a new address only.

What they take and answer is described in its ``examples/server``.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from tympan.api.access.callers import tenant_of
from tympan.api.elsewhere.inference_answers import MEDIA_TYPES, rendered
from tympan.api.fields.forms import Form, form_body, properties_of
from tympan.api.fields.inference import PARAMETERS, InferenceRequest, parse_inference
from tympan.api.fields.queries import query_of
from tympan.api.intake.bodies import received
from tympan.api.intake.uploads import FileRules
from tympan.api.intake.visits import Door, Visit
from tympan.api.models import load_and_wait
from tympan.api.speech.answers import rendered_aside
from tympan.domain import Transcript
from tympan.errors import InvalidRequest, ModelNotFound, Unavailable, UnsupportedOption

router = APIRouter()

LOADED: Final = "Load was successful!"
"""What ``/load`` answers."""

_MOST_TENANTS = 1_000
_MODEL_CHARS = 512
_NO_FILE = FileRules(least=0)
_CALLED_THERE = {"timestamp_granularities": "token_timestamps", "task": "translate"}
_INFERENCE: dict[str, Any] = {"requestBody": form_body("file", properties_of(PARAMETERS))}
_LOAD: dict[str, Any] = {"requestBody": form_body("model", {"model": {"type": "string", "maxLength": _MODEL_CHARS}})}


@dataclass(slots=True)
class LoadedModels:
    """Which model ``/load`` has chosen, for each tenant; those who chose longest ago are forgotten first."""

    _names: OrderedDict[str, str] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def choose(self, tenant: str, model: str) -> None:
        """Let ``/inference`` use ``model`` for a tenant from now on."""
        with self._lock:
            self._names[tenant] = model
            self._names.move_to_end(tenant)
            while len(self._names) > _MOST_TENANTS:
                self._names.popitem(last=False)

    def of(self, tenant: str) -> str | None:
        """Return what a tenant has chosen, ``None`` for the default."""
        return self._names.get(tenant)


@router.post("/inference", openapi_extra=_INFERENCE, response_class=Response)
async def inference(request: Request) -> Response:
    """Return the text of an audio file, as whisper.cpp's server does."""
    query_of(request)
    chosen = _loaded(request).of(tenant_of(request))
    asked, transcript = await _transcribed(request, chosen)
    text = await rendered_aside(request, transcript, lambda: rendered(transcript, asked).encode("utf-8", "replace"))
    # Text goes out as HTML, as there; the policy that every answer carries keeps a browser from running any of it.
    return Response(text, headers={"content-type": MEDIA_TYPES[asked.response_format]})


@router.post("/load", openapi_extra=_LOAD, response_class=Response)
async def load(request: Request) -> Response:
    """Load a model of this server and use it for ``/inference``; one that cannot be loaded changes nothing.

    In a cluster, and behind several API processes, the choice is that of the process that answers.
    """
    query_of(request)
    async with received(request, _NO_FILE) as body:
        form = Form(body.fields, frozenset({"model"}))
    form.refuse_unknown()
    name = form.text("model", max_chars=_MODEL_CHARS)
    if name is None:
        raise InvalidRequest("There is no field 'model' in the form.", param="model", remedy="Name a model to load.")
    try:
        view = await load_and_wait(request, name)
    except ModelNotFound as error:
        raise InvalidRequest(
            error.message, param="model", remedy=f"{error.remedy} Files on the server cannot be named."
        ) from error
    if view.state != "loaded":
        raise Unavailable(f"The model {view.card.id!r} is still being loaded.", remedy="Try again.", retry_after_s=5.0)
    _loaded(request).choose(tenant_of(request), view.card.id)
    return Response(LOADED, headers={"content-type": "application/text"})


async def _transcribed(request: Request, chosen: str | None) -> tuple[InferenceRequest, Transcript]:
    def parse(fields: dict[str, list[str]]) -> InferenceRequest:
        asked = parse_inference(fields)
        return asked if asked.model else replace(asked, model=chosen)

    visit = Visit(request, Door(lambda upload: parse(upload.fields)))
    try:
        with visit.counted():
            guest = await visit.enter()
        found = await (visit.language(guest) if guest.asked.only_language else visit.finish(guest))
    except UnsupportedOption as error:
        raise _as_called_there(error) from error
    return guest.asked, found


def _as_called_there(error: UnsupportedOption) -> UnsupportedOption:
    """Return the error with the field named as the form has it."""
    param = error.param or ""
    name = _CALLED_THERE.get(param, param)
    remedy = error.remedy.replace(param, name) if error.remedy and param else error.remedy
    return UnsupportedOption(error.message, param=name or None, remedy=remedy)


def _loaded(request: Request) -> LoadedModels:
    loaded: LoadedModels = request.app.state.loaded_models
    return loaded
