"""Which steps a worker may take: those of its lanes and its models that somebody wants, but for jobs of others."""

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, and_, exists, or_, true

from tympan.domain import Lane
from tympan.storage.idempotency import LEFT
from tympan.storage.tables import idempotency, jobs, steps


def choosable(lanes: Iterable[Lane], but: Iterable[str], models: Collection[str] | None) -> ColumnElement[bool]:
    """Return what holds for the steps that may be taken.

    ``but`` are jobs to leave to others. ``models`` are the names that the worker serves; a job that names none may run
    on any, and ``None`` takes every job. Steps are looked at in their order and most are taken at once, so the job of
    each is looked up by its key instead of keeping the model beside every step. A job whose last caller has gone and
    may come back stands still.
    """
    served = true() if models is None else _is_for(models)
    mine = (steps.c.lane.in_([int(lane) for lane in lanes]), steps.c.job_id.not_in(list(but)))
    was_left = exists().where(idempotency.c.subject_id == steps.c.job_id, idempotency.c.route == LEFT)
    return and_(*mine, served, or_(steps.c.lane == int(Lane.BATCH), ~was_left))


def _is_for(models: Collection[str]) -> ColumnElement[bool]:
    named = or_(jobs.c.model.is_(None), jobs.c.model.in_(list(models)))
    return exists().where(jobs.c.id == steps.c.job_id, named)
