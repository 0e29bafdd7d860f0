"""A decoder child's two descriptors: media bytes in, frames of samples out."""

import json
import os
from collections.abc import Callable

from tympan.audio import template
from tympan.errors import TooLong, TympanError

MIN_OUTPUT_S = 0.02
"""Shorter audio than this cannot hold a sound of speech."""


class MediaFile:
    """The media bytes as the media library wants them: a nameless file that can be read and searched."""

    name = ""

    def read(self, size: int) -> bytes:
        """Return at most ``size`` bytes."""
        return os.read(template.MEDIA_FD, size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move and return the position in bytes."""
        return os.lseek(template.MEDIA_FD, offset, whence)

    def tell(self) -> int:
        """Return the position in bytes."""
        return os.lseek(template.MEDIA_FD, 0, os.SEEK_CUR)


class Output:
    """The way to the server: counts samples, holds the first ones back until the clip is long enough."""

    def __init__(self, send: Callable[[bytes, bytes], None], rate_hz: int, max_samples: int, channels: int = 1) -> None:
        """Give frames to ``send``, at most ``max_samples`` of each channel at ``rate_hz``."""
        self._send = send
        self._max_samples = max_samples
        self._held: list[bytes] = []
        self.rate_hz = rate_hz
        self.channels = channels
        self.samples = 0

    @property
    def is_too_short(self) -> bool:
        """Whether less has come than speech needs."""
        return self.samples < MIN_OUTPUT_S * self.rate_hz

    def write(self, pcm: bytes) -> None:
        """Send 16-bit samples, if there are any. Raises ``TooLong`` once they are more than allowed."""
        if not pcm:
            return
        self.samples += len(pcm) // (2 * self.channels)
        if self.samples > self._max_samples:
            limit_s = self._max_samples / self.rate_hz
            raise TooLong(
                f"The audio is longer than the limit of {limit_s:g} s.", remedy="Split it into shorter files."
            )
        self._held.append(pcm)
        if not self.is_too_short:
            for block in self._held:
                self._send(template.PCM_FRAME, block)
            self._held.clear()

    def finish(self, end: dict[str, object]) -> None:
        """Say that the stream ended well."""
        self._send(template.END_FRAME, json.dumps(end).encode())

    def refuse(self, error: TympanError) -> None:
        """Say why there is nothing, or nothing more."""
        text = {"code": error.code, "message": error.message[:1000], "remedy": error.remedy}
        self._send(template.ERROR_FRAME, json.dumps(text).encode())


def send_frame(kind: bytes, body: bytes) -> None:
    """Write one frame to the server; waits while the server has no use for it yet."""
    parts = [memoryview(template.FRAME_HEADER.pack(kind, len(body))), memoryview(body)]
    while parts:
        written = os.writev(template.OUTPUT_FD, parts)
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][written:]
