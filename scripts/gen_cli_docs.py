"""Write docs/reference/cli.md from the command line itself, so that the two cannot drift apart.

Run it as ``python scripts/gen_cli_docs.py``; a test compares the page with what this makes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperArgument, TyperGroup, TyperOption

from tympan.cli import app

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "cli.md"

_INTRODUCTION = """\
# Command line

Made from the command line itself by `scripts/gen_cli_docs.py`; change the code, not this page.

Transcripts and other results go to standard output, everything else to standard error. Progress bars appear at a
terminal only. A failure reads `error [code] file: message`, with the codes of the HTTP interface, followed by what can
be done about it; `--debug` or `TYMPAN_DEBUG=1` adds the traceback.

| exit code | meaning |
|---|---|
| 0 | everything was done |
| 1 | some files failed, or a check of `doctor` did; the rest was done |
| 2 | wrong usage: a flag, a value, or a path that cannot be meant so |
| 3 | no usable model, engine or setting: nothing was done |
| 130, 143 | interrupted by Ctrl-C or SIGTERM; finished files are kept and skipped next time |

## Output files

`--output-dir` keeps the folders of the sources: `tympan transcribe --recursive talks --output-dir out` writes
`talks/2024/a.wav` to `out/2024/a.txt`. Names never collide: when `a.wav` and `a.mp3` lie together they become
`a.wav.txt` and `a.mp3.txt`, and a file that Tympan has not written is not overwritten unless `--force` is given. A file
is written whole or not at all.

`.tympan-state.jsonl` in the output folder notes every finished file by content, options and model. Repeat the command
and only what is new, changed or failed is done. `tympan batch` without `--output-dir` keeps that file beside the
report.

## Report

`--report FILE` is a JSON array with one record per file:

| field | meaning |
|---|---|
| `filename` | the path as given; inside a folder, the path below it |
| `path` | the absolute path |
| `text`, `language` | the transcript and its language; `null` on failure |
| `duration_s` | length of the audio in seconds |
| `processing_s` | time the file took in seconds, waiting for shared batches included |
| `realtime_factor` | seconds of audio per second of processing |
| `success` | whether there is a transcript |
| `skipped` | whether an earlier run had made it |
| `outputs` | the files written |
| `error` | `null`, or `code`, `message` and perhaps `remedy` |
"""


def render() -> str:
    """Return the page."""
    group = typer.main.get_command(app)
    return "\n".join([_INTRODUCTION, *_sections(group, "tympan")]).rstrip() + "\n"


def _sections(command: Any, path: str) -> Iterator[str]:
    yield f"## `{path}`\n"
    yield f"{_prose(command.help)}\n"
    yield f"    {' '.join([path, *_pieces(command)])}\n"
    rows = [row for parameter in command.params for row in _row(parameter)]
    if rows:
        yield "\n".join(["| option | value | meaning |", "|---|---|---|", *rows]) + "\n"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _sections(inner, f"{path} {name}")


def _pieces(command: Any) -> Iterator[str]:
    if any(isinstance(parameter, TyperOption) for parameter in command.params):
        yield "[OPTIONS]"
    if isinstance(command, TyperGroup):
        yield "COMMAND"
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            name = (parameter.metavar or str(parameter.name)).strip()
            yield (name if parameter.required else f"[{name}]") + ("..." if parameter.nargs != 1 else "")


def _row(parameter: object) -> Iterator[str]:
    if not isinstance(parameter, TyperArgument | TyperOption) or parameter.hidden:
        return
    metavar = (parameter.metavar or "").strip()
    names = parameter.opts if isinstance(parameter, TyperOption) else [metavar]
    value = f"`{metavar}`" if metavar and isinstance(parameter, TyperOption) else ""
    default = _default(parameter)
    text = (parameter.help or "").replace("|", "\\|") + (f" Default: `{default}`." if default else "")
    yield f"| {', '.join(f'`{name}`' for name in names)} | {value} | {text} |"


def _default(parameter: TyperArgument | TyperOption) -> str:
    default = parameter.default
    return "" if default is None or isinstance(default, bool) or callable(default) else str(default)


def _prose(text: str | None) -> str:
    return (text or "").strip()


def main() -> None:
    """Write the page."""
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(render(), encoding="utf-8")
    print(f"wrote {PAGE}")


if __name__ == "__main__":
    main()
