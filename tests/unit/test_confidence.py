"""How far a text can be trusted: signs, their weights, and the phrases that models make up."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.confidence import Evidence, confidence, hallucination_score
from tympan.confidence.phrases import ARTEFACTS, SMALL_WORDS, is_artefact, is_small_word
from tympan.confidence.score import SUSPICIOUS
from tympan.domain import Piece, Window, WindowResult
from tympan.languages import LANGUAGES

SPEECH = Evidence(
    text=" The quick brown fox.",
    avg_logprob=-0.2,
    no_speech_prob=0.05,
    speech_peak=0.99,
    rate=12.0,
    duration_s=1.5,
    is_loop=False,
)

WORSE = {
    "unsure": replace(SPEECH, avg_logprob=-1.2),
    "no speech, says the model": replace(SPEECH, no_speech_prob=0.9),
    "no speech, says the detection": replace(SPEECH, speech_peak=0.05),
    "hardly any text": replace(SPEECH, rate=0.3, duration_s=8.0),
    "too fast for anybody": replace(SPEECH, rate=60.0),
    "a loop": replace(SPEECH, is_loop=True),
    "credits": replace(SPEECH, text=" Subtitles by the Amara.org community"),
    "small words": replace(SPEECH, text=" Thank you."),
}

unit = st.floats(0.0, 1.0)
some_evidence = st.builds(
    Evidence,
    text=st.sampled_from(["", " you", " Thanks for watching!", " The quick brown fox."]),
    avg_logprob=st.floats(-50.0, 0.0) | st.just(-math.inf),
    no_speech_prob=unit,
    speech_peak=unit,
    rate=st.floats(0.0, 1000.0),
    duration_s=st.floats(0.0, 30.0),
    is_loop=st.booleans(),
)


def test_clear_speech_is_trusted() -> None:
    """Nearly as much as its words are likely, and almost certainly said."""
    assert hallucination_score(SPEECH) < 0.03
    assert confidence(SPEECH) == pytest.approx(math.exp(-0.2), abs=0.03)


@pytest.mark.parametrize("worse", WORSE.values(), ids=WORSE.keys())
def test_every_sign_counts_against_the_text(worse: Evidence) -> None:
    """The score rises and the confidence falls."""
    assert hallucination_score(worse) > 1.5 * hallucination_score(SPEECH)
    assert confidence(worse) < confidence(SPEECH)


@pytest.mark.parametrize("name", sorted(WORSE.keys() - {"a loop"}))
def test_one_sign_is_not_enough(name: str) -> None:
    """Unsure speech, a farewell that was said, or a doubt of one detector: none of them alone condemns a text."""
    assert hallucination_score(WORSE[name]) < SUSPICIOUS


def test_a_loop_is_enough() -> None:
    """Nobody goes round in circles, and the model is sure of itself when it does."""
    assert hallucination_score(WORSE["a loop"]) > SUSPICIOUS


def test_signs_add_up() -> None:
    """What noise usually gets: one small word, unsure, over ten seconds without speech."""
    noise = Evidence(" you", -0.9, 0.85, 0.1, 0.3, 10.0, is_loop=False)
    assert hallucination_score(noise) > 0.95
    assert confidence(noise) < 0.05


@given(evidence=some_evidence)
def test_both_figures_stay_between_0_and_1(evidence: Evidence) -> None:
    """Whatever an engine reports; no text has neither."""
    score, trust = hallucination_score(evidence), confidence(evidence)
    assert 0.0 <= score <= 1.0
    assert 0.0 <= trust <= 1.0 - score
    if not evidence.text:
        assert (score, trust) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" Thanks for watching!", True),
        ("THANKS FOR WATCHING", True),
        (" Thanks for watching! Thanks for watching!", True),
        ("thanks, for watching...", True),
        (" Untertitel der Amara.org-Community", True),
        ("Sous-titres réalisés para la communauté d'Amara.org", True),
        ("ご視聴ありがとうございました。", True),
        ("시청해 주셔서 감사합니다.", True),
        ("Продолжение следует...", True),
        ("SUSCRÍBETE", True),
        ("thanks for watching the children yesterday", False),
        ("she said thanks for watching", False),
        ("the music was loud", False),
        ("", False),
        ("...", False),
    ],
)
def test_an_artefact_is_the_whole_text_whatever_its_marks(text: str, expected: bool) -> None:  # noqa: FBT001
    """Case, punctuation, accents and repetition do not hide it; a sentence around it makes it speech."""
    assert is_artefact(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(" you", True), ("Thank you. Thank you. Thank you.", True), ("谢谢。", True), ("you know", False), ("", False)],
)
def test_small_words_are_told_apart_from_artefacts(text: str, expected: bool) -> None:  # noqa: FBT001
    """People say them too, so they weigh less."""
    assert is_small_word(text) is expected
    assert not is_artefact(text)


def test_the_lists_are_by_language_and_hold_each_phrase_once() -> None:
    """Every code is one that we know; no phrase is in both lists."""
    assert set(ARTEFACTS) | set(SMALL_WORDS) <= set(LANGUAGES)
    for phrases in ARTEFACTS.values():
        assert all(map(is_artefact, phrases))
        assert not any(map(is_small_word, phrases))
    for phrases in SMALL_WORDS.values():
        assert all(map(is_small_word, phrases))
        assert not any(map(is_artefact, phrases))


def test_evidence_is_the_same_with_and_without_samples() -> None:
    """A job scores its text after the samples are gone."""
    window = Window(0, np.zeros(32_000, np.int16), (Piece(0, 0, 16_000), Piece(16_000, 64_000, 16_000)), 0.4)
    result = WindowResult(" Hello there.", (1, 2), "en", (("en", 1.0),), -0.4, 0.1, 1.0, 0.0, full_context=False)
    found = Evidence.of(window, result)
    assert found == Evidence.of(window.without_samples(), result)
    assert (found.duration_s, found.rate, found.speech_peak) == (2.0, 5.0, 0.4)
    assert not found.is_loop
    assert Evidence.of(window, replace(result, tokens=(7,) * 12)).is_loop
    assert Evidence.of(window, replace(result, compression_ratio=2.5)).is_loop
    assert Evidence.of(window, replace(result, hit_token_cap=True)).is_loop


def test_characters_of_spaceless_scripts_count_as_syllables() -> None:
    """Eight of them a second are as fast as two dozen letters."""
    window = Window(0, np.zeros(16_000, np.int16), ())
    result = WindowResult("今日は良い天気", (1,), "ja", (), -0.1, 0.0, 1.0, 0.0, full_context=False)
    assert Evidence.of(window, result).rate == 21.0
