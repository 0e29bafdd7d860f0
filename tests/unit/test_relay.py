"""The relay publishes doorbells from the outbox, says when the broker takes none, and never gives up."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.jobs_support import Shop, open_shop
from tests.servers.process import wait_until
from tympan import telemetry
from tympan.domain import Lane
from tympan.errors import StorageUnavailable
from tympan.jobs.relay import Relay
from tympan.storage.outbox import Outbox


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    """Return stores that ring."""
    with open_shop(tmp_path / "shop", rings=True) as opened:
        yield opened


class Broker:
    """Takes doorbells, or fails as it is told."""

    def __init__(self) -> None:
        """Take everything at first."""
        self.error: Exception | None = None
        self.tries = 0
        self.lanes: list[Lane] = []

    def take(self, lanes: Sequence[Lane]) -> None:
        """Keep the doorbells or raise the error."""
        self.tries += 1
        if self.error is not None:
            raise self.error
        self.lanes += lanes


def _gauge(metric: object) -> float:
    return float(metric._value.get())  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [StorageUnavailable("away"), ValueError("broken")])
def test_B1_what_cannot_be_published_is_tried_again_until_it_is(shop: Shop, error: Exception) -> None:
    """Typed or not, a failure leaves the doorbells where they are, and the thread alive."""
    broker = Broker()
    broker.error = error
    relay = Relay(Outbox(shop.database), broker.take, poll_s=0.01)
    relay.start()
    shop.submit(1.0)
    wait_until(lambda: broker.tries >= 2, 10)
    assert broker.lanes == []
    broker.error = None
    relay.ring()
    wait_until(lambda: broker.lanes == [Lane.BATCH], 10)
    relay.stop()
    assert Outbox(shop.database).waiting() == 0


def test_B4_a_broker_that_takes_nothing_shows_in_metrics(shop: Shop) -> None:
    """And that it takes something again, too."""
    broker = Broker()
    broker.error = StorageUnavailable("blocked")
    relay = Relay(Outbox(shop.database), broker.take, poll_s=0.01)
    relay.start()
    shop.submit(1.0)
    relay.ring()
    wait_until(lambda: _gauge(telemetry.BROKER_BLOCKED) == 1, 10)
    wait_until(lambda: _gauge(telemetry.BELLS_WAITING) == 1 and _gauge(telemetry.BELL_LAG) > 0, 10)
    broker.error = None
    relay.ring()
    wait_until(lambda: _gauge(telemetry.BROKER_BLOCKED) == 0 and _gauge(telemetry.BELLS_WAITING) == 0, 10)
    relay.stop()


def test_a_relay_that_was_never_started_can_be_stopped(shop: Shop) -> None:
    """A process may end before it has begun."""
    Relay(Outbox(shop.database), Broker().take).stop()
