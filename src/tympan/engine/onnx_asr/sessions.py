"""Where and how graphs run: settings for ONNX Runtime, shared by all families. Imports ``onnxruntime``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import onnxruntime

from tympan.engine.failures import translated
from tympan.engine.onnx.runtime import ERRORS
from tympan.errors import ConfigError

_ERRORS_ONLY: Final = 3
_CUDA: Final = "CUDAExecutionProvider"
_CPU: Final = "CPUExecutionProvider"

FAILURES: Final = (*ERRORS, AssertionError, LookupError, OSError, TypeError, ValueError)
"""What a graph that is not what it should be makes the runtime, or whoever reads its outputs, raise."""


@dataclass(frozen=True, slots=True)
class Place:
    """A device, ``cpu`` or ``cuda``, its number, and the threads of one call on a processor."""

    device: str
    index: int
    threads: int

    @property
    def providers(self) -> list[Any]:
        """What runs the operators, in the runtime's terms, best first.

        Raises ``ConfigError`` when the installed runtime cannot use the device.
        """
        if self.device == "cpu":
            return [_CPU]
        if _CUDA not in onnxruntime.get_available_providers():
            raise ConfigError(
                "The installed ONNX Runtime cannot use CUDA.",
                param="device",
                remedy="Put onnxruntime-gpu in the place of onnxruntime, or set DEVICE=cpu.",
            )
        return [(_CUDA, {"device_id": str(self.index)}), _CPU]

    def options(self) -> Any:
        """Return the settings of a session."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = _ERRORS_ONLY
        # The system's allocator takes memory back after a long window; arenas keep the most that was ever needed.
        options.enable_cpu_mem_arena = self.device != "cpu"
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def session(self, path: Path) -> Any:
        """Return the graph in a file, ready to run from any thread. Raises ``EngineError``."""
        with translated("ONNX Runtime", *FAILURES):
            return onnxruntime.InferenceSession(str(path), self.options(), providers=self.providers)
