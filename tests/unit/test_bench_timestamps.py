"""How the benchmark of word times counts."""

import math

import numpy as np
import pytest

from benchmarks.spoken import Marked, Said, joined
from benchmarks.timestamps import body, checks, drift, figures, matched, spread

SENTENCE = Marked(np.zeros(16_000, np.int16), (Said("one", 0.1, 0.4), Said("two", 0.4, 0.9)))
TWICE = joined([SENTENCE, SENTENCE], [1.0, 0.5])


def test_sentences_are_joined_with_silence_and_keep_their_times() -> None:
    """Words move with their sentence; first and last ones are known."""
    assert len(TWICE.samples) == 16_000 * 3.5
    assert [(word.start_s, word.end_s) for word in TWICE.words] == [(0.1, 0.4), (0.4, 0.9), (2.1, 2.4), (2.4, 2.9)]
    assert [(word.first, word.last) for word in TWICE.words] == [(True, False), (False, True)] * 2


def test_words_are_matched_in_order_and_by_spelling() -> None:
    """A word that was not heard, or heard as another or far away, has no error; the next of its kind is another."""
    heard = [(" One,", 0.15, 0.4), (" ten", 0.4, 0.9), (" two.", 2.3, 2.8)]
    pairs = matched(TWICE.words, heard)
    assert [(word.text, word.start_s, start_s) for word, start_s, _ in pairs] == [("one", 0.1, 0.15), ("two", 2.4, 2.3)]
    assert matched(TWICE.words, [(" one", 0.1 + 1.6, 1.8)]) == []
    assert matched(TWICE.words, []) == []


def test_errors_are_summed_up_in_milliseconds() -> None:
    """Median and 90th percentile of the distance, the bias with its sign, the share within 80 ms."""
    found = spread([-0.1, 0.02, 0.05, 0.06])
    assert (found["words"], found["median_abs_ms"], found["bias_ms"], found["within_goal"]) == (4, 55.0, 35.0, 0.75)
    assert found["p90_abs_ms"] == pytest.approx(88.0)
    assert spread([]) == {"words": 0}


def _heard(by_s: float) -> list[tuple[str, float, float]]:
    return [(word.text, word.start_s + by_s, word.end_s + 2 * by_s) for word in TWICE.words]


def test_goals_are_held_against_all_starts_and_first_ones() -> None:
    """And against the growth of the error over an hour."""
    ours, nothing = figures(TWICE.words, _heard(0.09)), figures(TWICE.words, [])
    assert ours["last_ends"]["median_abs_ms"] == pytest.approx(180.0)
    late = {"take": "real", "audio_s": 3.5, "tympan": ours, "faster_whisper": nothing}
    hour = drift(TWICE.words, _heard(0.01))
    found = checks({"rows": [late], "hour": hour})
    assert [(check.measured, check.met) for check in found] == [("90 ms", False), ("90 ms", False), ("+0 ms", True)]
    assert not checks({"rows": [{**late, "tympan": nothing}]})[0].met
    titles = [title for title, _, _ in body({"rows": [late], "hour": hour})]
    assert titles == ["Real, 4 s", "An hour of the real clips"]
    assert not math.isnan(hour["all"]["median_abs_ms"])
