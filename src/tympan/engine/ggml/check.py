"""Is a ggml file whole and of one piece? Asked before whisper.cpp reads it, which ends the process over some errors."""

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Final

from tympan.engine.ggml.container import Header, Sizes, read_header, read_start, taken, unpacked
from tympan.errors import ModelError

ENGLISH_TOKENS: Final = 51864
"""Tokens of an English-only vocabulary; whisper.cpp counts on at least as many."""

_MULTILINGUAL_TOKENS = 51865
_AUDIO_POSITIONS, _TEXT_POSITIONS = 1500, 448
_LARGEST = Sizes(1 << 17, _AUDIO_POSITIONS, 1 << 13, 1 << 7, 1 << 7, _TEXT_POSITIONS, 1 << 13, 1 << 7, 1 << 7, 1 << 8)
_MAX_NAME_BYTES = 256
_MAX_TENSORS = 1 << 14

_BLOCKS: Mapping[int, tuple[int, int]] = MappingProxyType(
    {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36)}
    | {10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292)}
)
"""Numbers in a block and its bytes, by type (``enum ggml_type``)."""


def is_multilingual(sizes: Sizes) -> bool:
    """Tell whether a model knows other languages than English, as whisper.cpp does: by its tokens."""
    return sizes.vocabulary >= _MULTILINGUAL_TOKENS


def checked(path: Path) -> Header:
    """Return the header of the ggml file at ``path``. Raises ``ModelError`` unless every tensor is there and fits."""
    header = read_header(path)
    try:
        _check_sizes(header.sizes)
        with path.open("rb") as file:
            read_start(file)
            found = dict(_tensors(file, path.stat().st_size))
        _compare(found, expected(header.sizes))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path.name} is not a whole ggml Whisper model: {error}.",
            remedy="Fetch or export the model again: tympan models export NAME --to ggml.",
        ) from error
    return header


def expected(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Return every tensor of a model with these dimensions, and its shape with the longest stride first."""
    width = sizes.audio_width
    found: dict[str, tuple[int, ...]] = {
        "encoder.positional_embedding": (sizes.audio_positions, width),
        "encoder.conv1.weight": (width, sizes.mels, 3),
        "encoder.conv1.bias": (width, 1),
        "encoder.conv2.weight": (width, width, 3),
        "encoder.conv2.bias": (width, 1),
        "decoder.positional_embedding": (sizes.text_positions, sizes.text_width),
        "decoder.token_embedding.weight": (sizes.vocabulary, sizes.text_width),
    }
    found |= _norm("encoder.ln_post", width) | _norm("decoder.ln", sizes.text_width)
    for layer in range(sizes.audio_layers):
        found |= _block(f"encoder.blocks.{layer}", width)
    for layer in range(sizes.text_layers):
        name = f"decoder.blocks.{layer}"
        found |= _block(name, sizes.text_width) | _norm(f"{name}.cross_attn_ln", sizes.text_width)
        found |= _attention(f"{name}.cross_attn", sizes.text_width)
    return found


def _block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    wide = 4 * width
    found = _norm(f"{name}.attn_ln", width) | _attention(f"{name}.attn", width) | _norm(f"{name}.mlp_ln", width)
    found |= {f"{name}.mlp.0.weight": (wide, width), f"{name}.mlp.0.bias": (wide,)}
    return found | {f"{name}.mlp.2.weight": (width, wide), f"{name}.mlp.2.bias": (width,)}


def _attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    weights = {f"{name}.{part}.weight": (width, width) for part in ("query", "key", "value", "out")}
    return weights | {f"{name}.{part}.bias": (width,) for part in ("query", "value", "out")}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _check_sizes(sizes: Sizes) -> None:
    if any(not 0 < size <= most for size, most in zip(astuple(sizes), astuple(_LARGEST), strict=True)):
        raise ValueError(f"its sizes cannot be: {sizes}")
    if sizes.vocabulary < ENGLISH_TOKENS:
        raise ValueError(f"it has {sizes.vocabulary} tokens, and Whisper at least {ENGLISH_TOKENS}")
    if sizes.audio_positions != _AUDIO_POSITIONS or sizes.text_positions != _TEXT_POSITIONS:
        raise ValueError(f"it has {sizes.audio_positions} and {sizes.text_positions} positions, unlike Whisper")
    if (
        sizes.audio_width != sizes.text_width
        or sizes.audio_width % sizes.audio_heads
        or sizes.text_width % sizes.text_heads
    ):
        raise ValueError("its widths do not fit together")


def _tensors(file: BinaryIO, n_bytes: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    for _ in range(_MAX_TENSORS):
        if file.tell() == n_bytes:
            return
        dimensions, name_bytes, kind = unpacked(file, "<3i")
        if not 1 <= dimensions <= 3 or not 0 < name_bytes <= _MAX_NAME_BYTES or kind not in _BLOCKS:
            raise ValueError("the head of a tensor makes no sense")
        shape = unpacked(file, f"<{dimensions}i")
        name = taken(file, name_bytes).decode(errors="replace")
        if file.seek(_n_bytes(shape, kind), 1) > n_bytes:
            raise ValueError(f"it is cut short in {name}")
        yield name, shape[::-1]
    raise ValueError("it has too many tensors")


def _n_bytes(shape: tuple[int, ...], kind: int) -> int:
    numbers, n_bytes = _BLOCKS[kind]
    if min(shape) <= 0 or max(shape) > 1 << 24 or shape[0] % numbers:
        raise ValueError("the shape of a tensor makes no sense")
    count = 1
    for size in shape:
        count *= size
    return count // numbers * n_bytes


def _compare(found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    for name, shape in wanted.items():
        if name not in found:
            raise ValueError(f"it has no {name}")
        if found[name] != shape:
            raise ValueError(f"{name} has the shape {found[name]}, not {shape}")
    if unknown := sorted(found.keys() - wanted.keys()):
        raise ValueError(f"it holds {unknown[0]}, which no Whisper has")
