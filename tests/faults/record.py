"""What a long sweep has already done, so that one that was interrupted goes on; forgotten when the code changes."""

import hashlib
import json
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
_JUDGED = ("src/tympan/jobs", "src/tympan/storage")


class Record:
    """The finished runs of one part of a sweep."""

    def __init__(self, sweep: str, part: str) -> None:
        """Read what is there about this version of the code."""
        folder = REPOSITORY / ".cache" / "faults" / sweep / _version()
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{part}.json"
        self._done: dict[str, object] = json.loads(self._path.read_text()) if self._path.exists() else {}

    def has(self, seed: int) -> bool:
        """Return whether this run has been done."""
        return str(seed) in self._done

    def add(self, seed: int, outcome: object) -> None:
        """Note that a run was good."""
        self._done[str(seed)] = outcome
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps(self._done))
        beside.replace(self._path)

    def values(self) -> list[object]:
        """Return the outcomes so far."""
        return list(self._done.values())


def _version() -> str:
    digest = hashlib.sha256()
    for folder in _JUDGED:
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
