"""Networks that the package ``onnx-asr`` knows how to feed and read. The only importer of ``onnx_asr``."""

import json
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

import onnx_asr

from tympan.domain import SAMPLE_RATE_HZ
from tympan.engine.failures import translated
from tympan.engine.onnx_asr.families import Found
from tympan.engine.onnx_asr.said import Said
from tympan.engine.onnx_asr.sessions import FAILURES, Place
from tympan.languages import LANGUAGES

_NAME: Final = "onnx-asr"
_SPACE: Final = "\u2581"


class Library:
    """A model of any family but Moonshine."""

    def __init__(self, found: Found, place: Place) -> None:
        """Load the model. Its files are all in the folder, so nothing is fetched. Raises ``EngineError``."""
        with translated(_NAME, *FAILURES):
            self._model: Any = onnx_asr.load_model(
                found.family.name,
                found.folder,
                quantization=found.layout.number_format or None,
                sess_options=place.options(),
                providers=place.providers,
            ).with_timestamps()
            self._numbers = _vocabulary(found)
        self.languages = tuple(sorted(code for code in LANGUAGES if f"<|{code}|>" in self._numbers))
        """Languages that the vocabulary has a mark for; none where a model cannot be told the language."""

    def recognize(self, windows: Sequence[Any], language: str | None, *, translate: bool) -> list[Said]:
        """Return what is said in each of ``windows``, samples in [-1, 1] at 16 kHz. Raises ``EngineError``."""
        told = {"language": language} if self.languages and language else {}
        if translate:
            told["target_language"] = "en"
        with translated(_NAME, *FAILURES):
            return [self._said(one) for one in self._model.recognize(list(windows), sample_rate=SAMPLE_RATE_HZ, **told)]

    def _said(self, result: Any) -> Said:
        spelled = tuple(result.tokens or ())
        return Said(
            text=result.text.strip(),
            spelled=spelled,
            tokens=tuple(self._numbers[token] for token in spelled),
            starts_s=tuple(result.timestamps or ()),
            logprobs=tuple(min(0.0, chance) for chance in result.logprobs or ()),
        )


def _vocabulary(found: Found) -> Mapping[str, int]:
    """Return the model's tokens with their numbers, spelled as the library spells them."""
    texts = [part for part in found.layout.parts if part.endswith(".txt")]
    if texts:
        lines = next(found.folder.glob(texts[0])).read_text(encoding="utf-8").split("\n")
        pairs = (line.rsplit(" ", 1) for line in lines if line.strip())
        return MappingProxyType({token.replace(_SPACE, " "): int(number) for token, number in pairs})
    marks: dict[str, int] = json.loads((found.folder / "added_tokens.json").read_text(encoding="utf-8"))
    return MappingProxyType(marks)
