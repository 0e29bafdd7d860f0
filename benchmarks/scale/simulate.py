"""Jobs on their way through the cluster, in simulated time: where they wait, and which line grows without end."""

from dataclasses import dataclass

from benchmarks.scale.model import (
    BELLS_PER_RELAY,
    PCM_BYTES_PER_S,
    FileKind,
    Plant,
    audio_s_per_s,
    jobs_per_s,
    sections_of,
    tenant_row_s,
)
from benchmarks.scale.queues import Action, Clock, Station

WARM_UP_S = 20.0
WATCH_S = 20.0
WATCH_JOBS = 20_000.0
FULL = 0.99


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen at one station; ``growth_per_s`` is how much longer its line was after each second."""

    station: str
    utilisation: float
    mean_wait_ms: float
    growth_per_s: float

    @property
    def is_full(self) -> bool:
        """Whether it has no time to spare."""
        return self.utilisation >= FULL


def simulate(plant: Plant, seed: int = 1) -> list[Seen]:
    """Return what every station did, after ``WARM_UP_S`` to fill the plant.

    It is watched for ``WATCH_S`` seconds, or as long as ``WATCH_JOBS`` files take to arrive: few files vary much.
    """
    clock = Clock(seed)
    cluster = _Cluster(clock, plant)
    for kind in plant.mix:
        clock.poisson(audio_s_per_s(plant) * kind.share / kind.length_s, _arrivals(cluster, kind))
    clock.poisson(plant.workers / plant.heartbeat_s, lambda: cluster.transaction("heartbeat", _nothing))
    clock.poisson(plant.workers / plant.liveness_s, lambda: cluster.transaction("liveness", _nothing))
    clock.run_until(WARM_UP_S)
    for station in cluster.stations.values():
        station.reset()
    clock.run_until(WARM_UP_S + max(WATCH_S, WATCH_JOBS / jobs_per_s(plant)))
    return [Seen(name, s.utilisation, s.mean_wait_s * 1000, s.growth_per_s) for name, s in cluster.stations.items()]


class _Cluster:
    """The stations, and the visits that steps pay to them."""

    def __init__(self, clock: Clock, plant: Plant) -> None:
        a = plant.assumed
        self.clock, self.plant = clock, plant
        self._cpu_s = {kind: ms / 1000 for kind, ms in plant.costs.cpu_ms.items()}
        servers = {
            "storage writes": 1,
            "storage reads": 1,
            "storage bandwidth": 1,
            "largest tenant's row": 1,
            "database": round(a["database_cores"] * a["database_share"]),
            "relay": 1,
            "broker": 1,
            "workers": round(plant.workers),
            "webhooks": round(a["webhook_slots"]),
        }
        self.stations = {name: Station(clock, n) for name, n in servers.items()}

    def visit(self, station: str, service_s: float, then: Action) -> None:
        """Wait in line at a station, be served, go on."""
        self.stations[station].visit(service_s, then)

    def transaction(self, kind: str, then: Action) -> None:
        """Run one transaction."""
        self.visit("database", self._cpu_s[kind], then)

    def write(self, n_bytes: float, then: Action) -> None:
        """Store an object, and count the request that deletes it later."""
        per_s = self.plant.assumed["store_puts_per_s"]
        self.visit("storage writes", 2 / per_s, lambda: self._move(n_bytes, then))

    def read(self, n_bytes: float, then: Action) -> None:
        """Fetch an object."""
        per_s = self.plant.assumed["store_gets_per_s"]
        self.visit("storage reads", 1 / per_s, lambda: self._move(n_bytes, then))

    def _move(self, n_bytes: float, then: Action) -> None:
        self.visit("storage bandwidth", n_bytes / self.plant.assumed["store_bytes_per_s"], then)

    def ring(self, then: Action) -> None:
        """Tell the workers of a ready step: outbox, relay, broker, and the claim that follows."""
        a = self.plant.assumed
        if self.clock.random.random() < 1 / BELLS_PER_RELAY:
            self.transaction("relay", _nothing)
        self.visit("relay", a["publish_s"], lambda: self.visit("broker", 1 / a["queue_per_s"], claimed))

        def claimed() -> None:
            self.transaction("claim", then)


def _arrivals(cluster: _Cluster, kind: FileKind) -> Action:
    return lambda: _Job(cluster, kind).upload()


class _Job:
    """One file on its way; each method is one stop and names the next."""

    def __init__(self, cluster: _Cluster, kind: FileKind) -> None:
        a = cluster.plant.assumed
        self._cluster, self._length_s = cluster, kind.length_s
        self._sections = self._left = sections_of(kind, cluster.plant.section_s)
        self._source_bytes = kind.length_s * a["source_bytes_per_s"]
        self._section_s = kind.length_s / self._sections

    def upload(self) -> None:
        self._cluster.write(self._source_bytes, self._submit)

    def _submit(self) -> None:
        c = self._cluster
        if c.clock.random.random() < c.plant.assumed["largest_tenant"]:
            c.visit("largest tenant's row", tenant_row_s(c.plant), self._insert)
        else:
            self._insert()

    def _insert(self) -> None:
        self._cluster.transaction("submit", lambda: self._cluster.ring(self._prepare))

    def _prepare(self) -> None:
        c = self._cluster
        c.read(self._source_bytes, lambda: c.visit("workers", self._length_s / c.plant.costs.prepare_rate, self._cut))

    def _cut(self) -> None:
        self._cluster.transaction("prepared", _nothing)
        for _ in range(self._sections):
            self._cluster.write(self._section_s * PCM_BYTES_PER_S, self._add_section)

    def _add_section(self) -> None:
        self._cluster.transaction("add_section", lambda: self._cluster.ring(self._fetch_section))

    def _fetch_section(self) -> None:
        self._cluster.read(self._section_s * PCM_BYTES_PER_S, self._transcribe)

    def _transcribe(self) -> None:
        # The measured rate is of the whole way, preparation included, which is charged above.
        costs = self._cluster.plant.costs
        each_s = 1 / costs.worker_rate - 1 / costs.prepare_rate
        self._cluster.visit("workers", self._section_s * each_s, self._commit)

    def _commit(self) -> None:
        self._cluster.transaction("commit_section", self._join)

    def _join(self) -> None:
        self._left -= 1
        if not self._left:
            self._cluster.ring(lambda: self._cluster.transaction("finish", self._tell))

    def _tell(self) -> None:
        c, a = self._cluster, self._cluster.plant.assumed
        for _ in range(round(a["polls_per_job"]) + 1):
            c.transaction("status", _nothing)
        c.transaction("erase", _nothing)  # In days; the rate is the same.
        for _ in range(round(a["webhooks_per_job"])):
            c.transaction(
                "claim", lambda: c.visit("webhooks", a["webhook_s"], lambda: c.transaction("claim", _nothing))
            )


def _nothing() -> None:
    """Go nowhere: the work is done."""
