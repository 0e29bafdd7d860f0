"""A transcript as a document for word processors (Office Open XML): the same bytes for the same transcript. Pure.

A paragraph is what one speaker says without a long pause; before it stand its time and, in bold, who speaks.
"""

import re
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from xml.sax.saxutils import escape, quoteattr

from tympan.domain import Output, Segment
from tympan.formats.readable import Readable, finite, named
from tympan.formats.sink import Sink

MEDIA_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

_PAUSE_S = 2.0
_LONG_S = 60.0
_PIECE_CHARS = 64 << 10
_LONGEST_TITLE = 200
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNSAYABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_RIGHT_TO_LEFT = ("R", "AL")
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml"

_TYPES = (
    f'{_XML}<Types xmlns="{_PACKAGE}/content-types">'
    f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Default Extension="xml" ContentType="application/xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{_MAIN}.document.main+xml"/>'
    f'<Override PartName="/word/styles.xml" ContentType="{_MAIN}.styles+xml"/>'
    f'<Override PartName="/docProps/core.xml" '
    f'ContentType="application/vnd.openxmlformats-package.core-properties+xml"/></Types>'
)
_RELATIONS = (
    f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/officeDocument" Target="word/document.xml"/>'
    f'<Relationship Id="rId2" Type="{_PACKAGE}/relationships/metadata/core-properties" Target="docProps/core.xml"/>'
    f"</Relationships>"
)
_OF_DOCUMENT = (
    f'{_XML}<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="rId1" Type="{_OFFICE}/styles" Target="styles.xml"/></Relationships>'
)
_TIME = '<w:rPr><w:color w:val="808080"/><w:sz w:val="18"/><w:szCs w:val="18"/></w:rPr>'


@dataclass(slots=True)
class _Paragraph:
    start_s: float
    end_s: float
    speaker: str | None
    texts: list[str]


def docx(source: Readable, output: Output, title: str) -> Iterator[bytes]:
    """Yield the document in pieces. Raises what reading the source raises."""
    title = _sayable(" ".join(title.split()))[:_LONGEST_TITLE] or "Transcript"
    sink = Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in (
            ("[Content_Types].xml", _TYPES),
            ("_rels/.rels", _RELATIONS),
            ("word/_rels/document.xml.rels", _OF_DOCUMENT),
            ("word/styles.xml", _styles(source.head.language)),
            ("docProps/core.xml", _core(title)),
        ):
            archive.writestr(_entry(name), text)
        with archive.open(_entry("word/document.xml"), "w", force_zip64=False) as file:
            for piece in _gathered(_document(source, output, title)):
                file.write(piece)
                yield sink.take()
    yield sink.take()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    return entry


def _document(source: Readable, output: Output, title: str) -> Iterator[str]:
    yield f'{_XML}<w:document xmlns:w="{_W}"><w:body>'
    yield f'<w:p><w:pPr><w:pStyle w:val="Title"/>{_direction(title)}</w:pPr>{_run(title)}</w:p>'
    for paragraph in _paragraphs(source, output):
        yield _spelled(paragraph)
    yield '<w:sectPr><w:pgSz w:w="11906" w:h="16838"/>'
    yield '<w:pgMar w:top="1417" w:right="1417" w:bottom="1417" w:left="1417" '
    yield 'w:header="708" w:footer="708" w:gutter="0"/>'
    yield "</w:sectPr></w:body></w:document>"


def _paragraphs(source: Readable, output: Output) -> Iterator[_Paragraph]:
    held: _Paragraph | None = None
    for segment in chain.from_iterable(named(source, output)):
        text = _sayable(segment.text).strip()
        if not text:
            continue
        if held is not None and _goes_on(held, segment):
            held.texts.append(text)
            held.end_s = finite(segment.end_s)
            continue
        if held is not None:
            yield held
        held = _Paragraph(max(0.0, finite(segment.start_s)), finite(segment.end_s), segment.speaker, [text])
    if held is not None:
        yield held


def _goes_on(held: _Paragraph, segment: Segment) -> bool:
    pause_s, length_s = finite(segment.start_s) - held.end_s, finite(segment.end_s) - held.start_s
    return segment.speaker == held.speaker and pause_s <= _PAUSE_S and length_s <= _LONG_S


def _spelled(paragraph: _Paragraph) -> str:
    text = _joined(paragraph.texts)
    seconds = int(paragraph.start_s)
    time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    speaker = _sayable(" ".join((paragraph.speaker or "").split()))
    said = _run(f"{speaker}: ", bold=True) if speaker else ""
    before = f'<w:r>{_TIME}<w:t xml:space="preserve">[{time}] </w:t></w:r>'
    return f"<w:p><w:pPr>{_direction(text)}</w:pPr>{before}{said}{_run(text)}</w:p>"


def _joined(texts: Sequence[str]) -> str:
    found = texts[0]
    for text in texts[1:]:
        is_close = all(unicodedata.east_asian_width(char) in ("W", "F") for char in (found[-1], text[0]))
        found += text if is_close else f" {text}"
    return found


def _run(text: str, *, bold: bool = False) -> str:
    """Return text as a run: what it cannot say is left out, lines and tabs are elements."""
    marks = ("<w:b/><w:bCs/>" if bold else "") + ("<w:rtl/>" if _is_right_to_left(text) else "")
    properties = f"<w:rPr>{marks}</w:rPr>" if marks else ""
    parts = []
    for part in re.split(r"(\t|\r\n|\n|\r)", text):
        if part == "\t":
            parts.append("<w:tab/>")
        elif part in {"\r\n", "\n", "\r"}:
            parts.append("<w:br/>")
        elif part:
            parts.append(f'<w:t xml:space="preserve">{escape(part)}</w:t>')
    return f"<w:r>{properties}{''.join(parts)}</w:r>"


def _direction(text: str) -> str:
    return "<w:bidi/>" if _is_right_to_left(text) else ""


def _is_right_to_left(text: str) -> bool:
    """Return whether the first letter that has a direction is of a script that is written from the right."""
    kinds = (unicodedata.bidirectional(char) for char in text)
    return next((kind in _RIGHT_TO_LEFT for kind in kinds if kind in {"L", *_RIGHT_TO_LEFT}), False)


def _sayable(text: str) -> str:
    """Return what XML can say of a text."""
    return _UNSAYABLE.sub("", text)


def _styles(language: str | None) -> str:
    code = quoteattr(language or "en")
    return (
        f'{_XML}<w:styles xmlns:w="{_W}"><w:docDefaults><w:rPrDefault><w:rPr>'
        f'<w:rFonts w:ascii="Calibri" w:hAnsi="Calibri" w:cs="Arial"/><w:sz w:val="22"/><w:szCs w:val="22"/>'
        f"<w:lang w:val={code} w:eastAsia={code} w:bidi={code}/></w:rPr></w:rPrDefault><w:pPrDefault><w:pPr>"
        f'<w:spacing w:after="160" w:line="276" w:lineRule="auto"/></w:pPr></w:pPrDefault></w:docDefaults>'
        f'<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>'
        f'<w:style w:type="paragraph" w:styleId="Title"><w:name w:val="Title"/><w:basedOn w:val="Normal"/>'
        f'<w:rPr><w:b/><w:bCs/><w:sz w:val="36"/><w:szCs w:val="36"/></w:rPr></w:style></w:styles>'
    )


def _core(title: str) -> str:
    return (
        f'{_XML}<cp:coreProperties xmlns:cp="{_PACKAGE}/metadata/core-properties" '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></cp:coreProperties>'
    )


def _gathered(strings: Iterator[str]) -> Iterator[bytes]:
    held: list[str] = []
    n_chars = 0
    for string in strings:
        held.append(string)
        n_chars += len(string)
        if n_chars >= _PIECE_CHARS:
            yield "".join(held).encode()
            held, n_chars = [], 0
    yield "".join(held).encode()
