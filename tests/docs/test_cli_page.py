"""The command line's reference page is what the command line says of itself."""

import importlib.util
from pathlib import Path
from types import ModuleType

from tympan.cli.console import ExitCode
from tympan.cli.report import Record

ROOT = Path(__file__).parents[2]


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gen_cli_docs", ROOT / "scripts" / "gen_cli_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_in_sync() -> None:
    """Whoever changes a flag runs the generator."""
    generator = _generator()
    assert generator.PAGE.read_text(encoding="utf-8") == generator.render(), "run: python scripts/gen_cli_docs.py"


def test_the_page_knows_every_exit_code_and_report_field() -> None:
    """The hand-written tables of the page are complete too."""
    page = _generator().render()
    assert all(f"| {code.value}" in page for code in ExitCode)
    assert all(f"`{name}`" in page for name in Record.__slots__)
