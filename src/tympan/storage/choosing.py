"""Which steps a worker may take: those of its lanes and its models, but for jobs it leaves to others."""

from collections.abc import Collection, Iterable

from sqlalchemy import ColumnElement, and_, exists, or_, true

from tympan.domain import Lane
from tympan.storage.tables import jobs, steps


def choosable(lanes: Iterable[Lane], but: Iterable[str], models: Collection[str] | None) -> ColumnElement[bool]:
    """Return what holds for the steps that may be taken.

    ``but`` are jobs to leave to others. ``models`` are the names that the worker serves; a job that names none may run
    on any, and ``None`` takes every job. Steps are looked at in their order and most are taken at once, so the job of
    each is looked up by its key instead of keeping the model beside every step.
    """
    served = true() if models is None else _is_for(models)
    return and_(steps.c.lane.in_([int(lane) for lane in lanes]), steps.c.job_id.not_in(list(but)), served)


def _is_for(models: Collection[str]) -> ColumnElement[bool]:
    named = or_(jobs.c.model.is_(None), jobs.c.model.in_(list(models)))
    return exists().where(jobs.c.id == steps.c.job_id, named)
