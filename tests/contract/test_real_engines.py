"""Engines with real weights and real speech: what no double can show, asked of each of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import jiwer
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import SpokenClip
from tests.real_model import GREEDY, KINDS, hear, pcm, plain, task
from tympan import fallback
from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Options, Task, WindowResult, WindowTask
from tympan.engine import factory
from tympan.engine.asking import token_cap
from tympan.engine.base import Engine, EngineSpec
from tympan.engine.models import ResolvedModel
from tympan.errors import UnsupportedLanguage

pytestmark = pytest.mark.model

INTERLEAVINGS = 13
PANGRAMS = frozenset({"pangrama", "quick_brown_fox"})
ENGLISH = ("en/quick_brown_fox", "en/hello_world", "en/counting")
CLEAR = (*ENGLISH, "es/conteo", "zh/nihao_shijie")

Load = Callable[..., Engine]
"""Gives the engine of a kind for a model, loaded once: ``load("ct2", "base", splice="off")``."""


@pytest.fixture(scope="module")
def clips(spoken_clips: tuple[SpokenClip, ...]) -> Mapping[str, SpokenClip]:
    """Return the clips by language and name, such as ``es/conteo``."""
    return {f"{clip.language}/{clip.path.stem}": clip for clip in spoken_clips}


@pytest.fixture(scope="module")
def load(tiny_en: ResolvedModel, base: ResolvedModel) -> Iterator[Load]:
    """Return what gives engines; all of them are closed at the end."""
    paths = {"tiny.en": str(tiny_en.path), "base": str(base.path)}
    loaded: dict[tuple[object, ...], Engine] = {}

    def get(kind: str, name: str, **options: str) -> Engine:
        key = (kind, name, *options.items())
        if key not in loaded:
            spec = EngineSpec(kind, name, path=paths[name], threads=2, options=tuple(options.items()))
            loaded[key] = factory.create(spec)
        return loaded[key]

    yield get
    for engine in loaded.values():
        engine.close()


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Return each kind of engine."""
    found: str = request.param
    return found


@pytest.fixture(scope="module")
def english(load: Load, kind: str) -> Engine:
    """Return tiny.en."""
    return load(kind, "tiny.en")


@pytest.fixture(scope="module")
def multilingual(load: Load, kind: str) -> Engine:
    """Return base."""
    return load(kind, "base")


# ------------------------------------------------------------------------------------------------------------ languages


@pytest.mark.parametrize("name", ["en/counting", "es/conteo", "fr/pangrama", "ja/pangrama", "zh/pangrama"])
def test_the_language_is_heard(multilingual: Engine, clips: Mapping[str, SpokenClip], name: str) -> None:
    """Without a language the likeliest is named first, with four runners-up whose chances fall and sum to 1 at most."""
    result = hear(multilingual, clips[name], replace(GREEDY, language=None))
    names = [language for language, _ in result.language_probabilities]
    chances = [chance for _, chance in result.language_probabilities]
    assert result.language == names[0] == clips[name].language
    assert len(set(names)) == 5
    assert set(names) <= set(multilingual.info.languages)
    assert chances == sorted(chances, reverse=True)
    assert 0.4 < chances[0] <= sum(chances) <= 1.0001


@pytest.mark.parametrize("name", ["es/conteo", "zh/pangrama"])
def test_a_language_alone_is_heard_as_with_its_text(
    multilingual: Engine, clips: Mapping[str, SpokenClip], name: str
) -> None:
    """The same chances, for the price of one token."""
    params = replace(GREEDY, language=None)
    alone = hear(multilingual, clips[name], replace(params, language_only=True))
    assert alone.language_probabilities == hear(multilingual, clips[name], params).language_probabilities
    assert len(alone.tokens) <= 1


def test_a_mixed_batch_hears_each_windows_language(multilingual: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Languages are told apart window by window, not batch by batch."""
    params = replace(GREEDY, language=None)
    names = ["en/counting", "ja/pangrama", "es/conteo", "zh/pangrama"]
    results = multilingual.transcribe([task(pcm(clips[name].path), params) for name in names])
    assert [result.language for result in results] == ["en", "ja", "es", "zh"]


def test_a_forced_language_is_obeyed(multilingual: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Told that English speech is German, the engine reports German, for certain, and writes German words."""
    german = hear(multilingual, clips["en/quick_brown_fox"], replace(GREEDY, language="de"))
    assert german.language == "de"
    assert german.language_probabilities == (("de", 1.0),)
    assert {"der", "die", "das", "über"} & set(plain(german.text).split())


@pytest.mark.parametrize("language", ["xx", "EN", "transcribe", "notimestamps"])
def test_an_unknown_language_is_refused(multilingual: Engine, clips: Mapping[str, SpokenClip], language: str) -> None:
    """A code that the model lacks, or the name of another special token, is the caller's mistake; the engine lives."""
    with pytest.raises(UnsupportedLanguage, match=repr(language)) as caught:
        hear(multilingual, clips["en/hello_world"], replace(GREEDY, language=language))
    assert caught.value.param == "language"
    assert "world" in hear(multilingual, clips["en/hello_world"]).text.lower()


def test_an_english_model_hears_only_english(english: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """It has nothing to detect, says so, and writes English whatever it is told."""
    assert english.info.languages == ("en",)
    assert not english.info.multilingual
    result = hear(english, clips["en/counting"], replace(GREEDY, language=None))
    assert result.language_probabilities == (("en", 1.0),)


def test_translation_gives_english(multilingual: Engine, clips: Mapping[str, SpokenClip]) -> None:
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


# ------------------------------------------------------------------------------------------------------- prompt, search


def test_what_is_said_is_written(english: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """The smallest model gets clear English right."""
    assert plain(hear(english, clips["en/quick_brown_fox"]).text) == plain(clips["en/quick_brown_fox"].text)


def test_prompt_and_hotwords_do_not_appear_in_the_text(multilingual: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Earlier text steers and is not repeated: neither text nor tokens hold any of it, and the words are the same."""
    told = replace(GREEDY, prompt="Earlier we talked about zoology.", hotwords="Tympan, Zanzibar")
    result = hear(multilingual, clips["en/quick_brown_fox"], told)
    assert plain(result.text) == plain(clips["en/quick_brown_fox"].text)
    assert len(result.tokens) < 30
    assert result.language == "en"


def test_a_full_prompt_and_a_full_text_fit_the_decoder_together(english: Engine) -> None:
    """With the longest prompt and a window that loops to its cap, the decoder never runs out of positions."""
    noise = np.random.default_rng(0).integers(-3000, 3000, 30 * SAMPLE_RATE_HZ).astype(np.int16)
    (result,) = english.transcribe([task(noise, replace(GREEDY, prompt="word " * 400))])
    assert result.hit_token_cap
    assert len(result.tokens) == 448 - (1 + 223 + 2)


def test_special_tokens_in_a_prompt_have_no_power(english: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """Written out in a prompt, the end token ends nothing."""
    result = hear(english, clips["en/quick_brown_fox"], replace(GREEDY, prompt="<|endoftext|><|notimestamps|>"))
    assert "lazy dog" in result.text


# ----------------------------------------------------------------------------------------------------------------- caps


def test_wild_samples_keep_to_their_caps(english: Engine) -> None:
    """Where there is nothing to understand, each window stops at its own cap, also beside longer ones."""
    draw = np.random.default_rng(3)
    lengths_s = (0.3, 1.0, 2.0, 8.0)
    params = replace(GREEDY, temperature=3.0, best_of=1)
    batch = [task(draw.integers(-9000, 9000, round(s * SAMPLE_RATE_HZ)).astype(np.int16), params) for s in lengths_s]
    for length_s, result in zip(lengths_s, english.transcribe(batch), strict=True):
        assert len(result.tokens) <= token_cap(length_s)


def test_a_loop_ends_at_its_cap_and_says_so_in_any_company(
    multilingual: Engine, clips: Mapping[str, SpokenClip]
) -> None:
    """English forced into other languages loops in some: the text is as long as its window may be, in any company."""
    samples = pcm(clips["en/quick_brown_fox"].path)
    forced = [task(samples, replace(GREEDY, language=language)) for language in ("es", "fr", "pt", "zh", "pl", "ar")]
    looping = next(one for one in forced if multilingual.transcribe([one])[0].hit_token_cap)
    params = looping.params
    cap = token_cap(looping.window.duration_s)
    (alone,) = multilingual.transcribe([looping])
    assert (len(alone.tokens), alone.hit_token_cap) == (cap, True)
    assert alone.compression_ratio > 2.4
    longer = [task(np.tile(samples, count), params) for count in (6, 7, 8)]
    beside = multilingual.transcribe([longer[0], looping, *longer[1:]])[1]
    assert (beside.tokens, beside.hit_token_cap) == (alone.tokens, True)


def test_clear_speech_stays_far_from_its_cap(multilingual: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """The cap is for loops: dense spelling in Japanese and Hindi still leaves room."""
    for name in ("ja/pangrama", "hi/pangrama"):
        clip = clips[name]
        result = hear(multilingual, clip, replace(GREEDY, language=clip.language))
        assert not result.hit_token_cap
        assert len(result.tokens) < 0.9 * token_cap(len(pcm(clip.path)) / SAMPLE_RATE_HZ)


# --------------------------------------------------------------------------------------------------------------- splice


def checked(engine: Engine, first: WindowTask, result: WindowResult) -> WindowResult:
    """Return the result that is kept when doubtful text is decoded again at full context."""
    options = Options(beam_size=1, temperature_fallback=False, language=first.params.language)
    again = fallback.next_attempt(first.window, first.params, result, options)
    results = [result] if again is None else [result, *engine.transcribe([replace(first, params=again)])]
    return fallback.best_of(first.window, results, options)


def test_the_splice_reads_like_the_full_context(multilingual: Engine, spoken_clips: tuple[SpokenClip, ...]) -> None:
    """Encoding the speech alone is as right in eight languages as 30 s of input, after the ladder's second look.

    Where a text is unsure, the last bit of a sample may turn it, so the ladder belongs to the promise.
    """
    languages = ("en", "es", "fr", "it", "ja", "pl", "pt", "zh")
    chosen = [clip for clip in spoken_clips if clip.language in languages and clip.path.stem in PANGRAMS]
    assert len(chosen) == 8
    params = [DecodeParams(language=clip.language, beam_size=1) for clip in chosen]
    short = [task(pcm(clip.path), some) for clip, some in zip(chosen, params, strict=True)]
    long = [task(pcm(clip.path), replace(some, full_context=True)) for clip, some in zip(chosen, params, strict=True)]
    spliced, full = multilingual.transcribe(short), multilingual.transcribe(long)
    assert all(result.full_context for result in full)
    assert not any(result.full_context for result in spliced)
    spliced = [checked(multilingual, asked, result) for asked, result in zip(short, spliced, strict=True)]
    said = [plain(clip.text) for clip in chosen]
    read, read_in_full = ([plain(result.text) for result in results] for results in (spliced, full))
    assert jiwer.cer(said, read) <= jiwer.cer(said, read_in_full) + 0.03
    assert jiwer.cer(read_in_full, read) <= 0.2
    assert [text for text, clip in zip(read, chosen, strict=True) if clip.language == "en"] == [
        text for text, clip in zip(read_in_full, chosen, strict=True) if clip.language == "en"
    ]


# ----------------------------------------------------------------------------------------------------------- word times


@pytest.mark.parametrize(
    "name", ["en/quick_brown_fox", "en/counting", "es/conteo", "fr/pangrama", "ja/pangrama", "hi/ginti"]
)
def test_word_times_rise_within_the_window(multilingual: Engine, clips: Mapping[str, SpokenClip], name: str) -> None:
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


def test_words_are_where_they_are_spoken(multilingual: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """A second of silence before the speech moves every word by about a second."""
    samples = pcm(clips["en/quick_brown_fox"].path)
    later = np.concatenate([np.zeros(SAMPLE_RATE_HZ, np.int16), samples])
    params = replace(GREEDY, align=True)
    first, second = (multilingual.transcribe([task(some, params)])[0].words for some in (samples, later))
    assert [word.text for word in first] == [word.text for word in second]
    moves = [b.end_s - a.end_s for a, b in zip(first, second, strict=True)]
    assert float(np.median(moves)) == pytest.approx(1.0, abs=0.1)


# ------------------------------------------------------------------------------------------------------------ isolation


def test_K6_a_text_is_the_same_alone_and_among_others(english: Engine, spoken_clips: tuple[SpokenClip, ...]) -> None:
    """In batches of eight, with any neighbours in any order, a window's text is what it is alone.

    So is its probability, but for a loop: beside longer windows it goes on, and is cut to its own cap afterwards.
    """
    draw = np.random.default_rng(6)
    chosen = [clip for clip in spoken_clips if clip.language in {"en", "fr"}] * 2
    cuts = [pcm(clip.path)[: int(draw.integers(8000, 50_000))] for clip in chosen]
    windows = [task(samples, index=n) for n, samples in enumerate(cuts)]
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


def test_a_prompt_does_not_outlive_its_batch(english: Engine, clips: Mapping[str, SpokenClip]) -> None:
    """After a batch with a prompt, a window without one reads as if there had been none."""
    before = hear(english, clips["en/counting"])
    hear(english, clips["en/hello_world"], replace(GREEDY, prompt="UN DEUX TROIS QUATRE CINQ", hotwords="SIX SEPT"))
    after = hear(english, clips["en/counting"])
    assert (after.text, after.tokens) == (before.text, before.tokens)


# ---------------------------------------------------------------------------------------------- engines side by side


def test_engines_know_the_same_languages(load: Load) -> None:
    """Whichever runs a model, it offers the same languages."""
    for name in ("base", "tiny.en"):
        ours, theirs = (load(kind, name).info for kind in ("onnx", "ct2"))
        assert ours.languages == theirs.languages
        assert ours.multilingual == theirs.multilingual


@pytest.mark.parametrize(
    ("params", "names"),
    [
        (DecodeParams(beam_size=1), CLEAR),
        (DecodeParams(), CLEAR),
        (DecodeParams(beam_size=1, full_context=True), ENGLISH),
    ],
    ids=["greedy", "beams", "full context"],
)
def test_engines_agree_on_clear_speech(
    load: Load, clips: Mapping[str, SpokenClip], params: DecodeParams, names: Sequence[str]
) -> None:
    """The same words with nearly the same certainty, in the same language, spliced or not."""
    windows = [task(pcm(clips[name].path), params, n) for n, name in enumerate(names)]
    ours, theirs = (load(kind, "base").transcribe(windows) for kind in ("onnx", "ct2"))
    for one, other in zip(ours, theirs, strict=True):
        assert plain(one.text) == plain(other.text)
        assert one.language == other.language
        assert one.language_probabilities[0][1] == pytest.approx(other.language_probabilities[0][1], abs=0.1)
        assert one.avg_logprob == pytest.approx(other.avg_logprob, abs=0.1)
        assert one.no_speech_prob == pytest.approx(other.no_speech_prob, abs=0.1)
        assert one.full_context == other.full_context == params.full_context


def test_engines_agree_on_where_words_are(load: Load, clips: Mapping[str, SpokenClip]) -> None:
    """Words start and end at the same times, but for a fifth of a second here and there."""
    for name in CLEAR:
        params = DecodeParams(language=clips[name].language, beam_size=1, align=True)
        ours, theirs = (hear(load(kind, "base"), clips[name], params).words for kind in ("onnx", "ct2"))
        assert [plain(word.text) for word in ours] == [plain(word.text) for word in theirs]
        for one, other in zip(ours, theirs, strict=True):
            assert one.start_s == pytest.approx(other.start_s, abs=0.2)
            assert one.end_s == pytest.approx(other.end_s, abs=0.2)
            assert one.probability == pytest.approx(other.probability, abs=0.25)


# ------------------------------------------------------------------------------------------------- onnx on its own


def test_the_same_speech_draws_the_same_text_alone_and_in_company(load: Load, clips: Mapping[str, SpokenClip]) -> None:
    """A temperature makes texts bolder, not accidental: again, beside others and in another place, nothing differs."""
    engine = load("onnx", "tiny.en")
    params = replace(GREEDY, temperature=0.8, best_of=3)
    windows = [task(pcm(clips[name].path), params, n) for n, name in enumerate(ENGLISH)]
    alone = [engine.transcribe([window])[0] for window in windows]
    assert [result.temperature for result in alone] == [0.8] * len(alone)
    assert engine.transcribe(windows) == alone
    assert engine.transcribe(windows[::-1]) == alone[::-1]
    searched = engine.transcribe([task(pcm(clips[name].path)) for name in ENGLISH])
    bold = replace(params, temperature=1.0, best_of=1)
    drawn = engine.transcribe([task(pcm(clips[name].path), bold) for name in ENGLISH])
    assert [result.tokens for result in searched] != [result.tokens for result in drawn]


@settings(max_examples=6, deadline=None)
@given(data=st.data(), beam_size=st.sampled_from([1, 3]))
def test_a_result_is_equal_to_the_last_bit_in_any_company(
    load: Load, spoken_clips: tuple[SpokenClip, ...], data: st.DataObject, beam_size: int
) -> None:
    """Text, word times and all numbers, in random batches of clips and cuts of clips of random lengths."""
    engine = load("onnx", "tiny.en")
    params = replace(GREEDY, beam_size=beam_size, align=True)
    several = st.lists(st.integers(0, len(spoken_clips) - 1), min_size=2, max_size=6)
    windows = [
        task(pcm(spoken_clips[number].path)[: data.draw(st.sampled_from([4000, 20_000, 480_000]))], params, place)
        for place, number in enumerate(data.draw(several))
    ]
    chosen = data.draw(st.integers(0, len(windows) - 1))
    assert engine.transcribe(windows)[chosen] == engine.transcribe([windows[chosen]])[0]


def test_without_the_splice_every_window_has_the_full_context(load: Load, clips: Mapping[str, SpokenClip]) -> None:
    """The option ``splice=off`` gives what asking for the full context gives, to the last bit, and says so."""
    whole = hear(load("onnx", "tiny.en", splice="off"), clips["en/counting"])
    assert whole == hear(load("onnx", "tiny.en"), clips["en/counting"], replace(GREEDY, full_context=True))
    assert whole.full_context
    assert not hear(load("onnx", "tiny.en"), clips["en/counting"]).full_context


def test_a_batch_that_does_not_fit_in_memory_is_divided(load: Load, clips: Mapping[str, SpokenClip]) -> None:
    """Windows are decoded in smaller groups then, each result in its place."""
    engine = load("onnx", "tiny.en")
    windows = [task(pcm(clips[name].path), GREEDY, n) for n, name in enumerate(CLEAR)]
    together = engine.transcribe(windows)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tympan.engine.onnx.engine.GROUP_BYTES", 1)
        assert engine.transcribe(windows) == together
    assert len({result.text for result in together}) >= 4
