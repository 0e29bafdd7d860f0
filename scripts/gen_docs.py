"""Write the generated parts of docs/reference from the code, so that the two cannot drift apart.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. Run it as
``python scripts/gen_docs.py``; a test compares the pages with what this makes.
"""

import re
import runpy
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from fastapi.routing import APIRoute

from tympan import telemetry
from tympan.api import errors as http
from tympan.api.app import ROUTERS
from tympan.api.fields.forms import Parameter
from tympan.api.fields.transcription import PARAMETERS
from tympan.api.live.stream import OPTIONS
from tympan.config import Settings
from tympan.errors import TympanError
from tympan.formats import MEDIA_TYPES

REFERENCE = Path(__file__).parent.parent / "docs" / "reference"
PAGES = ("settings.md", "api.md", "live.md", "errors.md", "metrics.md", "logs.md")

_PART = re.compile(r"<!-- generated: (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def regenerated(page: str) -> str:
    """Return a page's text with every generated part made anew."""
    return _PART.sub(lambda match: part(match["name"]), page)


def part(name: str) -> str:
    """Return one generated part with its marks."""
    return f"<!-- generated: {name} -->\n{_PARTS[name]()}\n<!-- end -->"


def part_names() -> set[str]:
    """Return the names of all parts there are."""
    return set(_PARTS)


def _settings() -> str:
    rows = [
        (f'<a id="{name}"></a>`{name.upper()}`', _default(name), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    return _table(("setting", "default", "meaning"), rows)


def _default(name: str) -> str:
    field = Settings.model_fields[name]
    if field.default_factory is not None:
        return ""
    return "`auto`" if field.default is None else f"`{str(field.default).lower()}`"


def _routes() -> str:
    found = (route for router in ROUTERS for route in router.routes)
    routes = [route for route in found if isinstance(route, APIRoute) and route.include_in_schema]
    rows = [
        (f"`{' '.join(sorted(route.methods or ()))} {route.path.replace(':path', '')}`", _first_line(route.description))
        for route in routes
    ]
    return _table(("route", "what it does"), rows)


def _fields(*, ours: bool) -> Callable[[], str]:
    def table() -> str:
        rows = [(f"`{p.name}`", _values(p), p.description) for p in PARAMETERS if p.ours is ours]
        return _table(("field", "values", "meaning"), rows)

    return table


def _values(parameter: Parameter) -> str:
    schema = parameter.schema
    allowed = schema.get("items", schema).get("enum")
    values = ", ".join(f"`{value}`" for value in allowed) if allowed else str(schema.get("format", schema["type"]))
    if "minimum" in schema:
        values += f" {schema['minimum']} to {schema['maximum']}"
    if "maxLength" in schema:
        values += f", at most {schema['maxLength']} characters"
    default = schema.get("default")
    return values if default is None else f"{values}; default `{str(default).lower()}`"


def _stream_options() -> str:
    return _table(("option", "meaning, and default"), [(f"`{name}`", meaning) for name, meaning in OPTIONS.items()])


def _formats() -> str:
    return _table(("format", "media type"), [(f"`{name}`", f"`{kind}`") for name, kind in MEDIA_TYPES.items()])


def _errors() -> str:
    # A kind that some module tells apart for itself shares the code of one in ``errors``, which comes last and stays.
    kinds = sorted(_subclasses(TympanError), key=lambda kind: kind.__module__.startswith("tympan.errors."))
    classes = {kind.code: kind for kind in kinds}
    rows = [
        (f"`{code}`", str(status), "yes" if classes[code].retryable else "", _first_line(classes[code].__doc__))
        for code, status in http.STATUS.items()
    ]
    return _table(("code", "status", "retry", "meaning"), rows)


def _metrics() -> str:
    rows = [
        (f"`{row.name}`", row.kind, ", ".join(f"`{label}`" for label in row.labels), row.across, row.description)
        for row in telemetry.metric_rows()
    ]
    return _table(("metric", "kind", "labels", "join", "meaning"), rows)


def _log_events() -> str:
    rows = [
        (f"`{event.name}`", ", ".join(event.levels), ", ".join(f"`{name}`" for name in event.fields), event.meaning)
        for event in runpy.run_path(str(Path(__file__).with_name("log_events.py")))["events"]()
    ]
    return _table(("event", "level", "fields", "meaning"), rows)


_PARTS: Mapping[str, Callable[[], str]] = {
    "settings": _settings,
    "routes": _routes,
    "openai_fields": _fields(ours=False),
    "our_fields": _fields(ours=True),
    "stream_options": _stream_options,
    "formats": _formats,
    "errors": _errors,
    "metrics": _metrics,
    "log_events": _log_events,
}


def _subclasses(cls: type[TympanError]) -> Iterator[type[TympanError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _subclasses(child)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [list(head)]
    lines += [["---"] * len(lines[0])]
    lines += [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _first_line(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def main() -> None:
    """Rewrite the pages."""
    for name in PAGES:
        page = REFERENCE / name
        page.write_text(regenerated(page.read_text(encoding="utf-8")), encoding="utf-8")
        print(f"wrote {page}")


if __name__ == "__main__":
    main()
