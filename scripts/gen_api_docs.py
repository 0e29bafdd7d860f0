"""Write docs/reference/routes.md and the snapshot of /openapi.json from the routes, so that none drifts from another.

Run it as ``python scripts/gen_api_docs.py``; tests compare both with what this makes.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from tympan.api.app import description
from tympan.api.openapi import operations

Document: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "routes.md"
SNAPSHOT = ROOT / "tests" / "api" / "openapi.json"

_INTRODUCTION = """\
# Every route

Made from the routes themselves by `scripts/gen_api_docs.py`; change the code, not this page. A server tells the same at
`/openapi.json`. What the fields of a transcription do, and more about each family: [HTTP interface](api.md). Errors by
code: [errors](errors.md). WebSockets are not in such a description: [live speech](live.md).
"""


def snapshot() -> str:
    """Return the description as the snapshot has it."""
    return json.dumps(description(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def page() -> str:
    """Return the page."""
    document = description()
    groups: dict[str, list[str]] = {}
    for method, path, operation in operations(document):
        groups.setdefault(operation["tags"][0], []).append(_operation(method, path, operation))
    parts = [_INTRODUCTION]
    for name, entries in groups.items():
        parts += [f"## {name}", *entries]
    parts += ["## Objects", *_objects(document["components"]["schemas"])]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _operation(method: str, path: str, operation: Document) -> str:
    lines = [f"### `{method.upper()} {path}`", operation.get("description", "").strip()]
    if scope := operation.get("x-scope"):
        lines.append(f"Scope of a key: `{scope}`.")
    if parameters := operation.get("parameters"):
        rows = [(f"`{p['name']}`", p["in"], _values(p["schema"]), p.get("description", "")) for p in parameters]
        lines.append(_table(("parameter", "in", "values", "meaning"), rows))
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        lines.append(f"Body, `{kind}`:" + _remark(content["schema"]))
        lines.append(_fields(content["schema"]))
    lines.append(_table(("status", "answer"), _answers(operation["responses"])))
    if errors := [status for status, answer in operation["responses"].items() if "$ref" in answer]:
        shape = operation["responses"][errors[0]]["$ref"].rsplit("/", 1)[-1].rstrip("0123456789")
        lines.append(f"Errors: {', '.join(errors)}, as [{shape}](#{shape.lower()}).")
    return "\n\n".join(line for line in lines if line)


def _answers(responses: Document) -> Iterator[tuple[str, str]]:
    for status, answer in responses.items():
        if "$ref" in answer:
            continue
        kinds = [f"`{kind}`{_shape(content.get('schema', {}))}" for kind, content in answer.get("content", {}).items()]
        yield status, ", ".join(kinds) or answer.get("description", "") or "nothing"


def _shape(schema: Document) -> str:
    names = [one["$ref"].rsplit("/", 1)[-1] for one in schema.get("anyOf", [schema]) if "$ref" in one]
    return f" ({' or '.join(f'[{name}](#{name.lower()})' for name in names)})" if names else ""


def _remark(schema: Document) -> str:
    return f" {schema['description']}" if schema.get("description") else ""


def _fields(schema: Document) -> str:
    required = schema.get("required", ())
    rows = [
        (f"`{name}`{' (required)' if name in required else ''}", _values(field), field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    ]
    return _table(("field", "values", "meaning"), rows) if rows else ""


def _objects(schemas: Document) -> Iterator[str]:
    for name, schema in sorted(schemas.items()):
        body = _fields(schema) or _values(schema)
        yield f"### {name}"
        if schema.get("description"):
            yield schema["description"]
        yield body


def _values(schema: Document) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_values(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{_spelled(value)}`" for value in schema["enum"]) + _default(schema)
    if schema.get("type") == "array":
        return f"list of {_values(schema.get('items', {}))}"
    return _kind(schema) + _limits(schema) + _default(schema)


def _kind(schema: Document) -> str:
    return str(schema.get("format") or schema.get("type") or "anything")


def _limits(schema: Document) -> str:
    low, high, length = schema.get("minimum"), schema.get("maximum"), schema.get("maxLength")
    if low is not None and high is not None:
        return f" {low} to {high}"
    if low is not None:
        return f" from {low}"
    return f", at most {length} characters" if length else ""


def _default(schema: Document) -> str:
    default = schema.get("default")
    return "" if default in (None, "") else f"; default `{_spelled(default)}`"


def _spelled(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0])]
    lines += [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Write both."""
    for path, text in ((PAGE, page()), (SNAPSHOT, snapshot())):
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
