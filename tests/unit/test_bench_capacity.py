"""The planner's error: what is a goal, and what the page shows."""

import pytest

from benchmarks.capacity import body, checks, errors

RESULT = {
    "fixed": {
        "cost": {},
        "rows": [
            {
                "share": 0.5,
                "requests": 40,
                "errors": 0,
                "predicted": {"p50": 1.1, "p95": 2.0, "audio_s_per_s": 5.0},
                "measured": {"p50": 1.0, "p95": 2.5, "audio_s_per_s": 5.0},
            }
        ],
    },
    "real": {
        "cost": {},
        "predicted": {"p50": 1.0, "p95": 9.0},
        "runs": [{"p50": 0.9, "p95": 2.0}, {"p50": 1.1, "p95": 3.0}],
    },
}


def test_the_largest_error_counts_and_the_real_runs_are_a_range() -> None:
    """A fifth too little is a miss; so is what lies outside of all runs."""
    assert errors(RESULT["fixed"]["rows"][0])["p95"] == pytest.approx(-0.2)  # type: ignore[index]
    found = [(check.measured, check.met) for check in checks(RESULT)]
    assert found == [("-20.0% (p95)", False), ("1.00", True), ("9.00", False)]


def test_the_page_has_both_parts() -> None:
    """Predicted beside measured, and every run."""
    text = "\n".join(body(RESULT))
    for words in ("| 50 % | 40 | 1.00 | 1.10 |", "+10.0%, -20.0%, +0.0%", "| predicted | 1.00 | 9.00 |", "| run 2 |"):
        assert words in text, words
