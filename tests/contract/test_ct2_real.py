"""CTranslate2 with real weights and real speech: what no double can show."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile

from tests.conftest import SpokenClip
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Samples, Task, Window, WindowResult, WindowTask
from tympan.engine.asking import token_cap
from tympan.engine.base import EngineSpec
from tympan.engine.ct2 import CTranslate2Engine, create
from tympan.engine.models import ResolvedModel
from tympan.errors import EngineError, EngineOutOfMemory, UnsupportedLanguage

pytestmark = pytest.mark.model

GREEDY = DecodeParams(language="en", beam_size=1)
INTERLEAVINGS = 24
COUNTING = frozenset({"contagem", "conteggio", "conteo", "counting", "comptage", "jishu", "kazoeru", "liczenie"})


@cache
def pcm(path: Path) -> Samples:
    """Return a clip at 16 kHz."""
    samples, rate_hz = soundfile.read(path, dtype="float64")
    assert rate_hz == SAMPLE_RATE_HZ
    assert samples.ndim == 1
    found: Samples = (samples * 32767).astype(np.int16)
    assert np.abs(found).max() > 1000
    return found


@pytest.fixture(scope="module")
def clips(spoken_clips: tuple[SpokenClip, ...]) -> Mapping[str, SpokenClip]:
    """Return the clips by language and name, such as ``es/conteo``."""
    return {f"{clip.language}/{clip.path.stem}": clip for clip in spoken_clips}


@pytest.fixture(scope="module")
def english(tiny_en: ResolvedModel) -> Iterator[CTranslate2Engine]:
    """Return tiny.en, loaded once."""
    engine = create(EngineSpec("ct2", "tiny.en", path=str(tiny_en.path), threads=2))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def multilingual(base: ResolvedModel) -> Iterator[CTranslate2Engine]:
    """Return base, loaded once."""
    engine = create(EngineSpec("ct2", "base", path=str(base.path), threads=2))
    yield engine
    engine.close()


def task(samples: Samples, params: DecodeParams = GREEDY, index: int = 0) -> WindowTask:
    """Return one window."""
    return WindowTask(Window(index, samples, ()), params)


def hear(engine: CTranslate2Engine, clip: SpokenClip, params: DecodeParams = GREEDY) -> WindowResult:
    """Return what the engine makes of one clip, alone."""
    (result,) = engine.transcribe([task(pcm(clip.path), params)])
    return result


def plain(text: str) -> str:
    """Return the text in lower case without punctuation, so that only words count."""
    return " ".join("".join(c if c.isalnum() or c.isspace() else " " for c in text.lower()).split())


class Recorder:
    """Stands before the model: keeps what was asked and answered, or raises in its stead."""

    def __init__(self, model: Any, error: Exception | None = None) -> None:
        """Pass everything on to ``model``, unless ``generate`` is to raise ``error``."""
        self._model = model
        self._error = error
        self.asked: list[dict[str, Any]] = []
        self.answered: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        """Return the model's own attribute."""
        return getattr(self._model, name)

    def generate(self, features: Any, prompts: list[list[int]], **options: Any) -> Any:
        """Let the model generate, and keep the answer."""
        if self._error is not None:
            raise self._error
        self.asked.append({"prompts": prompts, **options})
        self.answered.extend(outputs := self._model.generate(features, prompts, **options))
        return outputs


# -------------------------------------------------------------------------------------------------------- languages


@pytest.mark.parametrize("name", ["en/counting", "es/conteo", "fr/pangrama", "ja/pangrama", "zh/pangrama"])
def test_the_language_is_heard(multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip], name: str) -> None:
    """Without a language the likeliest is named first, with four runners-up whose chances fall and sum to 1 at most."""
    result = hear(multilingual, clips[name], replace(GREEDY, language=None))
    names = [language for language, _ in result.language_probabilities]
    chances = [chance for _, chance in result.language_probabilities]
    assert result.language == names[0] == clips[name].language
    assert len(set(names)) == 5
    assert set(names) <= set(multilingual.info.languages)
    assert chances == sorted(chances, reverse=True)
    assert 0.4 < chances[0] <= sum(chances) <= 1.0001


def test_a_mixed_batch_hears_each_windows_language(
    multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """Languages are told apart window by window, not batch by batch."""
    params = replace(GREEDY, language=None)
    names = ["en/counting", "ja/pangrama", "es/conteo", "zh/pangrama"]
    results = multilingual.transcribe([task(pcm(clips[name].path), params) for name in names])
    assert [result.language for result in results] == ["en", "ja", "es", "zh"]


def test_a_forced_language_is_obeyed(multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Told that English speech is German, the engine reports German, for certain, and writes German words."""
    german = hear(multilingual, clips["en/quick_brown_fox"], replace(GREEDY, language="de"))
    assert german.language == "de"
    assert german.language_probabilities == (("de", 1.0),)
    assert {"der", "die", "das", "über"} & set(plain(german.text).split())


@pytest.mark.parametrize("language", ["xx", "EN", "transcribe", "notimestamps"])
def test_an_unknown_language_is_refused(
    multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip], language: str
) -> None:
    """A code that the model lacks, or the name of another special token, is the caller's mistake; the engine lives."""
    with pytest.raises(UnsupportedLanguage, match=repr(language)) as caught:
        hear(multilingual, clips["en/hello_world"], replace(GREEDY, language=language))
    assert caught.value.param == "language"
    assert "world" in hear(multilingual, clips["en/hello_world"]).text.lower()


def test_an_english_model_hears_only_english(english: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """It has nothing to detect, says so, and writes English whatever it is told."""
    assert english.info.languages == ("en",)
    assert not english.info.multilingual
    result = hear(english, clips["en/counting"], replace(GREEDY, language=None))
    assert result.language_probabilities == (("en", 1.0),)


def test_translation_gives_english(multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Spanish numbers come out as English ones, and the language reported is still the one spoken."""
    params = DecodeParams(task=Task.TRANSLATE, language="es")
    translated = hear(multilingual, clips["es/conteo"], params)
    spoken = hear(multilingual, clips["es/conteo"], replace(params, task=Task.TRANSCRIBE))
    words = {"one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"}
    digits = {str(n) for n in range(1, 11)}
    heard = set(plain(translated.text).split())
    assert len(heard & words) >= 5 or len(heard & digits) >= 5
    assert not heard & {"uno", "dos", "tres", "cuatro", "cinco", "siete", "nueve", "diez"}
    assert translated.language == "es"
    assert translated.text != spoken.text


# ---------------------------------------------------------------------------------------------------- prompt, search


def test_what_is_said_is_written(english: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """The smallest model gets clear English right."""
    assert plain(hear(english, clips["en/quick_brown_fox"]).text) == plain(clips["en/quick_brown_fox"].text)


def test_prompt_and_hotwords_do_not_appear_in_the_text(
    multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """Earlier text steers and is not repeated: neither text nor tokens hold any of it, and the words are the same."""
    told = replace(GREEDY, prompt="Earlier we talked about zoology.", hotwords="Tympan, Zanzibar")
    result = hear(multilingual, clips["en/quick_brown_fox"], told)
    assert plain(result.text) == plain(clips["en/quick_brown_fox"].text)
    assert len(result.tokens) < 30
    assert result.language == "en"


def test_the_longest_prompt_fits(english: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Thousands of words before the window are cut to the decoder's share, and the cap makes room for them."""
    recorder = Recorder(english._model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(english, "_model", recorder)
        result = hear(english, clips["en/hello_world"], replace(GREEDY, prompt="so " * 3000, hotwords="Ada " * 3000))
    (prompt,) = recorder.asked[0]["prompts"]
    assert len(prompt) == 1 + 223 + 2
    assert len(result.tokens) <= token_cap(len(pcm(clips["en/hello_world"].path)) / SAMPLE_RATE_HZ)


def test_a_full_prompt_and_a_full_text_fit_the_decoder_together(english: CTranslate2Engine) -> None:
    """With the longest prompt and a window that loops to its cap, the decoder never runs out of positions."""
    noise = np.random.default_rng(0).integers(-3000, 3000, 30 * SAMPLE_RATE_HZ).astype(np.int16)
    (result,) = english.transcribe([task(noise, replace(GREEDY, prompt="word " * 400))])
    assert result.hit_token_cap
    assert len(result.tokens) == 448 - (1 + 223 + 2)


def test_special_tokens_in_a_prompt_have_no_power(english: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Written out in a prompt, the end token ends nothing."""
    result = hear(english, clips["en/quick_brown_fox"], replace(GREEDY, prompt="<|endoftext|><|notimestamps|>"))
    assert "lazy dog" in result.text


def test_beams_search_wider_and_agree_on_clear_speech(
    english: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """The beam size reaches the search; on clear speech it changes no word and makes the text no less likely."""
    recorder = Recorder(english._model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(english, "_model", recorder)
        greedy = hear(english, clips["en/quick_brown_fox"])
        beam = hear(english, clips["en/quick_brown_fox"], replace(GREEDY, beam_size=5))
    assert [asked["beam_size"] for asked in recorder.asked] == [1, 5]
    assert plain(beam.text) == plain(greedy.text) == plain(clips["en/quick_brown_fox"].text)
    assert beam.avg_logprob >= greedy.avg_logprob - 0.02


def test_a_temperature_draws_best_of_texts_and_keeps_the_likeliest(
    english: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """Above 0 as many texts are drawn as asked for; at 0 there is one."""
    recorder = Recorder(english._model)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(english, "_model", recorder)
        drawn = hear(english, clips["en/counting"], replace(GREEDY, temperature=0.8, best_of=4))
        searched = hear(english, clips["en/counting"])
    first, second = recorder.answered
    assert [len(first.sequences_ids), len(second.sequences_ids)] == [4, 1]
    likeliest = first.sequences_ids[int(np.argmax(first.scores))]
    assert drawn.tokens == tuple(english._vocabulary.text_tokens(likeliest))
    assert (drawn.temperature, searched.temperature) == (0.8, 0.0)


# ------------------------------------------------------------------------------------------------------------- caps


def test_wild_samples_keep_to_their_caps(english: CTranslate2Engine) -> None:
    """Where there is nothing to understand, each window stops at its own cap, also beside longer ones."""
    draw = np.random.default_rng(3)
    lengths_s = (0.3, 1.0, 2.0, 8.0)
    params = replace(GREEDY, temperature=3.0, best_of=1)
    batch = [task(draw.integers(-9000, 9000, round(s * SAMPLE_RATE_HZ)).astype(np.int16), params) for s in lengths_s]
    for length_s, result in zip(lengths_s, english.transcribe(batch), strict=True):
        assert len(result.tokens) <= token_cap(length_s)


def test_a_loop_ends_at_its_cap_and_says_so_in_any_company(
    multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """English forced into Spanish loops: the text is as long as its window may be, also beside a longer window."""
    samples = pcm(clips["en/quick_brown_fox"].path)
    params = replace(GREEDY, language="es")
    looping = task(samples, params)
    cap = token_cap(looping.window.duration_s)
    (alone,) = multilingual.transcribe([looping])
    assert (len(alone.tokens), alone.hit_token_cap) == (cap, True)
    assert alone.compression_ratio > 2.4
    longer = [task(np.tile(samples, count), params) for count in (6, 7, 8)]
    beside = multilingual.transcribe([longer[0], looping, *longer[1:]])[1]
    assert (beside.tokens, beside.hit_token_cap) == (alone.tokens, True)


def test_clear_speech_stays_far_from_its_cap(multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """The cap is for loops: dense spelling in Japanese and Hindi still leaves room."""
    for name in ("ja/pangrama", "hi/pangrama"):
        clip = clips[name]
        result = hear(multilingual, clip, replace(GREEDY, language=clip.language))
        assert not result.hit_token_cap
        assert len(result.tokens) < 0.9 * token_cap(len(pcm(clip.path)) / SAMPLE_RATE_HZ)


# ----------------------------------------------------------------------------------------------------------- splice


def test_the_splice_reads_like_the_full_context(
    multilingual: CTranslate2Engine, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """Encoding the speech alone, with the tail of silence, is as right in eight languages as 30 s of input.

    Numbers are left out, because the model writes them now as words and now as digits.
    """
    languages = ("en", "es", "fr", "it", "ja", "pl", "pt", "zh")
    chosen = [clip for clip in spoken_clips if clip.language in languages and clip.path.stem not in COUNTING]
    assert len(chosen) == 16
    params = [DecodeParams(language=clip.language, beam_size=2) for clip in chosen]
    short = [task(pcm(clip.path), some) for clip, some in zip(chosen, params, strict=True)]
    long = [task(pcm(clip.path), replace(some, full_context=True)) for clip, some in zip(chosen, params, strict=True)]
    spliced, full = multilingual.transcribe(short), multilingual.transcribe(long)
    assert all(result.full_context for result in full)
    assert not any(result.full_context for result in spliced)
    said = [plain(clip.text) for clip in chosen]
    read, read_in_full = ([plain(result.text) for result in results] for results in (spliced, full))
    assert jiwer.cer(said, read) <= jiwer.cer(said, read_in_full) + 0.03
    assert jiwer.cer(read_in_full, read) <= 0.2
    assert [text for text, clip in zip(read, chosen, strict=True) if clip.language == "en"] == [
        text for text, clip in zip(read_in_full, chosen, strict=True) if clip.language == "en"
    ]


# ------------------------------------------------------------------------------------------------------- word times


@pytest.mark.parametrize(
    "name", ["en/quick_brown_fox", "en/counting", "es/conteo", "fr/pangrama", "ja/pangrama", "hi/ginti"]
)
def test_word_times_rise_within_the_window(
    multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip], name: str
) -> None:
    """Words spell the text, follow one another, stay inside, and spread over the speech instead of piling up."""
    clip = clips[name]
    duration_s = len(pcm(clip.path)) / SAMPLE_RATE_HZ
    result = hear(multilingual, clip, replace(GREEDY, language=clip.language, align=True))
    assert "".join(word.text for word in result.words) == result.text
    assert sum((word.tokens for word in result.words), ()) == result.tokens
    assert all(0.0 <= word.start_s <= word.end_s <= duration_s for word in result.words)
    assert all(before.end_s <= after.start_s for before, after in pairwise(result.words))
    assert all(0.0 <= word.probability <= 1.0 for word in result.words)
    assert len({word.start_s for word in result.words}) >= 0.7 * len(result.words)
    assert result.words[-1].end_s - result.words[0].start_s > 0.5 * duration_s


def test_words_are_where_they_are_spoken(multilingual: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """A second of silence before the speech moves every word by about a second."""
    samples = pcm(clips["en/quick_brown_fox"].path)
    later = np.concatenate([np.zeros(SAMPLE_RATE_HZ, np.int16), samples])
    params = replace(GREEDY, align=True)
    first, second = (multilingual.transcribe([task(some, params)])[0].words for some in (samples, later))
    assert [word.text for word in first] == [word.text for word in second]
    moves = [b.end_s - a.end_s for a, b in zip(first, second, strict=True)]
    assert float(np.median(moves)) == pytest.approx(1.0, abs=0.1)


# -------------------------------------------------------------------------------------------------------- isolation


def test_K6_a_text_is_the_same_alone_and_among_others(
    english: CTranslate2Engine, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """In batches of eight, with any neighbours in any order, a window's text is what it is alone.

    So is its probability, but for a loop: beside longer windows it goes on, and is cut to its own cap afterwards.
    """
    windows = [task(pcm(clip.path), index=n) for n, clip in enumerate(spoken_clips) if clip.language in {"en", "fr"}]
    draw = np.random.default_rng(6)
    cuts = [windows[n].window.samples[: int(draw.integers(8000, 40_000))] for n in range(6)]
    windows += [task(samples, index=100 + n) for n, samples in enumerate(cuts)]
    alone = {window.window.index: english.transcribe([window])[0] for window in windows}
    assert len({result.text for result in alone.values()}) > len(windows) // 2
    for _ in range(INTERLEAVINGS):
        batch = [windows[n] for n in draw.permutation(len(windows))[:8]]
        for window, result in zip(batch, english.transcribe(batch), strict=True):
            expected = alone[window.window.index]
            assert result.text == expected.text
            assert result.tokens == expected.tokens
            assert result.hit_token_cap == expected.hit_token_cap
            if not result.hit_token_cap:
                assert result.avg_logprob == pytest.approx(expected.avg_logprob, abs=0.001)


def test_a_prompt_does_not_outlive_its_batch(english: CTranslate2Engine, clips: Mapping[str, SpokenClip]) -> None:
    """After a batch with a prompt, a window without one reads as if there had been none."""
    before = hear(english, clips["en/counting"])
    hear(english, clips["en/hello_world"], replace(GREEDY, prompt="UN DEUX TROIS QUATRE CINQ", hotwords="SIX SEPT"))
    after = hear(english, clips["en/counting"])
    assert (after.text, after.tokens) == (before.text, before.tokens)


# ----------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("text", "kind"),
    [("CUDA failed with error out of memory", EngineOutOfMemory), ("something else broke", EngineError)],
)
def test_a_failure_of_the_runtime_is_typed_and_passes(
    english: CTranslate2Engine, clips: Mapping[str, SpokenClip], text: str, kind: type[EngineError]
) -> None:
    """What the runtime raises comes out as an engine error with its cause, and the next batch works."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(english, "_model", Recorder(english._model, RuntimeError(text)))
        with pytest.raises(EngineError, match=text) as caught:
            hear(english, clips["en/hello_world"])
    assert type(caught.value) is kind
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "world" in hear(english, clips["en/hello_world"]).text.lower()


def test_no_windows_give_no_results(english: CTranslate2Engine) -> None:
    """An empty batch is answered with an empty list."""
    assert english.transcribe([]) == []
