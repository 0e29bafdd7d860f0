"""What the benchmark of live speech over a WebSocket makes of messages and delays."""

from typing import Any

from benchmarks import live_socket
from tympan.live import Final, Partial


def row(way: str, shown_s: float, final_s: float) -> dict[str, Any]:
    """Return a row with these delays throughout."""
    spreads = {
        name: {"median": value, "p95": value, "max": value, "n": 3}
        for name, value in (("shown_s", shown_s), ("stable_s", shown_s), ("final_s", final_s))
    }
    return {"way": way, "words": 7, **spreads}


def test_messages_become_events_that_delays_are_read_from() -> None:
    """Stable words are told from those that may change; other messages tell nothing of text."""
    partial = live_socket._event({"type": "partial", "utterance": 2, "stable": "so it", "tail": "was"})
    assert isinstance(partial, Partial)
    assert (partial.utterance, partial.stable, partial.tail) == (2, "so it", "was")
    final = live_socket._event(
        {"type": "final", "utterance": 2, "start": 1.0, "end": 2.5, "text": "So it was.", "language": "en"}
    )
    assert isinstance(final, Final)
    assert (final.start_s, final.end_s, final.text) == (1.0, 2.5, "So it was.")
    assert live_socket._event({"type": "speech_started", "utterance": 2, "at": 1.0}) is None


def test_goals_are_for_sockets_and_the_way_is_compared() -> None:
    """A server that is late beside other work misses its goal; one as quick as a session in process meets all."""
    good = live_socket.checks([row("in process", 0.2, 0.8), row("alone", 0.2, 0.9), row("beside", 0.4, 1.2)])
    assert all(check.met for check in good)
    assert len(good) == 6
    bad = live_socket.checks([row("in process", 0.2, 0.8), row("alone", 0.3, 0.9), row("beside", 1.4, 1.2)])
    assert [check.figure for check in bad if not check.met] == [
        "beside: a word is shown",
        "a word is shown: median beside in process",
    ]


def test_the_page_has_a_row_for_each_way() -> None:
    """With median, 95th percentile and greatest of each delay."""
    rows = [row(way, 0.25, 0.75) for way in live_socket._WAYS]
    ((title, head, cells),) = live_socket.body({"rows": rows})
    assert title == "Delays"
    assert len(head) == len(cells[0])
    assert cells[1][:2] == ["over a WebSocket", "0.25 / 0.25 / 0.25"]
