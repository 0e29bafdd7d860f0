"""Long audio: cut into sections, it survives crashes, stops when told, lets others pass, and reads like one piece."""

import time
from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.client import SETTLE_S, Client, expected_text
from tests.faults.house import open_house
from tests.faults.process import WINDOW_S, HashDesk, pcm, transcriber
from tests.jobs_support import TENANT, open_shop
from tests.servers.process import wait_until
from tympan.domain import Options, Timestamps
from tympan.pipeline import RequestContext

_LONG_S = 200.0


def test_Q2_killed_at_95_percent_one_section_is_done_again(tmp_path: Path) -> None:
    """What was handed in is kept: the next process starts with the section that the dead one had in hand."""
    with open_house(tmp_path, slots=1) as house:
        client = Client(house)
        sections = _sections(tmp_path / "cut")
        assert sections >= 18
        house.start(fault=f"section.decoded:crash:{sections - 1}")
        client.submit("long", pcm(_LONG_S, 1), text=expected_text(_LONG_S, 1))
        client.settle()
        found = house.evidence()
        assert house.crashes == 1
        assert check(client.history, found) == []
        assert len(found.entries("done", "section")) == sections
        assert len(found.entries("claim", "section")) == sections + 1
        assert len(found.entries("claim", "prepare")) == 1
        # The new process's engine has heard no more than the last two sections.
        assert 2 <= house.ask("held")["windows"] <= 2 * 3


def test_Q2_killed_while_it_is_cut_nothing_is_transcribed_twice(tmp_path: Path) -> None:
    """A second run of the cutting leaves the sections that are there, and their results."""
    with open_house(tmp_path, slots=2, window_ms=1.0) as house:
        client = Client(house)
        sections = _sections(tmp_path / "cut")
        house.start(fault=f"section.insert:crash:{sections - 2}")
        client.submit("long", pcm(_LONG_S, 1), text=expected_text(_LONG_S, 1))
        client.settle()
        found = house.evidence()
        assert house.crashes == 1
        assert check(client.history, found) == []
        assert len(found.entries("claim", "prepare")) == 2
        assert len(found.entries("done", "section")) == sections
        assert len(found.entries("claim", "section")) <= sections + 1


@pytest.mark.parametrize("section_s", [5.0, 20.0, 35.0, 300.0])
def test_Q3_sections_read_like_a_single_pass(section_s: float, tmp_path: Path) -> None:
    """Text, segments and words are those of one pass over the whole file, and times never run backwards."""
    options = Options(language="en", timestamps=Timestamps.WORD)
    audio = pcm(203.0, 7)
    path = tmp_path / "whole"
    path.write_bytes(audio)
    whole = transcriber(HashDesk()).transcribe(path, options, RequestContext("whole"))
    with open_shop(tmp_path / "shop") as shop:
        shop.section_s = section_s
        shop.desk = HashDesk()  # type: ignore[assignment]
        job = shop.submit(203.0, options=options)
        shop.blobs.put(f"jobs/{job.id}/media", audio)
        shop.work_off()
        _, joined = shop.service.transcript(TENANT, job.id)
    assert joined.text == whole.text
    assert joined.segments == whole.segments
    assert joined.accounting == whole.accounting
    assert joined.stats == whole.stats
    times = [at for word in joined.words for at in (word.start_s, word.end_s)]
    assert len(times) > 100
    assert times == sorted(times)
    assert all(one.end_s <= two.start_s for one, two in zip(joined.segments, joined.segments[1:], strict=False))


def test_Q4_cancelled_at_half_it_stops_within_a_window(tmp_path: Path) -> None:
    """Only windows that had begun by the time the worker looks at its leases are still done."""
    window_ms, watch_s = 150.0, 0.3
    with open_house(tmp_path, slots=1, window_ms=window_ms, watch_s=watch_s) as house:
        client = Client(house)
        house.start()
        promise = client.submit("long", pcm(_LONG_S, 1), ends=frozenset({"cancelled"}))
        client.wait(promise, lambda _, sections: sections >= 9)
        client.cancel(promise)
        done_before = house.ask("held")["windows"]
        assert promise.seen[-1] == "cancelled"
        wait_until(lambda: house.ask("held")["busy"] == 0, SETTLE_S)
        at_stop = house.ask("held")["windows"]
        # While it was being told: what fits into the watch's period, and the one that was running.
        assert at_stop - done_before <= watch_s * 1000 / window_ms + 2
        time.sleep(5 * window_ms / 1000)
        assert house.ask("held")["windows"] <= at_stop + 1
        house.ask("tidy")
        assert check(client.history, house.evidence()) == []


def test_Q7_a_step_longer_than_its_lease_is_never_taken_away(tmp_path: Path) -> None:
    """Heartbeats keep it, although another worker and the sweeper look all the time."""
    _outlast(tmp_path, leases=9, lease_s=1.2)


@pytest.mark.long
def test_Q7_a_step_of_forty_leases_is_never_taken_away(tmp_path: Path) -> None:
    """As above."""
    _outlast(tmp_path, leases=40, lease_s=1.5)


def _outlast(folder: Path, leases: int, lease_s: float) -> None:
    window_ms = (leases + 0.5) * lease_s * 1000
    with open_house(
        folder, slots=1, lease_s=lease_s, heartbeat_s=0.1, sweep_s=0.1, poll_s=0.05, window_ms=window_ms
    ) as house:
        client = Client(house)
        house.start(takes_over=False)
        house.start(takes_over=False)
        client.submit("long", pcm(WINDOW_S, 1), text=expected_text(WINDOW_S, 1))
        client.settle(window_ms / 1000 + SETTLE_S)
        found = house.evidence()
        assert check(client.history, found) == []
        claimed, done = found.entries("claim", "section")[0], found.entries("done", "section")[0]
        assert done.at - claimed.at >= leases * lease_s
        assert [entry.fence for entry in found.entries("claim")] == [1, 1, 1]
        assert not found.entries("lapse")


def _sections(folder: Path) -> int:
    """Return into how many sections the long job is cut."""
    with open_shop(folder) as shop:
        shop.section_s = 10.0
        job = shop.submit(_LONG_S, options=Options(language="en"))
        shop.blobs.put(f"jobs/{job.id}/media", pcm(_LONG_S, 1))
        shop.work_off()
        return shop.get(job).progress.sections_done
