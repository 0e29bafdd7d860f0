"""The reference pages say what the code does."""

import importlib.util
import re
import runpy
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent.parent


def generator() -> ModuleType:
    """Return the program that writes the generated parts."""
    spec = importlib.util.spec_from_file_location("gen_docs", ROOT / "scripts" / "gen_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


GENERATOR = generator()


@pytest.mark.parametrize("name", GENERATOR.PAGES)
def test_the_page_is_up_to_date(name: str) -> None:
    """Settings, routes, fields, codes and metrics in the page are those in the code; `make docs` repairs it."""
    page = (GENERATOR.REFERENCE / name).read_text(encoding="utf-8")
    assert GENERATOR.regenerated(page) == page, "run `make docs`"


def test_every_generated_part_is_in_some_page() -> None:
    """A table that no page shows, or a mark that no table belongs to, would be lost silently."""
    text = "".join((GENERATOR.REFERENCE / name).read_text(encoding="utf-8") for name in GENERATOR.PAGES)
    assert set(re.findall(r"<!-- generated: (\w+) -->", text)) == GENERATOR.part_names()
    for name in GENERATOR.part_names():
        assert GENERATOR.part(name).count("\n") > 4, name


def test_settings_named_in_the_pages_exist() -> None:
    """Prose names settings too; a renamed one must not survive in it."""
    from tympan.config import Settings  # noqa: PLC0415

    text = (GENERATOR.REFERENCE / "api.md").read_text(encoding="utf-8")
    names = set(re.findall(r"`((?:MAX|REQUEST|UPLOAD|DRAIN)_[A-Z_]+)`", text))
    assert len(names) >= 4
    assert names <= {name.upper() for name in Settings.model_fields}


def test_every_event_of_the_log_is_described() -> None:
    """In `scripts/log_events.py`, beside those that there are no more."""
    found = runpy.run_path(str(ROOT / "scripts" / "log_events.py"))
    names = {event.name for event in found["events"]()}
    assert len(names) > 50
    assert names - set(found["MEANINGS"]) == set(), "describe them in scripts/log_events.py and run `make docs`"
    assert set(found["MEANINGS"]) - names == set(), "remove them from scripts/log_events.py and run `make docs`"
