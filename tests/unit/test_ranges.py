"""Which part of a file a request asks for, as RFC 9110 says."""

import pytest

from tympan.api.wire.ranges import Nowhere, Part, has_it, part_of

ETAG = '"a"'


def _asked(value: str, whole: int = 1000, **headers: str) -> Part | Nowhere | None:
    return part_of({"range": value, **{name.replace("_", "-"): text for name, text in headers.items()}}, whole, ETAG)


@pytest.mark.parametrize(
    ("value", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-499", 0, 500),
        ("bytes=500-", 500, 1000),
        ("bytes=0-", 0, 1000),
        ("bytes=-500", 500, 1000),
        ("bytes=-5000", 0, 1000),
        ("bytes=999-5000", 999, 1000),
        ("bytes=000-0009", 0, 10),
        ("Bytes= 1-2 ", 1, 3),
    ],
)
def test_one_range_is_one_part(value: str, start: int, end: int) -> None:
    """From the beginning, open at its end, counted from the end; what reaches beyond the end ends there."""
    assert _asked(value) == Part(start, end, 1000)


@pytest.mark.parametrize(
    "value", ["bytes=1000-", "bytes=1000-2000", "bytes=-0", "bytes=5000-6000, 1000-", "bytes=-0,-0"]
)
def test_a_range_of_nothing_cannot_be_answered(value: str) -> None:
    """Which says how long the whole is."""
    found = _asked(value)
    assert found == Nowhere(1000)
    assert isinstance(found, Nowhere)
    assert found.header == "bytes */1000"


@pytest.mark.parametrize(
    "value",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-4",
        "bytes=0-4,5-4",
        "bytes=0x1-2",
        "bytes=1-2-3",
        "bytes=+1-2",
        "bytes=--1",
        "bytes=1 - 2",
        "bytes=\u0661-2",
        f"bytes={'9' * 30}-",
        "seconds=0-1",
        "bytes=0-1,4-5",
        "bytes=0-1,5000-",
    ],
)
def test_what_is_no_single_range_is_answered_with_the_whole(value: str) -> None:
    """Nonsense, other units, several ranges of which one is there."""
    assert _asked(value) is None


def test_a_range_of_another_version_is_answered_with_the_whole() -> None:
    """If-Range compares strongly; a date is of no version that is known here."""
    assert _asked("bytes=0-1", if_range=ETAG) == Part(0, 2, 1000)
    for other in ('"b"', 'W/"a"', "Wed, 21 Oct 2015 07:28:00 GMT", ""):
        assert _asked("bytes=0-1", if_range=other) is None


def test_nothing_has_no_parts() -> None:
    """Neither from its beginning nor from its end."""
    assert [_asked(value, 0) for value in ("bytes=0-", "bytes=-1")] == [Nowhere(0), Nowhere(0)]


def test_a_part_says_where_it_is() -> None:
    """As Content-Range has it: the last byte is named."""
    part = Part(5, 10, 100)
    assert (part.header, part.n_bytes) == ("bytes 5-9/100", 5)


def test_who_has_a_version_is_told_so() -> None:
    """One among several, weak or strong, or any."""
    for value in (ETAG, f'"x", W/{ETAG}', "*"):
        assert has_it({"if-none-match": value}, ETAG)
    for value in ("", '"b"', "a"):
        assert not has_it({"if-none-match": value}, ETAG)
