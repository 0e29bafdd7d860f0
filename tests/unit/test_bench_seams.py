"""What the benchmark of seams counts as lost or said twice, and where."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.scoring import Clip
from benchmarks.seam_counts import ELSEWHERE, Alignment, Edit, Part, Tally, parts_of, tally, zones
from benchmarks.seams import body, checks, row_of
from tests.pipeline_support import answer
from tympan.domain import DecodeParams, Piece, Window, WindowResult, WindowTask, Word

SAID = [f"w{n}" for n in range(20)]


def _tallied(heard: list[str], cut: int) -> dict[str, Tally]:
    """Return what is counted when ``heard`` was cut before the word ``cut``."""
    alignment = Alignment(SAID, heard)
    parts = [Part("start", " ".join(heard[:cut])), Part("cut", " " + " ".join(heard[cut:]))]
    return tally(alignment, zones(alignment, parts, "de"))


def test_without_an_error_the_zone_is_three_words_on_either_side() -> None:
    """Every reference word is in one place, and none is wrong."""
    found = _tallied(SAID, 10)
    assert found["cut"] == Tally(units=6)
    assert found[ELSEWHERE] == Tally(units=14)


@pytest.mark.parametrize(("lost", "zone"), [(slice(9, 11), "cut"), (slice(2, 4), ELSEWHERE)])
def test_words_that_are_lost_count_where_they_should_have_been(lost: slice, zone: str) -> None:
    """Those at the seam make its zone longer; those further away are none of its business."""
    heard = [word for n, word in enumerate(SAID) if n not in range(20)[lost]]
    found = _tallied(heard, heard.index("w11" if zone == "cut" else "w10"))
    other = ELSEWHERE if zone == "cut" else "cut"
    assert (found[zone].deletions, found[other].lost_or_added) == (2, 0)
    assert found["cut"].units + found[ELSEWHERE].units == 20


def test_words_said_again_after_the_seam_are_told_from_others() -> None:
    """Two words that stand twice, and one that nobody said."""
    again = _tallied([*SAID[:10], "w8", "w9", *SAID[10:]], 10)["cut"]
    assert (again.insertions, again.repeats) == (2, 2)
    made_up = _tallied([*SAID[:10], "so", *SAID[10:]], 10)["cut"]
    assert (made_up.insertions, made_up.repeats) == (1, 0)


def test_a_text_without_any_word_has_lost_all() -> None:
    """And its seams are nowhere in particular."""
    assert list(Alignment(SAID[:3], []).edits()) == [Edit("delete", place) for place in range(3)]


def _result(*words: Word) -> WindowResult:
    task = WindowTask(Window(0, np.zeros(16_000, np.int16), (Piece(0, 0, 16_000),)), DecodeParams())
    text = "".join(word.text for word in words)
    return replace(answer(task), text=text, words=words)


def test_texts_are_cut_at_every_kind_of_seam() -> None:
    """Windows that touch, windows with silence between them, and pieces of one window."""
    second = 16_000
    windows = [
        Window(0, np.zeros(0, np.int16), (Piece(0, 0, second), Piece(second, 3 * second, second))),
        Window(1, np.zeros(0, np.int16), (Piece(0, 4 * second, second),)),
        Window(2, np.zeros(0, np.int16), (Piece(0, 9 * second, second),)),
    ]
    first = _result(Word(" a", 0.2, 0.9, 1.0), Word(" b", 0.95, 1.4, 1.0))
    decoded = [(windows[0], first), (windows[1], _result(Word(" c", 0.0, 0.5, 1.0))), (windows[2], _result())]
    assert parts_of(decoded) == [Part("start", " a"), Part("piece", " b"), Part("cut", " c")]
    decoded[2] = (windows[2], _result(Word(" d", 0.0, 0.5, 1.0)))
    assert parts_of(decoded)[-1] == Part("window", " d")


def test_figures_of_both_sides_are_about_the_same_words() -> None:
    """The row, the goals and the tables of the page: ours lose a word at the seam, the others one elsewhere."""
    clip = Clip("a-1", None, 9.0, "de", " ".join(SAID))  # type: ignore[arg-type]
    parts = {"a-1": [Part("start", " ".join(SAID[:9])), Part("cut", " " + " ".join(SAID[10:]))]}
    row = {"beam": 1, **row_of([clip], parts, {"a-1": " ".join(SAID[1:])})}
    assert row["seams"] == {"cut": 1, "window": 0, "piece": 0}
    ours, theirs = row["zones"]["tympan"], row["zones"]["sequential"]
    assert (ours["cut"]["deletions"], theirs["cut"]["deletions"]) == (1, 0)
    assert (ours[ELSEWHERE]["deletions"], theirs[ELSEWHERE]["deletions"]) == (0, 1)
    assert ours["cut"]["units"] == theirs["cut"]["units"] == 7
    assert [check.met for check in checks([row])] == [True, False]
    assert all(len(cells) == len(head) for _, head, rows in body({"rows": [row]}) for cells in rows)
