"""What a later run may skip, and what it may not."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePath

import pytest

from tympan.cli.journal import NAME, Entry, Journal, file_state, fingerprint, has_changed, open_journal
from tympan.cli.outputs import Format
from tympan.cli.report import Record
from tympan.cli.sources import Source
from tympan.domain import Options, VadOptions
from tympan.errors import InvalidRequest

RECORD = Record("a.wav", "/in/a.wav", text="hi", outputs=("a.txt",), success=True)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Return a file that has been transcribed into ``out/a.txt``."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"audio")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("hi")
    return Source(path, "a.wav", PurePath("a.wav"), str(path), 5)


@pytest.fixture
def journal(tmp_path: Path, source: Source) -> Iterator[Journal]:
    """Yield the journal that says so."""
    with open_journal(tmp_path / "out" / NAME) as journal:
        journal.add(Entry(source.key, file_state(source.path), "f", "a", RECORD))
        yield journal


def _finished(journal: Journal, source: Source, wanted: str = "f", *formats: Format) -> Record | None:
    return journal.finished(source, wanted, source.path.parent / "out", formats or (Format.TXT,))


def test_an_unchanged_file_is_finished(journal: Journal, source: Source) -> None:
    """Same content, same options, outputs in place: nothing to do, and the old record answers."""
    assert _finished(journal, source) == RECORD


def test_a_touched_file_is_finished_still(journal: Journal, source: Source) -> None:
    """A new time with the same content changes nothing."""
    os.utime(source.path, (1, 1))
    assert _finished(journal, source) == RECORD


@pytest.mark.parametrize("content", [b"other", b"longer audio"])
def test_a_changed_file_is_done_again(journal: Journal, source: Source, content: bytes) -> None:
    """New content counts, also at the same size."""
    source.path.write_bytes(content)
    assert _finished(journal, source) is None


def test_other_options_do_it_again(journal: Journal, source: Source) -> None:
    """What was asked for differently was not done."""
    assert _finished(journal, source, "other") is None


def test_another_format_does_it_again(journal: Journal, source: Source) -> None:
    """A format that is not there yet has to be made."""
    assert _finished(journal, source, "f", Format.TXT, Format.SRT) is None


def test_a_deleted_output_is_made_again(journal: Journal, source: Source) -> None:
    """The journal does not stand in for the file it speaks of."""
    (source.path.parent / "out" / "a.txt").unlink()
    assert _finished(journal, source) is None


def test_a_missing_source_counts_as_changed(tmp_path: Path, source: Source) -> None:
    """A file that has gone is not up to date."""
    state = file_state(source.path)
    source.path.unlink()
    assert has_changed(source.path, state)


def test_entries_survive_a_crash_in_the_middle_of_a_line(tmp_path: Path, journal: Journal, source: Source) -> None:
    """A line cut short costs its own file only, and later lines are read again."""
    path = tmp_path / "copy" / NAME
    path.parent.mkdir()
    whole = (tmp_path / "out" / NAME).read_bytes()
    path.write_bytes(whole + whole.replace(b"a.wav", b"b.wav")[:-20])
    with open_journal(path) as resumed:
        assert resumed.names == {source.key: "a"}
        resumed.add(Entry("c", file_state(source.path), "f", "c", RECORD))
    with open_journal(path) as again:
        assert again.names == {source.key: "a", "c": "c"}


def test_the_last_line_of_a_file_wins(tmp_path: Path, source: Source) -> None:
    """Doing a file again replaces what was said about it."""
    entry = Entry(source.key, file_state(source.path), "f", "a", RECORD)
    with open_journal(tmp_path / "j") as journal:
        journal.add(entry)
        journal.add(replace(entry, fingerprint="g"))
    with open_journal(tmp_path / "j") as journal:
        assert journal.finished(source, "g", None, ()) == RECORD
        assert journal.finished(source, "f", None, ()) is None


@pytest.mark.parametrize("line", ["not json", "[]", "{}", '{"version": 2}', '{"version": 1, "state": 3}', "\x00"])
def test_lines_that_mean_nothing_are_ignored(tmp_path: Path, line: str) -> None:
    """Whatever stands in the file, a run starts."""
    (tmp_path / "j").write_text(line + "\n")
    with open_journal(tmp_path / "j") as journal:
        assert journal.names == {}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    """A second run into the same folder is refused instead of mixing its files with the first's."""
    with open_journal(tmp_path / "j"), pytest.raises(InvalidRequest, match="Another"), open_journal(tmp_path / "j"):
        pytest.fail("opened twice")


def test_the_fingerprint_sees_every_option_and_setting() -> None:
    """Any change of options or model makes another fingerprint; the same ones make the same."""
    base = fingerprint(Options(), {"model": "base"})
    others = [
        fingerprint(Options(beam_size=1), {"model": "base"}),
        fingerprint(Options(vad=VadOptions(threshold=0.4)), {"model": "base"}),
        fingerprint(Options(vad=None), {"model": "base"}),
        fingerprint(Options(), {"model": "tiny"}),
    ]
    assert base == fingerprint(Options(), {"model": "base"})
    assert len({base, *others}) == 5
