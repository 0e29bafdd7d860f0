"""How the benchmark of confidence judges scores."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.scoring import Clip
from benchmarks.trust import Heard, area, body, calibration, checks, judged, summary
from tests.pipeline_support import answer
from tympan.domain import DecodeParams, Piece, Window, WindowTask, Word

GOOD = Heard("a_english_read", 1, 0.1, 0.1, 0.95, 0.9, 10, ((0.9, 0.8), (0.3,)))
BAD = Heard("e_hard", 1, 0.3, 0.2, 0.55, 0.5, 30, ((0.7,), (0.75, 0.2)))
NOISE = Heard("d_nonspeech", 1, 0.9, 0.15, 0.02, 0.0, 2)


def test_an_area_is_the_share_of_pairs_in_which_the_first_is_higher() -> None:
    """Ties count half; without a pair there is none."""
    assert area([3.0, 4.0], [1.0, 2.0]) == 1.0
    assert area([1.0], [2.0]) == 0.0
    assert area([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert area([2.0, 0.0], [1.0]) == 0.5
    assert area([], [1.0]) is None


def test_confidence_is_held_against_the_words_that_are_right() -> None:
    """By ranges; a long clip counts more than a short one."""
    other = replace(BAD, trust=0.59, right=0.9, units=10)
    assert calibration([GOOD, BAD, other]) == [
        {"from": 0.5, "clips": 2, "units": 40, "confidence": 0.56, "right": 0.6},
        {"from": 0.9, "clips": 1, "units": 10, "confidence": 0.95, "right": 0.9},
    ]


def test_figures_of_a_half_and_their_goals() -> None:
    """Sounds are apart from speech only with the sign of speech detection; confidence is 0.05 off in both ranges."""
    found = summary([GOOD, BAD, NOISE])
    assert (found["spoken"], found["made_up"], found["area"], found["area_blind"]) == (2, 1, 1.0, 0.5)
    assert (found["spoken_over_half"], found["made_up_over_half"], found["highest_spoken"]) == (0, 1, 0.3)
    assert (found["words_right"], found["words_wrong"], found["area_clips"]) == (3, 3, 1.0)
    assert found["area_words"] == pytest.approx(8 / 9, abs=1e-3)
    assert found["calibration_gap"] == pytest.approx(0.05)
    assert [check.met for check in checks(found)] == [True, True, True]
    worse = {**found, "area": 0.5, "area_words": None, "calibration_gap": 0.2}
    assert [check.met for check in checks(worse)] == [False, False, False]
    rows = [{"half": half, **found} for half in (0, 1)]
    assert all(len(cells) == len(head) for _, head, table in body({"rows": rows}) for cells in table)


def test_words_are_judged_one_by_one() -> None:
    """Those that stand in the reference, in its order, are right; others are wrong, and so is what nobody said."""
    task = WindowTask(Window(0, np.zeros(16_000, np.int16), (Piece(0, 0, 16_000),)), DecodeParams())
    words = [Word(text, 0.0, 0.1, p) for text, p in ((" The", 0.9), (" quick,", 0.8), (" cat", 0.4), (" so", 0.1))]
    clip = Clip("a-1", Path(), 1.0, "en", "the quick fox")
    assert judged(clip, [replace(answer(task), words=tuple(words))]) == ((0.9, 0.8), (0.4, 0.1))
