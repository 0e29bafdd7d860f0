"""The site of the documentation: built from the index, every link leads somewhere, and nothing comes from elsewhere."""

import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
GENERATOR = runpy.run_path(str(ROOT / "scripts" / "gen_site.py"))
LIMIT_S = 120.0
LINKS = {"a": "href", "link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """What a built page links to or loads, its anchors, and its policy on what it may load."""

    def __init__(self) -> None:
        """Begin to read."""
        super().__init__()
        self.links: list[tuple[str, str]] = []
        self.anchors: set[str] = set()
        self.policy = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note links and anchors."""
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if name in found}
        if tag == "meta" and found.get("http-equiv") == "Content-Security-Policy":
            self.policy = found["content"]
        if tag in LINKS and LINKS[tag] in found:
            self.links.append((tag, found[LINKS[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built as ``make site`` does it, where a warning is an error."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copytree(ROOT / "scripts" / "site", folder / "scripts" / "site")
    shutil.copy(ROOT / "mkdocs.yml", folder)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> Mapping[Path, Page]:
    """Return every page of the site, read."""
    found = {}
    for path in sorted(site.rglob("*.html")):
        found[path] = Page()
        found[path].feed(path.read_text(encoding="utf-8"))
    return found


def test_its_description_follows_from_the_index() -> None:
    """The index stays the one list of pages; `make docs` repairs the file."""
    assert (ROOT / "mkdocs.yml").read_text(encoding="utf-8") == GENERATOR["site"]()


def test_every_page_has_its_place_in_the_navigation() -> None:
    """Pages of measurements too, which only their own summary names."""
    listed = set(re.findall(r"^ +- (\S+\.md)$", GENERATOR["site"](), re.MULTILINE))
    assert listed == {str(path.relative_to(ROOT / "docs")) for path in ROOT.glob("docs/**/*.md")}


def test_every_page_is_built(pages: Mapping[Path, Page], site: Path) -> None:
    """Each as a folder of its own, the index as the first; beside them there is a page for what does not exist."""
    sources = [path.relative_to(ROOT / "docs") for path in ROOT.glob("docs/**/*.md")]
    wanted = {site / path.parent / ("" if path.stem == "README" else path.stem) / "index.html" for path in sources}
    assert set(pages) == wanted | {site / "404.html"}


def test_every_link_within_the_site_leads_to_a_file_and_an_anchor(pages: Mapping[Path, Page], site: Path) -> None:
    """As a browser would follow it, from the navigation, the text and the table of contents."""
    followed = list(_followed(pages, site))
    assert len(followed) > 5_000
    lost = [f"{page.relative_to(site)}: {link}" for page, link, found in followed if not found]
    assert not lost, "\n".join(lost[:20])


def _followed(pages: Mapping[Path, Page], site: Path) -> Iterator[tuple[Path, str, bool]]:
    for path, page in pages.items():
        for _, link in page.links:
            address, anchor = urldefrag(link)
            if urlsplit(address).scheme or link == "#":
                continue
            base = site if address.startswith("/") else path.parent  # Only the page for what is missing starts at /.
            target = (base / unquote(address.lstrip("/"))).resolve() if address else path
            target = target / "index.html" if target.is_dir() else target
            known = target.is_file() and (not anchor or target not in pages or unquote(anchor) in pages[target].anchors)
            yield path, link, known


def test_nothing_is_loaded_from_elsewhere(pages: Mapping[Path, Page], site: Path) -> None:
    """Only links that a reader follows lead out; styles and fonts are the site's; the policy holds scripts to it."""
    for path, page in pages.items():
        assert page.policy.startswith("default-src 'self'; "), path
        assert "http" not in page.policy, path
        foreign = [link for tag, link in page.links if tag != "a" and (urlsplit(link).netloc or ":" in link)]
        assert not foreign, f"{path}: {foreign}"
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert "@import" not in text
        assert not [url for url in re.findall(r"url\(([^)]+)\)", text) if "//" in url and "data:" not in url], style


def test_a_setting_can_be_linked_to(pages: Mapping[Path, Page], site: Path) -> None:
    """By its name in small letters."""
    assert {"max_upload_mb", "drain_s"} <= pages[site / "reference" / "settings" / "index.html"].anchors


def test_the_search_knows_the_text_of_the_pages(site: Path) -> None:
    """It works in the browser, from a file of the site."""
    assert "Silence-tail splice" in (site / "search.json").read_text(encoding="utf-8")
