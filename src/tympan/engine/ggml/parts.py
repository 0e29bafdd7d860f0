"""Tensors of a Whisper model under the names that ggml files use, taken from other formats.

Those names are OpenAI's own: ``encoder.blocks.0.attn.query.weight``. CTranslate2 keeps the projections of attention
in one matrix, which is taken apart; Hugging Face only names things otherwise.
"""

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tympan.engine.ggml.container import Sizes, Tensor
from tympan.engine.onnx.dimensions import Dimensions, supported
from tympan.engine.onnx.weights import Weights
from tympan.errors import ModelError

_QUERY, _KEY, _VALUE = "query", "key", "value"


def ctranslate2_sizes(weights: Weights) -> Sizes:
    """Return the dimensions of a converted model. Raises ``ModelError`` for one that is not built like Whisper."""
    if not supported(weights):
        raise ModelError("The model is not built like Whisper, so ggml cannot hold it.")
    audio, text = Dimensions.of(weights, "encoder"), Dimensions.of(weights, "decoder")
    return Sizes(
        vocabulary=weights.raw("decoder/embeddings/weight").shape[0],
        audio_positions=weights.raw("encoder/position_encodings/encodings").shape[0],
        audio_width=audio.width,
        audio_heads=audio.heads,
        audio_layers=audio.layers,
        text_positions=weights.raw("decoder/position_encodings/encodings").shape[0],
        text_width=text.width,
        text_heads=text.heads,
        text_layers=text.layers,
        mels=weights.raw("encoder/conv1/weight").shape[1],
    )


def ctranslate2_tensors(weights: Weights) -> Iterator[Tensor]:
    """Yield every tensor of a converted model."""
    yield "encoder.positional_embedding", weights.floats("encoder/position_encodings/encodings")
    for number in (1, 2):
        yield f"encoder.conv{number}.weight", weights.floats(f"encoder/conv{number}/weight")
        yield f"encoder.conv{number}.bias", weights.floats(f"encoder/conv{number}/bias")[:, None]
    yield from _norm(weights, "encoder/layer_norm", "encoder.ln_post")
    yield "decoder.token_embedding.weight", weights.floats("decoder/embeddings/weight")
    yield "decoder.positional_embedding", weights.floats("decoder/position_encodings/encodings")
    yield from _norm(weights, "decoder/layer_norm", "decoder.ln")
    for part in ("encoder", "decoder"):
        for layer in range(Dimensions.of(weights, part).layers):
            yield from _block(weights, f"{part}/layer_{layer}", f"{part}.blocks.{layer}")


def _block(weights: Weights, source: str, name: str) -> Iterator[Tensor]:
    yield from _norm(weights, f"{source}/self_attention/layer_norm", f"{name}.attn_ln")
    yield from _divided(weights, f"{source}/self_attention/linear_0", f"{name}.attn", (_QUERY, _KEY, _VALUE))
    yield from _linear(weights, f"{source}/self_attention/linear_1", f"{name}.attn.out")
    if source.startswith("decoder"):
        yield from _norm(weights, f"{source}/attention/layer_norm", f"{name}.cross_attn_ln")
        yield from _linear(weights, f"{source}/attention/linear_0", f"{name}.cross_attn.query")
        yield from _divided(weights, f"{source}/attention/linear_1", f"{name}.cross_attn", (_KEY, _VALUE))
        yield from _linear(weights, f"{source}/attention/linear_2", f"{name}.cross_attn.out")
    yield from _norm(weights, f"{source}/ffn/layer_norm", f"{name}.mlp_ln")
    yield from _linear(weights, f"{source}/ffn/linear_0", f"{name}.mlp.0")
    yield from _linear(weights, f"{source}/ffn/linear_1", f"{name}.mlp.2")


def _norm(weights: Weights, source: str, name: str) -> Iterator[Tensor]:
    yield f"{name}.weight", weights.floats(f"{source}/gamma")
    yield f"{name}.bias", weights.floats(f"{source}/beta")


def _linear(weights: Weights, source: str, name: str) -> Iterator[Tensor]:
    yield f"{name}.weight", weights.floats(f"{source}/weight")
    yield f"{name}.bias", weights.floats(f"{source}/bias")


def _divided(weights: Weights, source: str, name: str, parts: tuple[str, ...]) -> Iterator[Tensor]:
    """Yield the projections that one matrix holds; keys have no bias in Whisper."""
    matrices = np.split(weights.floats(f"{source}/weight"), len(parts))
    biases = np.split(weights.floats(f"{source}/bias"), len(parts))
    for part, matrix, bias in zip(parts, matrices, biases, strict=True):
        yield f"{name}.{part}.weight", matrix
        if part != _KEY:
            yield f"{name}.{part}.bias", bias


_RENAMED: Final = (
    ("model.", ""),
    ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens", "token_embedding"),
    ("layers.", "blocks."),
    ("self_attn_layer_norm", "attn_ln"),
    ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("final_layer_norm", "mlp_ln"),
    ("encoder.layer_norm", "encoder.ln_post"),
    ("decoder.layer_norm", "decoder.ln"),
    ("encoder_attn", "cross_attn"),
    ("self_attn", "attn"),
    ("q_proj", "query"),
    ("k_proj", "key"),
    ("v_proj", "value"),
    ("out_proj", "out"),
    ("fc1", "mlp.0"),
    ("fc2", "mlp.2"),
)
_TYPES: Final[dict[str, np.dtype[Any]]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2")}
_MAX_INDEX_BYTES = 100_000_000


def hub_sizes(config: Mapping[str, Any]) -> Sizes:
    """Return the dimensions in a Hugging Face ``config.json``. Raises ``ModelError`` when it is not of a Whisper."""
    if config.get("model_type") != "whisper":
        raise ModelError(f"The model is of the type {config.get('model_type')!r}; only Whisper goes into ggml.")
    return Sizes(
        vocabulary=config["vocab_size"],
        audio_positions=config["max_source_positions"],
        audio_width=config["d_model"],
        audio_heads=config["encoder_attention_heads"],
        audio_layers=config["encoder_layers"],
        text_positions=config["max_target_positions"],
        text_width=config["d_model"],
        text_heads=config["decoder_attention_heads"],
        text_layers=config["decoder_layers"],
        mels=config["num_mel_bins"],
    )


def hub_tensors(folder: Path) -> Iterator[Tensor]:
    """Yield every tensor in the ``model*.safetensors`` of a Hugging Face model. Raises ``ModelError`` when damaged."""
    for path in sorted(folder.glob("model*.safetensors")):
        try:
            for name, array in _safetensors(path):
                if name != "proj_out.weight":  # The token embedding once more.
                    yield _renamed(name), array[:, None] if name.endswith(("conv1.bias", "conv2.bias")) else array
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path.name} cannot be read: {error}.", remedy="Fetch it again.") from error


def _renamed(name: str) -> str:
    for old, new in _RENAMED:
        name = name.replace(old, new)
    return name


def _safetensors(path: Path) -> Iterator[Tensor]:
    """Yield what a file of the safetensors format holds: the length of an index, the index in JSON, the numbers."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        length = int.from_bytes(data[:8], "little")
        if length > _MAX_INDEX_BYTES:
            raise ValueError(f"its index claims {length} bytes")
        for name, about in json.loads(data[8 : 8 + length]).items():
            if name != "__metadata__":
                begin, end = (8 + length + offset for offset in about["data_offsets"])
                flat = np.frombuffer(data[begin:end], _TYPES[about["dtype"]]).reshape(about["shape"])
                yield name, _widened(flat) if about["dtype"] == "BF16" else flat


def _widened(bfloat16: NDArray[Any]) -> NDArray[np.float32]:
    """Return bfloat16 numbers, which are the upper halves of float32 ones."""
    return (bfloat16.astype(np.uint32) << 16).view(np.float32)
