"""R10: the memory of a real engine stays flat over hundreds of requests from several threads."""

import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import SpokenClip
from tympan import bootstrap, config
from tympan.api.ops import memory_used_bytes
from tympan.domain import Options
from tympan.pipeline import RequestContext

_REQUESTS, _THREADS, _WARM_UP = 500, 4, 150
_MOST_MB_PER_REQUEST = 0.1


@pytest.mark.long
@pytest.mark.model
@pytest.mark.timeout(1500)
def test_R10_500_requests_from_four_threads_leave_memory_flat(
    tmp_path: Path, model_data_dir: Path, spoken_clips: Sequence[SpokenClip], capsys: pytest.CaptureFixture[str]
) -> None:
    """After warming up, the server's processes together grow by no more than 0.1 MB a request."""
    (tmp_path / "models").symlink_to(model_data_dir / "models")
    settings = config.load({"model": "tiny.en", "data_dir": tmp_path, "offline": True})
    clips = [clip.path for clip in spoken_clips if clip.language == "en"]
    sizes: list[tuple[int, float]] = []
    lock = threading.Lock()

    with bootstrap.running(settings) as services, ThreadPoolExecutor(_THREADS) as pool:

        def one(number: int) -> None:
            context = RequestContext(f"r{number}", deadline=time.monotonic() + 120)
            services.transcriber.transcribe(clips[number % len(clips)], Options(), context)
            with lock:
                sizes.append((len(sizes), memory_used_bytes() / 1e6))

        list(pool.map(one, range(_REQUESTS)))

    settled = np.array(sizes[_WARM_UP:])
    slope, _ = np.polyfit(settled[:, 0], settled[:, 1], 1)
    figures = f"{slope:+.4f} MB a request; {settled[0, 1]:.0f} MB after {_WARM_UP}, {settled[-1, 1]:.0f} MB at the end"
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
    assert slope <= _MOST_MB_PER_REQUEST
