"""What an installation depends on is seen as it is: there, away, or late."""

from pathlib import Path

import pytest
from sqlalchemy import text

from tests.api.support import wait_for
from tests.jobs_support import open_shop
from tests.servers.process import free_port
from tympan.access.limits import LimitDesk
from tympan.api.watches import PartReport, PartState
from tympan.bootstrap.watching import LATE_S, make_watches
from tympan.config import Settings
from tympan.storage.blobs import open_blobs
from tympan.storage.database import Database, sqlite_url


def _settings(folder: Path, **more: object) -> Settings:
    return Settings.model_validate({"data_dir": folder, "sweep_s": 0.1, **more})


def _cluster(folder: Path, **more: object) -> Settings:
    """Return settings of a process of a cluster; the database and the audio storage are those that the test has."""
    given = {"database_url": "postgresql://u@h/x", "storage_url": "s3://bucket", "secret_key": "k" * 32}
    return _settings(folder, mode="cluster", **given, **more)


def _seen(settings: Settings, database: Database, *names: str) -> dict[str, PartReport]:
    """Return what is seen once all of ``names`` are."""
    blobs = open_blobs(None, settings.data_dir / "blobs")
    with make_watches(settings, database, blobs, LimitDesk()) as watches:
        wait_for(lambda: set(names) <= watches.reports().keys(), 40)
        return watches.reports()


def test_what_is_well_is_seen_as_well(tmp_path: Path) -> None:
    """The database, what waits in it, and the folder for audio; no servers that are not set."""
    with open_shop(tmp_path / "shop") as shop:
        found = _seen(_settings(tmp_path), shop.database, "database", "object_storage")
    assert set(found) == {"database", "webhooks", "object_storage"}
    assert {each.state for each in found.values()} == {PartState.OK}
    assert found["webhooks"].facts == {"waiting": 0, "lag_s": 0.0}


def test_a_database_without_tables_is_down_and_says_why(tmp_path: Path) -> None:
    """What waits in it is not known then, and nothing is said of it."""
    database = Database(sqlite_url(tmp_path / "empty.db"))
    found = _seen(_settings(tmp_path), database, "database")
    database.close()
    assert found["database"].state is PartState.DOWN
    assert found["database"].reason == "The database is not set up."
    assert found["database"].remedy
    assert "webhooks" not in found


def test_servers_that_are_away_degrade_with_a_reason_and_a_remedy_and_no_address(tmp_path: Path) -> None:
    """Broker and Redis: nothing is lost without them, so the server works on."""
    nowhere = f"127.0.0.1:{free_port()}"
    away = {"broker_url": f"amqp://user:canary@{nowhere}//", "redis_url": f"redis://:canary@{nowhere}/0"}
    settings = _cluster(tmp_path, **away)
    with open_shop(tmp_path / "shop", rings=True) as shop:
        found = _seen(settings, shop.database, "broker", "redis", "outbox")
    for name in ("broker", "redis"):
        assert found[name].state is PartState.DEGRADED
        assert "canary" not in str(found[name])
        assert nowhere not in str(found[name])
    assert found["outbox"].state is PartState.OK


@pytest.mark.parametrize("age_s", [LATE_S / 2, LATE_S * 2])
def test_messages_that_wait_for_long_are_late(tmp_path: Path, age_s: float) -> None:
    """The outbox is degraded when its oldest message has waited for two minutes."""
    settings = _cluster(tmp_path, broker_url=f"amqp://127.0.0.1:{free_port()}//")
    with open_shop(tmp_path / "shop", rings=True) as shop:
        shop.submit(1.0)
        moved = text("update bells set created_at = created_at - :s")
        shop.database.write(lambda tx: tx.execute(moved, {"s": age_s}))
        found = _seen(settings, shop.database, "outbox")
    assert (found["outbox"].state is PartState.DEGRADED) is (age_s > LATE_S)
    assert found["outbox"].facts["waiting"] == 1
