"""A server is killed in a long job and comes back with other weights under the same name: no transcript has both."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.client import Client, expected_text
from tests.faults.evidence import Evidence
from tests.faults.house import open_house
from tests.faults.process import pcm

_LONG_S = 45.0


@pytest.mark.parametrize("again", ["", "anew.commit:crash", "section.put:crash:2"])
def test_A2_a_job_that_meets_other_weights_is_done_anew(again: str, tmp_path: Path) -> None:
    """Killed after three sections, and once more wherever it hurts: the text is all of the new weights."""
    with open_house(tmp_path, slots=1) as house:
        client = Client(house)
        house.start(fault="section.committed:crash:3")
        text = expected_text(_LONG_S, 1, revision="new")
        assert text != expected_text(_LONG_S, 1)
        client.submit("long", pcm(_LONG_S, 1), text=text)
        house.workers[-1].wait()
        house.plan = replace(house.plan, revision="new")
        house.crashes += 1
        house.start(fault=again)
        client.settle()
        assert house.crashes == (2 if again else 1)
        found = house.evidence()
        assert check(client.history, found) == []
        assert len(found.entries("done", "section")) > _sections(found)
        assert any("job_starts_over" in worker.log() for worker in house.workers)


def test_A2_a_job_that_meets_the_same_weights_goes_on(tmp_path: Path) -> None:
    """Finished sections are kept: each is done once."""
    with open_house(tmp_path, slots=1) as house:
        client = Client(house)
        house.start(fault="section.committed:crash:3")
        client.submit("long", pcm(_LONG_S, 1), text=expected_text(_LONG_S, 1))
        client.settle()
        found = house.evidence()
        assert check(client.history, found) == []
        assert house.crashes == 1
        assert len(found.entries("done", "section")) == _sections(found)


def _sections(found: Evidence) -> int:
    """Return how many sections the job has."""
    return len({entry.idx for entry in found.entries("done", "section")})
