"""What is told of a window whose text is final, while its samples are still there, for whoever takes a share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tympan.domain import Lane, Options, Window, WindowResult


@dataclass(frozen=True, slots=True)
class FinalWindow:
    """A window with its samples, what the reader gets of it, how it was asked for, and by which model it was heard."""

    window: Window
    result: WindowResult
    options: Options
    model: str
    tenant: str
    lane: Lane


Sampler: TypeAlias = Callable[[FinalWindow], object]
"""Takes a window or leaves it; never waits, takes no time and raises nothing."""
