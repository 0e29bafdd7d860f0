"""Memory of large blocks goes back to the system when they are freed, whatever lies between them."""

import subprocess
import sys

import pytest

_PROGRAM = """
import sys
from pathlib import Path
from tympan.bootstrap.memory import return_large_blocks
def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])
if sys.argv[1] == "set" and not return_large_blocks():
    sys.exit("not set")
first = bytearray(24 << 20)
del first
before, blocks, between = resident(), [], []
for _ in range(50):
    blocks.append(bytearray(900_000))
    between.append(bytes(10_000))
del blocks
print((resident() - before) >> 20)
"""


def _kept_mib(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _PROGRAM, how], check=True, capture_output=True, text=True, timeout=60)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps it")
def test_Q1_freed_blocks_go_back() -> None:
    """Fifty windows' worth is gone at once; without asking the C library for it most would stay."""
    assert _kept_mib("set") < 8
    assert _kept_mib("left as it is") > 24
