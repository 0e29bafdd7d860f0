"""Documents for word processors: well formed whatever was said, the same bytes each time, small in memory."""

import io
import re
import tracemalloc
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.results import large
from tympan.domain import Output, Segment, Transcript
from tympan.formats.docx import docx

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
SPACE = "{http://www.w3.org/XML/1998/namespace}space"


class Held:
    """A transcript in memory."""

    def __init__(self, segments: Sequence[Segment], head: Transcript | None = None) -> None:
        """Read ``segments``."""
        self.head, self._segments = head or large(0), tuple(segments)

    def texts(self) -> Iterator[str]:
        """Yield the text."""
        yield from (segment.text for segment in self._segments)

    def groups(self) -> Iterator[Sequence[Segment]]:
        """Yield the segments."""
        yield self._segments


def _bytes(segments: Sequence[Segment], title: str = "Talk", output: Output | None = None) -> bytes:
    return b"".join(docx(Held(segments), output or Output(), title))


def _document(data: bytes) -> ET.Element:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return ET.fromstring(archive.read("word/document.xml"))  # noqa: S314 (our own)


def _read(paragraph: ET.Element) -> str:
    marks = {f"{W}tab": "\t", f"{W}br": "\n"}
    return "".join(marks.get(one.tag) or (one.text or "" if one.tag == f"{W}t" else "") for one in paragraph.iter())


def _paragraphs(data: bytes) -> list[str]:
    return [_read(paragraph) for paragraph in _document(data).iter(f"{W}p")]


def _said(text: str, start_s: float = 0.0, end_s: float = 1.0, speaker: str | None = None) -> Segment:
    return Segment(0, start_s, end_s, text, speaker=speaker)


def test_a_document_has_a_title_times_and_speakers() -> None:
    """A paragraph for each who speaks, the name in bold, its time before it."""
    data = _bytes(
        [
            _said(" Good morning.", 0.4, 1.0, "A"),
            _said(" How are you?", 1.1, 2.0, "A"),
            _said(" Fine.", 2.2, 3.0, "B"),
            _said(" Later.", 3_700.5, 3_701.0, "B"),
        ],
        "Visit",
        Output(speakers=("Dr. Weber", "Ms. Roth")),
    )
    assert _paragraphs(data) == [
        "Visit",
        "[00:00:00] Dr. Weber: Good morning. How are you?",
        "[00:00:02] Ms. Roth: Fine.",
        "[01:01:40] Ms. Roth: Later.",
    ]
    bold = [run for run in _document(data).iter(f"{W}r") if run.find(f"{W}rPr/{W}b") is not None]
    assert ["".join(text.text or "" for text in run.iter(f"{W}t")) for run in bold] == [
        "Dr. Weber: ", "Ms. Roth: ", "Ms. Roth: ",
    ]  # fmt: skip
    assert all(text.get(SPACE) == "preserve" for text in _document(data).iter(f"{W}t"))


def test_nobody_is_named_where_nobody_is_known() -> None:
    """A pause of seconds, and a minute of text, begin a paragraph; silence is none."""
    told = [_said(f" {n}.", 10.0 * n, 10.0 * n + 9) for n in range(13)] + [
        _said("  ", 130, 131),
        _said(" End.", 200, 201),
    ]
    assert _paragraphs(_bytes(told)) == [
        "Talk",
        "[00:00:00] 0. 1. 2. 3. 4. 5.",
        "[00:01:00] 6. 7. 8. 9. 10. 11.",
        "[00:02:00] 12.",
        "[00:03:20] End.",
    ]


def test_marks_of_xml_are_text() -> None:
    """Nothing that was said can be taken for an element, in text, names and titles."""
    bad = "</w:t><w:p/>&amp;]]>\"'<!--"
    data = _bytes([_said(bad, speaker=bad)], bad)
    assert _paragraphs(data) == [bad, f"[00:00:00] {bad}: {bad}"]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        core = ET.fromstring(archive.read("docProps/core.xml"))  # noqa: S314 (our own)
    assert core[0].text == bad


def test_what_xml_cannot_say_is_left_out() -> None:
    """Control characters, halves of characters, and those that are none; tabs and lines stay."""
    text = "a\0b\x08c\x1bd\ufffe\uffffe\ud800f\tg\nh\r\ni\u200bj\U0001f600"
    assert _paragraphs(_bytes([_said(text)], "\0\x01"))[1] == "[00:00:00] abcdef\tg\nh\ni\u200bj\U0001f600"
    assert _paragraphs(_bytes([_said(text)], "\0\x01"))[0] == "Transcript"


def test_scripts_from_the_right_are_written_from_the_right() -> None:
    """Paragraph and run say so; others do not, whatever follows their first letter."""
    hebrew, arabic = "\u05e9\u05dc\u05d5\u05dd 1", "12 \u0645\u0631\u062d\u0628\u0627"
    document = _document(
        _bytes([_said(hebrew, speaker="A"), _said(arabic, speaker="B"), _said(f"Hi {hebrew}", speaker="C")])
    )
    body = list(document.iter(f"{W}p"))[1:]
    assert [paragraph.find(f"{W}pPr/{W}bidi") is not None for paragraph in body] == [True, True, False]
    runs = [paragraph.findall(f"{W}r")[-1] for paragraph in body]
    assert [run.find(f"{W}rPr/{W}rtl") is not None for run in runs] == [True, True, False]


def test_scripts_without_spaces_get_none() -> None:
    """Where segments are joined."""
    assert _paragraphs(_bytes([_said("\u4f60\u597d\uff0c"), _said("\u4e16\u754c"), _said("ok")]))[1].endswith(
        "] \u4f60\u597d\uff0c\u4e16\u754c ok"
    )


def test_the_same_transcript_is_the_same_bytes() -> None:
    """No moment of making is in it."""
    segments = [_said(" Hello."), _said(" Hello again.", 1, 2, "A")]
    assert _bytes(segments) == _bytes(segments)
    with zipfile.ZipFile(io.BytesIO(_bytes(segments))) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist()[0] == "[Content_Types].xml"


def test_every_part_is_there_and_what_is_named_exists() -> None:
    """Types and relations lead to parts of the archive, each of them well formed."""
    with zipfile.ZipFile(io.BytesIO(_bytes([_said("x")]))) as archive:
        names = set(archive.namelist())
        for name in names:
            ET.fromstring(archive.read(name))  # noqa: S314 (our own)
        types = archive.read("[Content_Types].xml").decode()
        assert {part.lstrip("/") for part in re.findall(r'PartName="([^"]+)"', types)} <= names
        assert set(re.findall(r'Target="([^"]+)"', archive.read("_rels/.rels").decode())) <= names
        of_document = archive.read("word/_rels/document.xml.rels").decode()
        assert {f"word/{name}" for name in re.findall(r'Target="([^"]+)"', of_document)} <= names


def test_an_empty_transcript_is_a_title() -> None:
    """And a document all the same."""
    assert _paragraphs(_bytes([])) == ["Talk"]


def test_a_language_is_told_for_spelling() -> None:
    """That of the speech; English where nobody knows."""
    for language, code in (("de", "de"), (None, "en")):
        held = Held([], replace(large(0), language=language))
        with zipfile.ZipFile(io.BytesIO(b"".join(docx(held, Output(), "x")))) as archive:
            assert f'w:lang w:val="{code}"' in archive.read("word/styles.xml").decode()


def test_a_long_transcript_takes_little_memory() -> None:
    """It is made piece by piece."""
    segments = tuple(Segment(n, 90.0 * n, 90.0 * n + 1, f" Sentence {n} is made of words." * 20) for n in range(20_000))
    held, size = Held(segments), 0
    tracemalloc.start()
    for piece in docx(held, Output(), "Long"):
        size += len(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert size > 100_000
    assert peak < 4 << 20


@given(st.lists(st.tuples(st.text(max_size=30), st.none() | st.text(max_size=5)), max_size=6), st.text(max_size=20))
def test_whatever_is_said_a_document_comes_of_it(said: list[tuple[str, str | None]], title: str) -> None:
    """Well formed, with all letters that XML knows."""
    data = _bytes([_said(text, n, n + 1, speaker) for n, (text, speaker) in enumerate(said)], title)
    letters = "".join(_paragraphs(data))
    assert all(char in letters for text, _ in said for char in text if char.isalnum())


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), -float("inf"), -5.0])
def test_times_that_are_none_are_the_beginning(time_s: float) -> None:
    """An engine may say anything."""
    found: Any = _paragraphs(_bytes([_said("x", time_s, time_s)]))
    assert found == ["Talk", "[00:00:00] x"]
