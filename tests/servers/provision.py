"""Finds the servers that the tests need and installs what is missing: ``python -m tests.servers.provision``.

Looked for on PATH, in Debian's folders and in ``.cache/servers``. Missing ones are installed with apt-get by root (none
of them is started), and unpacked into ``.cache/servers`` by everybody else. Where there is no apt-get the tests that
need them are skipped, and the end of the test run says so; those of the web UI fail.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache" / "servers"
PACKAGES = {
    "postgres": ("postgresql",),
    "rabbitmq": ("rabbitmq-server",),
    "redis": ("redis-server",),
    "nginx": ("nginx",),
    "haproxy": ("haproxy",),
    "node": ("nodejs",),
    "faketime": ("libfaketime",),
    "prometheus": ("prometheus",),
    "chromium": ("chromium",),
}
"""Server: its packages in Debian and Ubuntu."""

_PROGRAMS = {
    "postgres": "postgres",
    "rabbitmq": "rabbitmq-server",
    "redis": "redis-server",
    "nginx": "nginx",
    "haproxy": "haproxy",
    "node": "node",
    "faketime": "libfaketimeMT.so.1",
    "prometheus": "prometheus",
    "chromium": "chromium",
}
BROWSER = "chromium"
"""What the tests of the web UI use; without it they fail."""

_NO_START = "#!/bin/sh\nexit 101\n"  # What invoke-rc.d asks before it starts a service.


@dataclass(frozen=True, slots=True)
class Installation:
    """Where a server's program is, and what its environment needs to run it from there."""

    program: Path
    env: Mapping[str, str] = field(default_factory=dict)


def find(name: str, cache: Path = CACHE) -> Installation | None:
    """Return where the server is installed, None when it is not."""
    for root in (Path("/"), cache):
        for folder in _folders(root):
            program = folder / _PROGRAMS[name]
            if program.is_file():
                return Installation(program, _environment(root) if root == cache else {})
    found = shutil.which(_PROGRAMS[name])
    return Installation(Path(found)) if found else None


def missing(cache: Path = CACHE) -> list[str]:
    """Return the servers that are not installed."""
    return [name for name in PACKAGES if find(name, cache) is None]


def install(names: list[str], cache: Path = CACHE) -> None:
    """Install servers with apt-get: into the system by root, else into ``cache``.

    Raises ``CalledProcessError`` when a package cannot be had.
    """
    packages = [package for name in names for package in PACKAGES[name]]
    if os.geteuid() == 0:
        _install_into_system(packages)
    else:
        _unpack(packages, cache)


def main() -> int:
    """Install what is missing; always successful, because the tests say what they could not run."""
    names = missing()
    if names and not shutil.which("apt-get"):
        print(f"tympan: no apt-get; the tests of {', '.join(names)} will not run", file=sys.stderr)  # noqa: T201
        return 0
    # By itself: a system that has no such package must not lose the servers for it.
    for some in ([name for name in names if name != BROWSER], [name for name in names if name == BROWSER]):
        if some:
            _try_to_install(some)
    return 0


def _try_to_install(names: list[str]) -> None:
    print(f"tympan: installing for the tests: {', '.join(names)}")  # noqa: T201
    try:
        install(names)
    except (subprocess.SubprocessError, OSError) as error:
        lost = [name for name in missing() if name in names]
        print(f"tympan: {error}; the tests of {', '.join(lost)} will not run", file=sys.stderr)  # noqa: T201


def _folders(root: Path) -> Iterator[Path]:
    newest_first = sorted((root / "usr/lib/postgresql").glob("*/bin"), key=_version, reverse=True)
    yield from newest_first
    # The scripts in /usr/sbin insist on being run by root or the service's own user; those behind them do not. That of
    # the browser in /usr/bin looks for it where it was meant to be.
    yield from (root / name for name in ("usr/lib/rabbitmq/bin", "usr/lib/chromium", "usr/bin", "usr/sbin"))
    yield from sorted((root / "usr/lib").glob("*/faketime"))


def _version(folder: Path) -> float:
    with contextlib.suppress(ValueError):
        return float(folder.parent.name)
    return 0.0


def _environment(root: Path) -> dict[str, str]:
    """Return what programs unpacked below ``root`` need to find each other and their libraries."""
    libraries = [str(path) for path in sorted((root / "usr/lib").glob("*-linux-gnu*"))]
    return {
        "LD_LIBRARY_PATH": ":".join(libraries),
        "PATH": ":".join([str(root / "bin"), str(root / "usr/bin"), str(root / "usr/sbin"), os.environ["PATH"]]),
    }


def _install_into_system(packages: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        policy = Path("/usr/sbin/policy-rc.d")
        ours = not policy.exists()
        if ours:
            policy.write_text(_NO_START)
            policy.chmod(0o755)
        try:
            env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "TMPDIR": folder}
            command = ["apt-get", "install", "--yes", "--no-install-recommends", "-qq", *packages]
            if _run(command, env=env, check=False):
                _run(["apt-get", "update", "-qq"], env=env)
                _run(command, env=env)
        finally:
            if ours:
                policy.unlink()


def _unpack(packages: list[str], cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    state = cache / "apt"
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options = [f"-oDir::State::lists={state}/lists", f"-oDir::Cache={state}", "-oDebug::NoLocking=1"]
    _run(["apt-get", *options, "update", "-qq"])
    wanted = [name for name in _closure(packages, options) if name in packages or not _installed(name)]
    archives = state / "archives"
    archives.mkdir(exist_ok=True)
    _run(["apt-get", *options, "download", "-qq", *wanted], cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(cache)])
        archive.unlink()
    _move_erlang(cache)


def _closure(packages: list[str], options: list[str]) -> list[str]:
    only = [f"--no-{kind}" for kind in ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")]
    listed = subprocess.run(
        ["apt-cache", *options, "depends", "--recurse", *only, *packages], capture_output=True, text=True, check=True
    )
    names = {line.strip() for line in listed.stdout.splitlines() if line and line[0] not in " |<"}
    return sorted(name for name in names if not name.startswith("<") and ":" not in name)


def _installed(package: str) -> bool:
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f=${db:Status-Status}", package], capture_output=True, text=True, check=False
    )
    return asked.stdout.strip() == "installed"


def _move_erlang(cache: Path) -> None:
    """Tell the scripts of Erlang, which hold absolute paths, where they are now."""
    home = cache / "usr/lib/erlang"
    for script in (home / "bin/erl", home / "bin/start_erl", *home.glob("erts-*/bin/erl")):
        if script.is_file():
            text = script.read_text()
            script.write_text(text.replace("=/usr/lib/erlang", f"={home}"))


def _run(
    command: list[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, check: bool = True
) -> int:
    return subprocess.run(command, env=env, cwd=cwd, check=check, stdout=subprocess.DEVNULL, timeout=900).returncode


if __name__ == "__main__":
    sys.exit(main())
