"""Processes and servers of a cluster come in any order, and in versions that are one apart."""

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.cluster.conftest import Site
from tests.cluster.load import Load, clip
from tests.cluster.support import Cluster, Node
from tests.servers.postgres import Database
from tests.servers.process import wait_until

_A = clip(2.0, 440.0)
_READY_S = 10.0
_ORDERS = tuple(itertools.permutations(("to_postgres", "to_rabbitmq", "to_s3")))


@contextmanager
def _more(site: Site, *kinds: str, **settings: str) -> Iterator[list[Node]]:
    """Yield more processes of the running cluster."""
    added = [site.cluster.add(kind, **settings) for kind in kinds]
    try:
        yield added
    finally:
        for node in added:
            node.kill()
            site.cluster.nodes.remove(node)


def _is_alive(node: Node) -> bool:
    try:
        return httpx.get(f"{node.url}/livez", timeout=2).status_code == 200
    except httpx.TransportError:
        return False


def _appear(site: Site, load: Load, order: tuple[str, ...]) -> None:
    proxies = [getattr(site, name) for name in order]
    for proxy in proxies:
        proxy.refuse()
    with _more(site, "api", "scheduler", "worker") as added:
        for node in added:
            wait_until(lambda node=node: _is_alive(node), 30)  # type: ignore[misc]
        for number, proxy in enumerate(proxies):
            away = set(order[number:]) - {"to_rabbitmq"}  # Jobs are taken without a broker.
            assert not (away and any(node.is_ready() for node in added))
            time.sleep(1.0)
            proxy.heal()
        appeared = time.monotonic()
        for node in added:
            node.wait_ready()
        assert time.monotonic() - appeared < _READY_S
        site.worker.freeze()
        try:
            load.api = added[0]
            load.submit("on the new ones", _A)
            load.prove()
        finally:
            site.worker.go_on()
        assert '"waiting"' in added[0].log.read_text()


def test_O7_processes_wait_for_servers_that_come_later(site: Site, load: Load) -> None:
    """Started with nothing there, they answer `/livez`, are not ready, and 10 s after the last server they are."""
    _appear(site, load, _ORDERS[0])


@pytest.mark.long
@pytest.mark.parametrize("order", _ORDERS[1:])
def test_O7_in_every_order(site: Site, load: Load, order: tuple[str, ...]) -> None:
    """Whichever server comes last."""
    _appear(site, load, order)


def test_O7_processes_wait_for_the_schema(site: Site, tmp_path: Path, postgres: Database) -> None:
    """One that is started before `tympan migrate` says so in its log, and begins when the schema is there."""
    cluster = Cluster(tmp_path, {**site.cluster.settings, "DATABASE_URL": postgres.url})
    node = cluster.add("scheduler")
    try:
        wait_until(lambda: "tympan migrate" in node.log.read_text(), 30)
        assert not node.is_ready()
        cluster.migrate()
        wait_until(node.is_ready, _READY_S)
        assert node.stop() == 0
    finally:
        node.kill()


@pytest.mark.long
def test_O5_this_version_works_on_the_schema_of_the_next(site: Site, load: Load) -> None:
    """A migration adds a column that may be empty and a table; processes that know nothing of it start and work."""
    site.postgres.execute("alter table jobs add column later text")
    site.postgres.execute("create table later (id text primary key)")
    known = site.postgres.execute("select version_num from alembic_version")[0][0]
    site.postgres.execute("update alembic_version set version_num = '9999'")
    try:
        with _more(site, "api", "worker") as (api, worker):
            worker.wait_ready()
            api.wait_ready()
            site.worker.freeze()
            load.api = api
            load.submit("on the next schema", _A)
            load.prove()
    finally:
        site.worker.go_on()
        site.postgres.execute(f"update alembic_version set version_num = '{known}'")  # noqa: S608 (our own)
        site.postgres.execute("alter table jobs drop column later")
        site.postgres.execute("drop table later")


def test_O1_a_worker_that_is_asked_to_stop_gives_its_work_back(site: Site, load: Load) -> None:
    """It ends in the time it has to finish and a little; what it was at goes to another at once, as no crash."""
    slow = '{"ms_per_audio_s": "10000"}'
    with _more(site, "worker", ENGINE_OPTIONS=slow, DRAIN_S="1") as (worker,):
        worker.wait_ready()
        site.worker.freeze()
        try:
            load.submit("stopped in the middle", _A)
            wait_until(lambda: any(step.kind == "section" for step in load.evidence().steps), 15)
            wait_until(lambda: "running" in load.states().values(), 15)
            assert worker.stop() == 0
        finally:
            site.worker.go_on()
        load.prove()
    assert load.evidence().entries("lapse") == []


def test_O1_idle_processes_end_when_they_are_asked_to(site: Site) -> None:
    """Each in order, within seconds."""
    with _more(site, "api", "scheduler", "worker") as added:
        for node in added:
            node.wait_ready()
        for node in added:
            assert node.stop(10.0) == 0, node.log.read_text()[-2000:]
