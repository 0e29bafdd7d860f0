"""What models are called here, and which of them answers whom.

A name means one model for good, but for those that mean the default: the default may become another one, and while a
new model is tried out it answers a share of those who ask for the default.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from tympan.errors import ModelNotFound

DEFAULT_MODEL_ALIAS = "whisper-1"
"""OpenAI's model name; here it means the default model."""

OPENAI_NAMES = (
    DEFAULT_MODEL_ALIAS,
    "gpt-transcribe",
    "gpt-live-transcribe",
    "gpt-4o-mini-transcribe",
    "gpt-4o-mini-transcribe-2025-12-15",
    "gpt-4o-transcribe",
    "gpt-4o-transcribe-diarize",
    "gpt-realtime-whisper",
)
"""What OpenAI's clients call a model that transcribes, by their SDK's types; each means the default model.

Some clients name one of these where their user says nothing.
"""

_MOST_NAMED = 8
_WHOLE = 2**64


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that is served: its id, the other names it answers to, and when it came (Unix seconds)."""

    id: str
    aliases: tuple[str, ...] = ()
    created: int = 0
    owner: str = "tympan"


@dataclass(frozen=True, slots=True)
class Division:
    """A part of those who ask for the default is answered by ``candidate``: a ``share`` from 0 to 1.

    ``id`` is what draws them: another division of the same share takes others.
    """

    id: str
    candidate: str
    share: float

    def takes(self, key: str) -> bool:
        """Return whether the candidate answers for ``key``: always the same for the same key."""
        digest = hashlib.sha256(f"{self.id}\0{key}".encode()).digest()
        return int.from_bytes(digest[:8]) < self.share * _WHOLE


class ModelNames:
    """The names of a server's models; changed by one thread, read by all."""

    def __init__(self, known: Mapping[str, str], default: str) -> None:
        """Begin with what each name means; OpenAI's names that mean ``default`` follow it when it changes."""
        self._names, self._default = dict(known), default
        self._following = [name for name in OPENAI_NAMES if known.get(name) == default]
        self._division: Division | None = None
        self._is_ready: Callable[[str], bool] = lambda _: True

    @property
    def all(self) -> tuple[str, ...]:
        """Every name that means a model here."""
        return tuple(self._names)

    @property
    def default(self) -> str:
        """The id of the model that answers those who name none."""
        return self._default

    @property
    def division(self) -> Division | None:
        """How the default's callers are divided, if they are."""
        return self._division

    def own_of(self, model: str) -> tuple[str, ...]:
        """Return the names that mean a model for good, beside its id."""
        names = (name for name, meant in self._names.items() if meant == model)
        return tuple(name for name in names if name != model and name not in self._following)

    def find(self, name: str | None) -> str:
        """Return the id of the model that ``name`` means. Raises ``ModelNotFound``."""
        return find(self._names, name, self._default)

    def candidate(self, name: str | None, key: str) -> str | None:
        """Return the id of the model that answers ``key`` in place of the default, if one does."""
        division = self._division
        if division is None or not (name is None or name in self._following) or not division.takes(key):
            return None
        return division.candidate if self._is_ready(division.candidate) else None

    def switch(self, model: str) -> None:
        """Let another model be the default."""
        self._default = model
        self._names.update(dict.fromkeys(self._following, model))

    def divide(self, division: Division | None, is_ready: Callable[[str], bool] = lambda _: True) -> None:
        """Divide those who ask for the default, as long as the candidate ``is_ready``; ``None`` for no longer."""
        self._is_ready = is_ready
        self._division = division


def names_of(cards: Sequence[ModelCard], own: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return which model every name means: ids first, then the operator's ``own``, ``OPENAI_NAMES``, and aliases.

    The first of ``cards`` is the default's, which OpenAI's names mean unless the operator says otherwise.
    """
    names = {card.id: card.id for card in cards}
    aliases = [(alias, card.id) for card in cards for alias in card.aliases]
    for name, model in [*(own or {}).items(), *((name, cards[0].id) for name in OPENAI_NAMES), *aliases]:
        names.setdefault(name, model)
    return names


def find(names: Mapping[str, str], name: str | None, default: str) -> str:
    """Return the id of the model that ``name`` means. Raises ``ModelNotFound``."""
    if name is None:
        return default
    if name in names:
        return names[name]
    served = ", ".join(repr(model) for model in islice(dict.fromkeys(names.values()), _MOST_NAMED))
    raise ModelNotFound(
        f"The model {name[:80]!r} is not served here.",
        param="model",
        remedy=f"Use {served} or {DEFAULT_MODEL_ALIAS!r}, or leave the field out.",
    )
