"""Clients written by others, in an environment of their own, against a real server with a real model.

``make test-clients`` makes that environment (Python 3.12 or later) and runs these.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.acceptance.test_serve import serving, wait_ready
from tests.conftest import REPOSITORY, SpokenClip

PYTHON = Path(os.environ.get("CLIENTS_VENV") or REPOSITORY / ".venv-clients") / "bin" / "python"
SCRIPTS = sorted((Path(__file__).parent / "outside").glob("*.py"))
MODELS = ("whisper-1", "gpt-4o-mini-transcribe")
LIMIT_S = 100.0

pytestmark = [
    pytest.mark.long,
    pytest.mark.model,
    pytest.mark.skipif(not PYTHON.exists(), reason="make test-clients installs the clients"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the address of a server with the model `base`."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "models").symlink_to(REPOSITORY / ".cache" / "tympan" / "models")
    with serving(folder, ENGINE="auto", MODEL="base") as process:
        wait_ready(process, 100.0)
        yield process.url


@pytest.fixture(scope="module")
def wav(tmp_path_factory: pytest.TempPathFactory, spoken_clips: tuple[SpokenClip, ...]) -> Path:
    """Return somebody counting, as 16-bit samples, which is what the clients' own code reads."""
    clip = next(clip for clip in spoken_clips if clip.path.stem == "counting" and clip.language == "en")
    samples, rate = soundfile.read(clip.path, dtype="float32")
    path: Path = tmp_path_factory.mktemp("audio") / "counting.wav"
    soundfile.write(path, (np.asarray(samples) * 32_000).astype(np.int16), rate)
    return path


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_outside_clients_hear_what_is_said(script: Path, model: str, url: str, wav: Path) -> None:
    """Each with the model's name that it sends by itself, and with OpenAI's oldest."""
    done = subprocess.run(
        [PYTHON, script, url, wav, model],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONPATH": ""},
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    assert all(number in done.stdout for number in ("1", "5", "10")), done.stdout
