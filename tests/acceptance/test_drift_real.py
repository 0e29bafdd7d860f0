"""Real speech by real models, simulated weeks: what is planted is caught within its week, clean weeks raise nothing."""

from pathlib import Path

import pytest

from benchmarks.drift import PLANTS, Plant, by_source, clean, planted, treatments
from benchmarks.scoring import Clip
from benchmarks.synth import write_clips
from benchmarks.weeks import Pool
from tests.conftest import SpokenClip
from tympan.bootstrap import running
from tympan.config import load
from tympan.engine import models
from tympan.observation import Observation
from tympan.pipeline import RequestContext

pytestmark = [pytest.mark.long, pytest.mark.model, pytest.mark.timeout(3600)]
FOREIGN = "es"


@pytest.fixture(scope="module")
def pools(
    tmp_path_factory: pytest.TempPathFactory,
    model_data_dir: Path,
    spoken_clips: tuple[SpokenClip, ...],
    base: models.ResolvedModel,
    tiny_en: models.ResolvedModel,
) -> dict[str, Pool]:
    """Return what is observed of voices and sounds as they are, and of each way of making things worse."""
    del base, tiny_en  # They have to be there.
    folder = tmp_path_factory.mktemp("drift")
    voices = [
        Clip(f"{each.language}{at}", each.path, 2.6, each.language, each.text) for at, each in enumerate(spoken_clips)
    ]
    usual = [clip for clip in voices if clip.language != FOREIGN]
    foreign = [clip for clip in voices if clip.language == FOREIGN]
    found: dict[str, Pool] = {}
    silent = write_clips(folder / "silent", 12, 3)
    for name, (model, options, clips) in treatments(folder, "base", usual, silent, foreign).items():
        seen: list[Observation] = []
        settings = load({"model": model, "compute_type": "int8", "data_dir": model_data_dir, "log_level": "warning"})
        with running(settings, seen.append) as services:
            for clip in clips:
                services.transcriber.transcribe(clip.path, options, RequestContext(clip.id))
        found[name] = by_source(clips, seen)
    return found


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.pools[0])
def test_what_is_planted_is_caught_within_its_week(plant: Plant, pools: dict[str, Pool]) -> None:
    """By the alarm that names it."""
    for trial in range(2):
        assert planted(plant, pools, trial)["day"], (plant, trial)


def test_twenty_clean_weeks_raise_no_alarm(pools: dict[str, Pool]) -> None:
    """Each draws its clips anew, in bursts of one source."""
    assert clean(pools, 0) == []
