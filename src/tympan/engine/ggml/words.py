"""The words of a byte-level vocabulary as bytes: what ggml files hold, and tokenizers spell in printable characters."""

import json
from pathlib import Path

from tympan.engine.byte_level import byte_of
from tympan.errors import ModelError

_END = "<|endoftext|>"


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
