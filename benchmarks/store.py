"""Results on disk: finished steps, so that a broken-off run goes on where it stopped, and the published JSON."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.contenders import Outcome
from benchmarks.facts import provenance
from tympan.bench.facts import source_digest


class OutOfTimeError(Exception):
    """The sub-benchmark's share of time is used up; running it again goes on from here."""


@dataclass(frozen=True, slots=True)
class Check:
    """One goal: what was measured, what it should be, and whether it is so."""

    figure: str
    goal: str
    measured: str
    met: bool


def say(message: str) -> None:
    """Report progress on standard error, with the time of day."""
    print(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stderr, flush=True)


class Steps:
    """The finished steps of one sub-benchmark, kept as JSON lines.

    A step is known by its key; steps measured on other source code are measured again.
    """

    def __init__(self, path: Path, *, limit_s: float, fresh: bool = False, scope: str = "") -> None:
        """Read what is already done; ``fresh`` forgets it. ``scope`` tells apart runs with other parameters."""
        self._path = path
        self._scope = scope
        self._deadline = time.monotonic() + limit_s
        path.parent.mkdir(parents=True, exist_ok=True)
        if fresh:
            path.unlink(missing_ok=True)
        self._done = self._read()

    def value(self, key: str, measure: Callable[[], Any], *, lasting: bool = False) -> Any:
        """Return the step's JSON value, measured now unless it is known; raises ``OutOfTimeError`` past the limit.

        A ``lasting`` value does not depend on our source code (a baseline's texts) and outlives changes of it.
        """
        if key in self._done:
            return self._done[key]
        if time.monotonic() > self._deadline:
            raise OutOfTimeError(f"Out of time before {key!r}. Run the same command again to go on.")
        start = time.perf_counter()
        self._done[key] = json.loads(json.dumps(measure()))
        say(f"{key}: {time.perf_counter() - start:.1f} s")
        with self._path.open("a", encoding="utf-8") as file:
            row = {"scope": self._scope, "source": "" if lasting else source_digest(), "key": key}
            file.write(json.dumps({**row, "value": self._done[key]}) + "\n")
        return self._done[key]

    def outcome(self, key: str, measure: Callable[[], Outcome], *, lasting: bool = False) -> Outcome:
        """Return the step's outcome, measured now unless it is known."""
        return Outcome(**self.value(key, lambda: asdict(measure()), lasting=lasting))

    def has(self, key: str) -> bool:
        """Say whether the step is known."""
        return key in self._done

    def _read(self) -> dict[str, Any]:
        if not self._path.exists():
            return {}
        rows = [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]
        valid = [row for row in rows if row["scope"] == self._scope and row["source"] in ("", source_digest())]
        return {row["key"]: row["value"] for row in valid}


def write_result(folder: Path, name: str, payload: dict[str, Any], checks: list[Check]) -> Path:
    """Write ``NAME.json`` with the payload, the goals and where it all comes from; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    document = {"name": name, **provenance(), "checks": [asdict(check) for check in checks], "result": payload}
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    say(f"wrote {path}")
    for check in checks:
        say(f"  {'met ' if check.met else 'MISSED'} {check.figure}: {check.measured} (goal {check.goal})")
    return path
