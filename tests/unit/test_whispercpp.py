"""The parts of the engine on whisper.cpp: spelling, heads, search, and what it refuses."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, ggml, pcm, plain, task
from tympan.domain import SPEAKER_TURN, DecodeParams, Options, WindowResult, Word
from tympan.engine import factory, whispercpp
from tympan.engine.base import Engine, EngineInfo, EngineSpec
from tympan.engine.ggml.container import Sizes, read_header
from tympan.engine.ggml.export import ABOUT
from tympan.engine.models import ResolvedModel
from tympan.engine.tokens import FileSpelling
from tympan.engine.whispercpp import engine as engine_module
from tympan.engine.whispercpp.heads import alignment
from tympan.engine.whispercpp.spelling import ByteSpelling
from tympan.engine.whispercpp.structures import OWN_HEADS, FullParams, agree
from tympan.engine.whispercpp.turns import marked, turns_after
from tympan.errors import ConfigError, EngineError, ModelError, UnsupportedOption
from tympan.pipeline.checks import check_options

BASE = Sizes(51865, 1500, 512, 8, 6, 448, 512, 8, 6, 80)

# ------------------------------------------------------------------------------------------------------------- spelling


@pytest.fixture(scope="module")
def spellings(tiny_en: ResolvedModel) -> tuple[ByteSpelling, FileSpelling]:
    """Return the same vocabulary from a ggml file and from a ``tokenizer.json``."""
    (weights,) = ggml("tiny.en").glob("*.bin")
    return ByteSpelling(read_header(weights).words, {"<|x|>": 7}), FileSpelling(tiny_en.path / "tokenizer.json")


@pytest.mark.model
@given(text=st.text(max_size=40) | st.text(st.sampled_from(" the'sTHE \n12,.-\u00e9\u4e2d"), max_size=40))
def test_text_is_spelled_as_the_tokenizer_spells_it(spellings: tuple[ByteSpelling, FileSpelling], text: str) -> None:
    """The ranks of the words are all that is needed; and the text comes back."""
    ours, theirs = spellings
    tokens = ours.encode(text)
    assert tokens == theirs.encode(text)
    assert ours.decode(tokens) == text


@pytest.mark.model
@given(tokens=st.lists(st.integers(0, 50255), max_size=6))
def test_tokens_read_as_the_tokenizer_reads_them(
    spellings: tuple[ByteSpelling, FileSpelling], tokens: list[int]
) -> None:
    """Also where they break characters apart."""
    ours, theirs = spellings
    assert ours.decode(tokens) == theirs.decode(tokens)


def test_a_vocabulary_without_some_bytes_spells_what_it_can() -> None:
    """Bytes that no word begins with are left out; special tokens have a number and no text."""
    spelling = ByteSpelling([b"a", b"b", b"ab"], {"<|x|>": 3})
    assert spelling.encode("abcab") == [2, 2]
    assert (spelling.token_to_id("<|x|>"), spelling.token_to_id("a")) == (3, None)
    assert spelling.decode([2, 3, 0]) == "aba"


# ---------------------------------------------------------------------------------------------------------------- heads


def test_heads_beside_the_weights_are_taken(tmp_path: Path) -> None:
    """Those that the export wrote; what is not there is said by the model's sizes; else the upper half."""
    assert alignment(tmp_path, BASE) == (6, ())
    assert alignment(tmp_path, replace(BASE, vocabulary=51864)) == (5, ())
    odd = alignment(tmp_path, replace(BASE, text_layers=2, text_heads=3))
    assert odd == (OWN_HEADS, ((1, 0), (1, 1), (1, 2)))
    (tmp_path / ABOUT).write_text(json.dumps({"alignment_heads": [[5, 7], [0, 1]]}))
    assert alignment(tmp_path, BASE) == (OWN_HEADS, ((5, 7), (0, 1)))
    (tmp_path / ABOUT).write_text("{}")
    assert alignment(tmp_path, BASE) == (6, ())


@pytest.mark.parametrize("text", ["{", '{"alignment_heads": [[6, 0]]}', '{"alignment_heads": [[0]]}', "[]", '{"a'])
def test_heads_that_are_not_there_are_refused(tmp_path: Path, text: str) -> None:
    """whisper.cpp would read beyond its arrays."""
    (tmp_path / ABOUT).write_text(text)
    with pytest.raises(ModelError, match="about"):
        alignment(tmp_path, BASE)


def test_a_library_that_is_laid_out_otherwise_is_recognised() -> None:
    """Parameters with nothing where the defaults should be are not used."""
    assert not agree(FullParams())


# -------------------------------------------------------------------------------------------------------- speaker turns

END, TURN = 100, 109
LETTERS = {n: f" {chr(97 + n)}" for n in range(26)}


def heard(*tokens: int, words: bool) -> WindowResult:
    """Return a result that spells one letter a token, two tokens a word."""
    text = "".join(LETTERS[token] for token in tokens)
    pairs = [tokens[n : n + 2] for n in range(0, len(tokens), 2)] if words else []
    spelled = tuple(Word("".join(LETTERS[n] for n in pair), 0.0, 1.0, 0.9, tuple(pair)) for pair in pairs)
    return WindowResult(text, tokens, "en", (("en", 1.0),), -0.1, 0.0, 1.0, 0.0, full_context=True, words=spelled)


@pytest.mark.parametrize(
    ("tokens", "turns"),
    [((1, 2, END), ()), ((1, TURN, 2, END), (1,)), ((TURN, 1), (0,)), ((1, 2, TURN, TURN, END), (2,)), ((), ())],
)
def test_turns_are_counted_in_plain_tokens(tokens: tuple[int, ...], turns: tuple[int, ...]) -> None:
    """Special tokens do not count; two marks at one place are one."""
    assert turns_after(tokens, TURN, END) == turns


@pytest.mark.parametrize("words", [True, False])
def test_a_turn_is_a_mark_in_the_text_and_in_its_word(words: bool) -> None:  # noqa: FBT001 - a case
    """The words joined stay the text; tokens and times do not change."""
    plain_result = heard(0, 1, 2, 3, words=words)
    found = marked(plain_result, (2,), lambda tokens: "".join(LETTERS[n] for n in tokens))
    assert found.text == " a b [SPEAKER_TURN] c d"
    assert found.tokens == plain_result.tokens
    assert "".join(word.text for word in found.words) == (found.text if words else "")
    assert [word.start_s for word in found.words] == [word.start_s for word in plain_result.words]
    assert marked(plain_result, (), str) is plain_result


def test_a_mark_inside_of_a_word_or_before_the_first_waits_for_its_end() -> None:
    """Words are never torn apart."""
    found = marked(heard(0, 1, 2, 3, words=True), (0, 3), str)
    assert found.text == " a b [SPEAKER_TURN] c d [SPEAKER_TURN]"


def test_speaker_turns_are_refused_by_name_where_the_model_has_none() -> None:
    """A text without marks would look like one speaker."""
    asked = Options(speaker_turns=True)
    info = EngineInfo("whispercpp", "base", "", "cpu", "f16", 1, ("en",), multilingual=True)
    with pytest.raises(UnsupportedOption, match="speaker changes") as caught:
        check_options(asked, info)
    assert caught.value.param == "tinydiarize"
    check_options(asked, replace(info, can=replace(info.can, speaker_turns=True)))


# ------------------------------------------------------------------------------------------------------------- devices


@pytest.mark.parametrize(
    ("device", "found"), [("cuda", ("CUDA0",)), ("metal", ("Metal",)), ("metal", ("MTL0",)), ("vulkan", ("Vulkan0",))]
)
def test_a_device_that_the_library_was_built_for_is_taken(device: str, found: tuple[str, ...]) -> None:
    """And none other: it would fall back to the processor without a word. Left open, it is taken where it is there."""
    assert engine_module._device(device, found) == engine_module._device("auto", found) == device
    assert engine_module._device("cpu", found) == engine_module._device("auto", ()) == "cpu"
    with pytest.raises(ConfigError, match=f"cannot use {device} here: it finds the CPU alone"):
        engine_module._device(device, ())
    with pytest.raises(ConfigError, match="it finds Other0"):
        engine_module._device(device, ("Other0",))


def test_without_its_package_the_engine_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "_pywhispercpp", None)
    # Some other test may have imported it; the package remembers that as well.
    monkeypatch.delitem(sys.modules, "tympan.engine.whispercpp.library", raising=False)
    monkeypatch.delattr(whispercpp, "library", raising=False)
    with pytest.raises(ConfigError, match="pywhispercpp") as caught:
        factory.create(EngineSpec("whispercpp", "a", path=str(tmp_path)))
    assert "tympan[whispercpp]" in (caught.value.remedy or "")


# --------------------------------------------------------------------------------------------------------- real weights


@pytest.fixture(scope="module")
def engine(tiny_en: ResolvedModel) -> Engine:
    """Return tiny.en in eight bits."""
    return load(ggml("tiny.en"))


def load(folder: Path, **options: str) -> Engine:
    """Return an engine."""
    return factory.create(EngineSpec("whispercpp", "t", path=str(folder), threads=2, options=tuple(options.items())))


@pytest.fixture(scope="module")
def fox(spoken_clips: tuple[SpokenClip, ...]) -> SpokenClip:
    """Return a clear English sentence."""
    return next(clip for clip in spoken_clips if clip.path.stem == "quick_brown_fox" and clip.language == "en")


@pytest.mark.model
@pytest.mark.parametrize("params", [replace(GREEDY, beam_size=3), replace(GREEDY, temperature=0.8, best_of=2)])
def test_K6_random_numbers_are_the_same_for_every_window(engine: Engine, fox: SpokenClip, params: DecodeParams) -> None:
    """whisper.cpp draws its beams and samples; a window's draw depends on nothing but the window."""
    windows = [task(pcm(fox.path)[cut:], params) for cut in (0, 8000)]
    alone = [engine.transcribe([window])[0] for window in windows]
    assert engine.transcribe(windows[::-1]) == alone[::-1]


@pytest.mark.model
def test_K6_windows_of_other_languages_do_not_decide_on_a_windows_own(
    base: ResolvedModel, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """The language found last is only where the next search begins, also for the window beside it."""
    heard_by = load(ggml("base"))
    wanted = {("en", "hello_world"), ("es", "conteo")}
    clips = [clip for clip in spoken_clips if (clip.language, clip.path.stem) in wanted]
    windows = [task(pcm(clip.path), replace(GREEDY, language=None)) for clip in clips]
    alone = [heard_by.transcribe([window])[0] for window in windows]
    assert [result.language for result in alone] == [clip.language for clip in clips] == ["en", "es"]
    assert heard_by.transcribe(windows[::-1]) == alone[::-1]
    heard_by.close()


@pytest.mark.model
def test_a_temperature_does_not_make_a_text_look_surer(engine: Engine, fox: SpokenClip) -> None:
    """Log-probabilities are those at temperature 1: near 0, the same text has the same as without."""
    (cold,) = engine.transcribe([task(pcm(fox.path))])
    (warm,) = engine.transcribe([task(pcm(fox.path), replace(GREEDY, temperature=0.01, best_of=1))])
    assert warm.tokens == cold.tokens
    assert warm.avg_logprob == pytest.approx(cold.avg_logprob, abs=0.01)


@pytest.mark.model
def test_more_beams_than_the_library_draws_count_as_eight(tiny_en: ResolvedModel, fox: SpokenClip) -> None:
    """How hard to search is never refused."""
    engine = load(ggml("tiny.en"), beams="drawn")
    wide, widest = (engine.transcribe([task(pcm(fox.path), replace(GREEDY, beam_size=n))])[0] for n in (8, 10))
    engine.close()
    assert widest == wide


@pytest.mark.model
def test_without_times_of_words_the_text_is_the_same(engine: Engine, fox: SpokenClip) -> None:
    """``words=off`` takes another kind of attention, and gives no times."""
    other = load(ggml("tiny.en"), words="off")
    aligned = replace(GREEDY, align=True)
    (with_words,), (without,) = (each.transcribe([task(pcm(fox.path), aligned)]) for each in (engine, other))
    assert plain(without.text) == plain(with_words.text) == plain(fox.text)
    assert with_words.words
    assert not without.words
    assert engine.info.can.word_times
    assert not other.info.can.word_times
    other.close()


TURN_TOKEN = 50359
"""What tinydiarize models write where the speaker changes, in English-only vocabularies."""


def turns_instead_of(word: str, weights: Path, target: Path) -> None:
    """Write a model that says a turn where it would say ``word``: in its embedding the two change places."""
    data = bytearray(weights.read_bytes())
    name = b"decoder.token_embedding.weight"
    begin = data.index(name) + len(name)
    row = 384 // 32 * 34  # Blocks of 32 numbers take 34 bytes in q8_0.
    (token,) = ByteSpelling(read_header(weights).words, {}).encode(word)
    one, other = (slice(begin + row * n, begin + row * (n + 1)) for n in (token, TURN_TOKEN))
    data[one], data[other] = data[other], data[one]
    target.write_bytes(data)


@pytest.mark.model
def test_a_model_that_writes_turns_has_them_marked(tmp_path: Path, fox: SpokenClip, tiny_en: ResolvedModel) -> None:
    """The mark stands where the turn was written, in the text and its words; unasked, no turn is written."""
    (weights,) = ggml("tiny.en").glob("*.bin")
    turns_instead_of(" over", weights, tmp_path / "ggml-tiny.en-tdrz.bin")
    model = load(tmp_path)
    asked = replace(GREEDY, speaker_turns=True, align=True)
    with_turns, without = (model.transcribe([task(pcm(fox.path), params)])[0] for params in (asked, GREEDY))
    model.close()
    before, after = with_turns.text.split(SPEAKER_TURN)
    assert (plain(before).split()[-1], plain(after).split()[0]) == ("jumps", "the")
    assert [word.text for word in with_turns.words if word.text.endswith(SPEAKER_TURN)] == [f" jumps{SPEAKER_TURN}"]
    assert SPEAKER_TURN not in without.text


@pytest.mark.model
def test_a_model_named_after_tinydiarize_marks_turns(tmp_path: Path, fox: SpokenClip, tiny_en: ResolvedModel) -> None:
    """Its name is all that tells; one voice gets the same text with the marks allowed."""
    (weights,) = ggml("tiny.en").glob("*.bin")
    (tmp_path / "ggml-tiny.en-tdrz.bin").symlink_to(weights)
    other = load(tmp_path)
    assert other.info.can.speaker_turns
    (result,) = other.transcribe([task(pcm(fox.path), replace(GREEDY, speaker_turns=True))])
    assert plain(result.text) == plain(fox.text)
    other.close()


@pytest.mark.model
def test_nothing_is_printed(fox: SpokenClip, capfd: pytest.CaptureFixture[str], tiny_en: ResolvedModel) -> None:
    """Neither while a model is loaded nor while it works: the library is talkative."""
    other = load(ggml("tiny.en"))
    other.transcribe([task(pcm(fox.path))])
    other.close()
    assert capfd.readouterr() == ("", "")


Damage = Callable[[bytes], bytes]


@pytest.mark.model
@pytest.mark.parametrize(
    "damage",
    [lambda data: data[:-1], lambda data: data[:1000], lambda _: b"", lambda data: b"GGUF" + data[4:]],
    ids=["a byte short", "header only", "empty", "another format"],
)
def test_R5_a_damaged_file_is_a_typed_error(tmp_path: Path, tiny_en: ResolvedModel, damage: Damage) -> None:
    """Found before the library sees it, which would end the process."""
    (weights,) = ggml("tiny.en").glob("*.bin")
    (tmp_path / weights.name).write_bytes(damage(weights.read_bytes()))
    with pytest.raises(ModelError, match=weights.stem):
        load(tmp_path)


@pytest.mark.model
@pytest.mark.parametrize("place", [400_000, 5_000_000, 20_000_000])
def test_R5_weights_that_are_noise_are_found_when_they_are_loaded(
    tmp_path: Path, tiny_en: ResolvedModel, place: int
) -> None:
    """Bytes of weights cannot be judged by their shape, but by what comes out; the library crashes over such a text."""
    (weights,) = ggml("tiny.en").glob("*.bin")
    data = bytearray(weights.read_bytes())
    data[-place : 200_000 - place] = np.random.default_rng(0).bytes(200_000)
    (tmp_path / weights.name).write_bytes(data)
    with pytest.raises((EngineError, ModelError), match=r"damaged|not a whole"):
        load(tmp_path)


def test_a_folder_without_a_ggml_file_is_refused(tmp_path: Path) -> None:
    """The error says what such a folder holds."""
    with pytest.raises(ModelError, match="no ggml model"):
        factory.create(EngineSpec("whispercpp", "a", path=str(tmp_path)))
