"""What ``tympan doctor`` looks at before anything is started: one function per question.

Every answer is a ``Check``: fine, worth knowing, or in the way, and then with what to do about it.
"""

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from tympan import __version__
from tympan.disk import kept_free_bytes
from tympan.errors import TympanError

if TYPE_CHECKING:
    from tympan.config import SettingRow, Settings

_LOW_DISK_BYTES = 2_000_000_000
_LIBRARIES = ("av", "ctranslate2", "onnxruntime", "faster-whisper")


class Status(StrEnum):
    """How a check ended: fine, worth knowing, or in the way."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One answer; ``remedy`` says what to do unless ``status`` is ok."""

    name: str
    status: Status
    detail: str
    remedy: str = ""


def failed(name: str, error: TympanError) -> Check:
    """Return the check that ``error`` ended."""
    return Check(name, Status.FAIL, f"[{error.code}] {error.message}", (error.remedy or "").strip())


def check_software() -> Check:
    """Tell which Tympan, Python and libraries run."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    libraries = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _LIBRARIES)
    return Check("Software", Status.OK, f"tympan {__version__}, Python {python}, {libraries}")


def check_system() -> Check:
    """Tell what the machine runs, and whether Tympan is made for it."""
    detail = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if platform.system() in ("Linux", "Darwin"):
        return Check("System", Status.OK, detail)
    return Check("System", Status.FAIL, detail, "Run Tympan on Linux or macOS.")


def check_disk(settings: "Settings") -> Check:
    """Tell how much room there is for models and uploads, above what stays free: uploads are refused before that."""
    disk = shutil.disk_usage(_existing(settings.data_dir))
    kept_bytes = kept_free_bytes(disk.total, settings.disk_reserve_bytes)
    detail = f"{disk.free / 1e9:.1f} GB free for {settings.data_dir}, of which {kept_bytes / 1e9:.1f} GB are kept free"
    remedy = (
        "Free some space, set TYMPAN_DATA_DIR to a folder on a larger disk, or change TYMPAN_DISK_RESERVE_MB; "
        "uploads are refused when they would use what is kept free."
    )
    if disk.free < kept_bytes:
        return Check("Disk", Status.FAIL, detail, remedy)
    if disk.free < kept_bytes + _LOW_DISK_BYTES:
        return Check("Disk", Status.WARN, detail, remedy)
    return Check("Disk", Status.OK, detail)


def check_data_dir(settings: "Settings") -> Check:
    """Try to write to the data folder."""
    folder = settings.data_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Check("Data folder", Status.OK, f"{folder} can be written")
    except OSError as error:
        remedy = "Give this user write permission there, or set TYMPAN_DATA_DIR to another folder."
        return Check("Data folder", Status.FAIL, f"{folder} cannot be written: {error.strerror}", remedy)


def check_port(settings: "Settings") -> Check:
    """Tell whether ``tympan serve`` could listen."""
    address = f"{settings.host}:{settings.port}"
    try:
        family, kind, _, _, place = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        remedy = "Stop the program that listens there (perhaps a running tympan), or set TYMPAN_HOST or TYMPAN_PORT."
        return Check("Port", Status.WARN, f"{address} cannot be used: {error.strerror}", remedy)
    return Check("Port", Status.OK, f"{address} is free")


def check_settings(settings: "Settings", overrides: Mapping[str, object]) -> list[Check]:
    """Return every setting with where it came from, secrets hidden, and what is odd about them."""
    from tympan import config  # noqa: PLC0415

    shown = [
        Check(f"Setting {row.name}", Status.OK, f"{row.value} ({_origin(row, overrides)})")
        for row in config.rows(settings)
    ]
    remedy = "Correct it in the environment or in the configuration file."
    return shown + [Check("Settings", Status.WARN, note, remedy) for note in config.notes(settings)]


def _origin(row: "SettingRow", overrides: Mapping[str, object]) -> str:
    if row.name.lower() in overrides:
        return "command line"
    if os.environ.get(f"TYMPAN_{row.name}"):
        return "environment"
    return "default" if row.is_default else "configuration file"


def _existing(path: Path) -> Path:
    return next(place for place in (path, *path.parents) if place.exists())
