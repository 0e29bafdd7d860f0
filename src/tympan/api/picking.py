"""Which model answers a call: the one that is named, or one on trial, if that can do what is asked."""

from contextlib import suppress

from tympan.api.fields.transcription import require_language
from tympan.api.model_names import ModelCard
from tympan.api.registry import EngineFacts, ModelRegistry, Transcriber
from tympan.domain import Options
from tympan.errors import UnsupportedLanguage, UnsupportedOption
from tympan.pipeline import check_options


def pick(registry: ModelRegistry, name: str | None, key: str, options: Options) -> tuple[Transcriber, ModelCard]:
    """Return the pipeline over the model that answers, and its card; ``key`` is as for ``candidate_for``.

    Raises ``ModelNotFound``, and ``UnsupportedLanguage`` or ``UnsupportedOption`` for what the model cannot do.
    """
    found = registry.pick(candidate_for(registry, name, key, options) or name)
    check(found[0].info, options)
    return found


def candidate_for(registry: ModelRegistry, name: str | None, key: str, options: Options) -> str | None:
    """Return the id of the model on trial that answers in place of the one of this name; mostly ``None``.

    ``key`` says who or what asks, and decides: the same audio gets the same model, so that a retry finds what its first
    try began. A model on trial refuses nobody: what it cannot do is for the other one.
    """
    candidate = registry.candidate(name, key)
    if candidate is not None:
        with suppress(UnsupportedLanguage, UnsupportedOption):
            check(registry.pick(candidate)[0].info, options)
            return candidate
    return None


def check(info: EngineFacts | None, options: Options) -> None:
    """Refuse what the model cannot do, as far as it is known yet.

    Raises ``UnsupportedLanguage`` or ``UnsupportedOption``.
    """
    require_language(options.language, info.languages if info else ())
    check_options(options, info)
