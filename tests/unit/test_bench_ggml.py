"""The benchmark of ggml exports: what its rows hold, what it holds them to, and its page."""

from pathlib import Path

from benchmarks.ggml import _checks, _row
from benchmarks.render import render
from benchmarks.scoring import Clip
from benchmarks.store import write_result

CLIPS = [Clip(name, Path("x.wav"), 5.0, "en", "red green blue") for name in ("ls-1", "ls-2")]
BEFORE = {"ls-1": "red green blue", "ls-2": "red green blue"}
AFTER = {"ls-1": "red green blue", "ls-2": "red grey blue"}


def test_a_row_compares_the_export_with_its_source() -> None:
    """Errors of both, the difference in points, and how many texts are the same to the letter."""
    row = _row(CLIPS, (1, True), BEFORE, AFTER)
    assert (row["before"]["rate_percent"], round(row["after"]["rate_percent"], 1)) == (0.0, 16.7)
    assert round(row["difference"]["difference_points"], 1) == 16.7
    assert row["texts_equal"] == 1


def test_the_goal_is_met_or_missed_by_the_difference() -> None:
    """The coarsest format is reported and held to nothing."""
    worse, same = _row(CLIPS, (1, True), BEFORE, AFTER), _row(CLIPS, (1, False), BEFORE, BEFORE)
    assert [check.met for check in _checks({"form": "q5_0", **worse})] == [False]
    (met,) = _checks({"form": "q5_0", **same})
    assert met.met
    assert "without speech detection" in met.figure
    assert _checks({"form": "q4_0", **worse}) == []


def test_the_page_shows_every_row(tmp_path: Path) -> None:
    """With size, errors, difference and equal texts."""
    rows = [{"form": form, "size_mb": 55.3, **_row(CLIPS, (1, True), BEFORE, AFTER)} for form in ("q5_0", "q4_0")]
    facts = {"name": "base", "bytes": 1, "sha256": "0" * 64}
    write_result(tmp_path, "ggml", {"model": facts, "set": "a_english_read", "licences": [], "rows": rows}, [])
    render(tmp_path, tmp_path / "pages")
    page = (tmp_path / "pages" / "ggml.md").read_text(encoding="utf-8")
    assert "| q5_0 | 55.3 | 1 | on | 0.00 % | 16.67 % |" in page
    assert "1 of 2" in page
