"""Servers are found where they are, installed where that is possible, and missed politely where it is not."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.servers import provision


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Make this machine look as if it had no servers, and return an empty cache."""
    folders = provision._folders
    monkeypatch.setattr(provision, "_folders", lambda root: iter(()) if root == Path("/") else folders(root))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    return tmp_path / "cache"


def place(cache: Path, *names: str) -> None:
    """Create programs in the cache."""
    for name in names:
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).touch()


def test_nothing_is_found_where_nothing_is(bare: Path) -> None:
    """All servers are missing on a bare machine."""
    assert provision.missing(bare) == list(provision.PACKAGES)


def test_unpacked_servers_are_found_with_their_surroundings(bare: Path) -> None:
    """A server in the cache comes with the paths to its libraries and programs; the newest version counts."""
    place(bare, "usr/lib/postgresql/9.6/bin/postgres", "usr/lib/postgresql/15/bin/postgres", "usr/bin/redis-server")
    (bare / "usr/lib/x86_64-linux-gnu").mkdir()
    found = provision.find("postgres", bare)
    assert found
    assert found.program == bare / "usr/lib/postgresql/15/bin/postgres"
    assert found.env["LD_LIBRARY_PATH"] == str(bare / "usr/lib/x86_64-linux-gnu")
    assert found.env["PATH"].split(":")[1] == str(bare / "usr/bin")
    assert {"postgres", "redis"}.isdisjoint(provision.missing(bare))
    assert len(provision.missing(bare)) == len(provision.PACKAGES) - 2


def test_scripts_of_erlang_are_told_where_they_are(tmp_path: Path) -> None:
    """The absolute path in ``erl`` becomes that of the cache."""
    script = tmp_path / "usr/lib/erlang/bin/erl"
    script.parent.mkdir(parents=True)
    script.write_text("ROOTDIR=/usr/lib/erlang\n")
    provision._move_erlang(tmp_path)
    assert script.read_text() == f"ROOTDIR={tmp_path}/usr/lib/erlang\n"


def test_without_a_package_manager_the_tests_are_skipped(bare: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The step succeeds and says what will not run."""
    assert provision.main() == 0
    names = ", ".join(provision.PACKAGES)
    assert f"no apt-get; the tests of {names} will not run" in capsys.readouterr().err


def test_a_failed_installation_is_no_failure_of_the_build(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a network the step succeeds and says why and what will not run; the browser is tried by itself."""

    def offline(names: list[str]) -> None:
        raise subprocess.CalledProcessError(100, ["apt-get", "update"])

    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/apt-get" if name == "apt-get" else None)
    monkeypatch.setattr(provision, "install", offline)
    assert provision.main() == 0
    said = capsys.readouterr().err
    assert "exit status 100.; the tests of postgres" in said
    assert "exit status 100.; the tests of chromium will not run" in said


@pytest.mark.skipif(not shutil.which("apt-cache"), reason="this machine has no apt-cache")
def test_packages_come_with_what_they_need() -> None:
    """The list of packages to unpack holds the dependencies that programs of a server load."""
    names = provision._closure(["redis-server"], [])
    if names == ["redis-server"] or not names:
        pytest.skip("apt knows no packages here")
    assert {"redis-server", "redis-tools", "libc6"} <= set(names)
    assert provision._installed("libc6")
    assert not provision._installed("no-such-package")


def test_everybody_but_root_unpacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Root installs into the system, others into the cache; both get the packages of the servers named."""
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(provision, "_install_into_system", lambda packages: calls.append(("system", packages)))
    monkeypatch.setattr(provision, "_unpack", lambda packages, cache: calls.append((cache.name, packages)))
    for user in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda user=user: user)
        provision.install(["redis", "nginx"], tmp_path / "cache")
    assert calls == [("system", ["redis-server", "nginx"]), ("cache", ["redis-server", "nginx"])]
