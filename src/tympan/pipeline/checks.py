"""What the loaded model can be asked for: the one place where options it cannot honour are refused. Pure."""

from collections.abc import Callable
from typing import Final, Protocol

from tympan.domain import Abilities, LanguageUse, Options, Suppression, Task, Timestamps
from tympan.errors import UnsupportedLanguage, UnsupportedOption
from tympan.languages import language_name


class ModelFacts(Protocol):
    """What has to be known of a loaded model."""

    @property
    def model(self) -> str:
        """Its name."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages it knows; empty when nobody knows which."""

    @property
    def multilingual(self) -> bool:
        """Whether that is more than one, or not known."""

    @property
    def can(self) -> Abilities:
        """What it can be asked for."""


_Lacks = Callable[[Options, ModelFacts], bool]

_REFUSED: Final[tuple[tuple[str, _Lacks, str], ...]] = (
    (
        "task",
        lambda asked, info: asked.task is Task.TRANSLATE and not (info.multilingual and info.can.translation),
        "cannot translate",
    ),
    ("prompt", lambda asked, info: bool(asked.prompt) and not info.can.prompts, "takes no prompt"),
    ("hotwords", lambda asked, info: bool(asked.hotwords) and not info.can.prompts, "takes no hot words"),
    (
        "temperature",
        lambda asked, info: asked.temperature > 0 and not info.can.temperatures,
        "always gives the likeliest text",
    ),
    (
        "timestamp_granularities",
        lambda asked, info: asked.timestamps is Timestamps.WORD and not info.can.word_times,
        "does not tell when words are said",
    ),
    (
        "languages",
        lambda asked, info: bool(asked.languages) and not info.can.narrowing,
        "cannot choose among languages",
    ),
    (
        "multilingual",
        lambda asked, info: asked.multilingual and info.can.language is not LanguageUse.DETECTS,
        "does not tell languages",
    ),
    (
        "suppress_tokens",
        lambda asked, info: asked.suppression != Suppression() and not info.can.suppression,
        "cannot leave out tokens",
    ),
    (
        "include",
        lambda asked, info: asked.token_chances and not info.can.token_chances,
        "does not tell how likely each token is",
    ),
    (
        "tinydiarize",
        lambda asked, info: asked.speaker_turns and not info.can.speaker_turns,
        "does not mark where the speaker changes",
    ),
)
"""Per option: its name, whether the model cannot honour it, and why."""


def check_options(options: Options, info: ModelFacts | None) -> None:
    """Raise ``UnsupportedLanguage`` or ``UnsupportedOption`` when the model cannot do what ``options`` ask.

    Nothing is checked while there is no model yet. ``beam_size`` and ``best_of`` are never refused: they say how hard
    to search for the same text, and a model that does not search gives it at once.
    """
    if info is None:
        return
    _check_language(options.language, info)
    if options.languages and info.languages and not set(options.languages) & set(info.languages):
        raise UnsupportedLanguage(
            f"The model {info.model!r} knows none of {', '.join(options.languages)}.",
            param="languages",
            remedy="Choose others, or a multilingual model.",
        )
    for name, lacks, reason in _REFUSED:
        if lacks(options, info):
            raise UnsupportedOption(
                f"The model {info.model!r} {reason}.", param=name, remedy=f"Leave {name} out, or choose another model."
            )


def tells_language(info: ModelFacts | None) -> bool:
    """Return whether the model says which language it hears."""
    return info is None or info.can.language is LanguageUse.DETECTS or len(info.languages) == 1


def check_detection(info: ModelFacts | None) -> None:
    """Raise ``UnsupportedOption`` when the model cannot tell which of several languages it hears."""
    if info is None:
        return
    if len(info.languages) == 1:
        reason = f"knows one language only, {language_name(info.languages[0]).capitalize()}"
    elif not tells_language(info):
        reason = "does not tell languages"
    else:
        return
    raise UnsupportedOption(
        f"The model {info.model!r} {reason}.",
        param="model",
        remedy="Detect languages with a multilingual Whisper model.",
    )


def _check_language(language: str | None, info: ModelFacts) -> None:
    if language is not None and info.languages and language not in info.languages:
        raise UnsupportedLanguage(
            f"The model {info.model!r} does not know the language {language!r}.",
            param="language",
            remedy="Leave the language out to have it detected, or choose a multilingual model.",
        )
    if language is None and info.can.language is LanguageUse.NEEDS and len(info.languages) != 1:
        raise UnsupportedOption(
            f"The model {info.model!r} has to be told the language.",
            param="language",
            remedy=f"Send language, one of: {', '.join(info.languages)}.",
        )
