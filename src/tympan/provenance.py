"""What made a transcript. Read it from ``tympan.domain``."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a transcript beside the model: how that ran, and our version; empty where that is not known.

    ``revision`` is of the model's files. ``speakers`` is what told them apart: ``channels`` or ``voices``.
    """

    engine: str = ""
    revision: str = ""
    compute_type: str = ""
    device: str = ""
    version: str = ""
    speakers: str = ""
