"""The description of the interface: a snapshot that shows every change of it, and a page made from it."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

from tympan.api.errors import STATUS
from tympan.api.openapi import operations

ROOT = Path(__file__).parents[2]
OF_NO_OPERATION = {405, 426, 499}
"""Another method, a WebSocket asked for over HTTP, a caller who has gone."""


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_api_docs", ROOT / "scripts" / "gen_api_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


def test_the_interface_is_the_one_in_the_snapshot() -> None:
    """Whoever changes it runs `make docs`, looks at the difference, and commits it."""
    kept = GENERATOR.SNAPSHOT.read_text(encoding="utf-8")
    assert GENERATOR.snapshot() == kept, "the interface has changed: run `make docs` and look at tests/api/openapi.json"


def test_the_page_is_in_sync() -> None:
    """It is made from the same."""
    assert GENERATOR.PAGE.read_text(encoding="utf-8") == GENERATOR.page(), "run `make docs`"


def test_the_page_has_every_operation_field_and_object() -> None:
    """Nothing that can be sent or is answered is missing, and what is linked is there."""
    page, document = GENERATOR.page(), GENERATOR.description()
    for method, path, operation in operations(document):
        assert f"### `{method.upper()} {path}`" in page
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert all(f"| `{name}`" in page for name in content["schema"].get("properties", {}))
    headings = {line.removeprefix("### ").lower() for line in page.splitlines() if line.startswith("### ")}
    assert {name.lower() for name in document["components"]["schemas"]} <= headings
    assert set(re.findall(r"\(#([a-z]+)\)", page)) <= headings


def test_every_answer_and_error_is_described() -> None:
    """Every operation says what a success looks like, and every status that an error can have stands somewhere."""
    document = GENERATOR.description()
    told = set()
    for method, path, operation in operations(document):
        answers = operation["responses"]
        assert "422" not in answers, path
        assert operation["description"], path
        told |= {int(status) for status in answers}
        for status, answer in answers.items():
            if status in ("200", "201", "202") and method != "head":
                described = [content.get("schema") for content in answer.get("content", {}).values()]
                assert all(described), (method, path, status)
                assert described or "location" in str(operation["description"]).lower(), (method, path, status)
    assert set(STATUS.values()) - OF_NO_OPERATION <= told


def test_every_reference_leads_somewhere() -> None:
    """Schemas and answers that are named exist."""
    document = GENERATOR.description()
    for ref in set(re.findall(r'"\$ref": "#/([^"]+)"', GENERATOR.snapshot())):
        found = document
        for name in ref.split("/"):
            found = found[name]
        assert found, ref
