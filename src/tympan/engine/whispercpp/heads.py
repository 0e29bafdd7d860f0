"""Which attention heads of a decoder follow the audio: those that times of words are taken from."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tympan.engine.ggml.check import is_multilingual
from tympan.engine.ggml.container import Sizes
from tympan.engine.ggml.export import ABOUT
from tympan.engine.pauses import BASE_HEADS, TINY_EN_HEADS, Heads
from tympan.engine.whispercpp.structures import OWN_HEADS
from tympan.errors import ModelError

_PRESETS: Mapping[tuple[int, int, int, bool], int] = MappingProxyType(
    {
        (4, 4, 80, False): 3,
        (4, 4, 80, True): 4,
        (6, 6, 80, False): 5,
        (6, 6, 80, True): 6,
        (12, 12, 80, False): 7,
        (12, 12, 80, True): 8,
        (24, 24, 80, False): 9,
        (24, 24, 80, True): 10,
        (32, 32, 128, True): 13,
        (32, 4, 128, True): 14,
    }
)
"""whisper.cpp's numbers of OpenAI's models (``whisper_alignment_heads_preset``) by layers, mel bands and languages.

large-v1 and large-v2 cannot be told apart by their sizes.
"""

KNOWN_HEADS: Mapping[int, Heads] = MappingProxyType({3: TINY_EN_HEADS, 6: BASE_HEADS})
"""The heads behind some of the library's numbers: those whose lead is known."""


def alignment(folder: Path, sizes: Sizes) -> tuple[int, Heads]:
    """Return the library's number of a set of heads, and the heads if the set is our own.

    They are named beside the weights or known by the model's sizes; else they are all heads of the upper layers, as
    OpenAI's code has it. Raises ``ModelError`` when the file beside the weights cannot be read.
    """
    if named := _named(folder / ABOUT, sizes):
        return OWN_HEADS, named
    preset = _PRESETS.get((sizes.audio_layers, sizes.text_layers, sizes.mels, is_multilingual(sizes)))
    if preset is not None:
        return preset, ()
    upper = range(sizes.text_layers // 2, sizes.text_layers)
    return OWN_HEADS, tuple((layer, head) for layer in upper for head in range(sizes.text_heads))


def _named(path: Path, sizes: Sizes) -> Heads:
    if not path.is_file():
        return ()
    try:
        heads = json.loads(path.read_text(encoding="utf-8")).get("alignment_heads", ())
        found = tuple((int(layer), int(head)) for layer, head in heads)
        fit = all(0 <= layer < sizes.text_layers and 0 <= head < sizes.text_heads for layer, head in found)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelError(f"{path.name} cannot be read: {error}.", remedy=f"Remove {path}.") from error
    if not fit:
        raise ModelError(f"{path.name} names attention heads that the model does not have.", remedy=f"Remove {path}.")
    return found
