"""Write mkdocs.yml, from which the site of the documentation is built, from the index docs/README.md.

The index stays the one list of pages: its sections are those of the site, in its order. Titles are the pages' own.
Run it as ``python scripts/gen_site.py``; a test compares the file with what this makes. ``make site`` builds the site.
"""

import re
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
TARGET = ROOT / "mkdocs.yml"

_HEAD = """\
# Written by `make docs` from docs/README.md; `make site` builds the site into build/site.
site_name: Tympan
site_description: Speech to text in production
docs_dir: docs
site_dir: build/site
theme:
  name: material
  custom_dir: scripts/site
  variant: modern
  language: en
  font: false # The reader's own: nothing is fetched from elsewhere.
  icon: {logo: lucide/audio-lines}
  features:
    - content.code.copy
    - navigation.footer
    - navigation.path
    - navigation.top
    - search.highlight
  palette:
    - media: "(prefers-color-scheme)"
      toggle: {icon: lucide/sun-moon, name: Use light colours}
    - media: "(prefers-color-scheme: light)"
      scheme: default
      toggle: {icon: lucide/sun, name: Use dark colours}
    - media: "(prefers-color-scheme: dark)"
      scheme: slate
      toggle: {icon: lucide/moon, name: Use the colours of the system}
extra: {generator: false}
extra_css: [site.css]
plugins: [search]
markdown_extensions:
  - attr_list
  - tables
  - toc: {permalink: true}
  - pymdownx.highlight
  - pymdownx.superfences
validation: {not_found: warn, anchors: warn}
nav:
  - README.md
"""


def site() -> str:
    """Return the text of mkdocs.yml."""
    sections = _sections((DOCS / "README.md").read_text(encoding="utf-8"))
    listed = {page for _, pages in sections for page in pages}
    lines = [_HEAD]
    for title, pages in sections:
        more = _figures(listed) if title == "Figures" else ()
        lines.append(f"  - {title}:\n")
        lines += [f"      - {page}\n" for page in (*pages, *more)]
    return "".join(lines)


def _sections(index: str) -> list[tuple[str, list[str]]]:
    """Return the sections of the index, each with the pages that it links to, in order and once each."""
    parts = re.split(r"^\*\*(.+)\*\*$", index, flags=re.MULTILINE)[1:]
    return [(title, _pages(text)) for title, text in zip(parts[::2], parts[1::2], strict=True)]


def _pages(text: str) -> list[str]:
    links: Iterable[str] = re.findall(r"\]\(([^)#\s]+\.md)", text)
    return list(dict.fromkeys(links))


def _figures(listed: set[str]) -> list[str]:
    """Return the pages of measurements that only their own summary names."""
    found = sorted(str(path.relative_to(DOCS)) for path in DOCS.glob("benchmarks/**/*.md"))
    return [page for page in found if page not in listed]


def main() -> None:
    """Write the file if it is not as it should be."""
    text = site()
    if not TARGET.exists() or TARGET.read_text(encoding="utf-8") != text:
        TARGET.write_text(text, encoding="utf-8")
        print(f"tympan: wrote {TARGET.name}")


if __name__ == "__main__":
    main()
