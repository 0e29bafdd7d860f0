"""Small libraries that are laid under a process: one sets its clock, one writes down what it does to its files."""

import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

_HERE = Path(__file__).parent


def build(name: str, folder: Path) -> Path:
    """Return the library of ``name``.c, made in ``folder``; the test is skipped where there is no compiler."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip(f"NOT RUN: there is no C compiler for {name}.c")
    library = folder / f"{name}.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_HERE / f"{name}.c"), "-ldl", "-lpthread"]
    subprocess.run(command, check=True, timeout=60, capture_output=True)
    library.chmod(0o755)
    return library


@dataclass(frozen=True, slots=True)
class SetClock:
    """The wall clock of all processes that run with ``env``."""

    library: Path
    file: Path

    @property
    def env(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {"LD_PRELOAD": str(self.library), "CLOCK_SHIM_FILE": str(self.file)}

    def shift(self, seconds: float) -> None:
        """Set the clock ahead of the true one by ``seconds``, behind when they are negative; it counts at once."""
        with self.file.open("r+b" if self.file.exists() else "wb") as file:
            file.write(struct.pack("l", round(seconds)))
        self.file.chmod(0o644)
