"""How much of the disk stays free: nobody is let in who would take it."""

import shutil
from pathlib import Path

import pytest

from tympan.api.doors.admission import House
from tympan.errors import InsufficientStorage
from tympan.pipeline import RequestContext

_GB, _MIB = 1_000_000_000, 1 << 20
_BODY = 1000


def _house(monkeypatch: pytest.MonkeyPatch, total: int, free: int, reserve: int | None = None) -> House:
    usage = shutil._ntuple_diskusage(total, total - free, free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    return House(1, Path("/staging"), reserve)


@pytest.mark.parametrize(
    ("total", "reserve", "kept"),
    [
        (100 * _MIB, None, 64 * _MIB),  # A twentieth would be too little for what runs.
        (20 * _GB, None, _GB),
        (99 * _GB, None, 4_950_000_000),
        (10_000 * _GB, None, 5 * _GB),  # A twentieth would be more than anybody would give away.
        (10_000 * _GB, 500 * _GB, 500 * _GB),
        (20 * _GB, 100 * _MIB, 100 * _MIB),
        (20 * _GB, 0, 64 * _MIB),
    ],
)
def test_E2_a_body_that_would_take_the_reserve_is_refused(
    total: int, reserve: int | None, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the byte: what leaves the reserve is let in."""
    _house(monkeypatch, total, kept + _BODY, reserve).admit(RequestContext("fits"), _BODY)
    short = _house(monkeypatch, total, kept + _BODY - 1, reserve)
    with pytest.raises(InsufficientStorage):
        short.admit(RequestContext("too large"), _BODY)
    assert not short.disk_low
    assert _house(monkeypatch, total, kept - 1, reserve).disk_low


def test_E2_a_folder_that_is_gone_has_no_room(tmp_path: Path) -> None:
    """Nobody is let in, and nothing breaks."""
    house = House(1, tmp_path / "gone")
    assert (house.disk_free_bytes, house.disk_low) == (0, True)
    with pytest.raises(InsufficientStorage):
        house.admit(RequestContext("any"), 0)
