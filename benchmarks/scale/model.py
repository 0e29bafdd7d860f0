"""The load of a day counted on paper: pure functions of what people send and how the cluster is laid out.

Every constant is one of three: measured (``Costs``), assumed (``ASSUMPTIONS``, each with how to measure it) or
computed here from those two.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

HOURS_A_DAY = 1_000_000.0
SECONDS_A_DAY = 86_400.0
PCM_BYTES_PER_S = 32_000.0
BELLS_PER_RELAY = 100.0
STATEMENTS_WITH_ROW = 4  # Its own answer, step, doorbell, commit.
PARTS_PER_JOB_IN_REDIS = 3.0  # Rate limit, cache lookup, cache entry.
GOSSIP_EVERY_S = 2.0  # Celery's own interval between a worker's messages to all others.

GOSSIP = "broker, with Celery's gossip left on"
CONNECTIONS = "database connections, no pooler"
RELAY = "outbox relay, one message at a time"
"""Parts that a setting or a few lines mend."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """One sort of recording, and its share of the audio-hours."""

    name: str
    length_s: float
    share: float


Mix = tuple[FileKind, ...]

CALL, NEWS, CLIP = ("call", 240.0), ("news", 2_700.0), ("clip", 20.0)
MIXES: dict[str, Mix] = {
    "mixed": (FileKind(*CALL, 0.60), FileKind(*NEWS, 0.35), FileKind(*CLIP, 0.05)),
    "calls": (FileKind(*CALL, 1.0),),
    "news": (FileKind(*NEWS, 1.0),),
    "clips": (FileKind(*CLIP, 1.0),),
}


@dataclass(frozen=True, slots=True)
class Assumption:
    """A figure nobody here has measured, why it was taken, and how to replace it with a measured one."""

    part: str
    value: float
    unit: str
    what: str
    how: str


ASSUMPTIONS: dict[str, Assumption] = {
    "database_cores": Assumption("database", 16, "cores", "of the primary server", "pgbench"),
    "database_share": Assumption("database", 0.7, "", "of them may be busy", "pgbench"),
    "log_bytes_per_s": Assumption("database", 200e6, "bytes/s", "of log, shipped to a replica", "pg_test_fsync"),
    "database_connections": Assumption("database", 500, "connections", "that one server bears well", "pgbench"),
    "database_disk_bytes": Assumption("database", 4e12, "bytes", "of disk", "df"),
    "connections_per_worker": Assumption(
        "connections", 3, "connections", "a worker, its pool may hold 8", "pg_stat_activity"
    ),
    "api_connections": Assumption("connections", 160, "connections", "of 16 API processes", "pg_stat_activity"),
    "largest_tenant": Assumption("submits", 0.3, "", "of all jobs are one tenant's", "the jobs table"),
    "round_trip_s": Assumption("submits", 0.0005, "s", "to the database and back", "ping"),
    "flush_s": Assumption("submits", 0.001, "s", "until a commit is on two disks", "pg_test_fsync"),
    "publish_s": Assumption("broker", 0.002, "s", "for one message to be confirmed", "time a hundred publishes"),
    "queue_per_s": Assumption(
        "broker", 10_000, "messages/s", "through one quorum queue, three nodes", "RabbitMQ's perf-test"
    ),
    "broker_connections": Assumption("broker", 10_000, "connections", "to three nodes", "RabbitMQ's perf-test"),
    "store_puts_per_s": Assumption("object storage", 3_500, "requests/s", "that write or delete", "warp"),
    "store_gets_per_s": Assumption("object storage", 5_500, "requests/s", "that read, under one prefix", "warp"),
    "store_bytes_per_s": Assumption("object storage", 12.5e9, "bytes/s", "by four nodes, 25 Gbit/s each", "iperf3"),
    "ingest_bytes_per_s": Assumption("API and Redis", 5e9, "bytes/s", "into four API nodes, 10 Gbit/s each", "iperf3"),
    "redis_per_s": Assumption("API and Redis", 100_000, "commands/s", "by one Redis", "redis-benchmark"),
    "webhook_s": Assumption("webhooks", 0.3, "s", "until a receiver answers", "the delivery log"),
    "webhook_slots": Assumption("webhooks", 256, "deliveries", "in flight at once", "the delivery log"),
    "source_bytes_per_s": Assumption("files", 16_000, "bytes/s", "of recordings as sent", "your files"),
    "text_bytes_per_s": Assumption("files", 60, "bytes/s", "of transcript, no word times", "your files"),
    "text_compression": Assumption("files", 2.0, "", "to 1, compression of transcripts on disk", "pg_column_size"),
    "polls_per_job": Assumption("files", 5, "status reads", "a job, and one of its result", "access log"),
    "webhooks_per_job": Assumption("webhooks", 1, "event", "a job", "the delivery log"),
}


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured: processor time and log bytes by kind of transaction, audio-seconds a worker does a second.

    ``worker_rate`` is of the whole way from file to text, ``prepare_rate`` of the way up to the engine alone.
    """

    cpu_ms: Mapping[str, float]
    log_bytes: Mapping[str, float]
    worker_rate: float
    prepare_rate: float


@dataclass(frozen=True, slots=True)
class Plant:
    """How the cluster is laid out and what it is asked to do; ``hours_a_day`` of ``mix`` on ``workers`` workers."""

    mix: Mix
    costs: Costs
    hours_a_day: float = HOURS_A_DAY
    workers: float = 1_000.0
    section_s: float = 300.0
    heartbeat_s: float = 5.0
    liveness_s: float = 1.0
    lanes: int = 3
    assumed: Mapping[str, float] = field(default_factory=lambda: {name: a.value for name, a in ASSUMPTIONS.items()})

    def scaled(self, factor: float) -> "Plant":
        """Return the plant with ``factor`` times the load and the workers to match."""
        return replace(self, hours_a_day=self.hours_a_day * factor, workers=self.workers * factor)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the cluster: what it is asked for, what it can do, in ``unit``.

    The load grows with the ``power`` of the audio: 1, but for what all workers tell all workers.
    """

    name: str
    load: float
    capacity: float
    unit: str
    basis: str
    power: int = 1

    @property
    def utilisation(self) -> float:
        """Load over capacity; above 1 the part cannot keep up."""
        return self.load / self.capacity

    @property
    def saturates_at_hours(self) -> float:
        """Audio-hours a day at which it is full, if the rest grows in step with the load."""
        return HOURS_A_DAY / self.utilisation ** (1 / self.power) if self.load else math.inf


def audio_s_per_s(plant: Plant) -> float:
    """Return the audio-seconds that arrive per second."""
    return plant.hours_a_day * 3600 / SECONDS_A_DAY


def sections_of(kind: FileKind, section_s: float) -> int:
    """Return how many sections a file of this kind is cut into."""
    return math.ceil(kind.length_s / section_s)


def jobs_per_s(plant: Plant) -> float:
    """Return the files that arrive per second."""
    return sum(audio_s_per_s(plant) * kind.share / kind.length_s for kind in plant.mix)


def sections_per_s(plant: Plant) -> float:
    """Return the sections that become ready per second."""
    arriving = audio_s_per_s(plant)
    return sum(arriving * k.share / k.length_s * sections_of(k, plant.section_s) for k in plant.mix)


def steps_per_s(plant: Plant) -> float:
    """Return the steps per second: prepare, sections, finish."""
    return 2 * jobs_per_s(plant) + sections_per_s(plant)


def transactions_per_s(plant: Plant) -> dict[str, float]:
    """Return the calls of the store per second, by the kind whose cost was measured.

    Both halves of a webhook delivery, taking it and marking it, are counted as ``claim``: the dearer neighbour.
    """
    jobs, sections, steps = jobs_per_s(plant), sections_per_s(plant), steps_per_s(plant)
    return {
        "submit": jobs,
        "claim": steps + 2 * jobs * plant.assumed["webhooks_per_job"],
        "add_section": sections,
        "prepared": jobs,
        "commit_section": sections,
        "finish": jobs,
        "erase": jobs,
        "heartbeat": plant.workers / plant.heartbeat_s,
        "liveness": plant.workers / plant.liveness_s,
        "status": jobs * (plant.assumed["polls_per_job"] + 1),
        "relay": steps / BELLS_PER_RELAY,
    }


def database_cores(plant: Plant) -> float:
    """Return the processor cores that all transactions keep busy."""
    return sum(rate * plant.costs.cpu_ms[kind] / 1000 for kind, rate in transactions_per_s(plant).items())


def log_bytes_per_s(plant: Plant) -> float:
    """Return the bytes of write-ahead log per second."""
    return sum(rate * plant.costs.log_bytes[kind] for kind, rate in transactions_per_s(plant).items())


def dead_rows_per_s(plant: Plant) -> float:
    """Return row versions that vacuum must remove: steps (claimed, done, deleted), jobs, doorbells, leases, workers."""
    jobs, sections, steps = jobs_per_s(plant), sections_per_s(plant), steps_per_s(plant)
    renewed = 2 * plant.workers / plant.heartbeat_s
    return 3 * steps + steps + (3 * jobs + sections) + renewed + 2 * jobs * plant.assumed["webhooks_per_job"]


def text_bytes_per_day(plant: Plant) -> float:
    """Return the bytes of transcripts, compressed, that a day adds to the database's disk."""
    heard_s = audio_s_per_s(plant) * SECONDS_A_DAY
    return heard_s * plant.assumed["text_bytes_per_s"] / plant.assumed["text_compression"]


def source_bytes_per_day(plant: Plant) -> float:
    """Return the bytes of recordings a day adds to object storage."""
    return audio_s_per_s(plant) * SECONDS_A_DAY * plant.assumed["source_bytes_per_s"]


def store_bytes_per_s(plant: Plant) -> float:
    """Return the bytes per second in and out of object storage: recordings and sections, each written and read once."""
    return 2 * audio_s_per_s(plant) * (plant.assumed["source_bytes_per_s"] + PCM_BYTES_PER_S)


def tenant_row_s(plant: Plant) -> float:
    """Return how long a submitting transaction keeps its tenant's row: the statements after it, and the commit."""
    return STATEMENTS_WITH_ROW * plant.assumed["round_trip_s"] + plant.assumed["flush_s"]


def snapshot_limit_s(plant: Plant, dead_entry_s: float) -> float:
    """Return how long a snapshot may stay open until claims fill the database's cores.

    Claims walk over every entry that left the queue since the snapshot, ``dead_entry_s`` each.
    """
    a, steps = plant.assumed, steps_per_s(plant)
    spare = a["database_cores"] * a["database_share"] - database_cores(plant)
    return max(0.0, spare / (steps * dead_entry_s * steps))


def parts(plant: Plant) -> Sequence[Part]:
    """Return every part with its load and capacity, in the order the audio meets them."""
    return (*_doors(plant), *_database(plant), *_broker(plant), *_store(plant), *_workers(plant))


def _doors(plant: Plant) -> tuple[Part, ...]:
    a, jobs = plant.assumed, jobs_per_s(plant)
    requests = jobs * (a["polls_per_job"] + 2)
    redis = requests + jobs * PARTS_PER_JOB_IN_REDIS + sections_per_s(plant)
    webhooks = jobs * a["webhooks_per_job"] * a["webhook_s"]
    ingest = audio_s_per_s(plant) * a["source_bytes_per_s"]
    return (
        Part("API network, each way", ingest, a["ingest_bytes_per_s"], "bytes/s", "computed / assumed"),
        Part("Redis", redis, a["redis_per_s"], "commands/s", "computed / assumed"),
        Part("webhook senders", webhooks, a["webhook_slots"], "in flight", "computed / assumed"),
    )


def _database(plant: Plant) -> tuple[Part, ...]:
    a = plant.assumed
    cores = a["database_cores"] * a["database_share"]
    connections = plant.workers * a["connections_per_worker"] + a["api_connections"]
    tenant = jobs_per_s(plant) * a["largest_tenant"]
    return (
        Part("database processor", database_cores(plant), cores, "cores", "measured costs / assumed"),
        Part("database log", log_bytes_per_s(plant), a["log_bytes_per_s"], "bytes/s", "measured costs / assumed"),
        Part(CONNECTIONS, connections, a["database_connections"], "connections", "computed / assumed"),
        Part("largest tenant's row", tenant, 1 / tenant_row_s(plant), "submits/s", "computed / assumed"),
    )


def _broker(plant: Plant) -> tuple[Part, ...]:
    a, bells = plant.assumed, steps_per_s(plant)
    gossip = plant.workers * plant.workers / GOSSIP_EVERY_S
    return (
        Part(RELAY, bells, 1 / a["publish_s"], "messages/s", "computed / assumed"),
        Part("busiest queue of the broker", bells, a["queue_per_s"], "messages/s", "computed / assumed"),
        Part("broker connections", 2 * plant.workers, a["broker_connections"], "connections", "computed / assumed"),
        Part(
            GOSSIP,
            bells + gossip,
            3 * a["queue_per_s"],
            "messages/s",
            "computed / assumed",
            power=2,
        ),
    )


def _store(plant: Plant) -> tuple[Part, ...]:
    a = plant.assumed
    objects = jobs_per_s(plant) + sections_per_s(plant)
    return (
        Part(
            "object storage, writes and deletes", 2 * objects, a["store_puts_per_s"], "requests/s", "computed / assumed"
        ),
        Part("object storage, reads", objects, a["store_gets_per_s"], "requests/s", "computed / assumed"),
        Part(
            "object storage, bandwidth",
            store_bytes_per_s(plant),
            a["store_bytes_per_s"],
            "bytes/s",
            "computed / assumed",
        ),
    )


def _workers(plant: Plant) -> tuple[Part, ...]:
    capacity = plant.workers * plant.costs.worker_rate
    return (Part("workers", audio_s_per_s(plant), capacity, "audio-s/s", "computed / measured"),)
