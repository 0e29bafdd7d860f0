"""The words of a byte-level vocabulary as bytes: what ggml files hold, and tokenizers spell in printable characters."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType

from tympan.errors import ModelError

_END = "<|endoftext|>"


@cache
def byte_of() -> Mapping[str, int]:
    """Return which byte each character of a byte-level vocabulary stands for.

    Printable bytes stand for themselves and the others for the characters from 256 on, in order (Radford et al. 2019,
    GPT-2, section 2.2).
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    return MappingProxyType(
        {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
    )


def words_of(tokenizer: Path) -> tuple[bytes, ...]:
    """Return all plain words of a ``tokenizer.json``, in the order of their numbers.

    Raises ``ModelError`` when the file is not such a vocabulary.
    """
    try:
        vocabulary = json.loads(tokenizer.read_text(encoding="utf-8"))["model"]["vocab"]
        plain = {number: word for word, number in vocabulary.items() if word != _END}
        return tuple(bytes(byte_of()[character] for character in plain[number]) for number in range(len(plain)))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{tokenizer.name} cannot be read as a Whisper vocabulary: {error!r}.",
            remedy="Put the model's tokenizer.json beside its weights.",
        ) from error
