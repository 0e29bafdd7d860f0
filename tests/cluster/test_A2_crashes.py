"""A process of a cluster is killed at a commit point, one after another; clients notice nothing but a broken line."""

import json
import random
from pathlib import Path

import pytest

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.cluster.support import Node
from tests.servers.process import wait_until

API = ("blob.fsync", "blob.rename", "job.insert", "job.committed", "bell.publish", "bell.mark")
WORKER = (
    "step.claimed",
    "prepare.media",
    "section.put",
    "section.insert",
    "prepare.commit",
    "section.decoded",
    "section.commit",
    "section.committed",
    "finish.assembled",
    "finish.commit",
    "finish.committed",
    "blob.delete",
)
USUAL = (("job.insert",), ("section.insert", "section.commit", "finish.commit", "finish.committed"))
"""The points of the everyday run: where a job begins, and those of workers in as many workers at once."""

_RESULTS = Path(__file__).parents[2] / ".cache" / "cluster-crashes.json"
_SEEDS = 5
_A, _B = clip(2.0, 440.0), clip(3.0, 550.0)
_DIES_S = 40.0
_MAX_JOBS = 40


def _crash(site: Site, load: Load, faults: tuple[str, ...], n_jobs: int = 6, name: str = "job") -> None:
    """Let processes run into ``faults`` while they are the only ones of their kind that clients or steps get to.

    Jobs are called ``name``, which has to be another one each time: a name is a job's idempotency key.
    """
    for audio in (_A, _B):
        load.text_of(audio)
    kind = "api" if faults[0].split(":", maxsplit=1)[0] in API else "worker"
    doomed = [site.cluster.add(kind, FAULT=fault) for fault in faults]
    for node in doomed:
        node.wait_ready()
    if kind == "worker":
        site.worker.freeze()
    else:
        load.api = doomed[0]
    try:
        for number in range(_MAX_JOBS):
            # Who comes by a point is chance: who was spared gets another job, until no other is left to do it.
            if number >= n_jobs and _all_die(site, load, doomed):
                break
            _hand_in(site, load, f"{name} {number}", (_A, _B)[number % 2])
        assert all(map(_is_dead, doomed)), f"{faults}\n{site.cluster.logs()}"
    finally:
        site.worker.go_on()
        load.api = site.api
        for node in doomed:
            _bury(site, node)
    load.prove()


def _all_die(site: Site, load: Load, doomed: list[Node]) -> bool:
    """Wait until all are dead, or there is nothing left that could kill them; return whether they are."""
    wait_until(lambda: all(map(_is_dead, doomed)) or not load.unfinished(), _DIES_S, site.cluster.logs)
    return all(map(_is_dead, doomed))


def _is_dead(node: Node) -> bool:
    assert node.process is not None
    code = node.process.poll()
    assert code in (None, -9), node.log.read_text()[-2000:]
    return code is not None


def _hand_in(site: Site, load: Load, intent: str, audio: bytes) -> None:
    """Hand in a job; when the process that was asked dies, ask another, with the same key."""
    answer = load.post_job(intent, audio)
    if answer is None:
        load.api = site.api
        load.submit(intent, audio)
    else:
        assert answer.status_code == 202, answer.text
        load.history.promise(intent, text=load.texts[audio]).told.append(answer.json()["id"])


def _bury(site: Site, node: Node) -> None:
    node.kill()
    site.cluster.nodes.remove(node)


@pytest.mark.parametrize("points", USUAL, ids=" ".join)
def test_A2_crashes_at_commits_lose_and_double_nothing(site: Site, load: Load, points: tuple[str, ...]) -> None:
    """Every accepted job ends once, with the text of an undisturbed run, written by who held it last."""
    _crash(site, load, tuple(f"{point}:crash" for point in points))


def test_C3_a_failure_between_the_result_and_its_commit_is_tried_again(site: Site, load: Load) -> None:
    """Nothing of the broken transaction is left, and the step is done once more."""
    load.text_of(_A)
    unlucky = site.cluster.add("worker", FAULT="finish.commit:raise:2")
    unlucky.wait_ready()
    site.worker.freeze()
    try:
        for number in range(3):
            load.submit(f"job {number}", _A)
        load.prove()
    finally:
        site.worker.go_on()
        _bury(site, unlucky)
    assert "InjectedFault" in unlucky.log.read_text()


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("point", [*API, *WORKER])
def test_A2_every_point_and_several_seeds(site: Site, load: Load, point: str) -> None:
    """What was run is remembered in a file, so that a long run can be taken up again."""
    done: dict[str, bool] = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
    for seed in range(_SEEDS):
        if f"{point}:{seed}" in done:
            continue
        chance = random.Random(f"{point}{seed}")  # noqa: S311 (repeatable, not secret)
        _crash(site, load, (f"{point}:crash:{chance.randint(1, 3)}",), chance.randint(4, 8), f"seed {seed}")
        done[f"{point}:{seed}"] = True
        _RESULTS.parent.mkdir(exist_ok=True)
        _RESULTS.write_text(json.dumps(done))
