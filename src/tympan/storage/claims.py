"""A worker's hold on a step: the claim, and the conditions under which it may still write."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, select

from tympan.domain import Job, StepKind
from tympan.storage.database import Database
from tympan.storage.tables import steps

UNTIL_CUT_S = 3600.0
"""How long a section whose audio was lost waits for being cut again; then it is looked for all the same."""


class LeaseLost(Exception):
    """Somebody else has this step now, or its job has ended: stop, and drop what was done."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A step that is ours until the lease runs out; ``fence`` proves it."""

    step_id: int
    kind: StepKind
    index: int
    fence: int
    owner: str
    start_sample: int
    end_sample: int
    tag_s: float
    retries: int
    crashes: int
    job: Job


def mine(database: Database, claim: Claim) -> ColumnElement[bool]:
    """Return what holds for the claim's step as long as it is the claim's."""
    return and_(
        steps.c.id == claim.step_id,
        steps.c.state == "running",
        steps.c.fence == claim.fence,
        steps.c.lease_owner == claim.owner,
        steps.c.lease_until > database.now(),
    )


def check(tx: Connection, database: Database, claim: Claim) -> None:
    """Keep the step from being taken away until the transaction ends. Raises ``LeaseLost`` when it has been."""
    if tx.scalar(select(steps.c.id).where(mine(database, claim)).with_for_update()) is None:
        raise LeaseLost


def claim_from(step: RowMapping, owner: str, job: Job) -> Claim:
    """Return the claim of ``owner`` on the step in a row of ``steps``."""
    return Claim(
        step_id=step["id"],
        kind=StepKind(step["kind"]),
        index=step["idx"],
        fence=step["fence"],
        owner=owner,
        start_sample=step["start_sample"],
        end_sample=step["end_sample"],
        tag_s=step["tag_s"],
        retries=step["retries"],
        crashes=step["crashes"],
        job=job,
    )
