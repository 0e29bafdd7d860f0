"""What the server does ten times a second, and how many connections it allows."""

import asyncio
import resource
from dataclasses import dataclass, field

import pytest

from tests.api.support import Site
from tympan import telemetry
from tympan.api.server import Address, HttpServer, ServerHooks
from tympan.bootstrap import web


@dataclass
class Watch:
    """Notes the sweeps."""

    limit: int = 1
    sweeps: list[float] = field(default_factory=list)

    def sweep(self, now: float) -> None:
        """Note one."""
        self.sweeps.append(now)


def ticking(server: Site) -> tuple[HttpServer, Watch]:
    """Return a server that does not listen, and what it sweeps."""
    hooks = ServerHooks(on_drain=lambda: None, on_force=lambda: None)
    made = HttpServer(server.app, server.services, Address("127.0.0.1", 0), hooks)
    made.config.load()
    watch = Watch()
    made._crowd = watch  # type: ignore[assignment]
    return made, watch


async def _tick(made: HttpServer, counter: int, late_s: float) -> None:
    made._ticked_at = asyncio.get_running_loop().time() - 0.1 - late_s
    await made.on_tick(counter)


def test_connections_are_looked_at_twice_a_second_and_not_after_a_standstill(server: Site) -> None:
    """Every fifth turn; when the loop stood still, what came meanwhile is read before anybody is blamed."""
    made, watch = ticking(server)
    for counter in range(10):
        asyncio.run(_tick(made, counter, 0.0))
    assert len(watch.sweeps) == 2
    asyncio.run(_tick(made, 0, 2.0))
    assert len(watch.sweeps) == 2


def test_how_late_the_loop_turns_is_measured(server: Site) -> None:
    """In seconds beyond what was asked for."""
    made, _ = ticking(server)
    before = telemetry.REGISTRY.get_sample_value("tympan_loop_lag_seconds_sum") or 0.0
    asyncio.run(_tick(made, 0, 3.0))
    after = telemetry.REGISTRY.get_sample_value("tympan_loop_lag_seconds_sum") or 0.0
    assert after - before >= 3.0


@pytest.mark.parametrize(
    ("wanted", "soft", "hard", "room", "raised"),
    [
        (2_000, 1_024, 524_288, 2_000, 4_000),
        (2_000, 1_024, 1_024, 512, 1_024),
        (2_000, 65_536, 65_536, 2_000, None),
        (2_000, 256, resource.RLIM_INFINITY, 2_000, 4_000),
        (2_000, resource.RLIM_INFINITY, resource.RLIM_INFINITY, 2_000, None),
    ],
)
def test_connections_leave_half_of_the_files_to_the_rest(
    monkeypatch: pytest.MonkeyPatch, wanted: int, soft: int, hard: int, room: int, raised: int | None
) -> None:
    """The limit on open files is raised where it may be; where it may not, there is room for fewer."""
    given: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: given.append(limits[0]))
    assert web._room_for_connections(wanted) == room
    assert given == ([raised] if raised is not None else [])
