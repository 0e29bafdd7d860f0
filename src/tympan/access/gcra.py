"""How fast a tenant may go, by the generic cell rate algorithm (virtual scheduling, ITU-T I.371 annex A). Pure.

All that is kept of a tenant is by how many seconds it is *ahead* of an even pace, and when that was so. The lead falls
by a second each second; whatever is taken adds the time in which the rate would have allowed it. A lead of one period
is the whole burst. The original keeps a point in time instead; with a lead, a clock that is set back takes nothing away
from anybody, and one that is set ahead gives at most one burst.
"""

from dataclasses import dataclass

_ROUNDING_S = 1e-6


@dataclass(frozen=True, slots=True)
class Rate:
    """So many units in a period of seconds, all of them at once if need be."""

    units: float
    period_s: float

    def cost_s(self, n: float) -> float:
        """Return the time in which the rate allows ``n`` units."""
        return n * self.period_s / self.units


@dataclass(frozen=True, slots=True)
class Lead:
    """By how many seconds a tenant was ahead, at ``seen_s`` of some clock."""

    ahead_s: float = 0.0
    seen_s: float = 0.0

    def at(self, now_s: float) -> float:
        """Return what is left of it; a clock that was set back has stood still."""
        return max(0.0, self.ahead_s - max(0.0, now_s - self.seen_s))


@dataclass(frozen=True, slots=True)
class Charge:
    """``n`` units of one rate, which is called ``name``. Below 0 gives back."""

    name: str
    rate: Rate
    n: float

    @property
    def cost_s(self) -> float:
        """By how many seconds it moves the tenant ahead."""
        return self.rate.cost_s(self.n)

    def fits(self, ahead_s: float) -> bool:
        """Return whether a tenant who is ``ahead_s`` may take it."""
        return ahead_s + self.cost_s <= self.rate.period_s + _ROUNDING_S

    def shared(self, n_parts: int) -> "Charge":
        """Return what it costs where only one of ``n_parts`` of the rate may be given out; a whole burst at most."""
        most = max(self.n, self.rate.units)
        return Charge(self.name, self.rate, min(self.n * n_parts, most))


@dataclass(frozen=True, slots=True)
class Reading:
    """How a tenant stands with one rate; ``refused`` when it was that which did not fit."""

    charge: Charge
    ahead_s: float
    refused: bool = False

    @property
    def name(self) -> str:
        """What the rate is called."""
        return self.charge.name

    @property
    def remaining(self) -> int:
        """Whole units that may be taken now."""
        rate = self.charge.rate
        return max(0, int((rate.period_s - self.ahead_s + _ROUNDING_S) * rate.units / rate.period_s))

    @property
    def wait_s(self) -> float:
        """Seconds until the charge would fit."""
        return max(0.0, self.ahead_s + self.charge.cost_s - self.charge.rate.period_s)

    @property
    def full_in_s(self) -> float:
        """Seconds until everything may be taken again."""
        return self.ahead_s


def moved(ahead_s: float, charge: Charge) -> float:
    """Return the lead after ``charge``; nobody falls behind."""
    return max(0.0, ahead_s + charge.cost_s)
