"""Whether the media library is recent enough to be given files by strangers."""

import re
from typing import Final

FFMPEG_FLOOR: Final = (8, 1)
"""The oldest FFmpeg that is used without being asked: what the sandbox and the malicious files were tried with.

Older ones have faults that are known and mended since (https://ffmpeg.org/security.html).
"""

_VERSION = re.compile(r"FFmpeg n?(\d{1,3})\.(\d{1,3})")


def is_old(libraries: str) -> bool:
    """Return whether ``libraries`` names an FFmpeg below the floor, or none whose version can be told."""
    found = _VERSION.search(libraries)
    return found is None or (int(found[1]), int(found[2])) < FFMPEG_FLOOR
