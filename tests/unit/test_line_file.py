"""Files of one line a fact."""

import errno
from pathlib import Path

import pytest

from tympan.errors import InsufficientStorage, InvalidRequest
from tympan.storage.line_file import hold_lines, write_error


def test_lines_are_added_after_one_that_was_cut_short(tmp_path: Path) -> None:
    """What is there is told, and the cut line does not swallow the next."""
    path = tmp_path / "new" / "facts"
    with hold_lines(path, "test") as (file, text):
        assert text == ""
        file.write("one\ntw")
    with hold_lines(path, "test") as (file, text):
        assert text == "one\ntw"
        file.write("three\n")
    assert path.read_text() == "one\ntw\nthree\n"


def test_fresh_forgets_and_a_second_holder_is_refused(tmp_path: Path) -> None:
    """One process at a time; who comes second is told what holds it."""
    path = tmp_path / "facts"
    path.write_text("one\n")
    with hold_lines(path, "test", fresh=True) as (_, text):
        assert text == ""
        with pytest.raises(InvalidRequest, match="Another test is writing"), hold_lines(path, "test"):
            pass


def test_a_full_disk_is_told_from_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    """The remedies differ."""
    assert isinstance(write_error(tmp_path, OSError(errno.ENOSPC, "full")), InsufficientStorage)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="cannot be written"), hold_lines(tmp_path / "file" / "facts", "test"):
        pass
