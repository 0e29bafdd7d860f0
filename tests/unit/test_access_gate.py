"""Who is let in, on a clock and a database of the test's own."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import pytest

from tests.api.support import wait_for
from tympan.access import gate as gate_module
from tympan.access import ring as ring_module
from tympan.access.callers import EVERYBODY, Caller
from tympan.access.failures import MAX_FAILURES
from tympan.access.gate import FRESH_S, GRACE_S, SURE_S, WAIT_S, Asks, Gate
from tympan.access.ring import TOUCH_S, KeyRing
from tympan.access.tokens import Token, mint
from tympan.errors import Overloaded, StorageUnavailable, TooManyFailures, TympanError, Unauthenticated
from tympan.storage.keys import ANY, KeyFact

HERE = "192.0.2.1"
Result = TypeVar("Result")


@dataclass
class House:
    """A gate, and a database that a test can change, silence and break."""

    now_s: float = 1_000.0
    facts: dict[str, KeyFact] = field(default_factory=dict)
    asked: list[list[str]] = field(default_factory=list)
    touched: list[set[str]] = field(default_factory=list)
    error: Exception | None = None
    speaks: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Make the ring."""
        self.speaks.set()
        self.ring = KeyRing(self._find, self._touch, lambda: self.now_s)
        self.gate = self.door(Asks.ALWAYS)

    def door(self, asks: Asks) -> Gate:
        """Return a gate over the same ring."""
        return Gate(asks, self.ring, lambda: self.now_s)

    def give(self, left_s: float | None = None) -> Token:
        """Return a key that is in the database."""
        token = mint()
        self.facts[token.id] = KeyFact("acme", token.secret_sha256, frozenset({"transcribe"}), False, left_s)
        return token

    def revoke(self, token: Token) -> None:
        """End a key."""
        self.facts[token.id] = replace(self.facts[token.id], revoked=True)

    def admit(self, token: Token | str | None, address: str = HERE) -> Caller:
        """Let somebody in."""
        return run(lambda: self.gate.admit(token.text if isinstance(token, Token) else token, address))

    def _find(self, key_ids: Sequence[str]) -> Mapping[str, KeyFact]:
        self.asked.append(list(key_ids))
        assert self.speaks.wait(10)
        if self.error is not None:
            raise self.error
        return {key_id: self.facts[key_id] for key_id in key_ids if key_id in self.facts}

    def _touch(self, key_ids: Collection[str]) -> None:
        if self.error is not None:
            raise self.error
        self.touched.append(set(key_ids))


def run(work: Callable[[], Awaitable[Result]]) -> Result:
    """Return what ``work`` gives on an event loop."""

    async def whole() -> Result:
        return await work()

    return asyncio.run(whole())


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[House]:
    """Return a house where waiting is short."""
    monkeypatch.setattr(gate_module, "_FIRST_WAIT_S", 0.3)
    made = House()
    yield made
    made.speaks.set()
    made.ring.close()


def test_a_key_opens_and_names_its_tenant(house: House) -> None:
    """The database is asked once for many requests."""
    token = house.give()
    for _ in range(5):
        assert house.admit(token) == Caller("acme", token.id, frozenset({"transcribe"}))
    assert house.asked == [[token.id]]


@pytest.mark.parametrize("key", [None, "", "sk-1234", "tym_0_x", Token("0" * 16, "x" * 43).text])
def test_nobody_else_is_let_in(house: House, key: str | None) -> None:
    """No key, another kind of key, one that nobody has."""
    with pytest.raises(Unauthenticated):
        house.admit(key)


def test_J3_a_wrong_secret_is_told_like_an_id_that_nobody_has(house: House) -> None:
    """The same words and the same questions to the database."""
    token, stranger = house.give(), mint()
    texts = set()
    for wrong in (Token(token.id, mint().secret), stranger, Token(token.id, mint().secret), stranger):
        with pytest.raises(Unauthenticated) as caught:
            house.admit(wrong)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert house.asked == [[token.id], [stranger.id]] * 2


def test_J8_what_is_revoked_stops_within_five_seconds(house: House) -> None:
    """With one request every quarter of a second, and with none in between."""
    token, rested = house.give(), house.give()
    for each in (token, rested):
        house.admit(each)
        house.revoke(each)
    revoked_s = house.now_s

    def still_opens() -> bool:
        house.now_s += 0.25
        asked = len(house.asked)
        try:
            house.admit(token)
        except Unauthenticated:
            return False
        if house.now_s - revoked_s > FRESH_S + 0.25:
            wait_for(lambda: len(house.asked) > asked or house.ring.silent_s == 0)
        return True

    while still_opens():
        assert house.now_s - revoked_s < 5.0 - WAIT_S
    house.now_s = revoked_s + SURE_S + 0.01
    with pytest.raises(Unauthenticated, match="revoked"):
        house.admit(rested)


def test_a_key_that_expires_does_so_to_the_moment(house: House) -> None:
    """Also while what is known of it is fresh."""
    token = house.give(left_s=1.0)
    assert house.admit(token).tenant == "acme"
    house.now_s += 1.0
    with pytest.raises(Unauthenticated, match="expired"):
        house.admit(token)


def test_D4_a_database_that_is_silent_does_not_shut_out_who_was_in(house: House) -> None:
    """For so long, and no longer; who was never in has to wait for it."""
    token = house.give()
    house.admit(token)
    house.speaks.clear()
    house.now_s += SURE_S + 1
    assert house.admit(token).tenant == "acme"  # This one waits a moment for the database.
    house.now_s += WAIT_S
    assert house.admit(token).tenant == "acme"  # And this one does not.
    with pytest.raises(StorageUnavailable):
        house.admit(house.give())
    house.now_s += GRACE_S
    with pytest.raises(StorageUnavailable):
        house.admit(token)


def test_a_database_that_fails_is_no_reason_to_let_in_or_out(house: House) -> None:
    """A key that was in goes on, an unknown one is told to try again, and the thread survives a surprise."""
    token, other = house.give(), house.give()
    house.admit(token)
    house.now_s += SURE_S + 1
    house.error = StorageUnavailable()
    assert house.admit(token).tenant == "acme"
    with pytest.raises(StorageUnavailable):
        house.admit(other)
    house.error = ValueError("a mistake")
    with pytest.raises(TympanError) as caught:
        house.admit(other)
    assert caught.value.code == "internal_error"
    house.error = None
    assert house.admit(other).tenant == "acme"


def test_who_does_not_wait_any_longer_takes_nothing_from_the_others(house: House) -> None:
    """A caller that hangs up while its key is looked up leaves the answer to the next."""
    token = house.give()
    house.speaks.clear()

    async def impatient() -> Caller:
        first = asyncio.create_task(house.gate.admit(token.text, HERE))
        await asyncio.sleep(0.05)
        second = asyncio.create_task(house.gate.admit(token.text, HERE))
        await asyncio.sleep(0.05)
        first.cancel()
        house.speaks.set()
        return await second

    assert run(impatient).tenant == "acme"
    assert house.asked == [[token.id]]


def test_J4_guessing_is_slowed_down_and_the_right_key_still_opens(house: House) -> None:
    """Ten bad keys a minute from one address are answered as such; the others are told to wait."""
    token = house.give()
    seen = []
    for _ in range(MAX_FAILURES + 5):
        with pytest.raises(TympanError) as caught:
            house.admit(mint())
        seen.append(type(caught.value))
    assert seen == [Unauthenticated] * MAX_FAILURES + [TooManyFailures] * 5
    assert caught.value.retry_after_s
    assert house.admit(token).tenant == "acme"
    with pytest.raises(Unauthenticated, match="needed"):
        house.admit(None)  # Nobody guesses without a key.
    with pytest.raises(Unauthenticated):
        house.admit(mint(), "192.0.2.2")


def test_an_open_door_stays_open_until_there_is_a_key(house: House) -> None:
    """Then it asks, for good: not even the loss of all keys opens it again while the process lives."""
    house.gate = house.door(Asks.ONCE_THERE_ARE_SOME)
    assert house.admit("sk-whatever") == EVERYBODY
    token = house.give()
    house.facts[ANY] = house.facts[token.id]
    house.now_s += SURE_S + 0.1
    with pytest.raises(Unauthenticated):
        house.admit(None)
    assert house.admit(token).tenant == "acme"
    house.facts.clear()
    house.now_s += 1_000
    with pytest.raises(Unauthenticated):
        house.admit(None)


def test_a_door_that_stood_open_is_not_shut_by_a_silent_database(house: House) -> None:
    """Where there were no keys there is nothing to protect; where nothing was ever known nobody is let in."""
    house.gate = house.door(Asks.ONCE_THERE_ARE_SOME)
    house.error = StorageUnavailable()
    with pytest.raises(StorageUnavailable):
        house.admit(None)
    house.error = None
    assert house.admit(None) == EVERYBODY
    house.error = StorageUnavailable()
    house.now_s += 10 * GRACE_S
    assert house.admit(None) == EVERYBODY


def test_a_door_without_a_lock_asks_nobody(house: House) -> None:
    """Not even the database."""
    house.gate = house.door(Asks.NEVER)
    assert house.admit("anything") == EVERYBODY
    assert house.asked == []


def test_a_long_connection_learns_that_its_key_has_ended(house: House) -> None:
    """And one that needed no key, that one is asked for now."""
    token = house.give()
    caller = house.admit(token)
    assert run(lambda: house.gate.is_still_good(caller))
    house.revoke(token)
    house.now_s += SURE_S + 0.1
    assert not run(lambda: house.gate.is_still_good(caller))
    open_door = house.door(Asks.ONCE_THERE_ARE_SOME)
    assert run(lambda: open_door.is_still_good(EVERYBODY))
    house.facts[ANY] = house.facts[token.id]
    house.now_s += SURE_S + 0.1
    assert not run(lambda: open_door.is_still_good(EVERYBODY))


def test_last_use_is_written_once_a_minute_and_at_the_end(house: House) -> None:
    """However often a key is used; a database that fails loses it, and nothing else."""
    token = house.give()
    for _ in range(20):
        house.admit(token)
    assert house.touched == []
    house.now_s += TOUCH_S + 1
    house.admit(house.give())
    wait_for(lambda: house.touched)
    assert house.touched[0] >= {token.id}
    house.error = StorageUnavailable()
    house.now_s += TOUCH_S + 1
    house.admit(token)
    house.ring.close()
    assert len(house.touched) == 1


def test_use_is_written_when_the_ring_is_closed(house: House) -> None:
    """A server that stops within the minute loses nothing."""
    token = house.give()
    house.admit(token)
    house.ring.close()
    assert house.touched == [{token.id}]


def test_a_flood_of_ids_is_remembered_within_bounds(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids that nobody has push out one another, never a key; and the database gets a few long questions."""
    monkeypatch.setattr(ring_module, "MAX_KNOWN", 100)
    token = house.give()
    house.admit(token)
    house.speaks.clear()
    house.ring.ask("first")
    wait_for(lambda: len(house.asked) == 2)
    asked = [house.ring.ask(f"{number:016x}") for number in range(1_500)]
    house.speaks.set()
    for future in asked:
        assert future.result(5).fact is None
    assert len(house.asked) == 2 + 3
    assert sum(house.ring.known(f"{number:016x}") is not None for number in range(1_500)) == 100
    known = house.ring.known(token.id)
    assert known is not None
    assert known.fact is not None


def test_so_many_wait_for_an_answer_at_most(house: House) -> None:
    """Who comes then is told to come back."""
    house.speaks.clear()
    house.ring.ask("first")
    wait_for(lambda: house.asked)
    asked = [house.ring.ask(f"{number:016x}") for number in range(2_001)]
    with pytest.raises(Overloaded):
        asked[-1].result(1)
    house.speaks.set()
    assert asked[0].result(5).fact is None
