"""The services of ``compose.yaml`` as processes of this machine: their commands, their environment, other addresses."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.files import image_environment
from tests.servers.process import free_port

PROGRAM = Path(sys.executable).with_name("tympan")


@dataclass(slots=True)
class Topology:
    """What runs. ``places`` maps ``host:port`` of the file to ``host:port`` of this machine."""

    services: Mapping[str, Any]
    places: Mapping[str, str]
    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def tympan(self) -> list[str]:
        """Return the names of the services that run our image, apart from those that run once."""
        return [name for name, each in self.services.items() if _is_ours(each) and each.get("restart") != "no"]

    def environment(self, name: str) -> dict[str, str]:
        """Return what a service finds in its environment, moved to this machine."""
        given = {**image_environment(), **self.services[name]["environment"]}
        text = {key: str(value) for key, value in given.items() if key not in {"PATH", "LD_LIBRARY_PATH"}}
        for there, here in self.places.items():
            text = {key: value.replace(there, here) for key, value in text.items()}
        self.ports.setdefault(name, free_port())
        own = {"TYMPAN_HOST": "127.0.0.1", "TYMPAN_PORT": str(self.ports[name])}
        own["TYMPAN_DATA_DIR"] = str(self.folder / self._volume(name))
        return {"PATH": os.environ["PATH"], **text, **own}

    def run(self, name: str) -> None:
        """Run a service that ends by itself; AssertionError when it fails."""
        done = subprocess.run(
            self._command(name), env=self.environment(name), capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()

    def output(self, name: str, *words: str) -> str:
        """Return what another command says where a service runs, as ``docker compose exec`` does it."""
        command = [str(PROGRAM), *words]
        done = subprocess.run(command, env=self.environment(name), capture_output=True, check=True, timeout=60)
        return done.stdout.decode()

    def start(self, name: str) -> None:
        """Start a service that goes on."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self._command(name), env=self.environment(name), stdout=log, stderr=log, start_new_session=True
            )

    def logs(self) -> str:
        """Return the end of every log."""
        return "\n".join(f"== {log.name}\n{log.read_text()[-2000:]}" for log in sorted(self.folder.glob("*.log")))

    def close(self) -> None:
        """End everything."""
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)

    def _command(self, name: str) -> list[str]:
        return [str(PROGRAM), *self.services[name]["command"]]

    def _volume(self, name: str) -> str:
        """Return a folder for ``/data``: services that share a volume share it here."""
        volumes = [volume.split(":")[0] for volume in self.services[name].get("volumes", ())]
        return volumes[0] if volumes else name


def _is_ours(service: Mapping[str, Any]) -> bool:
    return str(service["image"]).startswith("tympan:")
