"""Alarms and chores, on SQLite and PostgreSQL."""

from tympan.quality.alarms import AlarmBook
from tympan.storage.chores import Chores
from tympan.storage.database import Database


def test_an_alarm_is_open_once_until_it_ends(database: Database) -> None:
    """Who finds the same again brings the figures up to date; a new one after the end is another alarm."""
    book = AlarmBook(database)
    book.mark("wer_regression", "calls", {"points": 3})
    book.mark("wer_regression", "calls", {"points": 4})
    book.mark("wer_regression", "other", {"points": 1})
    first, second = book.open()
    assert (first.subject, first.detail, first.until) == ("calls", {"points": 4}, None)
    assert second.subject == "other"
    assert book.counts() == {"wer_regression": 2}
    book.mark("wer_regression", "calls", None)
    book.mark("wer_regression", "calls", None)
    assert [each.subject for each in book.open()] == ["other"]
    book.mark("wer_regression", "calls", {"points": 9})
    told = [(each.subject, each.until is None) for each in book.since(1.0)]
    assert told == [("calls", False), ("other", True), ("calls", True)]
    assert book.forget(0.0) == 1
    assert len(book.since(1.0)) == 2


def test_alarms_of_what_is_gone_end(database: Database) -> None:
    """All of its kinds; those about other things stay."""
    book = AlarmBook(database)
    for kind, subject in (("a", "calls"), ("b", "calls"), ("a", "other")):
        book.mark(kind, subject, {"n": 1})
    database.write(lambda tx: book.end_all_in(tx, lambda subject: subject == "calls"))
    assert [(each.kind, each.subject) for each in book.open()] == [("a", "other")]


def test_a_chore_is_one_processs_at_a_time(database: Database) -> None:
    """Who has it keeps it while it asks in time; it is another's when its turn is over."""
    mine, other = Chores(database, "mine"), Chores(database, "other")
    assert mine.take("golden", 60.0)
    assert not other.take("golden", 60.0)
    assert mine.take("golden", -1.0)
    assert other.take("golden", 60.0)
    assert not mine.take("golden", 60.0)
    assert mine.take("another", 60.0)
