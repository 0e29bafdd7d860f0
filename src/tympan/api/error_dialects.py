"""How errors are spelled on the routes that imitate other servers; everywhere else it is OpenAI's envelope. Pure.

Clients of those servers look for a text where theirs puts it. Beside it stands our code, the same as everywhere.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, TypeAlias

from tympan.errors import TympanError

Spelling: TypeAlias = Callable[[TympanError], dict[str, str]]


def _detail(error: TympanError) -> dict[str, str]:
    return {"detail": str(error), "code": error.code}


def _error(error: TympanError) -> dict[str, str]:
    return {"error": str(error), "code": error.code}


_SPELLINGS: Final[Mapping[str, Spelling]] = MappingProxyType({"detail": _detail, "words": _error})
_DIALECTS: Final[Mapping[str, str]] = MappingProxyType(
    {"transcribe": "detail", "asr": "detail", "detect-language": "detail", "inference": "words", "load": "words"}
)
"""First part of the path to how its errors are spelled."""


def dialect_of(path: str) -> str:
    """Return how errors on ``path`` are spelled: ``detail``, ``words``, or ``openai``, which is the envelope."""
    return _DIALECTS.get(path.strip("/").split("/", 1)[0], "openai")


def spelled(path: str, error: TympanError) -> dict[str, str] | None:
    """Return the body of an error on ``path``, ``None`` where it is OpenAI's envelope."""
    spelling = _SPELLINGS.get(dialect_of(path))
    return spelling(error) if spelling else None
