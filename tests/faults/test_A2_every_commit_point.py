"""The process is killed at every point beside a commit; whatever was promised is kept all the same.

Here with bare processes, which start in a tenth of a second; ``test_A2_server.py`` does it with a whole server.
"""

import random
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.checker import check
from tests.faults.client import SETTLE_S, Client, mixed_load
from tests.faults.house import ENDPOINT, House, open_house
from tests.faults.process import pcm
from tests.faults.record import Record
from tests.servers.process import wait_until
from tympan.faultpoints import POINTS

_ELSEWHERE = ("upload.", "bell.", "webhook.", "anew.", "golden.")
"""Points that a process without HTTP, a broker, webhooks and another model does not pass."""

PASSED = [point for point in POINTS if not point.startswith(_ELSEWHERE)]
SEEDS = 20


def test_A2_enough_points_are_passed() -> None:
    """An undisturbed load passes them all, but for the release of what a dead process held."""
    reached = _census()
    assert len(PASSED) >= 18
    assert set(PASSED) - set(reached) == {"sweep.release"}


@pytest.mark.parametrize("point", PASSED)
def test_A2_killed_at_a_commit_point_nothing_is_lost_or_done_twice(point: str, tmp_path: Path) -> None:
    """One run for each point: which of its passages, and how the next process takes over, is drawn."""
    killed_at(point, 0, tmp_path)


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("point", PASSED)
def test_A2_killed_at_any_passage_of_a_commit_point(
    point: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Twenty runs for each point; an interrupted sweep goes on where it was."""
    record = Record("A2", point)
    for seed in range(SEEDS):
        if not record.has(seed):
            folder = tmp_path / str(seed)
            folder.mkdir()
            record.add(seed, killed_at(point, seed, folder))
    with capsys.disabled():
        print(f"\n  {point}: {SEEDS} of {SEEDS} runs green, killed at passages {record.values()}")  # noqa: T201


def killed_at(point: str, seed: int, folder: Path) -> int:
    """Run the load with a crash at one passage of ``point``, and judge it; return which passage that was."""
    draw = random.Random(f"{point} {seed}")  # noqa: S311
    nth = draw.randint(1, _census().get(point, 1))
    after = draw.random() < 0.5
    while True:
        attempt = folder / f"passage-{nth}"
        attempt.mkdir()
        with open_house(attempt) as house:
            house.takes_over_after = after
            if _crashed(house, point, nth, seed):
                return nth
        # How often a point is passed depends on how threads take turns; the first passage is certain.
        assert nth > 1, f"{point} was not reached"
        nth //= 2


def _crashed(house: House, point: str, nth: int, seed: int) -> bool:
    client = Client(house, endpoint=ENDPOINT)
    if point == "sweep.release":
        _leave_a_lease(house, client, seed)
    before = house.crashes
    house.start(fault=f"{point}:crash:{nth}", takes_over=point != "sweep.release")
    mixed_load(client, seed)
    client.settle()
    house.ask("tidy")
    house.workers[-1].close()
    house.workers.pop()
    assert check(client.history, house.evidence()) == [], f"{point} passage {nth} seed {seed}"
    return house.crashes > before


def _leave_a_lease(house: House, client: Client, seed: int) -> None:
    """Let a process die with work in hand, of which nobody but the sweeper will hear."""
    house.start(window_ms=5000.0)
    client.submit("left", pcm(4.0, 5000 + seed))
    wait_until(lambda: bool(house.evidence().entries("claim", "section")), SETTLE_S)
    house.workers[-1].kill()


@cache
def _census() -> dict[str, int]:
    """Return how often each point is passed in an undisturbed load."""
    with TemporaryDirectory() as folder, open_house(Path(folder)) as house:
        house.start()
        client = Client(house, endpoint=ENDPOINT)
        mixed_load(client, 0)
        client.settle()
        assert client.history.promises["cancelled"].seen[-1] == "cancelled"
        assert client.history.promises["erased"].seen[-1] == "succeeded"
        reached: dict[str, int] = house.ask("points")
        return reached
