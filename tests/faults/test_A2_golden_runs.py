"""A server that is killed while it measures a golden set: the run ends once, with every clip scored once."""

import signal
from pathlib import Path

import pytest
from sqlalchemy import func, select

from tests.faults.serving import server_in, wav
from tests.golden_support import silence, speech, write_set
from tests.servers.process import wait_until
from tympan.bootstrap.quality import SetPlan, open_quality
from tympan.config import load
from tympan.storage.tables import jobs


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("point", ["job.committed", "golden.record", "golden.finish", "erase.rows"])
def test_A2_a_server_killed_while_it_measures_ends_the_run_once(point: str, tmp_path: Path) -> None:
    """The next one goes on where the first was killed, and nothing is left of the jobs."""
    data, folder = tmp_path / "data", write_set(tmp_path / "set", [*speech(3), *silence(1)])
    data.mkdir()
    for number, path in enumerate(sorted(folder.glob("*.pcm"))):
        path.write_bytes(wav(1.0, number))
    with server_in(data) as server:
        with open_quality(load({"data_dir": data, "engine": "fake"})) as quality:
            quality.add(folder, "calls", None, SetPlan())
            begun = quality.desk.run("calls").id
        server.start(fault=f"{point}:crash")
        assert server.child.wait(120) == -signal.SIGKILL, server.tail()
        server.start()
        with open_quality(load({"data_dir": data, "engine": "fake"})) as quality:
            runs = quality.desk.runs
            wait_until(lambda: runs.get(begun).state != "running", 180, server.tail)
            run, results = runs.get(begun), runs.results(begun)
            assert (run.state, run.n_failed, len(runs.page())) == ("succeeded", 0, 1)
            assert [each.state for each in results] == ["done"] * 4
            wait_until(lambda: not runs.spent(begun), 30, server.tail)
        assert server.database.read(lambda tx: tx.scalar(select(func.count()).select_from(jobs))) == 0
