"""From a model in another format to one in ggml, installed beside the others with its digests recorded."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tympan.engine import layouts, models
from tympan.engine.features import mel_bank
from tympan.engine.ggml.blocks import FORMATS
from tympan.engine.ggml.container import Contents, Sizes, Tensor, write
from tympan.engine.ggml.parts import ctranslate2_sizes, ctranslate2_tensors, hub_sizes, hub_tensors
from tympan.engine.ggml.words import words_of
from tympan.engine.onnx.weights import Weights
from tympan.engine.store import ModelStore, PullProgress, Record, Report, measure, silent
from tympan.errors import InvalidRequest, ModelError, ModelUnavailable

DEFAULT_FORMAT: Final = "q5_0"
"""The number format unless another is asked for: a third of float16's size at nearly its accuracy."""

ABOUT: Final = "about.json"
"""Beside the weights: where they are from, and what the format has no place for."""

_OVERHEAD_BYTES: Final = 4_000_000


@dataclass(frozen=True, slots=True)
class Exported:
    """A model that was written: its name, its folder, and the bytes of its weights."""

    name: str
    path: Path
    size_bytes: int


def located(name: str, data_dir: Path, access: models.Access, report: Report = silent) -> models.ResolvedModel:
    """Return the model that ``name`` means and that can be exported; it is fetched first when it is not there yet.

    ``name`` is what ``models.resolve`` takes, or the path of a folder as Hugging Face lays them out. Raises as
    ``models.resolve`` does.
    """
    folder = Path(name).expanduser()
    if "/" in name and any(folder.glob("model*.safetensors")):
        return models.ResolvedModel(folder.resolve().name, folder.resolve(), "", "local folder")
    return models.resolve(name, data_dir, access, report)


def exported_name(name: str, form: str) -> str:
    """Return what the ggml model made of ``name`` is called."""
    return f"{name}-ggml-{form}"


def export(
    model: models.ResolvedModel, store: ModelStore, form: str = DEFAULT_FORMAT, report: Report = silent
) -> Exported:
    """Write a Whisper model in another format to the models folder, in the number format ``form``.

    An export that is there is replaced. Raises ``InvalidRequest`` for an unknown number format, ``ModelError`` when
    the source cannot be read, ``InsufficientStorage``.
    """
    if form not in FORMATS:
        raise InvalidRequest(
            f"{form!r} is not a number format for ggml.",
            param="quantize",
            remedy=f"Choose one of: {', '.join(FORMATS)}.",
        )
    target = exported_name(model.name, form)
    needed_bytes = sum(path.stat().st_size for path in model.path.iterdir()) + _OVERHEAD_BYTES
    with opened(model.path) as (contents, about), store.lock(target, report):
        with store.staging(target, needed_bytes) as area:
            staged = area / target
            staged.mkdir()
            weights = staged / f"ggml-{model.name}-{form}.bin"
            with weights.open("wb") as file:
                write(file, _reported(contents, report), FORMATS[form])
            about |= {"source": model.name, "revision": model.revision, "quantize": form}
            (staged / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")
            files = measure(staged, report)
            folder = store.install(target, staged, files)
        store.remember(target, Record(f"{model.revision[:16] or 'local'}-{form}", files))
    return Exported(target, folder, sum(file.size_bytes for file in files))


@contextmanager
def opened(source: Path) -> Iterator[tuple[Contents, dict[str, Any]]]:
    """Yield what the model in the folder ``source`` puts into a ggml file, and what stands beside it.

    Raises ``ModelUnavailable`` for a folder in another format than CTranslate2's or Hugging Face's.
    """
    if not layouts.look(source).missing and (source / "model.bin").is_file():
        weights = Weights(source / "model.bin")
        yield (
            _contents(ctranslate2_sizes(weights), source, ctranslate2_tensors(weights)),
            _about(source / "config.json"),
        )
        weights.let_go()
        return
    if not any(source.glob("model*.safetensors")):
        raise ModelUnavailable(
            f"The folder {source} holds neither a CTranslate2 Whisper model nor one of Hugging Face as safetensors.",
            remedy="Name a model of `tympan models list`, or a folder with model.safetensors, config.json and "
            "tokenizer.json.",
        )
    sizes = hub_sizes(_json(source / "config.json"))
    yield _contents(sizes, source, hub_tensors(source)), _about(source / "generation_config.json")


def _contents(sizes: Sizes, source: Path, tensors: Iterator[Tensor]) -> Contents:
    return Contents(sizes, mel_bank(sizes.mels), words_of(source / "tokenizer.json"), tensors)


def _about(path: Path) -> dict[str, Any]:
    heads = _json(path).get("alignment_heads") if path.is_file() else None
    return {"alignment_heads": heads} if heads else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}.", remedy="Fetch the model again.") from error
    return found


def _reported(contents: Contents, report: Report) -> Contents:
    def each() -> Iterator[Tensor]:
        for count, tensor in enumerate(contents.tensors, 1):
            report(PullProgress("writing tensors", count, 0))
            yield tensor

    return Contents(contents.sizes, contents.mel_bank, contents.words, each())
