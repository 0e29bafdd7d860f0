"""Damaged and malicious input over HTTP: the server blames the sender, stays up, and reaches nobody."""

import json
import os
from pathlib import Path

import pytest

from benchmarks import robustness


def check(figures: dict[str, object], counts: dict[str, int]) -> None:
    """Fail unless all of it was sent, and none of it did harm."""
    for kind, sent in counts.items():
        row = figures[kind]
        assert isinstance(row, dict)
        assert row["sent"] >= sent, kind
        assert row["server_errors"] == 0, (kind, row)
        assert row["slowest_s"] < 60, (kind, row)
    good, playlists, addresses = figures["good"], figures["playlists"], figures["addresses"]
    assert isinstance(good, dict)
    assert good["statuses"] == {"200": len(robustness.FORMATS)}
    assert isinstance(playlists, dict)
    assert isinstance(addresses, dict)
    assert set(playlists["statuses"]) == set(addresses["statuses"]) == {"400"}
    assert (figures["engine_restarts"], figures["same_process"], figures["status_after"]) == (0, True, "healthy")
    assert (figures["canary_visits"], figures["log_lines_of_crashes"]) == (0, 0)


def test_H4_H5_I1_L1_a_little_of_everything_does_no_harm() -> None:
    """Some files of every kind, and all addresses and playlists: no server error, no restart, no visit to a canary."""
    figures = robustness.measure(flips=12, cuts=12, upload_bytes=20_000_000, stalls=0)
    check(figures, {"truncated": 12, "flipped": 12, "playlists": 24, "addresses": 60})


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_H4_H5_F11_all_of_it_does_no_harm() -> None:
    """Two thousand files cut short, ten thousand with flipped bits, five gigabytes in one: the same, in flat memory."""
    figures = robustness.measure()
    check(figures, {"truncated": 2_000, "flipped": 10_000, "playlists": 24, "addresses": 60})
    sent = figures["upload"]
    assert sent["status"] == 400
    assert sent["memory_added_mib"] <= 16
    assert figures["stalled"]["refused"] == 0
    assert figures["stalled"]["closed_s"] < 12


def test_the_page_is_made_from_its_figures() -> None:
    """What is published is what was measured."""
    folder = Path(robustness.__file__).parents[1] / "docs" / "benchmarks"
    document = json.loads((folder / "results" / "robustness.json").read_text(encoding="utf-8"))
    assert (folder / "robustness.md").read_text(encoding="utf-8") == robustness.page(document)
    assert os.sep + "tmp" not in str(document)
