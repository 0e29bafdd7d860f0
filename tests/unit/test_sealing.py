"""Secrets at rest: sealed and opened, keys changed, key files made once and kept from others."""

import os
import threading
from pathlib import Path

import pytest

from tympan.errors import ConfigError
from tympan.jobs.sealing import MIN_KEY_CHARS, Sealer

OLD = "the old key of these tests that is long enough"
NEW = "the new key of these tests that is long enough"


def test_what_is_sealed_opens_again() -> None:
    """A text comes back, also one beyond ASCII, and its sealed form neither holds nor repeats it."""
    sealer = Sealer.from_secret(NEW)
    for text in ("whsec_abc", "", "Zoë 🎧"):
        first, second = sealer.seal(text), sealer.seal(text)
        assert sealer.unseal(first) == sealer.unseal(second) == text
        assert first != second
        assert not text or text not in first


def test_another_key_opens_nothing() -> None:
    """A wrong key is an error with a remedy."""
    sealed = Sealer.from_secret(OLD).seal("x")
    with pytest.raises(ConfigError, match="another key") as caught:
        Sealer.from_secret(NEW).unseal(sealed)
    assert "SECRET_KEY" in (caught.value.remedy or "")


def test_what_was_changed_does_not_open() -> None:
    """A sealed text of which one character differs is refused."""
    sealer = Sealer.from_secret(NEW)
    sealed = sealer.seal("whsec_abc")
    changed = sealed[:30] + ("A" if sealed[30] != "A" else "B") + sealed[31:]
    with pytest.raises(ConfigError):
        sealer.unseal(changed)


@pytest.mark.parametrize("joint", [",", ", ", "\n"])
def test_keys_are_changed_by_putting_the_new_one_first(joint: str) -> None:
    """With two keys the first seals and both open; the first alone opens what both sealed."""
    before = Sealer.from_secret(OLD).seal("old")
    both = Sealer.from_secret(NEW + joint + OLD)
    assert both.unseal(before) == "old"
    assert Sealer.from_secret(NEW).unseal(both.seal("new")) == "new"
    with pytest.raises(ConfigError):
        Sealer.from_secret(OLD).unseal(both.seal("new"))


@pytest.mark.parametrize("text", ["", " ", ",", "x" * (MIN_KEY_CHARS - 1), f"{NEW},short"])
def test_short_keys_are_refused(text: str) -> None:
    """No key, or a short one among others, is a mistake in the settings."""
    with pytest.raises(ConfigError, match="fewer than 32"):
        Sealer.from_secret(text)


def test_the_key_file_is_made_once(tmp_path: Path) -> None:
    """The file appears with its folder, for its owner alone, and holds the same key the next time."""
    path = tmp_path / "data" / "secret.key"
    sealed = Sealer.from_file(path).seal("x")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_text().strip()) >= MIN_KEY_CHARS
    assert Sealer.from_file(path).unseal(sealed) == "x"
    assert [entry.name for entry in path.parent.iterdir()] == ["secret.key"]


def test_many_that_make_the_key_file_agree(tmp_path: Path) -> None:
    """Of twenty threads that start at once all end up with one key."""
    path = tmp_path / "secret.key"
    barrier = threading.Barrier(20)
    sealed: list[str] = []

    def make() -> None:
        barrier.wait()
        sealed.append(Sealer.from_file(path).seal("x"))

    threads = [threading.Thread(target=make) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    sealer = Sealer.from_file(path)
    assert [sealer.unseal(one) for one in sealed] == ["x"] * 20
    assert len(list(tmp_path.iterdir())) == 1


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """A key that is no secret is not used, and the error says what to do."""
    path = tmp_path / "secret.key"
    Sealer.from_file(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="Others may read") as caught:
        Sealer.from_file(path)
    assert caught.value.remedy == f"Run: chmod 600 {path}"


@pytest.mark.parametrize("content", [b"", b"short\n", "schlüssel".encode() * 10])
def test_a_damaged_key_file_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """An empty, cut or foreign file is an error, never replaced: what it once sealed would be lost."""
    path = tmp_path / "secret.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        Sealer.from_file(path)
    assert path.read_bytes() == content


def test_a_key_file_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A path that leads through a file names itself in the error."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be used"):
        Sealer.from_file(tmp_path / "file" / "secret.key")


def test_the_key_is_on_disk_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the file and its folder are synced while the key is made."""
    synced: list[str] = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    Sealer.from_file(tmp_path / "secret.key")
    assert synced[0].startswith(".secret.key.")
    assert synced[1] == tmp_path.name
