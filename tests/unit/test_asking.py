"""What engines ask of a model for a window, and what they make of its answer."""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.domain import SAMPLE_RATE_HZ, DecodeParams, Task, Window, WindowTask, Word
from tympan.engine.asking import (
    MAX_TOKENS,
    Answer,
    Decoded,
    compression_ratio,
    given_languages,
    prompts_and_caps,
    token_cap,
    window_result,
)
from tympan.engine.tokens import Vocabulary
from tympan.errors import UnsupportedLanguage

END = 50


class Words(Vocabulary):
    """A vocabulary without a tokenizer: token ``n`` is the word ``n``, prompts are as long as the words told."""

    def __init__(self, languages: Sequence[str]) -> None:
        """Know these languages."""
        self.end = END
        self.multilingual = bool(languages)
        self.languages = {language: END + 1 + i for i, language in enumerate(languages)}

    def prompt(self, language: str, task: Task, prompt: str | None, hotwords: str | None) -> list[int]:
        """Return a token per word, then the language, the task and an end mark."""
        told = f"{prompt or ''} {hotwords or ''}".split()
        return [*range(len(told)), self.languages.get(language, 0), list(Task).index(task), 99]

    def decode(self, tokens: Sequence[int]) -> str:
        """Return the words."""
        return "".join(f" {token}" for token in self.text_tokens(tokens))


def task(duration_s: float = 1.0, params: DecodeParams | None = None) -> WindowTask:
    """Return a window of silence."""
    samples = np.zeros(round(duration_s * SAMPLE_RATE_HZ), np.int16)
    return WindowTask(Window(0, samples, ()), params or DecodeParams(language="en"))


# -------------------------------------------------------------------------------------------------------- languages


def test_languages_that_are_given_are_certain() -> None:
    """One per window, with a probability of one."""
    tasks = [task(params=DecodeParams(language=language)) for language in ("de", "en", "de")]
    assert given_languages(Words(["de", "en"]), tasks) == [(("de", 1.0),), (("en", 1.0),), (("de", 1.0),)]


@pytest.mark.parametrize("languages", [[None], ["de", None], [None, "xx"]])
def test_a_window_without_a_language_has_to_be_listened_to(languages: list[str | None]) -> None:
    """Then no language is taken as given, and none is refused before it is looked at."""
    tasks = [task(params=DecodeParams(language=language)) for language in languages]
    assert given_languages(Words(["de"]), tasks) is None


@pytest.mark.parametrize("language", ["xx", "DE", " de", "de-AT"])
def test_a_language_that_the_model_does_not_know_is_refused(language: str) -> None:
    """Anywhere in the batch, by its name."""
    tasks = [task(params=DecodeParams(language=name)) for name in ("de", language)]
    with pytest.raises(UnsupportedLanguage, match=repr(language)) as caught:
        given_languages(Words(["de"]), tasks)
    assert caught.value.param == "language"


@pytest.mark.parametrize("language", [None, "en", "de"])
def test_an_english_model_hears_english_whatever_it_is_told(language: str | None) -> None:
    """It has no language tokens, so there is nothing to detect or refuse."""
    assert given_languages(Words([]), [task(params=DecodeParams(language=language))] * 2) == [(("en", 1.0),)] * 2


# ---------------------------------------------------------------------------------------------------------- prompts


def test_each_window_is_asked_in_its_language_and_gets_its_cap() -> None:
    """Task, prompt and hotwords are shared; language and cap are the window's own."""
    params = DecodeParams(Task.TRANSLATE, None, prompt="a b", hotwords="c")
    tasks = [task(0.5, params), task(2.0, params)]
    prompts, caps = prompts_and_caps(Words(["de", "fr"]), tasks, [(("fr", 0.9), ("de", 0.1)), (("de", 0.8),)])
    assert prompts == [[0, 1, 2, END + 2, 1, 99], [0, 1, 2, END + 1, 1, 99]]
    assert caps == [token_cap(0.5), token_cap(2.0)] == [22, 52]


def test_prompt_and_text_together_fit_the_decoder() -> None:
    """A prompt of more than half of the 448 positions leaves the text what is left."""
    for told, room in ((221, 224), (222, 223), (300, 145)):
        tasks = [task(30.0, DecodeParams(language="de", prompt="x " * told))]
        prompts, caps = prompts_and_caps(Words(["de"]), tasks, [(("de", 1.0),)])
        assert (len(prompts[0]), caps) == (told + 3, [room])


# ---------------------------------------------------------------------------------------------------------- results


def test_a_result_says_what_was_heard_and_how() -> None:
    """Special tokens are left out of text and tokens; everything else is passed on."""
    word = Word(" 7", 0.1, 0.2, 0.9, (7,))
    answer = Answer((("fr", 0.7), ("de", 0.2)), Decoded([7, END + 9, 8], -0.3, 0.04, hit_cap=True), True, (word,))
    result = window_result(Words(["de", "fr"]), task(params=DecodeParams(temperature=0.4)), answer)
    assert (result.text, result.tokens, result.words) == (" 7 8", (7, 8), (word,))
    assert (result.language, result.language_probabilities) == ("fr", (("fr", 0.7), ("de", 0.2)))
    assert (result.avg_logprob, result.no_speech_prob, result.temperature) == (-0.3, 0.04, 0.4)
    assert (result.full_context, result.hit_token_cap) == (True, True)
    assert result.compression_ratio == compression_ratio(" 7 8")
    calm = replace(answer, decoded=Decoded([], 0.0, 0.9, hit_cap=False), full_context=False, words=())
    silent = window_result(Words(["fr"]), task(), calm)
    assert (silent.text, silent.tokens, silent.words, silent.compression_ratio) == ("", (), (), 0.0)
    assert (silent.full_context, silent.hit_token_cap) == (False, False)


# -------------------------------------------------------------------------------------------------------- token cap


@pytest.mark.parametrize(("duration_s", "cap"), [(0.0, 12), (0.04, 12), (1.0, 32), (5.55, 123), (10.6, 224), (30, 224)])
def test_the_token_cap_grows_with_the_audio_up_to_whispers_own(duration_s: float, cap: int) -> None:
    """Twelve tokens always, twenty more a second, never more than half of the decoder's positions."""
    assert token_cap(duration_s) == cap


@given(first=st.floats(0, 40), second=st.floats(0, 40))
def test_more_audio_never_means_a_lower_cap(first: float, second: float) -> None:
    """The cap rises with the length and stays between its bounds."""
    less, more = sorted((first, second))
    assert 12 <= token_cap(less) <= token_cap(more) <= MAX_TOKENS == 224


# ------------------------------------------------------------------------------------------------ compression ratio


def test_repetition_raises_the_compression_ratio_above_whispers_threshold() -> None:
    """A sentence stays well under 2.4, the same sentence over and over goes far beyond."""
    sentence = "The quick brown fox jumps over the lazy dog and runs away."
    assert compression_ratio(sentence) < 1.2
    assert compression_ratio((sentence + " ") * 8) > 4.0


def test_the_compression_ratio_counts_bytes_without_the_space_around() -> None:
    """The ratio is that of the text's UTF-8 bytes; Whisper's leading space does not count."""
    text = "今日は、" * 9
    raw = text.encode()
    assert compression_ratio(f"  {text}\n") == pytest.approx(len(raw) / len(zlib.compress(raw)))


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_no_text_has_no_compression_ratio(text: str) -> None:
    """Silence is not a loop."""
    assert compression_ratio(text) == 0.0
