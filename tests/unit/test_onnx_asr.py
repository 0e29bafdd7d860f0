"""Models exported to ONNX: found in folders, loaded, and read."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tokenizers

from tests import tiny_exports
from tests.tiny_exports import STEP_S, TIMED, WRITERS, in_order_of_tones, melody, start_s, text
from tympan.domain import DecodeParams, LanguageUse, Samples, Task, Window, WindowResult, WindowTask
from tympan.engine import factory, layouts
from tympan.engine.base import Engine, EngineSpec
from tympan.engine.onnx_asr import moonshine
from tympan.engine.onnx_asr.engine import OnnxAsrEngine
from tympan.engine.onnx_asr.families import find
from tympan.errors import ConfigError, EngineError, ModelError, UnsupportedLanguage

TUNES = ((1, 2, 0, 4), (3, 5, 1, 2, 0), (0, 3, 5))
NETWORKS = pytest.mark.parametrize("network", WRITERS)

Load = Callable[..., Engine]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write every network once."""
    found = {name: tmp_path_factory.mktemp(name) for name in WRITERS}
    for name, write in WRITERS.items():
        write(found[name])
    return found


@pytest.fixture(scope="module")
def load(folders: dict[str, Path]) -> Iterator[Load]:
    """Return what loads a network, closed at the end."""
    loaded: dict[tuple[object, ...], Engine] = {}

    def get(network: str, **options: str) -> Engine:
        if network in TIMED:
            options.setdefault("languages", "en")
        key = (network, *options.items())
        if key not in loaded:
            loaded[key] = engine(folders[network], **options)
        return loaded[key]

    yield get
    for one in loaded.values():
        one.close()


def engine(folder: Path, **options: str) -> Engine:
    """Return the engine that serves the model in ``folder``."""
    kind = factory.kind_for("auto", "cpu", "int8", folder)
    return factory.create(EngineSpec(kind, folder.name, path=str(folder), threads=2, options=tuple(options.items())))


def window(samples: Samples, params: DecodeParams | None = None) -> WindowTask:
    """Return a window to be read with word times."""
    return WindowTask(Window(0, samples, ()), params or DecodeParams(language="en", align=True))


def read(reader: Engine, tones: tuple[int, ...], params: DecodeParams | None = None) -> WindowResult:
    """Return what the engine makes of a melody."""
    (result,) = reader.transcribe([window(melody(tones), params)])
    return result


def expected(network: str, tones: tuple[int, ...]) -> str:
    """Return the text of a melody as that network reads it."""
    return f" {text(tones) if network in TIMED else in_order_of_tones(tones)}"


@NETWORKS
@pytest.mark.parametrize("tones", TUNES)
def test_every_network_is_fed_and_read(load: Load, network: str, tones: tuple[int, ...]) -> None:
    """Features, lengths, decoding and vocabulary together give the text."""
    result = read(load(network), tones)
    assert result.text == expected(network, tones)
    assert result.avg_logprob <= 0.0
    assert result.language == "en"
    assert not result.hit_token_cap
    assert result.is_rated == (network != "whisper")


@pytest.mark.parametrize("network", TIMED)
def test_words_begin_where_they_are_heard(load: Load, network: str) -> None:
    """A word's begin is that of its first tone, to the network's step; it ends after its last tone has begun."""
    result = read(load(network), (1, 2, 0, 4, 3))
    assert [word.text for word in result.words] == [" blue", " red.", " green"]
    for word, first, last in zip(result.words, (0, 2, 4), (1, 3, 4), strict=True):
        assert word.start_s == pytest.approx(start_s(first), abs=STEP_S)
        assert start_s(last) < word.end_s <= start_s(last + 1) + STEP_S
        assert 0.5 < word.probability <= 1.0


@pytest.mark.parametrize("network", sorted(WRITERS.keys() - set(TIMED)))
def test_networks_without_times_say_so(load: Load, network: str) -> None:
    """No word is given times that nobody measured."""
    assert not load(network).info.can.word_times
    assert read(load(network), TUNES[0]).words == ()


@NETWORKS
def test_K6_text_is_the_same_alone_and_in_a_batch(load: Load, network: str) -> None:
    """Windows of different lengths, read one by one, all at once, and the other way round."""
    reader = load(network)
    tasks = [window(melody(tones, tail_s=tail_s)) for tones, tail_s in zip(TUNES, (1.5, 6.0, 3.0), strict=True)]
    alone = [reader.transcribe([task])[0] for task in tasks]
    assert reader.transcribe(tasks) == alone
    assert reader.transcribe(tasks[::-1]) == alone[::-1]


@pytest.mark.parametrize("network", ["nemo_ctc", "nemo_tdt", "gigaam_rnnt", "icefall", "moonshine"])
def test_windows_that_share_a_call_give_the_text_they_give_alone(load: Load, network: str) -> None:
    """The filling after the shorter ones is not heard."""
    together = load(network, batch="8")
    tasks = [window(melody(tones, tail_s=tail_s)) for tones, tail_s in zip(TUNES, (1.5, 6.0, 3.0), strict=True)]
    texts = [result.text for result in together.transcribe(tasks)]
    assert texts == [load(network).transcribe([task])[0].text for task in tasks]


@pytest.mark.parametrize("network", ["canary", "whisper"])
def test_networks_whose_texts_would_mix_never_share_a_call(load: Load, network: str) -> None:
    """Whatever the setting says."""
    reader = load(network, batch="8")
    assert isinstance(reader, OnnxAsrEngine)
    assert reader._groups([window(melody(tones)) for tones in TUNES]) == [[1], [0], [2]]


@NETWORKS
@pytest.mark.parametrize("samples", [0, 1, 1600, 80_000])
def test_silence_gives_no_text(load: Load, network: str, samples: int) -> None:
    """Nothing, next to nothing, and seconds of digital silence, also beside speech."""
    silence = np.full(samples, 3, dtype=np.int16)
    results = load(network).transcribe([window(silence), window(melody(TUNES[0]))])
    assert results[0].text == ""
    assert results[1].text == expected(network, TUNES[0])


@NETWORKS
def test_short_windows_are_read(load: Load, network: str) -> None:
    """A click of ten milliseconds is no reason to fail."""
    assert len(load(network).transcribe([window(melody(())[:160])])) == 1


def test_the_window_may_have_thirty_seconds(load: Load) -> None:
    """As for every engine."""
    for network in ("gigaam_rnnt", "moonshine", "whisper"):
        tones = TUNES[0]
        long = melody(tones, lead_s=27.0)[: 30 * 16_000]
        assert load(network).transcribe([window(long)])[0].text == expected(network, tones)


def test_canary_is_told_both_languages(load: Load) -> None:
    """German text of German speech is in capitals here, and its translation into English is not."""
    german = DecodeParams(language="de")
    assert read(load("canary"), TUNES[2], german).text == " RED GREEN WHITE"
    assert read(load("canary"), TUNES[2], DecodeParams(Task.TRANSLATE, language="de")).text == " red green white"
    mixed = [window(melody(TUNES[2]), params) for params in (german, DecodeParams(language="en"), german)]
    texts = [result.text for result in load("canary").transcribe(mixed)]
    assert texts == [" RED GREEN WHITE", " red green white", " RED GREEN WHITE"]


def test_languages_come_from_the_setting_the_catalogue_the_vocabulary_or_the_family(
    load: Load, folders: dict[str, Path], tmp_path: Path
) -> None:
    """In this order; where none of them knows, any language may be spoken."""
    assert load("canary").info.languages == ("de", "en")
    assert load("canary").info.can.language is LanguageUse.NEEDS
    assert load("gigaam_rnnt", languages="").info.languages == ("ru",)
    assert load("moonshine").info.languages == ("en",)
    assert load("nemo_tdt", languages="").info.languages == ()
    assert load("nemo_tdt", languages="").info.multilingual
    assert load("nemo_tdt", languages="fr, German").info.languages == ("de", "fr")
    with pytest.raises(UnsupportedLanguage):
        load("nemo_tdt", languages="Klingon")
    known = shutil.copytree(folders["nemo_tdt"], tmp_path / "parakeet-tdt-0.6b-v3")
    assert len(engine(known).info.languages) == 25
    stranger = shutil.copytree(folders["moonshine"], tmp_path / "canary-1b-v2")
    assert engine(stranger).info.languages == ("en",)


def test_a_language_that_the_model_does_not_know_is_refused(load: Load) -> None:
    """By name."""
    with pytest.raises(UnsupportedLanguage, match="'fr'") as refused:
        read(load("canary"), TUNES[0], DecodeParams(language="fr"))
    assert refused.value.param == "language"


def test_moonshine_without_masks_is_read_too(tmp_path: Path) -> None:
    """The hub's export of the first version takes none; its windows never share a call."""
    tiny_exports.moonshine(tmp_path, masked=False)
    reader = engine(tmp_path, batch="8")
    tasks = [window(melody(tones)) for tones in TUNES]
    assert [result.text for result in reader.transcribe(tasks)] == [expected("moonshine", tones) for tones in TUNES]


def test_a_text_without_end_is_cut_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At as many tokens as the seconds can need, window by window."""
    tiny_exports.moonshine(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "moonshine", "eos_token_id": 999}))
    monkeypatch.setattr(moonshine, "token_cap", lambda duration_s: int(2 * duration_s))
    short, long = engine(tmp_path, batch="2").transcribe([window(melody(TUNES[2])), window(melody(TUNES[1]))])
    assert short.hit_token_cap
    assert long.hit_token_cap
    assert (len(short.tokens), len(long.tokens)) == (6, 8)


def test_the_vocabulary_of_moonshines_authors(tmp_path: Path) -> None:
    """Lengths of one and two bytes; special tokens are no text; bytes that are no characters are replaced."""
    content = b"\x03<s>\x01<\x05\xe2\x96\x81hi\x01\xff" + bytes([300 % 128 + 128, 300 // 128]) + b"x" * 300
    (tmp_path / "tokenizer.bin").write_bytes(content)
    assert moonshine.spelling(tmp_path / "tokenizer.bin")([0, 2, 1, 2, 3, 4]) == " hi< hi\ufffd" + "x" * 300
    (tmp_path / "tokenizer.bin").write_bytes(content[:-1])
    with pytest.raises(ValueError, match="cut off"):
        moonshine.spelling(tmp_path / "tokenizer.bin")


def test_the_vocabulary_of_the_hubs_moonshine(tmp_path: Path) -> None:
    """A ``tokenizer.json`` gives the same text as the same words in the other form."""
    tiny_exports.moonshine(tmp_path)
    (tmp_path / "tokenizer.bin").unlink()
    pieces = ("<unk>", "<s>", "</s>", *tiny_exports.PIECES)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(dict(zip(pieces, range(9), strict=True)), "<unk>"))
    tokenizer.decoder = tokenizers.decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    assert read(engine(tmp_path), TUNES[1]).text == expected("moonshine", TUNES[1])


def test_files_in_the_number_format_wanted_are_taken(folders: dict[str, Path], tmp_path: Path) -> None:
    """Where both lie there; else those that are there."""
    folder = shutil.copytree(folders["nemo_ctc"], tmp_path / "both")
    assert find(folder, "int8").layout.number_format == ""
    (folder / "model.onnx").rename(folder / "model.int8.onnx")
    assert find(folder, "float16").layout.number_format == "int8"
    assert read(engine(folder), TUNES[0]).text == expected("nemo_ctc", TUNES[0])
    assert engine(folder).info.compute_type == "int8"
    shutil.copy(folders["nemo_ctc"] / "model.onnx", folder)
    assert find(folder, "int8").layout.number_format == "int8"
    assert find(folder, "float32").layout.number_format == ""


@NETWORKS
def test_what_lies_in_a_folder_is_recognised(folders: dict[str, Path], network: str) -> None:
    """By the names of its files, and read by this engine alone."""
    finding = layouts.look(folders[network])
    assert finding.missing == ()
    assert finding.layout.engines == ("onnx-asr",)
    with pytest.raises(ConfigError, match="does not read"):
        factory.kind_for("ct2", "cpu", "int8", folders[network])


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    """With a remedy."""
    with pytest.raises(ModelError, match="holds no model") as refused:
        engine_of(tmp_path)
    assert refused.value.remedy


def test_settings_that_are_no_json_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    """The file is named."""
    folder = shutil.copytree(folders["nemo_tdt"], tmp_path / "model")
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json is damaged"):
        engine_of(folder)


@NETWORKS
def test_R5_damaged_files_give_typed_errors(folders: dict[str, Path], tmp_path: Path, network: str) -> None:
    """Every file of a model cut in half, and one replaced by rubbish: loading or reading fails, nothing else."""
    survived = 0
    for number, path in enumerate(sorted(path for path in folders[network].rglob("*") if path.is_file()), start=1):
        for content in (path.read_bytes()[: path.stat().st_size // 2], b"\x08\x96rubbish" * 30):
            folder = shutil.copytree(folders[network], tmp_path / f"{number}-{len(content)}", dirs_exist_ok=True)
            (folder / path.relative_to(folders[network])).write_bytes(content)
            with suppress(EngineError, ModelError):
                read(engine_of(folder), TUNES[0])
                survived += 1
    assert survived < 2 * number


def test_a_gpu_that_the_runtime_cannot_use_is_named(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    spec = EngineSpec("onnx-asr", "x", path=str(folders["moonshine"]), device="cuda")
    with pytest.raises(ConfigError, match="cannot use CUDA") as refused:
        factory.create(spec)
    assert "onnxruntime-gpu" in (refused.value.remedy or "")


def test_without_the_package_only_moonshine_is_served(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others say what to install."""
    monkeypatch.setitem(__import__("sys").modules, "tympan.engine.onnx_asr.library", None)
    assert read(engine(folders["moonshine"]), TUNES[0]).text
    with pytest.raises(ConfigError, match="onnx-asr, which is not installed") as refused:
        engine(folders["nemo_ctc"])
    assert "pip install" in (refused.value.remedy or "")


@pytest.mark.parametrize(("threads", "replicas", "each", "hands"), [(2, "", 1, 2), (8, "", 2, 4), (8, "1", 8, 1)])
def test_threads_are_shared_out(
    folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, threads: int, replicas: str, each: int, hands: int
) -> None:
    """As many windows at once as there are threads, up to four; the rest go to each call."""
    seen: list[int] = []
    session = onnxruntime.InferenceSession

    def spy(path: str, options: onnxruntime.SessionOptions, **rest: object) -> object:
        seen.append(options.intra_op_num_threads)
        return session(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", spy)
    options = (("replicas", replicas),) if replicas else ()
    path = str(folders["moonshine"])
    made = factory.create(EngineSpec("onnx-asr", "x", path=path, threads=threads, options=options))
    assert isinstance(made, OnnxAsrEngine)
    assert (set(seen), made._pool._max_workers, made.info.threads) == ({each}, hands, threads)


def engine_of(folder: Path) -> Engine:
    """Return the engine for a folder that may hold anything."""
    return factory.create(EngineSpec("onnx-asr", folder.name, path=str(folder), threads=1))
