"""R9: the process that serves requests loads no model and no media library; only its children do.

ONNX Runtime is there too, for the speech detection, so it is not among the runtimes looked for.
"""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tympan

SOURCE = Path(tympan.__file__).parent
RUNTIMES = ("ctranslate2", "torch", "faster_whisper", "av", "onnx_asr")
DEVICE_LIBRARIES = ("libcuda", "libcudart", "libcublas", "libctranslate2", "ctranslate2")


def imported(path: Path) -> set[str]:
    """Return the modules a file imports anywhere, also inside functions and for type checking."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def in_fresh_process(code: str) -> str:
    """Run code in an interpreter that has loaded nothing yet; return what it prints."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE.parent), str(root)])}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_R9_only_the_engine_module_names_a_runtime() -> None:
    """No other file imports a runtime, and nobody imports the engine module by name: the factory does, in the child."""
    for path in sorted(SOURCE.rglob("*.py")):
        names = imported(path)
        if path.relative_to(SOURCE).as_posix() not in {
            "engine/ct2.py",
            "engine/onnx_asr/library.py",
            "audio/decode_child.py",
        }:
            assert not {name for name in names if name.split(".")[0] in RUNTIMES}, path
        assert "tympan.engine.ct2" not in names, path


def test_R9_serving_through_a_child_loads_no_runtime_here() -> None:
    """After batches ran, neither the modules nor the memory map of the parent show a runtime or a device library."""
    code = """
from tests.batching_support import make_task, origin, running
from tympan.audio.vad import SpeechDetector
from tympan.batching.batcher import BatcherOptions
import tympan.bootstrap
import sys
SpeechDetector()
with running(BatcherOptions()) as batcher:
    assert batcher.submit(make_task(), origin()).result(10).text
    maps = open("/proc/self/maps").read() if sys.platform == "linux" else ""
    print([name for name in {runtimes} if name in sys.modules], [name for name in {libraries} if name in maps])
"""
    output = in_fresh_process(code.replace("{runtimes}", repr(RUNTIMES)).replace("{libraries}", repr(DEVICE_LIBRARIES)))
    assert output.strip() == "[] []"


@pytest.mark.model
def test_R9_a_real_model_is_loaded_in_the_child_alone() -> None:
    """With CTranslate2 at work, its library is mapped in the child and not in the parent."""
    code = """
import sys
from pathlib import Path
from tests.batching_support import origin
from tests.real_model import spec, spoken
from tympan.batching.batcher import Batcher
from tympan.domain import DecodeParams
batcher = Batcher(spec("ct2"))
batcher.start()
batcher.wait_ready(60)
assert "hello" in batcher.submit(spoken(0, DecodeParams(beam_size=1)), origin()).result(60).text.lower()
maps = Path("/proc/self/maps").read_text() if sys.platform == "linux" else ""
child = Path(f"/proc/{batcher._host.pid}/maps").read_text() if sys.platform == "linux" else "ctranslate2"
print([name for name in {runtimes} if name in sys.modules], [name for name in {libraries} if name in maps])
print("ctranslate2" in child)
batcher.close(0)
"""
    output = in_fresh_process(code.replace("{runtimes}", repr(RUNTIMES)).replace("{libraries}", repr(DEVICE_LIBRARIES)))
    assert output.split("\n")[:2] == ["[] []", "True"]
