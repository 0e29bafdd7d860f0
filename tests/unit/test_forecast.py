"""How long the wait will be, and what is refused first when it gets long."""

import pytest

from tympan.api.doors.forecast import (
    DEFAULT_PACE,
    SHED_AT,
    TOGETHER,
    UNKNOWN_S,
    Errands,
    LengthGuess,
    Load,
    Pace,
    Wish,
    is_shed,
)


def errands(*left_s: float, weight: float = 1.0) -> Errands:
    """Return what a tenant has in the house."""
    return Errands(weight, left_s)


def test_who_has_nothing_here_waits_for_its_share_only() -> None:
    """A tenant's first request takes turns with another's backlog: it waits for as much again as it has itself."""
    load = Load({"busy": errands(*[5.0] * 100)})
    assert load.ahead_s("rare", 3.0) == 3.0
    assert load.ahead_s("busy", 5.0) == 500.0


def test_a_short_request_does_not_wait_for_a_long_one() -> None:
    """Requests of a tenant take turns; two long ones wait for each other."""
    load = Load({"me": errands(300.0)})
    assert load.ahead_s("me", 0.2) == pytest.approx(0.2)
    assert load.ahead_s("me", 300.0) == 300.0
    assert not is_shed(Wish.LIVE, load.pressure(60.0, "me", 0.2))
    assert is_shed(Wish.SHORT, load.pressure(60.0, "me", 300.0))


def test_own_work_comes_first_and_others_take_their_share_meanwhile() -> None:
    """Beside ten seconds of mine an equal gets ten, one of half the weight five, nobody more than it has."""
    load = Load(
        {"me": errands(4.0, 9.0), "equal": errands(100.0), "half": errands(100.0, weight=0.5), "little": errands(1.0)}
    )
    assert load.ahead_s("me", 6.0) == (4.0 + 6.0) + (16.0 + 8.0 + 1.0)
    assert load.ahead_s("me", 6.0, weight=2.0) == (4.0 + 6.0) + (8.0 + 4.0 + 1.0)


def test_one_who_floods_leaves_room_for_others() -> None:
    """At its own bound the flooding tenant is refused and another is not, until all together have twice that."""
    load = Load({"busy": errands(*[1.0] * 60)})
    assert is_shed(Wish.SHORT, load.pressure(60.0, "busy", 1.0))
    assert not is_shed(Wish.LIVE, load.pressure(60.0, "rare", 1.0))
    assert load.highest_pressure(60.0) == 1.0
    full = Load({f"t{n}": errands(*[1.0] * 30) for n in range(int(2 * TOGETHER))})
    assert full.pressure(60.0, "rare", 1.0) == 1.0


def test_what_can_wait_is_refused_first() -> None:
    """Live sessions and long files at four fifths, jobs at nine tenths, short files at nineteen twentieths."""
    granted = {pressure: {wish for wish in Wish if not is_shed(wish, pressure)} for pressure in (0.79, 0.8, 0.9, 0.95)}
    assert granted[0.79] == set(Wish)
    assert granted[0.8] == {Wish.JOB, Wish.SHORT}
    assert granted[0.9] == {Wish.SHORT}
    assert granted[0.95] == set()
    assert set(SHED_AT) == set(Wish)


def test_a_length_is_guessed_from_files_of_that_size() -> None:
    """Small files that are PCM and large ones that are compressed do not spoil each other's guess."""
    guess = LengthGuess()
    assert guess.guess_s(160_000) == pytest.approx(10.0)
    for _ in range(30):
        guess.learn(160_000, 5.0)
        guess.learn(20_000_000, 10_000.0)
    assert guess.guess_s(160_000) == pytest.approx(5.0, rel=0.05)
    assert guess.guess_s(20_000_000) == pytest.approx(10_000.0, rel=0.05)


def test_a_guess_has_bounds() -> None:
    """A file that packs a day into a few bytes does not make every file a day long, and nothing exceeds the limit."""
    guess = LengthGuess(max_audio_s=3600.0)
    guess.learn(100_000, 86_400.0)
    assert guess.guess_s(100_000) <= 100.0
    assert guess.guess_s(10**12) == 3600.0
    assert guess.guess_s(1) == 1.0
    guess.learn(100_000, 0.0)
    assert guess.guess_s(100_000) <= 100.0


def test_what_is_not_announced_is_taken_for_what_came_lately() -> None:
    """The mean length of recent audio, or half a minute."""
    guess = LengthGuess()
    assert guess.guess_s(0) == UNKNOWN_S
    for _ in range(60):
        guess.learn(0, 300.0)
    assert guess.guess_s(0) == pytest.approx(300.0, rel=0.02)


def test_the_pace_is_measured_while_there_is_work() -> None:
    """A hundred seconds of audio in two; idle time does not count."""
    pace = Pace()
    pace.note(0.0, was_busy=False)
    for step in range(1, 41):
        pace.note(step * 0.5, 25.0, was_busy=True)
    pace.note(1000.0, was_busy=False)
    assert pace.s_per_audio_s(0.02) == pytest.approx(0.02, rel=0.1)
    assert pace.s_per_audio_s(0.0) == pytest.approx(0.02, rel=0.1)


def test_a_machine_that_slows_down_shows_soon() -> None:
    """After twice the half-life at a tenth of the speed, the pace is mostly the new one."""
    pace = Pace()
    pace.note(0.0, was_busy=False)
    for step in range(1, 61):
        pace.note(float(step), 50.0, was_busy=True)
    for step in range(61, 91):
        pace.note(float(step), 5.0, was_busy=True)
    assert pace.s_per_audio_s(0.0) > 0.08


def test_a_request_that_waits_for_something_else_does_not_spoil_the_pace() -> None:
    """What the engine itself takes is believed within a factor of four."""
    pace = Pace()
    pace.note(0.0, was_busy=False)
    pace.note(60.0, was_busy=True)
    assert pace.s_per_audio_s(0.05) == pytest.approx(0.2)
    assert Pace().s_per_audio_s(0.0) == pytest.approx(DEFAULT_PACE)
