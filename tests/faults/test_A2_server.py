"""As ``test_A2_every_commit_point.py``, with the whole server: HTTP, resumable uploads and webhooks included."""

from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.client import Client
from tests.faults.serving import http_load, server_in, settle, told_text
from tympan.faultpoints import POINTS
from tympan.jobs.janitor import Janitor, JanitorOptions
from tympan.storage.blobs import open_blobs
from tympan.storage.endings import Endings
from tympan.storage.upkeep import Upkeep

_GOLDEN = ("golden.begin", "golden.record", "golden.finish")
_ELSEWHERE = ("bell.publish", "bell.mark", "sweep.release", "anew.commit", *_GOLDEN)
"""The first two need a broker, `anew` other weights. One server of its own leaves no lease to the sweeper."""


@pytest.mark.long
def test_A2_the_server_killed_with_an_upload_in_hand_keeps_its_promises(tmp_path: Path) -> None:
    """One point; every client repeats what was not answered."""
    _killed_at("upload.written", tmp_path)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", [point for point in POINTS if point not in _ELSEWHERE])
def test_A2_the_server_killed_at_any_commit_point_keeps_its_promises(point: str, tmp_path: Path) -> None:
    """Every point that a server of its own passes."""
    _killed_at(point, tmp_path)


def _killed_at(point: str, folder: Path) -> None:
    with server_in(folder, ENGINE_OPTIONS='{"ms_per_window": "40"}') as server:
        server.start(fault=f"{point}:crash")
        client = Client(server, endpoint="hook")
        audio = http_load(client, 0)
        settle(server, client, audio)
        assert server.crashes == 1, f"{point} was not reached"
        assert all(told_text(server, client.history.promises[intent]) for intent in audio)
        server.close()
        blobs = open_blobs(None, folder / "blobs")
        upkeep = Upkeep(server.database, Endings(server.database, audio_days=1, text_days=1))
        Janitor(upkeep, None, blobs, JanitorOptions(orphan_age_s=0.0)).remove_orphans()  # type: ignore[arg-type]
        blobs.abort_stale_uploads(0.0)
        assert check(client.history, server.evidence()) == []
