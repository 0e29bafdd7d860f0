"""What models of other networks say, as words and results."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tympan.domain import DecodeParams, Window, WindowTask
from tympan.engine.onnx_asr.said import LAST_TOKEN_S, NOTHING, Said, window_result, words_of

SAID = Said(
    "Hello, wor ld.",
    (" Hel", "lo", " ,", " wor", " ld", "."),
    (4, 5, 6, 7, 8, 9),
    (0.1, 0.3, 0.5, 1.0, 1.2, 2.5),
    (-0.1, -0.1, -0.2, 0.0, -0.3, -0.1),
)


def task(duration_s: float = 3.0, **params: object) -> WindowTask:
    """Return a window of silence."""
    window = Window(0, np.zeros(int(duration_s * 16_000), np.int16), ())
    return WindowTask(window, DecodeParams(**params))  # type: ignore[arg-type]


def test_words_are_made_of_the_tokens_that_spell_them() -> None:
    """Spaces that the text does not have join tokens; marks belong to the word before them."""
    words = words_of(SAID, 3.0)
    assert [(word.text, word.tokens) for word in words] == [(" Hello,", (4, 5, 6)), (" wor", (7,)), (" ld.", (8, 9))]
    assert "".join(word.text for word in words) == f" {SAID.text}"


def test_a_word_lasts_a_while_after_its_last_token_but_not_into_the_next() -> None:
    """Nor does it last beyond the window."""
    times = [(word.start_s, word.end_s) for word in words_of(SAID, 2.6)]
    assert times == [(0.1, pytest.approx(0.5 + LAST_TOKEN_S)), (1.0, 1.2), (1.2, 2.6)]


def test_a_late_token_stays_inside_the_window() -> None:
    """Networks round up: a begin after the end of the audio is its end."""
    (word,) = words_of(Said("late", (" late",), (1,), (1.04,), (0.0,)), 1.0)
    assert (word.start_s, word.end_s) == (1.0, 1.0)


def test_a_token_that_spells_two_words_times_both() -> None:
    """Each of them begins with it."""
    assert [(w.text, w.start_s) for w in words_of(Said("a b", ("a b",), (1,), (0.2,), (0.0,)), 1.0)] == [
        (" a", 0.2),
        (" b", 0.2),
    ]


def test_the_chance_of_a_word_is_the_mean_of_its_tokens() -> None:
    """In logarithms."""
    said = Said("ab c", ("a", "b", " c"), (1, 2, 3), (0.0, 0.1, 0.2), (-0.2, -0.4, 0.0))
    assert [word.probability for word in words_of(said, 1.0)] == [pytest.approx(math.exp(-0.3)), 1.0]


def test_no_token_times_or_chances_mean_no_words() -> None:
    """The text stands by itself, and without chances nothing says how sure it is."""
    text = Said("some text", ("some", " text"), (1, 2))
    assert words_of(replace(text, logprobs=(-0.1, -0.1)), 1.0) == ()
    assert words_of(replace(text, starts_s=(0.1, 0.2)), 1.0) == ()
    assert not window_result(task(), text, ()).is_rated
    assert window_result(task(), replace(text, logprobs=(-0.1, -0.1)), ()).is_rated


def test_a_result_says_what_is_known() -> None:
    """Text brings the space before it; the mean counts every chance; nothing is left of a context to widen."""
    result = window_result(
        task(align=True), Said("hi there", (" hi", " there"), (1, 2), (0.1, 0.4), (-0.1, -0.3, -0.2)), ()
    )
    assert (result.text, result.tokens) == (" hi there", (1, 2))
    assert result.avg_logprob == pytest.approx(-0.2)
    assert (result.language, result.language_probabilities) == ("", ())
    assert result.full_context
    assert [word.text for word in result.words] == [" hi", " there"]


@pytest.mark.parametrize(
    ("given", "known", "found"), [("de", (), "de"), (None, ("ru",), "ru"), (None, ("de", "en"), "")]
)
def test_the_language_is_the_one_told_or_the_only_one(given: str | None, known: tuple[str, ...], found: str) -> None:
    """Between several nobody knows."""
    assert window_result(task(language=given), Said("x"), known).language == found


def test_nothing_said_is_no_text() -> None:
    """Not even a space."""
    result = window_result(task(align=True), NOTHING, ("en",))
    assert (result.text, result.tokens, result.words, result.compression_ratio) == ("", (), (), 0.0)
