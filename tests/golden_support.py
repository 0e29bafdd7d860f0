"""Golden sets on a shop of jobs: clips of bare samples whose first sample names what the made-up engine hears."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.conftest import SpokenClip
from tests.jobs_support import Shop
from tests.pipeline_support import answer
from tympan.domain import SAMPLE_RATE_HZ, WindowResult, WindowTask, Word
from tympan.quality.alarms import AlarmBook
from tympan.quality.conductor import Conductor, ConductorRules
from tympan.quality.golden import GoldenDesk
from tympan.quality.manifest import NAME, Item, read_folder
from tympan.storage.chores import Chores
from tympan.storage.golden import GoldenSet, GoldenStore, SetPlan
from tympan.storage.golden_runs import GoldenRun

WORDS = "an old stone bridge"


def write_set(folder: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a golden set: three seconds of samples for each row, the first of which is its number from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows, 1):
        samples = np.random.default_rng(number).integers(-40, 40, 3 * SAMPLE_RATE_HZ).astype(np.int16)
        samples[0] = number
        samples.tofile(folder / str(row["audio"]))
    (folder / NAME).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def write_voices(folder: Path, voices: Sequence[SpokenClip], texts: Sequence[str] | None = None) -> Path:
    """Write a golden set of real files, which speech detection lets pass; ``texts`` may be others than theirs."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"id": f"v{number}", "audio": f"v{number}.wav", "reference": text, "language": "en"}
        for number, text in enumerate(texts or [voice.text for voice in voices])
    ]
    for row, voice in zip(rows, voices, strict=True):
        (folder / row["audio"]).write_bytes(voice.path.read_bytes())
    (folder / NAME).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def speech(n: int, first: int = 1, **fields: object) -> list[dict[str, Any]]:
    """Return ``n`` rows of speech."""
    rows = ({"id": f"s{i}", "audio": f"s{i}.pcm", "reference": f"{WORDS} {i}"} for i in range(first, first + n))
    return [{**row, "language": "en", "speaker": f"voice {n % 2}", **fields} for n, row in enumerate(rows)]


def silence(n: int, kind: str = "silence") -> list[dict[str, Any]]:
    """Return ``n`` rows without speech."""
    return [{"id": f"{kind}{i}", "audio": f"{kind}{i}.pcm", "kind": kind} for i in range(1, n + 1)]


@dataclass(slots=True)
class Gold:
    """A shop, its golden sets, and what its engine hears: by number of clip, else nothing."""

    shop: Shop
    rows: list[dict[str, Any]]
    rules: ConductorRules = field(default_factory=lambda: ConductorRules(starter=False))
    mishear: Callable[[int, str], str] = lambda _number, text: text

    def __post_init__(self) -> None:
        """Let the engine hear what was said."""
        self.shop.desk.reply = self.hear

    @property
    def desk(self) -> GoldenDesk:
        """Return what may be asked."""
        store = GoldenStore(self.shop.database)
        return GoldenDesk(store, self.shop.blobs, self.shop.service, run_limit_s=600.0)

    @property
    def alarms(self) -> list[tuple[str, str]]:
        """Return what is wrong now."""
        return [(each.kind, each.subject) for each in AlarmBook(self.shop.database).open()]

    def hear(self, task: WindowTask) -> WindowResult:
        """Return what is said in a clip, as ``mishear`` has it."""
        number = int(task.window.samples[0])
        said = str(self.rows[number - 1].get("reference", "")) if 0 < number <= len(self.rows) else ""
        heard = self.mishear(number, said).split()
        times = ((f" {word}", 0.4 * at, 0.4 * at + 0.3, 0.9, (at + 1,)) for at, word in enumerate(heard))
        words = tuple(Word(*each) for each in times) if task.params.align else ()
        return replace(answer(task), text="".join(f" {word}" for word in heard), words=words)

    def items(self) -> list[Item]:
        """Return the rows as a folder."""
        return read_folder(write_set(self.shop.folder / "set", self.rows))

    def add(self, name: str = "calls", plan: SetPlan | None = None) -> GoldenSet:
        """Add the rows as a set."""
        return self.desk.add(name, self.items(), plan or SetPlan())

    def conductor(self, owner: str = "one") -> Conductor:
        """Return a conductor whose thread is not started."""
        return Conductor(self.desk, self.shop.blobs, self.shop.service, Chores(self.shop.database, owner), self.rules)

    def work(self, conductor: Conductor | None = None) -> None:
        """Tick and work off jobs until every run has ended."""
        conductor = conductor or self.conductor()
        deadline = time.monotonic() + 60
        while True:
            conductor.tick()
            self.shop.work_off()
            if not self.desk.runs.running() and not self.desk.store.due():
                return
            assert time.monotonic() < deadline, self.desk.runs.running()

    def run(self, name: str = "calls", model: str = "") -> GoldenRun:
        """Run a set to its end and return the run."""
        begun = self.desk.run(name, model)
        self.work()
        return self.desk.runs.get(begun.id)
