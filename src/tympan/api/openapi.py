"""``/openapi.json``: what the framework knows of the routes, completed by answers, errors and groups. Pure."""

import re
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

from tympan.api.access.permissions import scope_for
from tympan.api.error_dialects import dialect_of
from tympan.api.errors import STATUS
from tympan.api.openapi_answers import ANSWERS, SCHEMAS

Document: TypeAlias = dict[str, Any]

_METHODS: Final = ("get", "put", "post", "delete", "options", "head", "patch")
_NO_WORK: Final = ("/livez", "/health")
_FRAMEWORKS_OWN: Final = ("HTTPValidationError", "ValidationError")
_BODIES: Final = {"openai": "Error", "detail": "ErrorWithDetail", "words": "ErrorInWords"}
_GROUPS: Final = (
    (r"/v1/(audio|realtime|stream)", "Audio"),
    (r"/v1/jobs", "Jobs"),
    (r"/v1/batches", "Batches"),
    (r"/v1/uploads", "Uploads"),
    (r"/v1/webhook", "Webhooks"),
    (r"/v1/models", "Models"),
    (r"/v1/usage", "Usage"),
    (r"/v1/(admin|alarms|capacity|quality)\b", "Operation"),
    (r"/(asr|detect-language|inference|load|transcribe)\b", "As other servers have it"),
    (r"/(livez|readyz|health|metrics)", "Health"),
    (r"/", "More"),
)
_KEY: Final = "ApiKey"
_KEY_IS: Final = (
    "A key made with `tympan keys create`; `x-scope` says what it has to allow. Not every server asks for one."
)
_BEFORE_THE_PATH: Final = 431
_EVERYWHERE: Final = (400, 401, 403, 429, 431, 500, 503)
_WITH_FILE: Final = (404, 408, 413, 504, 507)
_MORE: Final = (
    (r"(post) /v1/(jobs|batches)", (404, 408, 409, 410, 413, 423, 507)),
    (r"(post) /v1/(audio|jobs)", (502,)),
    (r"post /v1/jobs/.*/retry", (404, 409, 507)),
    (r"get /v1/(jobs/.*/result|batches/.*/results)", (409, 507)),
    (r"get /v1/jobs/.*/audio", (416,)),
    (r"get /v1/jobs/.*/waveform", (413, 507)),
    (r"put /v1/jobs/.*/edited", (408, 409, 413, 507)),
    (r"delete /v1/jobs/.*/edited", (409,)),
    (r"get /transcribe/", (409, 507)),
    (r"get /v1/(quality|usage)$", (404,)),
    (r"(post|patch) /v1/webhook-endpoints", (408, 409, 413)),
    (r"(post|delete) /v1/models/", (409,)),
    (r"post /v1/admin/", (408, 409, 413)),
    (r"delete /v1/admin/keys/", (409,)),
    (r"patch /v1/admin/tenants/", (408, 413)),
    (r"post /v1/capacity/", (408, 409, 413)),
    (r"post /load", (404, 408, 409, 413, 507)),
    (r"(post|head|patch|delete) /v1/uploads", (404, 408, 409, 410, 412, 413, 423, 460, 507)),
)
"""Statuses of errors beside those that every route can have, those of files and those of ids in the path."""


def completed(document: Document) -> Document:
    """Return the framework's document with every answer, every error and every parameter of a path."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _FRAMEWORKS_OWN:
        schemas.pop(name, None)
    schemas.update(SCHEMAS)
    document["components"]["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer", "description": _KEY_IS}}
    document["security"] = [{_KEY: []}, {}]
    document["components"]["responses"] = {
        _name(status, kind): _error(status, body) for kind, body in _BODIES.items() for status in _statuses()
    }
    for method, path, operation in operations(document):
        operation["tags"] = [group_of(path)]
        _complete(method, path, operation)
    return document


def operations(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Yield method, path and description of every operation of a document."""
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield method, path, item[method]


def group_of(path: str) -> str:
    """Return the group that a path belongs to."""
    return next(name for pattern, name in _GROUPS if re.match(pattern, path))


def error_statuses(method: str, path: str, operation: Document) -> list[int]:
    """Return the statuses of the errors that an operation can end with."""
    if path in _NO_WORK:
        return [431]
    if path == "/readyz":
        return [431, 503]
    if path == "/metrics":
        return [401, 403, 429, 431, 503]
    found = set(_EVERYWHERE)
    if "{" in path:
        found.add(404)
    if "multipart/form-data" in operation.get("requestBody", {}).get("content", {}):
        found.update(_WITH_FILE)
    for pattern, more in _MORE:
        if re.match(pattern, f"{method} {path}"):
            found.update(more)
    return sorted(found & set(_statuses()))


def _complete(method: str, path: str, operation: Document) -> None:
    answers = operation["responses"]
    answers.pop("422", None)
    scope = scope_for(method.upper(), path)
    if scope is None:
        operation["security"] = []
    else:
        operation["x-scope"] = scope.value
    for name, content in ANSWERS.get((method, path), {}).items():
        answers.setdefault(name, {"description": "Done."})["content"] = content
    kind = dialect_of(path)
    for status in error_statuses(method, path, operation):
        spelling = "openai" if status == _BEFORE_THE_PATH else kind
        answers.setdefault(str(status), {"$ref": f"#/components/responses/{_name(status, spelling)}"})
    operation["responses"] = dict(sorted(answers.items()))
    known = {(given["name"], given["in"]) for given in operation.get("parameters", ())}
    for name in re.findall(r"{(\w+)}", path):
        if (name, "path") not in known:
            given = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            operation["parameters"] = [given, *operation.get("parameters", ())]


def _statuses() -> list[int]:
    return sorted({*STATUS.values()} - {499})  # Its caller has gone.


def _name(status: int, kind: str) -> str:
    return f"{_BODIES[kind]}{status}"


def _error(status: int, body: str) -> Document:
    codes = ", ".join(f"`{code}`" for code, found in STATUS.items() if found == status)
    answer: Document = {
        "description": f"Codes: {codes}.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}},
    }
    if status in (429, 503):
        answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait."}}
    return answer
