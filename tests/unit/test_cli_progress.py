"""Progress in seconds of audio: the estimate, the bars, and silence for pipes."""

import io
import re
from pathlib import Path, PurePath

import pytest
from rich.console import Console

from tympan.cli import bars, display
from tympan.cli.bars import BarDisplay
from tympan.cli.console import format_clock
from tympan.cli.display import open_display
from tympan.cli.progress import FileProgress, NoDisplay, estimate_total_s
from tympan.cli.sources import Source
from tympan.domain import Progress


def _source(name: str, size_bytes: int) -> Source:
    return Source(Path(name), name, PurePath(name), name, size_bytes)


def test_nothing_is_known_before_the_first_length() -> None:
    """No length, no estimate."""
    assert estimate_total_s([FileProgress(100), FileProgress(200)]) is None


def test_unknown_files_count_by_size() -> None:
    """A file twice as large as a known one is taken for twice as long."""
    assert estimate_total_s([FileProgress(100, 0.0, 10.0), FileProgress(200)]) == 30.0


def test_an_estimate_is_never_below_what_is_done() -> None:
    """A small file that turns out long pushes the total up."""
    assert estimate_total_s([FileProgress(100, 0.0, 10.0), FileProgress(1, done_s=50.0)]) == 60.0


def test_known_lengths_add_up_exactly() -> None:
    """When every length is known nothing is estimated."""
    assert estimate_total_s([FileProgress(100, 0.0, 10.0), FileProgress(1, 0.0, 7.0)]) == 17.0


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3600, "1:00:00")])
def test_clock(seconds: float, text: str) -> None:
    """Durations read as on a player."""
    assert format_clock(seconds) == text


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Return what a terminal of 100 columns is sent."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, color_system=None, legacy_windows=False)
    for module in (bars, display):
        monkeypatch.setattr(module, "stderr", lambda: console)
    return stream


def _last_lines(stream: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_the_bars_show_audio_and_files(screen: io.StringIO) -> None:
    """The total counts files and audio-seconds, each file in flight has its own line."""
    first, second = _source("one.wav", 100), _source("a-very-long-name-of-a-file-that-needs-cutting.wav", 100)
    with open_display([first, second], quiet=False) as shown_by:
        assert isinstance(shown_by, BarDisplay)
        shown_by.started(first)
        shown_by.started(second)
        shown_by.progressed(first, Progress(30.0, 60.0))
        shown_by._bars.refresh()
        shown = _last_lines(screen)
        assert "0 of 2 files" in shown
        assert "0:30 / ~2:00" in shown
        assert "0:30 / 1:00" in shown
        assert "a-very-long-n…ds-cutting.wav" in shown
        shown_by.finished(first, 60.0)
        shown_by.finished(second, None)
        shown_by._bars.refresh()
        assert "2 of 2 files" in _last_lines(screen)
        assert "1:00 / 1:00" in _last_lines(screen)


def test_a_name_with_brackets_is_shown_as_it_is(screen: io.StringIO) -> None:
    """File names are text, never markup."""
    with open_display([_source("[red]a[/red].wav", 1)], quiet=False) as bars_shown:
        bars_shown._bars.refresh()  # type: ignore[attr-defined]
    assert "[red]a[/red].wav" in _last_lines(screen)


def test_no_bars_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stderr that is no terminal gets no bars."""
    monkeypatch.setattr(display, "stderr", lambda: Console(file=io.StringIO()))
    assert isinstance(open_display([_source("a", 1)], quiet=False), NoDisplay)


def test_quiet_shows_nothing(screen: io.StringIO) -> None:
    """``--quiet`` holds at a terminal too."""
    with open_display([_source("a", 1)], quiet=True) as nothing:
        nothing.progressed(_source("a", 1), Progress(1.0, 2.0))
    assert screen.getvalue() == ""
