"""Who speaks, in a cluster: samples of voices are heard by the process that takes a job in, recordings by a worker."""

import base64
import shutil
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.cluster.conftest import Site
from tests.conftest import SpokenClip
from tests.media import wav
from tests.real_model import pcm
from tests.servers.process import wait_until
from tympan.domain import SAMPLE_RATE_HZ, Samples
from tympan.engine import models
from tympan.engine.catalogue import DIARIZATION

pytestmark = pytest.mark.model

ENDED = {"succeeded", "failed", "cancelled"}


@pytest.fixture
def heard_by(site: Site, model_data_dir: Path) -> Site:
    """Return the cluster, whose api process and worker have the networks in their folders."""
    folder = models.obtain(DIARIZATION, model_data_dir).path
    for node in (site.api, site.worker):
        shutil.copytree(folder, Path(node.environment["TYMPAN_DATA_DIR"]) / "models" / folder.name, dirs_exist_ok=True)
    return site


def test_a_known_voice_bears_its_name_in_a_job(heard_by: Site, spoken_clips: Sequence[SpokenClip]) -> None:
    """Two voices, one of them known by a sample: the turns say who."""
    ann, other = _said(spoken_clips, "hi"), _said(spoken_clips, "zh")
    sample, ann = ann[: 4 * SAMPLE_RATE_HZ], ann[4 * SAMPLE_RATE_HZ :]
    talk = np.concatenate([other, ann, ann, other])
    url = "data:audio/wav;base64," + base64.b64encode(_file(sample)).decode()
    answer = httpx.post(
        f"{heard_by.api.url}/v1/jobs",
        files={"file": ("talk.wav", _file(talk))},
        data={"diarize": "true", "known_speaker_names[]": "Ann", "known_speaker_references[]": url},
        timeout=120,
    )
    assert answer.status_code == 202, answer.text + heard_by.cluster.logs()
    job = f"{heard_by.api.url}/v1/jobs/{answer.json()['id']}"
    wait_until(lambda: httpx.get(job).json()["state"] in ENDED, 120, heard_by.cluster.logs)
    assert httpx.get(job).json()["state"] == "succeeded", httpx.get(job).text
    turns = httpx.get(f"{job}/result", params={"format": "rttm"}).text.splitlines()
    seconds = {"Ann": 0.0, "A": 0.0}
    for turn in turns:
        fields = turn.split()
        seconds[fields[7]] += float(fields[4])
    assert seconds["Ann"] == pytest.approx(2 * len(ann) / SAMPLE_RATE_HZ, abs=4.0)
    assert seconds["A"] == pytest.approx(2 * len(other) / SAMPLE_RATE_HZ, abs=4.0)


def _said(clips: Sequence[SpokenClip], language: str) -> Samples:
    """Return the clips of a language, which one voice says, one after another."""
    return np.concatenate([pcm(clip.path) for clip in clips if clip.language == language])


def _file(samples: Samples) -> bytes:
    return wav(samples[:, None] / 32_768, SAMPLE_RATE_HZ)
