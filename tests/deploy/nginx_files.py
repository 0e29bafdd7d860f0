"""The shipped nginx configuration, moved to where a test can run it: other ports, other folders, nothing else."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.deploy.files import DEPLOY, ROOT

SHIPPED = DEPLOY / "nginx"


@dataclass(frozen=True, slots=True)
class Ports:
    """Where things are in the test: the ports nginx listens on, and the addresses of what stands behind it."""

    listen: Mapping[int, str]
    upstream: Mapping[str, str]


def host_files(kind: str = "http") -> dict[str, Path]:
    """Return what the page on nginx says goes where below ``/etc/nginx``; ``kind`` is http or tls."""
    shared = [path for path in (SHIPPED / "tympan").glob("*.conf") if path.name != "upstream-compose.conf"]
    files = {f"tympan/{path.name}": path for path in shared}
    names = ("tympan.conf", f"tympan-{kind}.conf")
    return files | {f"conf.d/{name}": SHIPPED / name for name in names}


def compose_files(volumes: list[str]) -> dict[str, Path]:
    """Return what the volumes of ``compose.yaml`` put where below ``/etc/nginx``."""
    found = {}
    for volume in volumes:
        source, target, mode = volume.split(":")
        assert mode == "ro", volume
        assert (ROOT / source).exists(), volume
        if target.endswith(".conf"):
            found[target.removeprefix("/etc/nginx/")] = ROOT / source
    return found


def installed(files: Mapping[str, Path], folder: Path, ports: Ports) -> str:
    """Copy the files to ``folder``, moved to ``ports``; return the inside of an ``http`` block that includes them."""
    for place, source in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_moved(source.read_text("utf-8"), folder, ports))
    text = (f"include {folder}/{place};" for place in sorted(files) if place.startswith("conf.d/"))
    return _local("\n".join(sorted(text, key=lambda line: "/default.conf" not in line and "/tympan.conf" not in line)))


def _local(text: str) -> str:
    # The harness puts the port into its own text alone: it asks for it to know when nginx is up.
    return text + "\nserver { listen 127.0.0.1:@PORT@; return 204; }\n"


def _moved(text: str, folder: Path, ports: Ports) -> str:
    text = re.sub(r"\b(tympan/[\w.-]+(?:/[\w.-]+)?);", rf"{folder}/\1;", text)
    text = re.sub(r"\blisten (\d+)", lambda match: f"listen {ports.listen[int(match[1])]}", text)
    text = re.sub(r"\bserver ([\w.-]+:\d+)", lambda match: f"server {ports.upstream[match[1]]}", text)
    text = text.replace("/var/log/nginx/", f"{folder}/")
    # The nginx of Debian 12 is older than this word; the names it would look up are not names any more.
    return re.sub(r" resolve;", ";", re.sub(r"^    resolver 127\.0\.0\.11.*\n", "", text, flags=re.MULTILINE))
