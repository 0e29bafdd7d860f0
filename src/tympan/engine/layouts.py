"""Which format of model lies in a folder: told by the names of its files, nothing is opened.

A format is known by its parts. The engines that read it follow from it, so what is served is decided by the files and
not by a setting. To add a format, add a ``Layout`` to ``LAYOUTS``.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Layout:
    """A format of models.

    ``name`` stands in lists and ``title`` in sentences. ``engines`` are the kinds that read it, the best first.
    ``parts`` are names of files, each a pattern of which one file at least is needed; the first are the weights, of
    which there must be one alone. ``remedy`` says how to come by what is missing. ``number_format`` is that of the
    weights where the names tell.
    """

    name: str
    title: str
    engines: tuple[str, ...]
    parts: tuple[str, ...]
    remedy: str
    number_format: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a folder holds: the format it is nearest to, what it lacks of that (nothing: it is whole), its weights."""

    layout: Layout
    missing: tuple[str, ...]
    weights: Path | None = None


CTRANSLATE2: Final = Layout(
    name="ctranslate2",
    title="CTranslate2 Whisper",
    engines=("onnx", "ct2"),
    parts=("model.bin", "config.json", "tokenizer.json", "vocabulary.*"),
    remedy="Convert the model with ct2-transformers-converter --copy_files tokenizer.json, or choose another.",
)

GGML: Final = Layout(
    name="ggml",
    title="ggml Whisper",
    engines=("whispercpp",),
    parts=("ggml-*.bin",),
    remedy="Put one ggml file, named as ggml-base.bin is, into a folder of its own.",
)

_EXPORTS: Final = (
    # NVIDIA NeMo: config.json tells one kind of transducer from the other.
    ("nemo-transducer", "NeMo transducer", ("encoder-model#", "decoder_joint-model#", "vocab.txt", "config.json")),
    ("nemo-aed", "NeMo Canary", ("encoder-model#", "decoder-model#", "vocab.txt")),
    ("nemo-ctc", "NeMo CTC", ("model#", "vocab.txt")),
    # GigaAM: config.json tells which spectrogram a version wants.
    (
        "gigaam-e2e-rnnt",
        "GigaAM",
        (
            *("v3_e2e_rnnt_encoder#", "v3_e2e_rnnt_decoder#", "v3_e2e_rnnt_joint#"),
            *("v3_e2e_rnnt_vocab.txt", "config.json"),
        ),
    ),
    ("gigaam-e2e-ctc", "GigaAM", ("v3_e2e_ctc#", "v3_e2e_ctc_vocab.txt", "config.json")),
    (
        "gigaam-rnnt",
        "GigaAM",
        ("v?_rnnt_encoder#", "v?_rnnt_decoder#", "v?_rnnt_joint#", "v?_vocab.txt", "config.json"),
    ),
    ("gigaam-ctc", "GigaAM", ("v?_ctc#", "v?_vocab.txt", "config.json")),
    ("gigaam-multilingual", "GigaAM", ("multilingual*_ctc#", "multilingual_vocab.txt", "config.json")),
    ("icefall", "icefall transducer", ("*/encoder#", "*/decoder#", "*/joiner#", "*/tokens.txt")),
    (
        "whisper-onnx",
        "ONNX Whisper",
        ("**/encoder_model#", "**/decoder_model_merged#", "vocab.json", "added_tokens.json", "config.json"),
    ),
    ("moonshine", "Moonshine", ("**/encoder_model#", "**/decoder_model_merged#", "tokenizer.[jb]*")),
    ("moonshine", "Moonshine", ("**/encoder_model.ort", "**/decoder_model_merged.ort", "tokenizer.bin")),
)


def _exported(name: str, title: str, parts: tuple[str, ...], number_format: str) -> Layout:
    """Return a format of models exported to ONNX; graphs of another number format carry it in their names."""
    ending = f"?{number_format}.onnx" if number_format else ".onnx"
    return Layout(
        name=name,
        title=title,
        engines=("onnx-asr",),
        parts=tuple(part.replace("#", ending) for part in parts),
        remedy="See docs/howto/choose-a-model.md for the files that models of other networks than Whisper need.",
        number_format=number_format,
    )


ONNX_EXPORTS: Final = tuple(
    _exported(name, title, parts, number_format) for name, title, parts in _EXPORTS for number_format in ("int8", "")
)
"""What ``tympan.engine.onnx_asr`` reads; where several lie in one folder, the first one counts."""

LAYOUTS: Final = (CTRANSLATE2, GGML, *ONNX_EXPORTS)
"""Every format that some engine reads. Where a folder could be two, the first one counts."""


def look(folder: Path) -> Finding:
    """Return what ``folder`` holds: the first format it holds whole, else the one it holds most parts of."""
    findings = [_compared(folder, layout) for layout in LAYOUTS]
    return min(findings, key=lambda finding: (bool(finding.missing), -_present(finding)))


def exported(name: str, number_format: str) -> Layout:
    """Return the format of that name and number format among ``ONNX_EXPORTS``."""
    return next(one for one in ONNX_EXPORTS if (one.name, one.number_format) == (name, number_format))


def whole(folder: Path, among: Sequence[Layout] = LAYOUTS) -> tuple[Layout, ...]:
    """Return the formats that ``folder`` holds all parts of."""
    return tuple(layout for layout in among if not _compared(folder, layout).missing)


def matching(names: Iterable[str], part: str) -> list[str]:
    """Return which of ``names``, relative to a model's folder, a part's pattern means."""
    loose = part.removeprefix("**/")
    return [name for name in names if fnmatchcase(name, part) or (loose != part and fnmatchcase(name, loose))]


def _compared(folder: Path, layout: Layout) -> Finding:
    files = {part: sorted(path for path in folder.glob(part) if path.is_file()) for part in layout.parts}
    missing = [part for part, found in files.items() if not found]
    weights = files[layout.parts[0]]
    if len(weights) > 1:
        missing.append(f"{layout.parts[0]} that is the only one")
    return Finding(layout, tuple(missing), weights[0] if weights else None)


def _present(finding: Finding) -> int:
    return sum(part not in finding.missing for part in finding.layout.parts)
