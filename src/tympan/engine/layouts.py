"""Which format of model lies in a folder: told by the names of its files, nothing is opened.

A format is known by its parts. The engines that read it follow from it, so what is served is decided by the files and
not by a setting. To add a format, add a ``Layout`` to ``LAYOUTS``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True, slots=True)
class Layout:
    """A format of models.

    ``name`` stands in lists and ``title`` in sentences. ``engines`` are the kinds that read it, the best first.
    ``parts`` are names of files, each a pattern of which one file at least is needed; the first are the weights, of
    which there must be one alone. ``remedy`` says how to come by what is missing.
    """

    name: str
    title: str
    engines: tuple[str, ...]
    parts: tuple[str, ...]
    remedy: str


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

LAYOUTS: Final = (CTRANSLATE2, GGML)
"""Every format that some engine reads. Where a folder could be two, the first one counts."""


def look(folder: Path) -> Finding:
    """Return what ``folder`` holds: the first format it holds whole, else the one it holds most parts of."""
    findings = [_compared(folder, layout) for layout in LAYOUTS]
    return min(findings, key=lambda finding: (bool(finding.missing), -_present(finding)))


def _compared(folder: Path, layout: Layout) -> Finding:
    files = {part: sorted(path for path in folder.glob(part) if path.is_file()) for part in layout.parts}
    missing = [part for part, found in files.items() if not found]
    weights = files[layout.parts[0]]
    if len(weights) > 1:
        missing.append(f"{layout.parts[0]} that is the only one")
    return Finding(layout, tuple(missing), weights[0] if weights else None)


def _present(finding: Finding) -> int:
    return sum(part not in finding.missing for part in finding.layout.parts)
