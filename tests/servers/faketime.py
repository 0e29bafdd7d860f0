"""A clock of one's own for processes: libfaketime, set through a file while they run."""

from pathlib import Path

from tests.servers.provision import Installation


class ShiftedClock:
    """The wall clock of all processes that run with ``env``; time that only measures pauses stays true."""

    def __init__(self, file: Path, installation: Installation) -> None:
        """Keep the shift in ``file``; none at first."""
        self._file = file
        self.env = {
            **installation.env,
            "LD_PRELOAD": str(installation.program),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        self.shift(0)

    def shift(self, seconds: int) -> None:
        """Set the clock ahead by ``seconds``, back when they are negative; it counts within a second."""
        self._file.write_text(f"{seconds:+d}")
        self._file.chmod(0o644)
