"""Which files the paths on the command line stand for."""

import io
import os
from pathlib import Path

import pytest

from tympan.cli import sources
from tympan.cli.sources import STDIN, discover, spool_stdin
from tympan.errors import InsufficientStorage, InvalidRequest, NotFound


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_a_folder_gives_its_media_in_name_order(tmp_path: Path) -> None:
    """Folders are walked in order; other files, hidden files and hidden folders are left alone."""
    _touch(tmp_path, "b.wav", "a.MP3", "notes.txt", ".hidden.wav", ".git/x.wav", "sub/c.flac")
    found = discover([str(tmp_path)], recursive=True)
    assert [source.label for source in found] == ["a.MP3", "b.wav", "sub/c.flac"]
    assert all(source.path.exists() and source.size_bytes == 1 for source in found)


def test_a_file_named_outright_is_taken_whatever_its_name(tmp_path: Path) -> None:
    """Only folders are filtered by file name."""
    _touch(tmp_path, "recording")
    assert [source.path for source in discover([str(tmp_path / "recording")], recursive=False)] == [
        tmp_path / "recording"
    ]


def test_a_folder_without_recursive_is_refused_with_the_remedy(tmp_path: Path) -> None:
    """A folder given by mistake does not start an hour of work."""
    with pytest.raises(InvalidRequest) as caught:
        discover([str(tmp_path)], recursive=False)
    assert "--recursive" in (caught.value.remedy or "")


def test_a_file_is_taken_once(tmp_path: Path) -> None:
    """The same file by two spellings, or by itself and by its folder, is one source."""
    _touch(tmp_path, "a.wav")
    spellings = [str(tmp_path / "a.wav"), str(tmp_path / "sub" / ".." / "a.wav"), str(tmp_path)]
    (tmp_path / "sub").mkdir()
    assert len(discover(spellings, recursive=True)) == 1


def test_several_folders_keep_their_names_apart(tmp_path: Path) -> None:
    """With two folders, files of the same name go to different places."""
    _touch(tmp_path, "x/a.wav", "y/a.wav")
    found = discover([str(tmp_path / "x"), str(tmp_path / "y")], recursive=True)
    assert [source.relative.as_posix() for source in found] == ["x/a.wav", "y/a.wav"]


def test_a_missing_file_is_a_source_with_a_problem(tmp_path: Path) -> None:
    """What is not there is reported, and does not stop what is."""
    _touch(tmp_path, "a.wav")
    missing, present = discover([str(tmp_path / "no.wav"), str(tmp_path / "a.wav")], recursive=False)
    assert isinstance(missing.problem, NotFound)
    assert present.problem is None


def test_a_pipe_is_not_opened(tmp_path: Path) -> None:
    """A FIFO could block for ever, a device could go on for ever: refused."""
    os.mkfifo(tmp_path / "pipe")
    (source,) = discover([str(tmp_path / "pipe")], recursive=False)
    assert isinstance(source.problem, InvalidRequest)


def test_a_link_loop_ends(tmp_path: Path) -> None:
    """A folder that links to itself is walked once."""
    _touch(tmp_path, "a.wav")
    (tmp_path / "again").symlink_to(tmp_path)
    assert [source.label for source in discover([str(tmp_path)], recursive=True)] == ["a.wav"]


def test_control_characters_never_reach_the_terminal(tmp_path: Path) -> None:
    """A file name cannot move the cursor or colour the screen."""
    _touch(tmp_path, "a\x1b[31m\n.wav")
    (source,) = discover([str(tmp_path)], recursive=True)
    assert source.label.isprintable()
    assert source.path.exists()


def test_a_name_that_is_not_utf8_can_be_shown(tmp_path: Path) -> None:
    """Bytes that are no text are shown as such, and the file is still found."""
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav"))).write_bytes(b"x")
    (source,) = discover([str(tmp_path)], recursive=True)
    assert source.label.encode("utf-8")
    assert source.path.exists()


def test_stdin_is_copied_to_a_file(tmp_path: Path) -> None:
    """Audio from a pipe ends up in a file, whole."""
    assert discover([STDIN], recursive=False)[0].key == STDIN
    payload = os.urandom(3 << 20)
    assert spool_stdin(tmp_path, io.BytesIO(payload)).read_bytes() == payload


def test_stdin_stops_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An endless pipe ends with a typed error, not with a full disk."""
    monkeypatch.setattr(sources, "_KEEP_FREE_BYTES", 1 << 62)
    with pytest.raises(InsufficientStorage):
        spool_stdin(tmp_path, io.BytesIO(b"x"))


def test_a_terminal_as_stdin_is_refused(tmp_path: Path) -> None:
    """Nobody types audio."""

    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(InvalidRequest, match="terminal"):
        spool_stdin(tmp_path, Terminal())
