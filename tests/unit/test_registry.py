"""The models that the settings name: what they are called, how each runs, and how they share memory."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tympan import config
from tympan.api.model_names import ModelCard
from tympan.batching.batcher import Batcher
from tympan.batching.group import BatcherGroup
from tympan.bootstrap import registry
from tympan.bootstrap.registry import ConfiguredModel, configured_models, names
from tympan.config import Settings
from tympan.engine.base import EngineSpec
from tympan.engine.machine import Gpu, Machine
from tympan.engine.model_settings import MAX_ENTRIES, ModelEntry
from tympan.errors import ConfigError, ModelNotFound

LoadSettings = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LoadSettings:
    """Return how settings are loaded, with an empty data folder."""
    monkeypatch.chdir(tmp_path)
    return lambda **values: config.load({"data_dir": tmp_path, **values})


def ids(found: list[ConfiguredModel]) -> list[str]:
    """Return the ids of models, in order."""
    return [model.card.id for model in found]


def test_models_are_named_with_commas_as_json_or_in_the_file(
    load: LoadSettings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each way gives the same."""
    wanted = (ModelEntry("tiny.en"), ModelEntry("small", pinned=True, threads=1))
    monkeypatch.setenv("TYMPAN_MODELS", '["tiny.en", {"name": "small", "pinned": true, "threads": 1}]')
    assert load().models == wanted
    monkeypatch.setenv("TYMPAN_MODELS", " tiny.en, small,")
    assert [entry.name for entry in load().models] == ["tiny.en", "small"]
    monkeypatch.delenv("TYMPAN_MODELS")
    place = tmp_path / "tympan.toml"
    place.write_text('[[models]]\nname = "tiny.en"\n[[models]]\nname = "small"\npinned = true\nthreads = 1\n')
    assert load().models == wanted
    place.write_text('models = ["tiny.en"]')
    assert load().models == (ModelEntry("tiny.en"),)
    assert repr(wanted) == "(tiny.en, small (threads=1, pinned))"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ('[{"name": "b", "pined": true}]', r"MODELS\[0\]\.pined"),
        ('[{"threads": 1}]', r"MODELS\[0\]\.name"),
        ('[{"name": "b", "threads": 0}]', "threads of b must be 1 or more"),
        ('[{"name": "b", "device": "tpu"}]', r"MODELS\[0\]\.device"),
        ('["a"', "Expecting"),
        ('[" "]', "needs a name"),
        ('{"name": "b"}', "MODELS"),
        (",".join(str(n) for n in range(MAX_ENTRIES + 1)), "at most 32"),
    ],
)
def test_mistakes_in_models_are_told_with_their_place(
    load: LoadSettings, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    """A typing mistake must not be a setting that silently means nothing."""
    if value.startswith("{"):
        with pytest.raises(ConfigError, match=said):
            load(models={"name": "b"})
        return
    monkeypatch.setenv("TYMPAN_MODELS", value)
    with pytest.raises(ConfigError, match=said):
        load()


def test_the_default_comes_first_and_every_model_has_its_settings(load: LoadSettings) -> None:
    """What an entry does not say is as for all; knobs of the runtime belong to the model they were set for."""
    entries = [
        {"name": "openai/whisper-tiny.en", "threads": 1, "options": {"splice": "off"}},
        {"name": "base", "pinned": True},
        "small",
    ]
    found = configured_models(load(models=entries, device="cpu", threads=2, engine_options={"replicas": "1"}))
    assert ids(found) == ["base", "tiny.en", "small"]
    base, tiny, small = (model.settings for model in found)
    assert [model.entry.pinned for model in found] == [True, False, False]
    assert (tiny.model, tiny.threads, tiny.device, tiny.engine_options) == (
        "openai/whisper-tiny.en", 1, "cpu", {"splice": "off"},
    )  # fmt: skip
    assert (base.model, base.threads, base.engine_options) == ("base", 2, {"replicas": "1"})
    assert (small.model, small.engine_options) == ("small", {})


def test_folders_are_called_by_their_names(load: LoadSettings, tmp_path: Path) -> None:
    """Wherever they lie; two models of one name are refused."""
    assert ids(configured_models(load(models=[str(tmp_path / "mine"), "./other"]))) == ["base", "mine", "other"]
    with pytest.raises(ConfigError, match="'mine' twice"):
        configured_models(load(models=["/a/mine", "/b/mine"]))


def test_models_in_the_folder_are_served_when_that_is_allowed(load: LoadSettings, tmp_path: Path) -> None:
    """Those that are whole, without being named."""
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    for name in ("model.bin", "config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text("{}")
    (tmp_path / "models" / "half").mkdir()
    assert ids(configured_models(load())) == ["base"]
    assert ids(configured_models(load(models_cached=True))) == ["base", "mine"]


def test_aliases_are_the_operators_to_choose(load: LoadSettings) -> None:
    """They lead to models that are served, and hide none."""
    settings = load(models="tiny.en", model_aliases={"gpt-4o-transcribe": "whisper-tiny.en", "whisper-1": "tiny.en"})
    cards = [each.card for each in configured_models(settings)]
    known = names(settings, cards)
    assert (known["gpt-4o-transcribe"], known["whisper-1"]) == ("tiny.en", "tiny.en")
    assert known["openai/whisper-base"] == "base"
    with pytest.raises(ConfigError, match="'base', which is a model's name"):
        configured_models(load(models="tiny.en", model_aliases={"base": "tiny.en"}))
    unknown = load(model_aliases={"x": "nowhere"})
    with pytest.raises(ModelNotFound, match="nowhere"):
        names(unknown, [ModelCard("base")])


@pytest.mark.parametrize(
    ("asked", "n_gpus", "used"),
    [("auto", 0, [0]), ("auto", 1, [0]), ("auto", 3, [0, 1, 2]), ("1", 2, [1]), ("1,0,1", 2, [1, 0]), ("3", 0, [3])],
)
def test_models_run_on_the_gpus_that_were_named_or_on_all(
    load: LoadSettings, monkeypatch: pytest.MonkeyPatch, asked: str, n_gpus: int, used: list[int]
) -> None:
    """A process for each; where the driver does not say what there is, the first, or what was asked for."""
    machine = Machine(2, 10_000_000_000, gpus=(Gpu("G"),) * n_gpus)
    monkeypatch.setattr(registry, "probe_machine", lambda: machine)
    made = list[EngineSpec]()

    def make(spec: EngineSpec) -> Batcher:
        made.append(spec)
        return Batcher(spec)

    on_gpu = registry._batcher(EngineSpec("fake", "demo", device="cuda"), load(gpus=asked), make)
    assert [spec.device_index for spec in made] == used
    assert isinstance(on_gpu, BatcherGroup) == (len(used) > 1)
    assert isinstance(registry._batcher(EngineSpec("fake", "demo"), load(gpus=asked), make), Batcher)


def test_a_gpu_that_is_not_there_is_refused(load: LoadSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the numbers that there are; a list that is none is refused when settings are read."""
    machine = Machine(2, 10_000_000_000, gpus=(Gpu("G"), Gpu("G")))
    monkeypatch.setattr(registry, "probe_machine", lambda: machine)
    with pytest.raises(ConfigError, match="no GPU 2") as caught:
        registry.gpu_indices(load(gpus="0,2"))
    assert "0 to 1" in (caught.value.remedy or "")
    for wrong in ("", "a", "0,", "0;1", "-1", "9999"):
        with pytest.raises(ConfigError, match="GPUS"):
            load(gpus=wrong)


def test_memory_is_shared_by_device(load: LoadSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """70 % of what is there, or what was said; no limit for a GPU that does not say."""
    machine = Machine(2, 10_000_000_000, gpus=(Gpu("G", 20_000_000_000),))
    monkeypatch.setattr(registry, "probe_machine", lambda: machine)
    assert registry.budget_bytes(load()) == {"cpu": 7_000_000_000, "cuda": 14_000_000_000}
    assert registry.budget_bytes(load(model_memory_mb=500)) == {"cpu": 500_000_000, "cuda": 500_000_000}
    assert registry.budget_bytes(load(model_memory_mb="auto"))["cpu"] == 7_000_000_000
    machine = Machine(2, 10_000_000_000, gpus=(Gpu("G"),))
    assert "cuda" not in registry.budget_bytes(load())
    rules = registry._rules(load(model_dwell_s=3), 2)
    assert (rules["cuda"].budget_bytes, rules["cuda"].dwell_s) == (None, 3.0)
    assert registry._rules(load(), 1) == {}


def test_a_need_is_known_from_the_network_or_from_the_files(tmp_path: Path) -> None:
    """Neither has to be loaded for that."""
    assert 600e6 < registry._estimate_bytes(EngineSpec("onnx", "base", compute_type="int8")) < 1e9
    (tmp_path / "weights").write_bytes(bytes(1000))
    assert registry._estimate_bytes(EngineSpec("x", "mine", path=str(tmp_path))) == 300_002_000
    assert registry._estimate_bytes(EngineSpec("fake", "mine")) == 0


def test_what_an_operator_says_of_a_need_counts(load: LoadSettings) -> None:
    """And a spare is looked for only where there is a GPU to lose."""
    looked: list[tuple[str, str]] = []

    def locate(settings: Settings) -> EngineSpec:
        looked.append((settings.device, settings.compute_type))
        return EngineSpec("ct2", "base", device="cuda" if settings.device == "auto" else settings.device)

    model = configured_models(
        load(models=[{"name": "base", "memory_mb": 7}], gpu_fallback="cpu", compute_type="float16")
    )[0]
    found = registry._plan(model, locate, is_default=True).find()
    assert found.memory_bytes == 7_000_000
    assert found.spare is not None
    assert looked == [("auto", "float16"), ("cpu", "auto")]
    model = configured_models(load(gpu_fallback="wait"))[0]
    assert registry._plan(model, locate, is_default=True).find().spare is None
