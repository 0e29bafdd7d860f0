"""What all tests share: where real models are kept, spoken clips, and an environment of their own."""

import functools
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from httpx._transports import default as httpx_transports
from hypothesis import settings

from tympan.engine import models

pytest_plugins = ["tests.servers.fixtures", "tests.replayed_schema"]

REPOSITORY = Path(__file__).parents[1]

# A busy machine is no mistake of the code: whoever means a time measures it.
settings.register_profile("search", deadline=None)
# The ordinary run draws the same examples every time: new ones are looked for by `make test-long`.
settings.register_profile("tympan", deadline=None, derandomize=True)
settings.load_profile(os.environ.get("DRAWN_TESTS", "tympan"))

# Every client reads all authorities of the world, 0.1 s of processor time, and the tests make thousands of clients.
vars(httpx_transports)["create_ssl_context"] = functools.cache(httpx.create_ssl_context)


@dataclass(frozen=True, slots=True)
class SpokenClip:
    """A short recording and what is said in it."""

    path: Path
    text: str
    language: str


@pytest.fixture(scope="session", autouse=True)
def _own_environment() -> Iterator[None]:
    """Keep the settings of whoever runs the tests out of them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("TYMPAN_"):
                patch.delenv(name)
        patch.setenv("TYMPAN_QUALITY_STARTER", "false")  # Nothing is in a new database but what a test puts there.
        yield


@pytest.fixture(scope="session")
def model_data_dir() -> Path:
    """Return a data folder for real models that outlives the test run, so that they are fetched once."""
    folder = Path(os.environ.get("TEST_DATA_DIR") or REPOSITORY / ".cache" / "tympan")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def tiny_en(model_data_dir: Path) -> models.ResolvedModel:
    """Return tiny.en, the smallest real model."""
    return models.resolve("tiny.en", model_data_dir)


@pytest.fixture(scope="session")
def base(model_data_dir: Path) -> models.ResolvedModel:
    """Return base, the default model."""
    return models.resolve("base", model_data_dir)


@pytest.fixture(scope="session")
def moonshine_tiny(model_data_dir: Path) -> models.ResolvedModel:
    """Return Moonshine tiny, the smallest real model that is no Whisper."""
    return models.resolve("moonshine-tiny", model_data_dir)


@pytest.fixture(scope="session")
def spoken_clips() -> tuple[SpokenClip, ...]:
    """Return short synthetic voices in many languages with their texts; 16-kHz WAV files."""
    package = importlib.util.find_spec("pytest_audioeval")
    assert package is not None, "install requirements/samples.txt (make test does)"
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    return tuple(
        SpokenClip(path, path.with_suffix(".txt").read_text(encoding="utf-8").strip(), path.parent.name)
        for path in sorted((folder / "samples" / "audio").glob("*/*.wav"))
    )
