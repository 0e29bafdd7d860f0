"""Byte-level vocabularies, which spell every byte in a printable character: pure."""

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType


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
