"""``tympan models``: what there is, fetching, checking, and where it lies."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tympan.cli.arguments import command
from tympan.cli.console import ExitCode, say, show_error, stdout, write_stdout
from tympan.cli.display import pull_bar
from tympan.cli.services import load_settings
from tympan.errors import ModelUnavailable, TympanError

if TYPE_CHECKING:
    from tympan.config import Settings
    from tympan.engine.models import Listed, LocalModel

_MARKS = {"cached": "here", "fetchable": "pull", "unpinned": "trust"}
_STYLES = {"here": "[green]here[/]", "trust": "[yellow]trust[/]"}


@dataclass(frozen=True, slots=True)
class PlaceArgs:
    """Where models are kept."""

    data_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where models are kept; overrides the setting.")
    ] = None

    @property
    def overrides(self) -> dict[str, object]:
        """The settings that the flags override."""
        return {} if self.data_dir is None else {"data_dir": self.data_dir}


@dataclass(frozen=True, slots=True)
class NameArgs:
    """One model."""

    name: Annotated[str, typer.Argument(metavar="NAME", help="Name or alias, as in `tympan models list`.")]


@dataclass(frozen=True, slots=True)
class NamesArgs:
    """Some models."""

    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Names or aliases; all that are here unless given.")
    ] = None


@dataclass(frozen=True, slots=True)
class ListArgs:
    """How the list is shown."""

    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False


@dataclass(frozen=True, slots=True)
class PullArgs:
    """How a model is fetched."""

    trust_first_use: Annotated[
        bool,
        typer.Option(
            "--trust-first-use",
            help="Accept a model without a published digest; its files are recorded and checked from then on.",
        ),
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Fetch it even if it is here.")] = False


@dataclass(frozen=True, slots=True)
class ExportArgs:
    """What a model is turned into."""

    to: Annotated[Literal["ggml"], typer.Option("--to", help="Format to write: ggml, for the engine whispercpp.")] = (
        "ggml"
    )
    quantize: Annotated[
        Literal["f16", "q8_0", "q5_0", "q4_0"],
        typer.Option("--quantize", help="Number format of the weights, from the most exact to the smallest."),
    ] = "q5_0"


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    group = typer.Typer(no_args_is_help=True, help="List, fetch and check models.")
    command(group, "list")(list_models)
    command(group, "pull")(pull)
    command(group, "verify")(verify)
    command(group, "path")(path)
    command(group, "export")(export)
    app.add_typer(group, name="models")


def list_models(args: ListArgs, place: PlaceArgs) -> int:
    """List every model Tympan knows: size on disk, memory it needs, and whether it is here."""
    from tympan.engine.models import listing, local_models, speakers  # noqa: PLC0415

    settings = load_settings(place.overrides)
    found, own = listing(settings.data_dir), local_models(settings.data_dir)
    if args.as_json:
        write_stdout(json.dumps([_facts(line) for line in found] + [_own_facts(model) for model in own], indent=2))
        return ExitCode.OK
    _show_table(found, own)
    say(f"here: in {settings.data_dir / 'models'}; own: there too, but unknown to the catalogue;")
    say("pull: fetched and checked on first use;")
    say("trust: no digest is published, so `tympan models pull NAME --trust-first-use` comes first.")
    others = speakers(settings.data_dir)
    size, mark = f"{others.entry.size_bytes / 1e6:,.0f} MB", _MARKS[others.status.value]
    say(f"{others.entry.name}: no model, but what tells speakers apart by voice; {size}, {mark}.")
    if settings.models or settings.models_cached:
        say(f"A server here serves {', '.join(_served(settings))}.")
    return ExitCode.OK


def _served(settings: "Settings") -> list[str]:
    """Return the models that the settings name, the default first."""
    from tympan.bootstrap.registry import configured_models  # noqa: PLC0415

    first, *others = (each.card.id for each in configured_models(settings))
    return [f"{first} (the default)", *others]


def pull(name: NameArgs, args: PullArgs, place: PlaceArgs) -> int:
    """Fetch a model and check every byte of it; one that is here is only checked."""
    from tympan.engine import models  # noqa: PLC0415

    settings = load_settings(place.overrides | ({"trust_first_use": True} if args.trust_first_use else {}))
    access = models.Access(offline=settings.offline, trust_first_use=settings.trust_first_use)
    with pull_bar(name.name) as report:
        model = models.pull(name.name, settings.data_dir, access, report, force=args.force)
    say(f"{model.name} is ready (from: {model.source}; revision {model.revision or 'unknown'}).")
    write_stdout(str(model.path))
    return ExitCode.OK


def verify(names: NamesArgs, place: PlaceArgs) -> int:
    """Read models that are here again, and compare every file with its digest.

    The exit code is 1 when a file is not what it should be.
    """
    from tympan.engine import models  # noqa: PLC0415

    data_dir = load_settings(place.overrides).data_dir
    chosen = names.names or models.with_digests(data_dir)
    if not chosen:
        raise ModelUnavailable(
            f"There are no models in {data_dir / 'models'}.", remedy="Run `tympan models pull base`."
        )
    failures = 0
    for name in chosen:
        try:
            with pull_bar(name) as report:
                model = models.verify(name, data_dir, report)
            write_stdout(f"ok    {model.name}  {model.path}")
        except TympanError as error:
            failures += 1
            write_stdout(f"FAIL  {name}")
            show_error(error, name)
    return ExitCode.SOME_FAILED if failures else ExitCode.OK


def path(name: NameArgs, place: PlaceArgs) -> int:
    """Print the folder of a model that is here."""
    from tympan.engine import models  # noqa: PLC0415

    write_stdout(str(models.path_of(name.name, load_settings(place.overrides).data_dir)))
    return ExitCode.OK


def export(name: NameArgs, args: ExportArgs, place: PlaceArgs) -> int:
    """Write a Whisper model in another format; the new model is served like any other.

    NAME may also be the path of a folder with a model of Hugging Face (safetensors) or CTranslate2.
    """
    from tympan.engine.ggml.export import export as exported  # noqa: PLC0415
    from tympan.engine.ggml.export import located  # noqa: PLC0415
    from tympan.engine.models import Access, models_dir  # noqa: PLC0415
    from tympan.engine.store import ModelStore  # noqa: PLC0415

    settings = load_settings(place.overrides)
    access = Access(offline=settings.offline, trust_first_use=settings.trust_first_use)
    with pull_bar(name.name) as report:
        source = located(name.name, settings.data_dir, access, report)
        made = exported(source, ModelStore(models_dir(settings.data_dir)), args.quantize, report)
    say(f"{made.name} is ready ({made.size_bytes / 1e6:,.0f} MB); serve it with --model {made.name}.")
    write_stdout(str(made.path))
    return ExitCode.OK


def _facts(line: "Listed") -> dict[str, object]:
    from tympan.engine.catalogue import memory_bytes  # noqa: PLC0415

    entry = line.entry
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "repository": entry.repo_id,
        "revision": entry.revision,
        "licence": entry.licence,
        "multilingual": entry.multilingual,
        "size_bytes": entry.size_bytes,
        "memory_bytes": {kind: memory_bytes(entry, kind) for kind in ("int8", "float16", "float32")},
        "status": line.status.value,
        "path": str(line.path) if line.path else None,
        "format": entry.layout,
    }


def _own_facts(model: "LocalModel") -> dict[str, object]:
    return {
        "name": model.name,
        "aliases": [],
        "repository": "",
        "revision": "",
        "licence": "",
        "multilingual": None,
        "size_bytes": model.size_bytes,
        "memory_bytes": {},
        "status": "own",
        "path": str(model.path),
        "format": model.layout,
    }


def _show_table(found: "list[Listed]", own: "list[LocalModel]") -> None:
    from rich.table import Table  # noqa: PLC0415

    from tympan.engine.catalogue import memory_bytes  # noqa: PLC0415
    from tympan.languages import LANGUAGES  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    # In a narrow window the names are what has to stay whole.
    table.add_column(
        "model", min_width=max(map(len, [*(line.entry.name for line in found), *(model.name for model in own)]))
    )
    for column in ("status", "format", "languages"):
        table.add_column(column)
    for column in ("disk", "memory int8", "float16"):
        table.add_column(column, justify="right")
    table.add_column("licence")
    for line in found:
        entry = line.entry
        memory = (f"{memory_bytes(entry, kind) / 1e9:.1f} GB" for kind in ("int8", "float16"))
        languages = "many" if entry.multilingual else LANGUAGES[entry.languages[0] if entry.languages else "en"]
        size = f"{entry.size_bytes / 1e6:,.0f} MB"
        mark = _MARKS[line.status.value]
        table.add_row(entry.name, _STYLES.get(mark, mark), entry.layout, languages, size, *memory, entry.licence)
    for model in own:
        table.add_row(model.name, "[green]own[/]", model.layout, "", f"{model.size_bytes / 1e6:,.0f} MB")
    stdout().print(table)
