"""Models turned into ggml files, compared with what they were made of; and files that are not whole."""

import io
import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import tiny_whisper
from tympan.engine import layouts, models
from tympan.engine.ggml import blocks, check, container, export
from tympan.engine.models import Access, ResolvedModel
from tympan.engine.onnx.weights import Weights
from tympan.engine.store import ModelStore
from tympan.errors import InvalidRequest, ModelDigestMismatch, ModelError, ModelUnavailable

Variables = Mapping[str, NDArray[Any]]
F16 = blocks.FORMATS["f16"]
WORDS = {"!": 0, "a": 1, "\u0120a": 2, "\u010a": 3, "<|endoftext|>": 4}
HEADS = [[0, 1], [1, 0]]


def ctranslate2_folder(path: Path, variables: Variables) -> Path:
    """Write a model as CTranslate2's converter lays it out."""
    path.mkdir()
    tiny_whisper.write(path, variables)
    (path / "config.json").write_text(json.dumps({"alignment_heads": HEADS}))
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": WORDS}}))
    (path / "vocabulary.json").touch()
    return path


def hub_folder(path: Path, variables: Variables, dtype: str = "F16") -> Path:
    """Write the same model as Hugging Face lays it out."""
    path.mkdir()
    (path / "config.json").write_text(json.dumps(HUB_CONFIG))
    (path / "generation_config.json").write_text(json.dumps({"alignment_heads": HEADS}))
    (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": WORDS}}))
    tensors = dict(hub_tensors(variables))
    index: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, array in tensors.items():
        raw = stored(array, dtype)
        index[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    head = json.dumps(index).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data)
    return path


HUB_CONFIG = {
    "model_type": "whisper",
    "vocab_size": tiny_whisper.TOKENS,
    "max_source_positions": tiny_whisper.POSITIONS,
    "max_target_positions": tiny_whisper.DECODER_POSITIONS,
    "d_model": tiny_whisper.WIDTH,
    "num_mel_bins": tiny_whisper.BANDS,
    **{f"{part}_attention_heads": tiny_whisper.HEADS for part in ("encoder", "decoder")},
    **{f"{part}_layers": tiny_whisper.LAYERS for part in ("encoder", "decoder")},
}


def stored(array: NDArray[Any], dtype: str) -> bytes:
    """Return numbers as safetensors keep them."""
    if dtype == "BF16":
        return (array.astype(np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return array.astype("<f2" if dtype == "F16" else "<f4").tobytes()


def hub_tensors(variables: Variables) -> list[tuple[str, NDArray[Any]]]:
    """Return the variables under Hugging Face's names."""
    found = [("proj_out.weight", variables["decoder/embeddings/weight"])]
    for part in ("encoder", "decoder"):
        here = f"model.{part}"
        found.append((f"{here}.embed_positions.weight", variables[f"{part}/position_encodings/encodings"]))
        found += norm(f"{here}.layer_norm", variables, f"{part}/layer_norm")
        for layer in range(tiny_whisper.LAYERS):
            found += hub_block(f"{here}.layers.{layer}", variables, f"{part}/layer_{layer}")
    found.append(("model.decoder.embed_tokens.weight", variables["decoder/embeddings/weight"]))
    for number in (1, 2):
        for kind in ("weight", "bias"):
            found.append((f"model.encoder.conv{number}.{kind}", variables[f"encoder/conv{number}/{kind}"]))
    return found


def norm(name: str, variables: Variables, source: str) -> list[tuple[str, NDArray[Any]]]:
    """Return a layer norm."""
    return [(f"{name}.weight", variables[f"{source}/gamma"]), (f"{name}.bias", variables[f"{source}/beta"])]


def linear(name: str, variables: Variables, source: str, part: slice = slice(None)) -> list[tuple[str, NDArray[Any]]]:
    """Return rows of a projection; keys have no bias."""
    weight = [(f"{name}.weight", variables[f"{source}/weight"][part])]
    return weight if "k_proj" in name else [*weight, (f"{name}.bias", variables[f"{source}/bias"][part])]


def hub_block(name: str, variables: Variables, source: str) -> list[tuple[str, NDArray[Any]]]:
    """Return one layer, its projections apart."""
    width = tiny_whisper.WIDTH
    rows = [slice(n * width, (n + 1) * width) for n in range(3)]
    own, fused = f"{name}.self_attn", f"{source}/self_attention/linear_0"
    found = norm(f"{name}.self_attn_layer_norm", variables, f"{source}/self_attention/layer_norm")
    for which, part in zip("qkv", rows, strict=True):
        found += linear(f"{own}.{which}_proj", variables, fused, part)
    found += linear(f"{own}.out_proj", variables, f"{source}/self_attention/linear_1")
    if "decoder" in source:
        cross = f"{name}.encoder_attn"
        found += norm(f"{cross}_layer_norm", variables, f"{source}/attention/layer_norm")
        found += linear(f"{cross}.q_proj", variables, f"{source}/attention/linear_0")
        found += linear(f"{cross}.k_proj", variables, f"{source}/attention/linear_1", rows[0])
        found += linear(f"{cross}.v_proj", variables, f"{source}/attention/linear_1", rows[1])
        found += linear(f"{cross}.out_proj", variables, f"{source}/attention/linear_2")
    found += norm(f"{name}.final_layer_norm", variables, f"{source}/ffn/layer_norm")
    found += linear(f"{name}.fc1", variables, f"{source}/ffn/linear_0")
    return found + linear(f"{name}.fc2", variables, f"{source}/ffn/linear_1")


def written(folder: Path, form: blocks.NumberFormat = F16) -> tuple[container.Header, dict[str, tuple[int, bytes]]]:
    """Return the header and the tensors (type and bytes by name) of the file made of a folder."""
    file = io.BytesIO()
    with export.opened(folder) as (contents, _):
        container.write(file, contents, form)
    file.seek(0)
    header = container.read_start(file)
    tensors = {}
    while head := file.read(12):
        dimensions, length, kind = struct.unpack("<3i", head)
        shape = struct.unpack(f"<{dimensions}i", file.read(4 * dimensions))
        name = file.read(length).decode()
        tensors[name] = kind, file.read(check._n_bytes(shape, kind))
    return header, tensors


def without_key_bias(variables: Variables) -> dict[str, NDArray[Any]]:
    """Return variables as a conversion has them: the bias of keys is nothing."""
    width, found = tiny_whisper.WIDTH, dict(variables)
    for name, array in variables.items():
        if name.endswith("self_attention/linear_0/bias"):
            found[name] = np.concatenate([array[:width], np.zeros(width, array.dtype), array[2 * width :]])
        elif name.endswith("/attention/linear_1/bias"):
            found[name] = np.concatenate([np.zeros(width, array.dtype), array[width:]])
    return found


@pytest.fixture
def variables() -> dict[str, NDArray[Any]]:
    """Return a model of random weights."""
    return without_key_bias(tiny_whisper.variables())


def test_both_sources_give_the_same_file(tmp_path: Path, variables: Variables) -> None:
    """Header, words and every tensor, although one keeps projections together and names everything otherwise."""
    ours = written(ctranslate2_folder(tmp_path / "a", variables))
    assert ours == written(hub_folder(tmp_path / "b", variables))
    assert ours[0].words == (b"!", b"a", b" a", b"\n")
    assert ours[0].sizes == container.Sizes(40, 200, 32, 2, 2, 64, 32, 2, 2, 8)


def test_the_tensors_are_those_that_the_library_expects(tmp_path: Path, variables: Variables) -> None:
    """By name and size, vectors and positions in float32, convolutions in float16, matrices as asked."""
    header, tensors = written(ctranslate2_folder(tmp_path / "a", variables), blocks.FORMATS["q5_0"])
    wanted = check.expected(header.sizes)
    assert tensors.keys() == wanted.keys()
    assert all(len(tensors[name][1]) == check._n_bytes(shape[::-1], tensors[name][0]) for name, shape in wanted.items())
    kinds = {name: kind for name, (kind, _) in tensors.items()}
    assert kinds["encoder.blocks.0.mlp.0.weight"] == kinds["decoder.token_embedding.weight"] == 6
    assert kinds["encoder.positional_embedding"] == kinds["encoder.conv1.bias"] == kinds["decoder.ln.weight"] == 0
    assert kinds["encoder.conv2.weight"] == 1
    assert header.file_type == blocks.FORMATS["q5_0"].file_type


def test_weights_in_int8_are_multiplied_out(tmp_path: Path, variables: dict[str, NDArray[Any]]) -> None:
    """A quantised conversion gives nearly what the plain one gives."""
    names = ["decoder/embeddings/weight", "encoder/layer_0/self_attention/linear_0/weight"]
    rounded = written(ctranslate2_folder(tmp_path / "a", tiny_whisper.as_int8(variables, names)))[1]
    plain = written(ctranslate2_folder(tmp_path / "b", variables))[1]
    for name, (kind, data) in plain.items():
        dtype = "<f2" if kind else "<f4"
        found, wanted = (np.frombuffer(each, dtype).astype(np.float32) for each in (rounded[name][1], data))
        assert np.abs(found - wanted).max() <= np.abs(wanted).max() / 100


@pytest.mark.parametrize(("dtype", "bits"), [("F32", 10), ("BF16", 7)])
def test_other_number_formats_of_the_hub_are_read(tmp_path: Path, variables: Variables, dtype: str, bits: int) -> None:
    """float32 to the bit; bfloat16 as far as its eight bits go."""
    found = written(hub_folder(tmp_path / "a", variables, dtype))[1]["encoder.blocks.0.attn.query.weight"][1]
    wanted = written(hub_folder(tmp_path / "b", variables))[1]["encoder.blocks.0.attn.query.weight"][1]
    ours, theirs = (np.frombuffer(each, "<f2").astype(np.float32) for each in (found, wanted))
    assert np.all(np.abs(ours - theirs) <= np.abs(theirs) * 2.0**-bits)


def test_an_export_is_installed_with_its_digests(tmp_path: Path, variables: Variables) -> None:
    """It can be named at once, is replaced by another, and is refused when a byte of it changes."""
    source = ResolvedModel("mine", ctranslate2_folder(tmp_path / "a", variables), "abc", "local folder")
    store = ModelStore(models.models_dir(tmp_path))
    for _ in range(2):
        made = export.export(source, store, "q8_0")
    assert made.name == "mine-ggml-q8_0"
    found = models.resolve(made.name, tmp_path)
    assert (found.path, found.revision) == (made.path, "abc-q8_0")
    assert json.loads((made.path / export.ABOUT).read_text())["alignment_heads"] == HEADS
    weights = layouts.look(made.path).weights
    assert weights is not None
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(ModelDigestMismatch):
        models.resolve(made.name, tmp_path)


def test_what_can_be_exported_is_found(tmp_path: Path, variables: Variables) -> None:
    """Folders of both kinds by path; a ggml model is none of them."""
    access = Access(offline=True)
    hub = hub_folder(tmp_path / "hub", variables)
    assert export.located(str(hub), tmp_path, access).path == hub
    own = ctranslate2_folder(tmp_path / "own", variables)
    assert export.located(str(own), tmp_path, access).name == "own"
    (tmp_path / "ggml").mkdir()
    (tmp_path / "ggml" / "ggml-base.bin").touch()
    found = export.located(str(tmp_path / "ggml"), tmp_path, access)
    with pytest.raises(ModelUnavailable, match="neither"):
        export.export(found, ModelStore(tmp_path / "models"))


def test_an_unknown_number_format_is_refused(tmp_path: Path) -> None:
    """Before anything is read."""
    with pytest.raises(InvalidRequest, match="q3_x") as caught:
        export.export(ResolvedModel("a", tmp_path, "", ""), ModelStore(tmp_path), "q3_x")
    assert caught.value.param == "quantize"


@pytest.mark.parametrize("damage", ["type", "index", "length", "tokenizer", "config", "built"])
def test_damaged_sources_are_refused(tmp_path: Path, variables: dict[str, NDArray[Any]], damage: str) -> None:
    """Each with a typed error, whatever part is wrong."""
    if damage == "built":
        folder = ctranslate2_folder(tmp_path / "a", variables | {"decoder/alibi": np.array(1, np.int8)})
    else:
        folder = hub_folder(tmp_path / "a", variables)
    weights = folder / "model.safetensors"
    if damage == "type":
        (folder / "config.json").write_text('{"model_type": "bert"}')
    elif damage == "config":
        (folder / "config.json").write_text("{")
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text('{"model": {"vocab": {"\u4e2d": 0}}}')
    elif damage == "index":
        weights.write_bytes(weights.read_bytes().replace(b'"F16"', b'"F99"'))
    elif damage == "length":
        weights.write_bytes(struct.pack("<Q", 1 << 40) + weights.read_bytes()[8:])
    with pytest.raises(ModelError):
        written(folder)


# --------------------------------------------------------------------------------------------------------- whole or not


@pytest.fixture
def whole(tmp_path: Path, variables: Variables, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a whole file of a tiny model, and let models be as small as that."""
    monkeypatch.setattr(check, "ENGLISH_TOKENS", tiny_whisper.TOKENS)
    monkeypatch.setattr(check, "_AUDIO_POSITIONS", tiny_whisper.POSITIONS)
    monkeypatch.setattr(check, "_TEXT_POSITIONS", tiny_whisper.DECODER_POSITIONS)
    path = tmp_path / "ggml-tiny.bin"
    with export.opened(ctranslate2_folder(tmp_path / "a", variables)) as (contents, _), path.open("wb") as file:
        container.write(file, contents, F16)
    return path


def test_a_whole_file_passes(whole: Path) -> None:
    """And its header is what comes back."""
    assert check.checked(whole).sizes.mels == tiny_whisper.BANDS


def test_R5_a_file_cut_anywhere_is_refused(whole: Path) -> None:
    """In the header, the filters, the words or a tensor, by one byte or by all."""
    data = whole.read_bytes()
    cuts = np.random.default_rng(1).integers(0, len(data), 60).tolist()
    for cut in [0, 3, 47, 51, len(data) - 1, *cuts]:
        whole.write_bytes(data[:cut])
        with pytest.raises(ModelError, match="ggml-tiny"):
            check.checked(whole)


def test_R5_noise_in_the_structure_is_refused_or_harmless(whole: Path) -> None:
    """Whatever byte of the header, the words or a tensor's head changes: a typed error, or a file of the same shape."""
    data = whole.read_bytes()
    wanted = check.expected(check.checked(whole).sizes)
    draw = np.random.default_rng(2)
    for _ in range(200):
        place = int(draw.integers(0, draw.choice([48, 300, len(data)])))
        whole.write_bytes(data[:place] + draw.bytes(1) + data[place + 1 :])
        try:
            sizes = check.checked(whole).sizes
        except ModelError:
            continue
        assert check.expected(sizes) == wanted


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocabulary": 39}, "39 tokens"),
        ({"audio_positions": 100}, "positions"),
        ({"text_layers": 1}, "no Whisper has"),
        ({"text_layers": 3}, "it has no"),
        ({"text_width": 64}, "fit together"),
        ({"audio_heads": 3}, "fit together"),
        ({"audio_layers": 0}, "cannot be"),
        ({"mels": 9}, "contradict"),
    ],
)
def test_a_header_that_does_not_fit_the_tensors_is_refused(whole: Path, change: dict[str, int], message: str) -> None:
    """The error says what is wrong."""
    header = container.read_header(whole)
    sizes = replace(header.sizes, **change)
    numbers = [getattr(sizes, name) for name in sizes.__slots__]
    data = whole.read_bytes()
    whole.write_bytes(data[:4] + struct.pack("<10i", *numbers) + data[44:])
    with pytest.raises(ModelError, match=message):
        check.checked(whole)


def test_weights_give_their_file_back(tmp_path: Path, variables: Variables) -> None:
    """The source is only read: nothing of it changes."""
    folder = ctranslate2_folder(tmp_path / "a", variables)
    before = (folder / "model.bin").read_bytes()
    written(folder)
    assert (folder / "model.bin").read_bytes() == before
    assert Weights(folder / "model.bin").number("decoder/num_heads") == tiny_whisper.HEADS
