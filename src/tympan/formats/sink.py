"""A zip archive that is read while it is written, so that it is never whole in memory."""


class Sink:
    """Where an archive writes to, and what has been written since it was last asked."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._pieces: list[bytes] = []

    def write(self, data: bytes, /) -> int:
        """Keep ``data`` until it is taken; return its length."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: there is nothing between this and the reader."""

    def close(self) -> None:
        """Do nothing, as above."""

    def take(self) -> bytes:
        """Return what was written since the last time."""
        data, self._pieces = b"".join(self._pieces), []
        return data
