"""From settings to the second model that hears a share of the windows again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tympan.api.model_names import find
from tympan.batching.fleet import Fleet
from tympan.config import Settings
from tympan.domain import Lane
from tympan.errors import ConfigError, ModelNotFound
from tympan.pipeline.sampling import Sampler
from tympan.quality.shadow import Opinions, Shadow, ShadowRules


@contextmanager
def shadowing(
    settings: Settings, fleet: Fleet, known: Mapping[str, str], home: str, opinions: Opinions | None
) -> Iterator[Sampler | None]:
    """Yield what is to be told of windows; ``None`` without a shadow model, or where nothing is counted.

    ``known`` says which model a name means, ``home`` is the settings' own, which cannot be its own shadow; one that was
    promoted may be the shadow model, and has no shadow then. Raises ``ConfigError`` for a shadow model that is none.
    """
    if opinions is None or not settings.shadow_model or not settings.shadow_share:
        yield None
        return
    slot = fleet.slot(_shadow_of(settings.shadow_model, known, home))
    shadow = Shadow(slot, opinions, ShadowRules(settings.shadow_share, lambda: _callers_wait(fleet)))
    shadow.start()
    try:
        yield shadow.offer
    finally:
        shadow.stop()


def _callers_wait(fleet: Fleet) -> bool:
    """Return whether a window waits that a caller waits for; jobs have time."""
    queued = fleet.stats().queued_windows
    return any(count for lane, count in queued.items() if lane is not Lane.BATCH)


def _shadow_of(name: str, known: Mapping[str, str], default: str) -> str:
    """Return the model that a name means. Raises ``ConfigError``."""
    try:
        found = find(known, name, default)
    except ModelNotFound as error:
        raise ConfigError(
            f"SHADOW_MODEL is {name!r}, which is not served here.",
            param="shadow_model",
            remedy="Name it in MODELS too, or leave SHADOW_MODEL unset.",
        ) from error
    if found == default:
        raise ConfigError(
            f"SHADOW_MODEL is {name!r}, which is the default model: it would agree with itself.",
            param="shadow_model",
            remedy="Name another model in MODELS and SHADOW_MODEL, a stronger one or the one before.",
        )
    return found
