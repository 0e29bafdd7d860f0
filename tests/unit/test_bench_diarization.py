"""Errors about who speaks are counted as they are defined, whatever the speakers are called."""

import json
from pathlib import Path

import pytest

from benchmarks.diarization import checks, errors, page, references, row, total, words_right
from benchmarks.scoring import Clip

TALK = [(1.0, 5.0, "ann"), (6.0, 10.0, "bob")]


def parts(found: list[tuple[float, float, str]]) -> tuple[float, ...]:
    """Return seconds counted, missed, false and confused, for a talk of 12 s."""
    return tuple(errors(TALK, found, 12.0).values())


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([(1.0, 5.0, "1"), (6.0, 10.0, "0")], (7.0, 0.0, 0.0, 0.0)),
        ([(0.8, 5.2, "1"), (6.2, 9.9, "0")], (7.0, 0.0, 0.0, 0.0)),
        ([], (7.0, 7.0, 0.0, 0.0)),
        ([(1.0, 10.0, "0")], (7.0, 0.0, 0.5, 3.5)),
        ([(1.0, 5.0, "0"), (6.0, 8.0, "0"), (8.0, 10.0, "1")], (7.0, 0.0, 0.0, 1.75)),
        ([(1.0, 5.0, "0"), (6.0, 10.0, "1"), (2.0, 3.0, "2")], (7.0, 0.0, 1.0, 0.0)),
    ],
    ids=["right", "within the collar", "nothing", "one for two", "confused", "one too many"],
)
def test_errors_are_those_of_the_best_mapping(
    found: list[tuple[float, float, str]], expected: tuple[float, ...]
) -> None:
    """A quarter of a second around each end does not count; every speaker at a moment does."""
    assert parts(found) == pytest.approx(expected)


def test_words_are_right_by_their_middle() -> None:
    """Those outside of turns do not count."""
    words = [(1.0, 1.4, "A"), (4.9, 5.0, "A"), (5.4, 5.6, "A"), (6.0, 6.5, "B"), (7.0, 7.5, "A")]
    assert words_right(TALK, words) == {"counted": 4, "right": 3}
    assert words_right(TALK, []) == {"counted": 0, "right": 0}


def test_a_run_has_totals_and_a_page(tmp_path: Path) -> None:
    """Seconds of all recordings together; those without words count for the rest."""
    folder = tmp_path / "f_diarization"
    folder.mkdir()
    told = [{"start": start, "end": end, "speaker": who} for start, end, who in TALK]
    (folder / "manifest.jsonl").write_text(json.dumps({"id": "x", "segments": told}) + "\n" + json.dumps({"id": "y"}))
    assert references(tmp_path) == {"x": told, "y": []}
    clip = Clip("x", tmp_path, 12.0, "en", "words")
    right = {"cpu_s": 0.4, "turns": [(1.0, 5.0, "0"), (6.0, 10.0, "1")]}
    rows = [row(clip, told, right, right, [(1.0, 2.0, "A")]), row(clip, told, {"cpu_s": 0.2, "turns": []}, right, None)]
    found = total(rows)
    assert (found["errors"], found["errors_missed_s"], found["errors_told"]) == (50.0, 50.0, 0.0)
    assert (found["speed"], found["numbers_right"], found["words_right"]) == (40.0, 1, 100.0)
    assert [check.met for check in checks(found)] == [False, True, True]
    text = "\n".join(page({"rows": rows, "total": found, "collar_s": 0.25}))
    assert "50.0 % is missed" in text
    assert "| 1 of 1 |" in text
