"""Rules for the files of the web UI that hold without a browser: no markup from text, nothing from elsewhere, small."""

import re
from pathlib import Path

import pytest

from tympan.languages import LANGUAGES
from tympan.web.assets import FOLDER, MEDIA_TYPES

FILES = sorted(path for path in FOLDER.rglob("*") if path.is_file())
SCRIPTS = [path for path in FILES if path.suffix == ".js"]
STYLES = [path for path in FILES if path.suffix == ".css"]
MAX_LINES = 400
MAX_COLUMNS = 400

MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|setHTML|srcdoc"
    r"|\beval\s*\(|new\s+Function\b|javascript:|setTimeout\s*\(\s*[\"'`]|setInterval\s*\(\s*[\"'`]"
)
"""What makes markup or a program of text."""

IMPORTED = r"(?:^import\b[^\"]*|^export\b[^\"=]*\bfrom\s*|\bimport\s*\(\s*)\"([^\"]+)\""
ELSEWHERE = re.compile(r"(?:[a-z]+:)?//(?:[a-z0-9-]+\.)+[a-z]{2,}|//localhost", re.IGNORECASE)
OWN_NAMES = ("http://www.w3.org/2000/svg", "https://hooks.example/tympan")
"""The name of SVG's elements, which nobody fetches, and an example in a field."""

of_each_script = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: str(path.relative_to(FOLDER)))


def _code(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@of_each_script
def test_text_never_becomes_markup_or_a_program(path: Path) -> None:
    """File names, transcripts and errors are set as text, and there is no other way in these files."""
    assert MARKUP.findall(_code(path)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    """The page works without the internet: no address of another site, and no type that is not served."""
    assert path.suffix in MEDIA_TYPES
    text = _code(path)
    for name in OWN_NAMES:
        text = text.replace(name, "")
    assert ELSEWHERE.findall(text) == []


@of_each_script
def test_modules_are_small_and_say_what_they_are_for(path: Path) -> None:
    """A first line of prose, no module over its budget, prose before everything that is exported."""
    lines = _code(path).splitlines()
    assert lines[0].startswith("// ")
    assert len(lines) <= MAX_LINES
    assert max(map(len, lines)) <= MAX_COLUMNS
    bare = [
        lines[at]
        for at in range(len(lines))
        if lines[at].startswith("export ") and not re.search(r"\*/$", lines[at - 1])
    ]
    assert [line for line in bare if "export const key" not in line] == []


@of_each_script
def test_modules_import_files_that_are_there(path: Path) -> None:
    """Also those that are loaded when they are needed."""
    for name in re.findall(IMPORTED, _code(path), re.MULTILINE):
        assert name.startswith("."), name
        assert (path.parent / name).resolve().is_file(), name


@pytest.mark.parametrize("path", STYLES, ids=lambda path: path.name)
def test_colours_have_names(path: Path) -> None:
    """Views use those of base.css, so that both themes hold everywhere; nothing is loaded."""
    text = _code(path)
    assert "url(" not in text
    assert "@import" not in text
    if path.name != "base.css":
        assert re.findall(r"#[0-9a-f]{3,8}\b|\brgba?\(|\bhsla?\(", text, re.IGNORECASE) == []


def test_the_page_holds_no_script_and_no_style() -> None:
    """The policy would not run them."""
    page = _code(FOLDER / "index.html")
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>|<style|\bstyle=|\bon[a-z]+=", page) == []
    for name in re.findall(r"(?:src|href)=\"/ui/([^\"]+)\"", page):
        assert (FOLDER / name).is_file(), name


def test_the_languages_are_those_of_the_server() -> None:
    """A code that the server does not know would be refused, one that it knows could not be chosen."""
    text = _code(FOLDER / "js" / "transcribe" / "languages.js")
    table = "".join(re.findall(r"^  \"(.*?)\"", text, re.MULTILINE))
    assert dict(entry.split(" ", 1) for entry in table.split("|")) == LANGUAGES
