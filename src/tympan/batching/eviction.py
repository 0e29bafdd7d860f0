"""Which models stay in memory: pure. It takes what is there and returns what should happen; the fleet acts.

A model is never unloaded in part: its process ends. The one that was used longest ago goes first (LRU). One that is in
use, is pinned, or came less than its dwell ago stays, so that models which do not fit together take turns of at least
that long instead of chasing each other out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

MEASURED_BATCHES = 8
"""After so many batches the peak that was measured stands for a model's need; before, the estimate does at least."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A model that takes memory. Times are those of one monotonic clock.

    ``since_s`` is when it was loaded (or began to be), ``used_s`` when somebody last let go of it. ``held_since_s`` is
    when the oldest of those who use it now began; ``None`` when nobody does. ``leaving``: its process is being ended.
    """

    name: str
    memory_bytes: int
    since_s: float
    used_s: float
    held_since_s: float | None = None
    pinned: bool = False
    leaving: bool = False


@dataclass(frozen=True, slots=True)
class Rules:
    """How memory is shared: what all models together may take (``None``: no limit), and how turns are taken.

    A model stays ``dwell_s`` at least. One that has been in use by the same caller for ``patience_s`` is not asked to
    make room: nobody knows when that ends.
    """

    budget_bytes: int | None = None
    dwell_s: float = 20.0
    patience_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Move:
    """What to do for a model that wants to be loaded.

    ``fits``: load it now. Otherwise end the processes of ``evict``, let nobody new use ``yielding``, and look again
    after ``wait_s`` at the latest. ``hopeless``: no waiting would ever make enough room.
    """

    fits: bool = False
    evict: tuple[str, ...] = ()
    yielding: tuple[str, ...] = ()
    wait_s: float = 1.0
    hopeless: bool = False


def make_room(needed_bytes: int, residents: Sequence[Resident], rules: Rules, now_s: float) -> Move:
    """Return what to do so that ``needed_bytes`` more fit. What is larger than the budget has to be alone."""
    if rules.budget_bytes is None or not residents:
        return Move(fits=True)
    missing_bytes = needed_bytes + sum(each.memory_bytes for each in residents) - rules.budget_bytes
    if missing_bytes <= 0:
        return Move(fits=True)
    pinned_bytes = sum(each.memory_bytes for each in residents if each.pinned)
    if pinned_bytes and needed_bytes + pinned_bytes > rules.budget_bytes:
        return Move(hopeless=True)
    missing_bytes -= sum(each.memory_bytes for each in residents if each.leaving)
    return _ask(missing_bytes, residents, rules, now_s)


def fits_beside(ahead: Sequence[int], needed_bytes: int, residents: Sequence[Resident], rules: Rules) -> bool:
    """Return whether there is room for ``needed_bytes`` and for those who came first, who need ``ahead``."""
    if rules.budget_bytes is None:
        return True
    return sum(ahead) + needed_bytes + sum(each.memory_bytes for each in residents) <= rules.budget_bytes


def _ask(missing_bytes: int, residents: Sequence[Resident], rules: Rules, now_s: float) -> Move:
    """Choose who makes room, beginning with whoever can do so at once."""
    evict: list[str] = []
    yielding: list[str] = []
    wait_s = 1.0
    for each in _by_turn(residents, rules, now_s):
        if missing_bytes <= 0:
            break
        young_s = each.since_s + rules.dwell_s - now_s
        if young_s > 0:
            wait_s = min(wait_s, young_s)
        elif each.held_since_s is None:
            evict.append(each.name)
        elif now_s - each.held_since_s < rules.patience_s:
            yielding.append(each.name)
        else:
            continue
        missing_bytes -= each.memory_bytes
    return Move(evict=tuple(evict), yielding=tuple(yielding), wait_s=wait_s)


def _by_turn(residents: Sequence[Resident], rules: Rules, now_s: float) -> list[Resident]:
    """Return who may have to go: who is free and has had its time first, and of those the one used longest ago."""

    def turn(each: Resident) -> tuple[bool, bool, float]:
        return each.since_s + rules.dwell_s > now_s, each.held_since_s is not None, each.used_s

    return sorted((each for each in residents if not (each.pinned or each.leaving)), key=turn)


def overdue(residents: Sequence[Resident], rules: Rules, now_s: float) -> str | None:
    """Return a model whose process should end because all together take more than the budget; ``None`` if none should.

    That happens when a model grew beyond its estimate. One that is the only one stays: there is nobody it could harm.
    """
    if rules.budget_bytes is None or sum(each.memory_bytes for each in residents) <= rules.budget_bytes:
        return None
    if len(residents) == 1 or any(each.leaving for each in residents):
        return None
    free = (each for each in _by_turn(residents, rules, now_s) if each.held_since_s is None)
    return next((each.name for each in free if each.since_s + rules.dwell_s <= now_s), None)


def need_bytes(estimate_bytes: int, peak_bytes: int, batches: int) -> int:
    """Return what a model counts for: its measured peak once it has worked for a while, before that the larger one."""
    return peak_bytes if peak_bytes and batches >= MEASURED_BATCHES else max(estimate_bytes, peak_bytes)


def pause_s(failures: int, first_s: float, longest_s: float) -> float:
    """Return how long a model that failed to load ``failures`` times in a row is left alone."""
    return float(min(longest_s, first_s * 2.0 ** min(failures - 1, 30)))
