"""Write a software bill of materials in CycloneDX's JSON from the locks: ``python scripts/sbom.py [LOCK...] -o FILE``.

It lists what is installed with ``runtime.txt``, or with the locks that are named, with the hashes that the installer
checks. The same locks give the same bytes: there is neither a time nor a random number in it.
"""

import argparse
import hashlib
import json
import re
import tomllib
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCKS = ROOT / "requirements"

_PIN = re.compile(r"(?P<name>[\w.-]+)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\\n]+))?")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Package:
    """One locked package; ``marker`` says where it is installed, ``hashes`` are those of all its files."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    @property
    def url(self) -> str:
        """Its package URL, as in https://github.com/package-url/purl-spec."""
        name = re.sub(r"[-_.]+", "-", self.name).lower()
        return f"pkg:pypi/{name}@{self.version.replace('+', '%2B')}"


def packages(text: str) -> Iterator[Package]:
    """Yield the packages of a lock. Raises ``ValueError`` for a line that pins nothing."""
    for block in re.split(r"\n(?=\S)", text):
        if not block.strip() or block.startswith("#"):
            continue
        found = _PIN.match(block)
        if found is None:
            raise ValueError(block)
        marker = (found["marker"] or "").strip()
        yield Package(found["name"], found["version"], marker, tuple(_HASH.findall(block)))


def bill(locks: Iterable[str]) -> dict[str, Any]:
    """Return the bill of what the named locks install, each package once."""
    found: dict[str, Package] = {}
    for lock in locks:
        found.update({each.url: each for each in packages((LOCKS / f"{lock}.txt").read_text(encoding="utf-8"))})
    components = [_component(found[url]) for url in sorted(found)]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = re.search(r'__version__ = "([^"]+)"', (ROOT / "src/tympan/__init__.py").read_text(encoding="utf-8"))
    digest = hashlib.sha256(json.dumps(components, sort_keys=True).encode()).hexdigest()
    about = {"type": "application", "bom-ref": "tympan", "name": project["name"]}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest)}",
        "version": 1,
        "metadata": {"component": {**about, "version": version[1] if version else project.get("version", "")}},
        "components": components,
        "dependencies": [{"ref": "tympan", "dependsOn": [component["bom-ref"] for component in components]}],
    }


def _component(package: Package) -> dict[str, Any]:
    properties = [{"name": "installed-where", "value": package.marker}] if package.marker else []
    return {
        "type": "library",
        "bom-ref": package.url,
        "name": package.name,
        "version": package.version,
        "purl": package.url,
        "hashes": [{"alg": "SHA-256", "content": each} for each in package.hashes],
        **({"properties": properties} if properties else {}),
    }


def main() -> None:
    """Write the bill."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("locks", nargs="*", default=["runtime"])
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "build" / "sbom.json")
    given = parser.parse_args()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(bill(given.locks), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
