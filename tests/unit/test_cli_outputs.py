"""Output files: names that never collide, contents that are whole or absent."""

import errno
from pathlib import Path, PurePath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tympan.cli.outputs import Format, output_paths, plan_names, write_whole
from tympan.cli.sources import Source
from tympan.errors import InsufficientStorage, InvalidRequest


def _source(relative: str, key: str | None = None) -> Source:
    return Source(Path(relative), relative, PurePath(relative), key or f"/in/{relative}")


def _names(*sources: Source, owned: dict[str, str] | None = None, foreign: set[str] | None = None) -> list[str]:
    planned = plan_names(sources, owned or {}, lambda name: name in (foreign or set()))
    return [planned[source.key] for source in sources]


def test_a_name_alone_loses_its_suffix() -> None:
    """The usual case: ``a.wav`` becomes ``a.txt``, in its folder."""
    assert _names(_source("sub/a.wav"), _source("b.mp3")) == ["sub/a", "b"]


def test_two_files_of_one_stem_keep_their_suffixes() -> None:
    """``a.wav`` and ``a.mp3`` become ``a.wav.txt`` and ``a.mp3.txt``; case makes no difference."""
    assert _names(_source("a.wav"), _source("A.mp3")) == ["a.wav", "A.mp3"]


def test_two_files_of_one_name_are_numbered() -> None:
    """Files of the same name from different folders stay apart."""
    assert _names(_source("a.wav", "/x/a.wav"), _source("a.wav", "/y/a.wav")) == ["a.wav", "a.wav-2"]


def test_an_owner_keeps_its_name_when_a_rival_arrives() -> None:
    """A later run with ``a.mp3`` leaves ``a.txt`` to ``a.wav``, which made it."""
    wav, mp3 = _source("a.wav"), _source("a.mp3")
    assert _names(wav, mp3, owned={wav.key: "a"}) == ["a", "a.mp3"]


def test_a_file_of_somebody_else_is_not_overwritten() -> None:
    """A text that no run has written is left as it is."""
    assert _names(_source("a.wav"), foreign={"a"}) == ["a.wav"]


@given(
    st.lists(
        st.text(st.sampled_from("abAB.-2/v"), min_size=1, max_size=6)
        .map(lambda name: name.strip("/.") or "z")
        .flatmap(lambda name: st.sampled_from([name, name + ".wav", name + ".verbose", name + ".wav.mp3"])),
        max_size=12,
    ),
    st.lists(st.sampled_from(Format), min_size=1, unique=True),
)
def test_no_two_sources_ever_share_a_file(relatives: list[str], formats: list[Format]) -> None:
    """Whatever the names, every output of every source is its own file, also where case is ignored."""
    sources = [_source(relative, f"{index}") for index, relative in enumerate(relatives)]
    names = _names(*sources)
    paths = [str(path).casefold() for name in names for path in output_paths(Path("/out"), name, formats).values()]
    assert len(set(paths)) == len(sources) * len(formats)


def test_write_whole_makes_folders_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """The text is there in UTF-8, newlines untouched, and no temporary file is left."""
    write_whole(tmp_path / "x" / "a.txt", "grüß\r\n")
    assert (tmp_path / "x" / "a.txt").read_bytes() == "grüß\r\n".encode()
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["a.txt"]


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk costs the new text, never the old one, and is named."""
    target = tmp_path / "a.txt"
    target.write_text("old")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InsufficientStorage):
        write_whole(target, "new")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that is a file is the caller's mistake, said with the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidRequest, match="file"):
        write_whole(tmp_path / "file" / "a.txt", "x")
