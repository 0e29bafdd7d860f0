"""From settings to results that are kept for equal calls: where, for how long, and what erases them."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from tympan import __version__
from tympan.config import Settings
from tympan.jobs.result_cache import ResultCache
from tympan.jobs.sealing import Sealer
from tympan.jobs.shelves import MemoryShelf, Shelf
from tympan.storage.audit import AuditStore

_DAY_S = 86_400.0
_ERASED_WITHIN_S = 600.0
_LIBRARIES = ("av", "ctranslate2", "faster-whisper", "numpy", "onnx-asr", "onnxruntime", "pywhispercpp", "tokenizers")
"""Libraries that have a say in what a text is."""


def make_cache(settings: Settings, text_days: Callable[[str], float | None]) -> ResultCache:
    """Return what keeps results; ``text_days`` says for how long a tenant's text may be kept, if it has a say.

    Raises ``ConfigError``.
    """

    def ttl_of(tenant: str) -> float:
        own = text_days(tenant)
        return min(settings.result_ttl_s, _DAY_S * (settings.retain_text_days if own is None else own))

    shelf = _shelf(settings) if settings.result_cache_mb and settings.result_ttl_s else None
    return ResultCache(shelf, ttl_of, _software(settings))


def tidy_cache(cache: ResultCache, audit: AuditStore) -> None:
    """Remove what has been kept long enough, and what is left of tenants that were erased by another process.

    Who was erased ten minutes ago is looked for once more: a call may have been under way. Raises
    ``StorageUnavailable``.
    """
    if cache.is_on:
        cache.sweep()
        for tenant in audit.tenants_of("tenant.erase", _ERASED_WITHIN_S):
            cache.forget_tenant(tenant)


def make_sealer(settings: Settings) -> Sealer:
    """Return what seals secrets, with the key of this installation. Raises ``ConfigError``."""
    if settings.secret_key is not None:
        return Sealer.from_secret(settings.secret_key.get_secret_value())
    return Sealer.from_file(settings.data_dir / "secret.key")


def _shelf(settings: Settings) -> Shelf | None:
    max_bytes = settings.result_cache_mb * 1_000_000
    if settings.mode == "embedded":
        return MemoryShelf(max_bytes)
    if settings.redis_url is None:
        return None
    from tympan.jobs.redis_shelf import RedisShelf  # noqa: PLC0415  (the client may not be installed)

    return RedisShelf(settings.redis_url.get_secret_value(), max_bytes, make_sealer(settings))


def _software(settings: Settings) -> str:
    """Return what makes texts here, as far as an engine does not say so itself."""
    found = [f"tympan {__version__}", *map(_versioned, _LIBRARIES)]
    return "\n".join([*found, repr(sorted(settings.engine_options.items())), repr(settings.models)])


def _versioned(library: str) -> str:
    try:
        return f"{library} {version(library)}"
    except PackageNotFoundError:
        return f"no {library}"
