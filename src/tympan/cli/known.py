"""``--known-speaker NAME=FILE``: who is known by a sample of the voice."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tympan.cli.console import printable
from tympan.errors import InvalidRequest, TympanError
from tympan.options import MOST_KNOWN, KnownVoice

HELP = "Call the speaker with the voice in FILE so (2 to 30 s, nobody else); repeat it for several."

Samples = Mapping[str, Path]
"""Files with voices, by name."""


def samples_of(given: Sequence[str] | None) -> dict[str, Path]:
    """Return the files by the names of the speakers. Raises ``InvalidRequest`` for what cannot be meant."""
    found: dict[str, Path] = {}
    for value in given or ():
        name, _, file = (part.strip() for part in value.partition("="))
        if not (name and file):
            raise InvalidRequest(
                f"--known-speaker {printable(value)} is not a name and a file.", remedy="Say it as Anna=anna.wav."
            )
        if name in found:
            raise InvalidRequest(f"--known-speaker {printable(name)} is given twice.", remedy="Give each name once.")
        if not Path(file).is_file():
            raise InvalidRequest(f"There is no file {printable(file)}, for --known-speaker {printable(name)}.")
        found[name] = Path(file)
    if len(found) > MOST_KNOWN:
        raise InvalidRequest(f"There are more than {MOST_KNOWN} known speakers.", remedy="Leave some out.")
    return found


def known_voices(samples: Samples) -> tuple[KnownVoice, ...]:
    """Return the speakers; nothing is heard yet. Raises ``InvalidRequest`` for a file that cannot be read."""
    return tuple(KnownVoice(name, _digest(path)) for name, path in samples.items())


def heard(samples: Samples, hear: Callable[[Samples], Mapping[str, str]]) -> dict[str, str]:
    """Return the voices in files by the names of the speakers, one after another.

    Raises what ``hear`` raises, with the name of the speaker.
    """
    found: dict[str, str] = {}
    for name, path in samples.items():
        try:
            found |= hear({name: path})
        except InvalidRequest as error:
            raise _about(name, error) from error
    return found


def _about(name: str, error: TympanError) -> TympanError:
    return type(error)(f"--known-speaker {printable(name)}: {error.message}", remedy=error.remedy)


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidRequest(f"{printable(str(path))} cannot be read: {error.strerror}.") from error
