"""Reading a converted model: number formats, damage, sizes, and which models the graphs describe."""

import struct
from pathlib import Path

import numpy as np
import pytest

from tests import tiny_whisper
from tympan.engine import factory
from tympan.engine.onnx.decoder_graph import vocabulary_size
from tympan.engine.onnx.dimensions import Dimensions, supported
from tympan.engine.onnx.encoder_graph import mel_bands
from tympan.engine.onnx.weights import Weights
from tympan.errors import ConfigError, ModelError

MATRIX = np.array([[0.5, -2.0, 1.0], [4.0, 0.25, -1.0]])


def weights_of(folder: Path, found: tiny_whisper.Variables) -> Weights:
    """Write variables and read them again."""
    return Weights(tiny_whisper.write(folder, found))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_real_numbers_are_read_as_they_are(tmp_path: Path, kind: type[np.floating]) -> None:
    """Half and single precision come out as float32 of the same values; ``raw`` keeps the stored type."""
    stored = MATRIX.astype(kind)
    weights = weights_of(tmp_path, {"a": stored, "b/c": stored.T.copy()})
    assert "a" in weights
    assert "b/c" in weights
    assert "b" not in weights
    assert weights.raw("a").dtype == kind
    assert weights.real("a").dtype == np.float32
    assert np.array_equal(weights.raw("a"), stored)
    assert np.array_equal(weights.real("b/c"), stored.T.astype(np.float32))


def test_int8_is_multiplied_out_row_by_row(tmp_path: Path) -> None:
    """A stored scale says how many steps make one; each row has its own."""
    stored = np.array([[127, -64, 1], [10, 0, -127]], np.int8)
    weights = weights_of(tmp_path, {"a": stored, "a_scale": np.array([12.7, 127.0], np.float32)})
    assert weights.real("a") == pytest.approx(np.array([[10, -64 / 12.7, 1 / 12.7], [10 / 127, 0, -1]]), rel=1e-6)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.int8])
def test_rows_are_those_of_the_matrix(tmp_path: Path, kind: type[np.generic]) -> None:
    """By number, in the order asked for, more than once, and also when the file has got another name."""
    stored = np.arange(-30, 30).reshape(12, 5).astype(kind)
    scale = np.linspace(1, 3, 12).astype(np.float32)
    weights = weights_of(tmp_path, {"before": MATRIX.astype(np.float32), "a": stored, "a_scale": scale})
    (tmp_path / "model.bin").rename(tmp_path / "moved.bin")
    found = weights.rows("a", [[3, 0, 11], [3, 3, 7]])
    assert found.dtype == np.float32
    assert np.array_equal(found, weights.real("a")[[[3, 0, 11], [3, 3, 7]]])


def test_int8_convolutions_and_single_scales_are_multiplied_out(tmp_path: Path) -> None:
    """The scale counts along the first axis, whatever the shape; a scale without an axis counts for everything."""
    stored = np.arange(-6, 6, dtype=np.int8).reshape(2, 3, 2)
    scales = {"a_scale": np.array([2.0, 4.0], np.float32), "b_scale": np.array(8.0, np.float32)}
    weights = weights_of(tmp_path, {"a": stored, "b": stored, **scales})
    assert weights.real("a") == pytest.approx(np.stack([stored[0] / 2, stored[1] / 4]))
    assert weights.real("b") == pytest.approx(stored / 8)


def test_numbers_of_the_description_are_whole(tmp_path: Path) -> None:
    """Such as the number of heads, stored without dimensions."""
    weights = weights_of(tmp_path, {"heads": np.array(6, np.int16), "flag": np.array(-1, np.int8)})
    assert (weights.number("heads"), weights.number("flag")) == (6, -1)


@pytest.mark.parametrize("version", [0, 4, 5, 7, 1 << 30])
def test_another_version_of_the_format_is_refused(tmp_path: Path, version: int) -> None:
    """What cannot be read is said, with the way to mend it."""
    path = tmp_path / "model.bin"
    path.write_bytes(tiny_whisper.packed({"a": MATRIX.astype(np.float32)}, version))
    with pytest.raises(ModelError, match=rf"model\.bin .* version {version}\b") as caught:
        Weights(path)
    assert "tympan models pull" in (caught.value.remedy or "")
    assert isinstance(caught.value.__cause__, ValueError)


def test_the_version_of_todays_converters_is_read(tmp_path: Path) -> None:
    """The one whose layout is known."""
    path = tmp_path / "model.bin"
    path.write_bytes(tiny_whisper.packed({"a": MATRIX.astype(np.float32)}, 6))
    assert np.array_equal(Weights(path).real("a"), MATRIX)


def test_a_file_cut_short_anywhere_is_refused(tmp_path: Path) -> None:
    """From no byte at all to the last of the weights, every length that is too short is noticed when it is read."""
    whole = tiny_whisper.packed({"abc": MATRIX.astype(np.float32), "d": np.array(3, np.int16)})
    aliases = struct.calcsize("<I")
    path = tmp_path / "model.bin"
    for length in range(len(whole) - aliases):
        path.write_bytes(whole[:length])
        with pytest.raises(ModelError, match=r"model\.bin cannot be read") as caught:
            Weights(path)
        assert "tympan models pull" in (caught.value.remedy or "")
    path.write_bytes(whole)
    assert Weights(path).number("d") == 3


@pytest.mark.parametrize(
    "damage",
    [b"\xff" * 200, b"<!DOCTYPE html><html><body>Not found</body></html>", b"version https://git-lfs.github.com"],
    ids=["garbage", "web page", "pointer"],
)
def test_another_file_in_its_place_is_refused(tmp_path: Path, damage: bytes) -> None:
    """A web page or a pointer file under the model's name is no model."""
    path = tmp_path / "model.bin"
    path.write_bytes(damage)
    with pytest.raises(ModelError, match="cannot be read"):
        Weights(path)


def test_a_type_without_meaning_is_refused(tmp_path: Path) -> None:
    """An unknown number format names itself by its number."""
    whole = tiny_whisper.packed({"a": np.array([1.0], np.float32)})
    at = whole.index(struct.pack("<BIB", 1, 1, 0)) + 5
    path = tmp_path / "model.bin"
    path.write_bytes(whole[:at] + b"\x09" + whole[at + 1 :])
    with pytest.raises(ModelError, match="9"):
        Weights(path)


def test_a_shape_that_does_not_fit_its_bytes_is_refused(tmp_path: Path) -> None:
    """Six numbers cannot be two by four."""
    whole = tiny_whisper.packed({"a": MATRIX.astype(np.float32)})
    path = tmp_path / "model.bin"
    path.write_bytes(whole.replace(struct.pack("<BII", 2, 2, 3), struct.pack("<BII", 2, 2, 4)))
    with pytest.raises(ModelError, match="reshape"):
        Weights(path)


# ------------------------------------------------------------------------------------------- what the model is like


def test_sizes_are_read_off_the_weights(tmp_path: Path) -> None:
    """Layers, heads, width, mel bands and tokens need no further description."""
    found = tiny_whisper.variables()
    del found["encoder/layer_1/ffn/linear_0/weight"]
    weights = weights_of(tmp_path, found)
    assert Dimensions.of(weights, "decoder") == Dimensions(layers=2, heads=2, width=32)
    assert Dimensions.of(weights, "encoder") == Dimensions(layers=1, heads=2, width=32)
    assert Dimensions.of(weights, "decoder").head_width == 16
    assert (mel_bands(weights), vocabulary_size(weights)) == (8, 40)


def test_an_own_projection_decides_the_number_of_tokens(tmp_path: Path) -> None:
    """Where it is not shared with the embeddings."""
    found = tiny_whisper.variables()
    found["decoder/projection/weight"] = np.zeros((41, 32), np.float16)
    assert vocabulary_size(weights_of(tmp_path, found)) == 41


@pytest.mark.parametrize(
    ("name", "value"),
    [("pre_norm", 0), ("activation", 0), ("alibi", 1), ("scale_embeddings", 1), ("pre_norm", None), ("alibi", None)],
)
def test_models_built_otherwise_are_left_to_ctranslate2(tmp_path: Path, name: str, value: int | None) -> None:
    """One property that differs or is missing, and the graphs do not apply."""
    found = tiny_whisper.variables()
    assert supported(weights_of(tmp_path, found))
    assert factory.kind_for("auto", "cpu", "int8", tmp_path) == "onnx"
    if value is None:
        del found[f"decoder/{name}"]
    else:
        found[f"decoder/{name}"] = np.array(value, np.int8)
    assert not supported(weights_of(tmp_path, found))
    assert factory.kind_for("auto", "cpu", "int8", tmp_path) == "ct2"


@pytest.mark.parametrize(
    ("device", "compute_type"), [("cuda", "int8"), ("cpu", "float32"), ("cpu", "int8_float16"), ("cuda", "float16")]
)
def test_other_devices_and_number_formats_are_ctranslate2s(tmp_path: Path, device: str, compute_type: str) -> None:
    """The graphs are int8 on processors; for anything else the model is not even looked at."""
    assert factory.kind_for("auto", device, compute_type, tmp_path / "nowhere") == "ct2"


@pytest.mark.parametrize(("device", "compute_type"), [("cuda", "int8"), ("cpu", "float32")])
def test_what_the_engine_cannot_serve_is_refused_when_asked_for(tmp_path: Path, device: str, compute_type: str) -> None:
    """Serving another format on another device without a word would be worse than not starting."""
    with pytest.raises(ConfigError, match=f"not {compute_type} on {device}") as caught:
        factory.kind_for("onnx", device, compute_type, tmp_path)
    assert "ENGINE=auto" in (caught.value.remedy or "")
    assert factory.kind_for("onnx", "cpu", "int8", tmp_path) == "onnx"
    assert factory.kind_for("ct2", device, compute_type, tmp_path) == "ct2"


@pytest.mark.parametrize("asked", ["onnx", "ct2"])
def test_an_engine_that_does_not_read_the_model_is_refused(tmp_path: Path, asked: str) -> None:
    """The files decide; an engine asked for by name has to be one that reads them, and the error names those."""
    (tmp_path / "ggml-base.bin").write_bytes(b"lmgg")
    assert factory.kind_for("auto", "cpu", "int8", tmp_path) == "whispercpp"
    assert factory.kind_for("whispercpp", "cuda", "float16", tmp_path) == "whispercpp"
    with pytest.raises(ConfigError, match=f"{asked} does not read ggml") as caught:
        factory.kind_for(asked, "cpu", "int8", tmp_path)
    assert "whispercpp" in (caught.value.remedy or "")


@pytest.mark.parametrize("device", ["metal", "vulkan"])
def test_only_ggml_models_run_on_other_gpus(tmp_path: Path, device: str) -> None:
    """The error says how to make one."""
    tiny_whisper.write(tmp_path, tiny_whisper.variables())
    with pytest.raises(ConfigError, match=f"ggml models run on {device}") as caught:
        factory.kind_for("auto", device, "auto", tmp_path)
    assert "models export" in (caught.value.remedy or "")
    (tmp_path / "model.bin").unlink()
    (tmp_path / "ggml-base.bin").touch()
    assert factory.kind_for("auto", device, "auto", tmp_path) == "whispercpp"


def test_a_model_in_another_format_is_left_to_ctranslate2(tmp_path: Path) -> None:
    """It may know formats that the graphs do not; if it does not either, it says what is wrong."""
    (tmp_path / "model.bin").write_bytes(tiny_whisper.packed(tiny_whisper.variables())[:-2000])
    assert factory.kind_for("auto", "cpu", "int8", tmp_path) == "ct2"
