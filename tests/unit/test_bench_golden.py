"""The benchmark of golden sets: which clips it takes, how it judges, what its page says, and a whole run."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.golden import BASELINE, PLANTS, body, checks, chosen, measure
from benchmarks.scoring import Clip, load_set
from benchmarks.setup import Setup
from tests.conftest import SpokenClip

CLIP = Clip("ls-121-0", Path("a.flac"), 5.0, "en", "a word")


def _row(plant: str, alarms: list[str], points: float | None = None) -> dict[str, Any]:
    compared = {"difference_points": points, "low_points": points, "high_points": points}
    return {
        "plant": plant, "model": "base", "failed": 0, "units": 100, "errors": [5, 3, 2], "wer": 10.0,
        "comparison": None if points is None else compared, "alarms": alarms,
    }  # fmt: skip


def test_clips_are_those_in_which_something_is_known_to_be_said() -> None:
    """Evenly over the set."""
    clips = [replace(CLIP, id=f"ls-{n}", reference="" if n % 2 else "a word") for n in range(40)]
    clips.append(replace(CLIP, id="long", duration_s=30.0))
    assert [clip.id for clip in chosen(clips, 3)] == ["ls-0", "ls-20", "ls-38"]
    assert len(chosen(clips, 99)) == 20
    assert chosen([], 3) == []


def test_what_is_planted_has_to_raise_the_alarm_and_nothing_else_may() -> None:
    """The baseline is not judged."""
    rows = [_row(BASELINE.title, [])] + [_row(plant.title, ["wer_regression"], 2.0) for plant in PLANTS]
    assert [check.met for check in checks(rows)] == [plant.alarms for plant in PLANTS]
    rows = [_row(plant.title, ["run_failed"] if plant.alarms else [], 0.0) for plant in PLANTS]
    assert [check.met for check in checks(rows)] == [not plant.alarms for plant in PLANTS]


def test_the_page_shows_differences_with_their_intervals() -> None:
    """The baseline has none."""
    rows = [_row(BASELINE.title, []), _row(PLANTS[0].title, ["wer_regression"], 2.0)]
    (_, _, facts), (_, head, shown) = body({"clips": 2, "audio_s": 9.5, "rows": rows})
    assert facts == [[2, 9.5]]
    assert all(len(row) == len(head) for row in shown)
    assert [row[5] for row in shown] == ["", "+2.00 [+2.00, +2.00]"]
    assert shown[0][2:4] == ["10.00 %", "5 / 3 / 2"]


@pytest.mark.long
def test_every_run_is_measured_and_compared_with_the_first(
    tmp_path: Path, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """With an engine that makes its words up: other audio has other words, the same audio the same."""
    corpus = tmp_path / "corpus" / "a_english_read"
    corpus.mkdir(parents=True)
    voices = [clip for clip in spoken_clips if clip.language == "en"][:2]
    rows = [{"id": f"v-{n}-0", "audio": str(each.path), "duration_s": 3.0, "language": "en", "reference": each.text}
            for n, each in enumerate(voices)]  # fmt: skip
    (corpus / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    setup = Setup(corpus.parent, "base", "", tmp_path / "work", tmp_path, {"TYMPAN_ENGINE": "fake"}, True, False, 600)
    found = measure(setup, load_set(corpus.parent, "a_english_read"), tmp_path)
    assert [row["plant"] for row in found] == [BASELINE.title, *(plant.title for plant in PLANTS)]
    assert {row["failed"] for row in found} == {0}
    assert [row["comparison"] is None for row in found] == [True] + [False] * len(PLANTS)
    again = next(row for row in found if row["plant"].startswith("nothing: the same"))
    assert found[0]["errors"] == again["errors"]
    assert again["comparison"]["difference_points"] == 0
