"""What a key looks like, and how often an address may come with a bad one."""

from hypothesis import given
from hypothesis import strategies as st

from tympan.access.failures import MAX_FAILURES, WINDOW_S, FailureLog
from tympan.access.tokens import Token, is_like_a_key, mint, parse


def test_a_key_reads_back_and_its_secret_is_shown_nowhere_else() -> None:
    """Two fresh keys have nothing in common, and a key that is printed by mistake shows its id alone."""
    one, other = mint(), mint()
    assert parse(one.text) == one
    assert one.text.startswith(f"tym_{one.id}_")
    assert len(one.secret) >= 43  # 32 bytes
    assert one.id != other.id
    assert one.secret != other.secret
    assert one.secret not in repr(one)
    assert one.secret not in one.secret_sha256


@given(st.integers(4, 71), st.sampled_from("0aZ_-"))
def test_a_mistyped_key_is_told_from_a_wrong_one(place: int, letter: str) -> None:
    """Any one character that is changed makes it no key at all, which nobody has to look up."""
    token = Token("0123456789abcdef", "x" * 43)
    changed = token.text[:place] + letter + token.text[place + 1 :]
    assert parse(changed) == (token if changed == token.text else None)


@given(st.text(max_size=100))
def test_no_other_text_is_a_key(text: str) -> None:
    """Whatever it is."""
    assert parse(text) is None


def test_a_key_within_a_text_is_seen() -> None:
    """In an address for example, also when it is cut off."""
    assert is_like_a_key(f"audio=1&key={mint().text[:30]}")
    assert not is_like_a_key("tym_base.en_v2")


def test_J4_an_address_fails_ten_times_a_minute() -> None:
    """The eleventh time it is told to wait until the first is a minute old; waiting does not lengthen that."""
    log = FailureLog()
    assert [log.note("192.0.2.1", float(at)) for at in range(MAX_FAILURES)] == [None] * MAX_FAILURES
    assert log.note("192.0.2.1", 20.0) == WINDOW_S - 20.0
    assert log.note("192.0.2.1", 59.0) == 1.0
    assert log.note("192.0.2.1", 60.5) is None
    assert log.note("192.0.2.1", 60.6) is not None


def test_J4_others_are_not_to_blame() -> None:
    """Each address counts for itself, but a home with IPv6 is one."""
    log = FailureLog()
    for number in range(MAX_FAILURES):
        assert log.note(f"2001:db8::{number}", 0.0) is None
    assert log.note("2001:db8::ffff", 1.0) is not None
    assert log.note("2001:db8:0:1::1", 1.0) is None
    assert log.note("192.0.2.1", 1.0) is None
    assert log.note("::ffff:192.0.2.1", 1.0) is None
    assert len(log) == 3
    assert log.note("no address", 1.0) is None


def test_so_many_addresses_are_remembered_at_most() -> None:
    """Those seen longest ago are forgotten: a flood from everywhere takes no more room than this."""
    log = FailureLog(max_addresses=100)
    for number in range(1_000):
        log.note(f"192.0.{number // 250}.{number % 250}", float(number))
    assert len(log) == 100
