"""What windows have to have in common to share one pass of the engine."""

from typing import NamedTuple

from tympan.domain import DecodeParams, Suppression, Task


class BatchKey(NamedTuple):
    """Everything that has to be equal for windows to share one pass of the engine."""

    task: Task
    detect_language: bool
    prompt: str | None
    hotwords: str | None
    beam_size: int
    best_of: int
    temperature: float
    full_context: bool
    align: bool
    suppression: Suppression
    language_only: bool = False


def batch_key(params: DecodeParams) -> BatchKey:
    """Return the key under which windows may share a batch.

    The language may differ inside a batch, but not whether it is known: prompts must have equal shapes.
    """
    return BatchKey(
        task=params.task,
        detect_language=params.language is None,
        prompt=params.prompt,
        hotwords=params.hotwords,
        beam_size=params.beam_size,
        best_of=params.best_of,
        temperature=params.temperature,
        full_context=params.full_context,
        align=params.align,
        suppression=params.suppression,
        language_only=params.language_only,
    )
