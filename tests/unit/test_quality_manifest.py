"""Golden sets as folders: what is read, what is refused, and what makes a version another."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.golden_support import silence, speech, write_set
from tympan.errors import InvalidRequest
from tympan.quality.canaries import canaries
from tympan.quality.manifest import NAME, digest_of, read_folder
from tympan.quality.starter import starter_items


def _folder(tmp_path: Path, *rows: object) -> Path:
    write_set(tmp_path, speech(1))
    (tmp_path / NAME).write_text("\n".join(each if isinstance(each, str) else json.dumps(each) for each in rows))
    return tmp_path


def _row(**changes: Any) -> dict[str, Any]:
    return {"id": "a", "audio": "s1.pcm", "reference": "hi", **changes}


def test_a_folder_becomes_clips_in_its_order(tmp_path: Path) -> None:
    """With digests of the audio; keys that mean nothing here are ignored."""
    rows = [*speech(2, tags=["phone", "phone", "bad line"], licence="CC0"), *silence(1, "music")]
    first, second, third = read_folder(write_set(tmp_path, rows))
    assert (first.id, first.reference, first.language, first.speaker) == (
        "s1",
        "an old stone bridge 1",
        "en",
        "voice 0",
    )
    assert (first.kind, first.tags) == ("speech", ("phone", "bad line"))
    assert first.sha256 == hashlib.sha256((tmp_path / "s1.pcm").read_bytes()).hexdigest()
    assert first.n_bytes == 96_000
    assert second.id == "s2"
    assert (third.kind, third.reference, third.language) == ("music", "", None)


def test_a_language_for_all_is_that_of_lines_that_name_none(tmp_path: Path) -> None:
    """``none`` is no language."""
    folder = _folder(tmp_path, _row(), _row(id="b", language="de"), _row(id="c", language="none"), "")
    assert [item.language for item in read_folder(folder, "fr")] == ["fr", "de", None]


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    """Each with its line."""
    os.truncate(write_set(tmp_path, speech(2)) / "s2.pcm", 0)
    folder = _folder(
        tmp_path, "{", "[]", _row(reference=None), _row(id="b", audio="gone.wav"), _row(id="b", audio="../x"),
        _row(id="c", language="klingon"), _row(id="d", kind="rain"), _row(id="e", kind="noise"), _row(id="f", tags="x"),
        _row(id="g", audio="s2.pcm"), _row(id="", speaker=3), _row(id="h", audio="s1.pcm\0"),
    )  # fmt: skip
    with pytest.raises(InvalidRequest) as refused:
        read_folder(folder)
    for said in (
        "line 1: is no JSON object", "line 2: is no JSON object", "line 3: reference is missing",
        "line 4: audio 'gone.wav' cannot be read: No such file", "line 5: the id 'b' is there already",
        "line 5: audio '../x' is outside the folder", "line 6: language 'klingon' is no code", "line 7: kind is 'rain'",
        "line 8: a clip of noise has no reference", "line 9: tags is no list", "line 10: audio 's2.pcm' has 0 bytes",
        "line 11: id is no text", "line 11: speaker is no text", "line 12: audio",
    ):  # fmt: skip
        assert said in str(refused.value), said


def test_of_very_many_problems_the_first_are_shown(tmp_path: Path) -> None:
    """And how many more there are."""
    with pytest.raises(InvalidRequest, match="and 10 more"):
        read_folder(_folder(tmp_path, *["{"] * 30))


@pytest.mark.parametrize("rows", [[], [{"id": "n", "audio": "s1.pcm", "kind": "noise"}]])
def test_a_set_without_speech_measures_no_words(rows: list[object], tmp_path: Path) -> None:
    """It is refused."""
    with pytest.raises(InvalidRequest, match="no clip of speech"):
        read_folder(_folder(tmp_path, *rows))


def test_a_folder_without_its_manifest_is_refused(tmp_path: Path) -> None:
    """As is one whose manifest is no text, or endless."""
    with pytest.raises(InvalidRequest, match="cannot be read"):
        read_folder(tmp_path)
    (tmp_path / NAME).write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidRequest, match="not UTF-8"):
        read_folder(tmp_path)
    (tmp_path / NAME).write_text("\n" * 20_001)
    with pytest.raises(InvalidRequest, match="20001 lines"):
        read_folder(tmp_path)


@pytest.mark.parametrize("change", [{"reference": "ho"}, {"language": "en"}, {"tags": ["t"]}, {"speaker": "x"}])
def test_whatever_a_result_depends_on_makes_another_version(change: dict[str, Any], tmp_path: Path) -> None:
    """So does another order; reading again does not."""
    plain = digest_of(read_folder(_folder(tmp_path, _row())))
    assert digest_of(read_folder(_folder(tmp_path, _row(other=1)))) == plain
    assert digest_of(read_folder(_folder(tmp_path, _row(**change)))) != plain


def test_canaries_are_the_same_everywhere_and_as_loud_as_they_should_be() -> None:
    """WAV files of six seconds, four of silence at least, none of them clipped."""
    found = canaries()
    assert found == canaries()
    assert sorted({kind for kind, _ in found.values()}) == ["music", "noise", "silence"]
    assert all(data[:4] == b"RIFF" and len(data) == 44 + 2 * 6 * 16_000 for _, data in found.values())
    assert len(found) >= 12
    assert not any(found["silence-digital"][1][44:])


def test_the_starter_set_is_valid_and_makes_its_files_for_a_moment() -> None:
    """Forty-eight sentences, and enough clips without speech for an alarm."""
    with starter_items() as items:
        assert sum(item.kind == "speech" for item in items) == 48
        assert sum(item.kind != "speech" for item in items) == len(canaries())
        assert all(item.path.is_file() and item.sha256 and item.n_bytes for item in items)
        made = items[-1].path
    assert not made.exists()
