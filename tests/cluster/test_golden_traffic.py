"""What is measured with golden sets is nobody's traffic in a cluster either, whose workers count."""

from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.conftest import SpokenClip
from tests.golden_support import write_voices
from tests.servers.process import wait_until
from tympan.bootstrap.quality import SetPlan, open_quality
from tympan.config import load as load_settings

pytestmark = pytest.mark.long


def _seen(site: Site) -> float:
    """Return how many transcripts the worker has counted."""
    lines = httpx.get(f"{site.worker.url}/metrics", timeout=10).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("tympan_audio_codecs_total{"))


def _used(site: Site) -> dict[str, int]:
    """Return how many requests are on the books, by tenant."""
    query = text("select tenant, sum(requests) as n from usage group by tenant")
    return {row.tenant: int(row.n) for row in site.store.read(lambda tx: tx.execute(query).all())}


def test_clips_of_golden_sets_are_no_traffic_of_a_worker(
    site: Site, load: Load, tmp_path: Path, spoken_clips: tuple[SpokenClip, ...]
) -> None:
    """Somebody's job before it is counted, in both books; the clips are in neither."""
    load.submit("somebody's", clip())
    load.settle()
    wait_until(lambda: _seen(site) >= 1, 30, site.cluster.logs)
    before, used = _seen(site), _used(site)
    assert used["default"] >= 1
    voices = [voice for voice in spoken_clips if voice.language == "en"][:2]
    names = ("MODE", "ENGINE", "SECRET_KEY", "DATABASE_URL", "BROKER_URL", "STORAGE_URL")
    given = {name.lower(): site.cluster.settings[name] for name in names}
    with open_quality(load_settings({**given, "data_dir": tmp_path / "data"})) as quality:
        quality.add(write_voices(tmp_path / "set", voices), "calls", None, SetPlan())
        begun = quality.run("calls").id
        try:
            runs = quality.desk.runs
            wait_until(lambda: runs.get(begun).state != "running", 120, site.cluster.logs)
            run = runs.get(begun)
            assert (run.state, run.n_failed, run.n_items) == ("succeeded", 0, 2)
            assert all(result.text for result in runs.results(begun))
        finally:
            quality.remove("calls")
    assert _seen(site) == before
    assert _used(site) == used
