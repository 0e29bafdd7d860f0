"""Which format lies in a folder."""

from pathlib import Path

import pytest

from tympan.engine.layouts import CTRANSLATE2, GGML, look

WHOLE = ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt")


def folder(path: Path, *names: str) -> Path:
    """Write empty files."""
    for name in names:
        (path / name).touch()
    return path


def test_a_whole_model_is_recognised(tmp_path: Path) -> None:
    """Its format lacks nothing, and the weights are found; what else lies there does not matter."""
    found = look(folder(tmp_path, *WHOLE, "README.md"))
    assert (found.layout, found.missing, found.weights) == (CTRANSLATE2, (), tmp_path / "model.bin")


def test_whole_wins_over_half(tmp_path: Path) -> None:
    """Files of another format beside a model do not hide it."""
    found = look(folder(tmp_path, "ggml-base.bin", *WHOLE[1:]))
    assert (found.layout, found.missing, found.weights) == (GGML, (), tmp_path / "ggml-base.bin")


@pytest.mark.parametrize("missing", WHOLE)
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    """A folder that is nearly a model says what it lacks of the format it is nearest to."""
    found = look(folder(tmp_path, *(name for name in WHOLE if name != missing)))
    assert found.layout is CTRANSLATE2
    assert len(found.missing) == 1
    assert found.missing[0].partition(".")[0] == missing.partition(".")[0]


def test_two_weights_leave_open_which_is_meant(tmp_path: Path) -> None:
    """Neither is taken."""
    found = look(folder(tmp_path, "ggml-base.bin", "ggml-base-q5_0.bin"))
    assert found.layout is GGML
    assert found.missing == ("ggml-*.bin that is the only one",)


def test_nothing_is_no_model(tmp_path: Path) -> None:
    """An empty folder, and one that is not there, lack every part; a folder is no file."""
    (tmp_path / "ggml-base.bin").mkdir()
    for place in (tmp_path, tmp_path / "nowhere"):
        assert look(place).missing
        assert look(place).weights is None
