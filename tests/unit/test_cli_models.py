"""``tympan models`` on a folder of models made up for the test."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tympan.cli import app
from tympan.cli.console import exit_code_for, stderr, stdout
from tympan.engine import models
from tympan.engine.catalogue import DIARIZATION
from tympan.engine.models import ResolvedModel
from tympan.errors import ModelDigestMismatch, TympanError


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty data folder that the settings name."""
    monkeypatch.setenv("TYMPAN_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TYMPAN_OFFLINE", "true")
    stdout.cache_clear()
    stderr.cache_clear()
    return tmp_path


def _models(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "120"})


def _error(result: Result) -> TympanError:
    assert isinstance(result.exception, TympanError)
    return result.exception


def test_the_list_names_every_model_with_status_and_needs() -> None:
    """People see a table: name, whether it is here, size, memory, licence."""
    result = _models("list")
    assert result.exit_code == 0
    assert all(line.entry.name in result.stdout for line in models.listing(Path("/nowhere")))
    assert "trust" in result.stdout
    assert "MIT" in result.stdout
    assert "diarization: no model, but what tells speakers apart by voice; 34 MB, pull." in result.stderr


def test_the_list_as_json_is_complete(data_dir: Path) -> None:
    """Programs get every fact, numbers in bytes."""
    entries = {entry["name"]: entry for entry in json.loads(_models("list", "--json").stdout)}
    base = entries["base"]
    assert (base["status"], base["path"], base["multilingual"]) == ("fetchable", None, True)
    assert base["size_bytes"] > 100_000_000
    assert set(base["memory_bytes"]) == {"int8", "float16", "float32"}
    assert "whisper-1" in base["aliases"]
    assert entries["large-v3"]["status"] == "unpinned"


def test_own_models_are_in_the_list(data_dir: Path) -> None:
    """Folders that the catalogue does not know come last, with their format."""
    (data_dir / "models" / "mine").mkdir(parents=True)
    (data_dir / "models" / "mine" / "ggml-mine.bin").write_bytes(b"lmgg")
    last = json.loads(_models("list", "--json").stdout)[-1]
    assert (last["name"], last["status"], last["format"], last["size_bytes"]) == ("mine", "own", "ggml", 4)
    assert _models("list").stdout.splitlines()[-1].split()[:3] == ["mine", "own", "ggml"]


def test_path_prints_the_folder_and_nothing_else(data_dir: Path) -> None:
    """The output can be used in a script."""
    (data_dir / "models" / "mine").mkdir(parents=True)
    result = _models("path", "mine")
    assert (result.exit_code, result.stdout) == (0, f"{data_dir / 'models' / 'mine'}\n")


@pytest.mark.parametrize(("name", "code"), [("base", "model_unavailable"), ("no-such", "model_not_found")])
def test_a_model_that_is_not_here_has_no_path(name: str, code: str) -> None:
    """A missing model is an error with exit code 3, told apart from an unknown one."""
    error = _error(_models("path", name))
    assert (error.code, exit_code_for(error)) == (code, 3)


def test_data_dir_can_be_given(tmp_path: Path) -> None:
    """``--data-dir`` wins over the setting."""
    (tmp_path / "other" / "models" / "mine").mkdir(parents=True)
    assert _models("path", "mine", "--data-dir", str(tmp_path / "other")).exit_code == 0


def test_verify_goes_on_after_a_wrong_file(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model is looked at, and one that is wrong makes the exit code 1."""

    def verify(name: str, data_dir: Path, report: object) -> ResolvedModel:
        if name == "base":
            raise ModelDigestMismatch("model.bin is not the one.")
        return ResolvedModel(name, data_dir / name, "r", "cache")

    monkeypatch.setattr(models, "verify", verify)
    result = _models("verify", "base", "tiny.en")
    assert result.exit_code == 1
    assert result.stdout == f"FAIL  base\nok    tiny.en  {data_dir / 'tiny.en'}\n"
    assert "error [model_digest_mismatch] base: model.bin is not the one." in result.stderr


def test_verify_does_not_forget_the_networks_for_speakers(data_dir: Path) -> None:
    """What tells speakers apart is read again with the models."""
    folder = data_dir / "models" / "diarization"
    folder.mkdir(parents=True)
    for file in DIARIZATION.files:
        with (folder / file.name).open("wb") as sparse:
            sparse.truncate(file.size_bytes)
    result = _models("verify")
    assert result.exit_code == 1
    assert result.stdout == "FAIL  diarization\n"


def test_verify_without_models_says_so() -> None:
    """Nothing to check is not a success."""
    assert _error(_models("verify")).code == "model_unavailable"


def test_pull_passes_trust_and_force_on(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the person decided reaches the code that fetches; the folder is on stdout."""
    seen: dict[str, object] = {}

    def pull(name: str, data_dir: Path, access: models.Access, report: object, *, force: bool) -> ResolvedModel:
        seen.update(name=name, trust=access.trust_first_use, offline=access.offline, force=force)
        return ResolvedModel(name, data_dir / name, "abc", "hub")

    monkeypatch.setattr(models, "pull", pull)
    result = _models("pull", "small", "--trust-first-use", "--force")
    assert seen == {"name": "small", "trust": True, "offline": True, "force": True}
    assert result.stdout == f"{data_dir / 'small'}\n"
    assert "small is ready (from: hub; revision abc)." in result.stderr
