"""A job of hours and short ones on one engine: the short ones hardly notice."""

import time
from pathlib import Path

import pytest

from tests.batching_support import running
from tests.faults.checker import check
from tests.faults.client import Client, expected_text
from tests.faults.evidence import gather, keep_diary
from tests.faults.process import Installation, Plan, pcm
from tests.jobs_support import open_shop
from tests.servers.process import wait_until
from tympan.batching.batcher import BatcherOptions
from tympan.batching.queue import BatchLimits

# Everything in proportion, five seconds of audio for the usual 28 of a window: a section is eleven windows, a short job
# one, and a batch takes one while others wait, as it does where a window takes a second or more.
_SECTION_S, _SHORT_S, _LONG_S = 55.0, 4.5, 1500.0
_MS_PER_AUDIO_S = 30
_BATCHES = BatcherOptions(batch=BatchLimits(max_ms=10.0, idle_ms=160.0), prefetch_lead_s=0.005)
_SHORT_ONES = 10


@pytest.mark.alone
def test_Q5_short_jobs_beside_a_long_one_take_at_most_three_times_as_long(tmp_path: Path) -> None:
    """One slot of the worker is not for further sections of the long one, and windows take turns in the engine."""
    knobs = {"ms_per_audio_s": str(_MS_PER_AUDIO_S)}
    with open_shop(tmp_path) as shop, running(_BATCHES, knobs) as batcher:
        keep_diary(shop.database)
        installation = Installation(Plan(tmp_path, slots=4, section_s=_SECTION_S), shop, tmp_path, batcher)
        installation.start()
        client = Client(installation)
        _time_one(client, 1000)
        alone = sorted(_time_one(client, number) for number in range(_SHORT_ONES))
        long = client.submit("long", pcm(_LONG_S, 5000), ends=frozenset({"cancelled"}))
        wait_until(lambda: installation.held()["busy"] >= 3, 20.0)
        beside = sorted(_time_one(client, number) for number in range(100, 100 + _SHORT_ONES))
        state, sections = client.look(long)
        client.cancel(long)
        wait_until(lambda: installation.held()["busy"] == 0, 20.0)
        installation.close()
        assert check(client.history, gather(shop.database, shop.blobs)) == []
    assert (state, sections < _LONG_S / _SECTION_S - 4) == ("running", True)
    assert beside[-2] <= 3 * alone[-2], f"alone {alone}, beside the long one {beside}"


def _time_one(client: Client, number: int) -> float:
    started = time.monotonic()
    promise = client.submit(f"short {number}", pcm(_SHORT_S, number), text=expected_text(_SHORT_S, number))
    client.wait(promise, lambda _, __: False)
    return time.monotonic() - started
