"""The families of networks that are served from ONNX files, and what each can be asked for: pure but for one look."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from tympan.domain import Abilities, LanguageUse
from tympan.engine import layouts
from tympan.engine.layouts import Layout
from tympan.errors import ModelError

_SPEECH_ONLY: Final = Abilities(
    LanguageUse.HEARS,
    translation=False,
    prompts=False,
    temperatures=False,
    narrowing=False,
    suppression=False,
    token_chances=False,
)
_TEXT_ONLY: Final = replace(_SPEECH_ONLY, word_times=False)
_CANARY: Final = replace(_TEXT_ONLY, language=LanguageUse.NEEDS, translation=True)


@dataclass(frozen=True, slots=True)
class Family:
    """A kind of network: its name in ``onnx-asr``, what its models can do, and the language they all know, if one.

    ``alone`` says that windows must not share a call: one text could then reach into another.
    """

    name: str
    can: Abilities
    languages: tuple[str, ...] = ()
    alone: bool = False


_FAMILIES: Final = MappingProxyType(
    {
        "nemo-transducer": (Family("nemo-conformer-tdt", _SPEECH_ONLY), Family("nemo-conformer-rnnt", _SPEECH_ONLY)),
        # Its decoder goes on for all texts until the last one ends, and keeps what it makes up meanwhile.
        "nemo-aed": (Family("nemo-conformer-aed", _CANARY, alone=True),),
        "nemo-ctc": (Family("nemo-conformer-ctc", _SPEECH_ONLY),),
        "gigaam-e2e-rnnt": (Family("gigaam-v3-e2e-rnnt", _SPEECH_ONLY, ("ru",)),),
        "gigaam-e2e-ctc": (Family("gigaam-v3-e2e-ctc", _SPEECH_ONLY, ("ru",)),),
        "gigaam-rnnt": (Family("gigaam-v3-rnnt", _SPEECH_ONLY, ("ru",)),),
        "gigaam-ctc": (Family("gigaam-v3-ctc", _SPEECH_ONLY, ("ru",)),),
        "gigaam-multilingual": (Family("gigaam-multilingual-ctc", _SPEECH_ONLY),),
        "icefall": (Family("kaldi-rnnt", _SPEECH_ONLY),),
        # Its spectrogram is scaled by the loudest moment of all that share a call.
        "whisper-onnx": (Family("whisper", _TEXT_ONLY, alone=True),),
        "moonshine": (Family("moonshine", _TEXT_ONLY, ("en",)),),
    }
)
"""Families by the name of the layout that their files make up; the first is meant unless ``config.json`` says."""


@dataclass(frozen=True, slots=True)
class Found:
    """The model in a folder: its family, the number format of its files (empty: full precision), its settings."""

    folder: Path
    family: Family
    layout: Layout
    config: dict[str, Any]

    def file(self, part: int) -> Path:
        """Return the file that a part of the layout, by number, means."""
        return next(path for path in sorted(self.folder.glob(self.layout.parts[part])) if path.is_file())


def find(folder: Path, compute_type: str = "int8") -> Found:
    """Return the model in ``folder``, of its files those in ``compute_type`` if they are there.

    Raises ``ModelError`` when it is none that can be read.
    """
    held = layouts.whole(folder, layouts.ONNX_EXPORTS)
    if not held:
        raise ModelError(
            f"The folder {folder} holds no model exported to ONNX.", remedy=layouts.look(folder).layout.remedy
        )
    layout = min(held, key=lambda one: (one.name != held[0].name, one.number_format != _format(compute_type)))
    config = _config(folder)
    said = config.get("model_type")
    families = _FAMILIES[layout.name]
    return Found(folder, next((family for family in families if family.name == said), families[0]), layout, config)


def _format(compute_type: str) -> str:
    return "int8" if compute_type.startswith("int8") else ""


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ModelError(f"{path} is damaged: {error}.", remedy="Fetch or copy the model again.") from error
    return content if isinstance(content, dict) else {}
