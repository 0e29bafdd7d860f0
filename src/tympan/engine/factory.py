"""The one place that knows the kinds of engines: which one suits, and how to make it."""

from importlib import import_module
from pathlib import Path
from typing import Final

from tympan.engine import layouts
from tympan.engine.base import Engine, EngineSpec
from tympan.engine.onnx.dimensions import supported
from tympan.engine.onnx.weights import Weights
from tympan.errors import ConfigError, ModelError

_MODULES: Final = {
    "ct2": "tympan.engine.ct2",
    "fake": "tympan.engine.fake",
    "onnx": "tympan.engine.onnx.engine",
    "onnx-asr": "tympan.engine.onnx_asr.engine",
    "whispercpp": "tympan.engine.whispercpp.engine",
}


def kind_for(asked: str, device: str, compute_type: str, path: Path) -> str:
    """Return the kind of engine for the model in ``path``: as ``asked``, or for ``auto`` the fastest that can serve it.

    Raises ``ConfigError`` when the kind asked for cannot read the model, or not serve this device and number format.
    """
    layout = layouts.look(path).layout
    if asked != "auto" and asked not in layout.engines:
        raise ConfigError(
            f"The engine {asked} does not read {layout.title} models such as the one in {path}.",
            remedy=f"Set ENGINE=auto, or to one of: {', '.join(layout.engines)}.",
        )
    if device in {"metal", "vulkan"} and layout is not layouts.GGML:
        raise ConfigError(
            f"Only ggml models run on {device}, and the one in {path} is a {layout.title} model.",
            param="device",
            remedy="Run `tympan models export NAME --to ggml` and set MODEL to what it made.",
        )
    if layout is not layouts.CTRANSLATE2:
        return layout.engines[0] if asked == "auto" else asked
    return _kind_for_ctranslate2(asked, device, compute_type, path)


def _kind_for_ctranslate2(asked: str, device: str, compute_type: str, path: Path) -> str:
    fits = (device, compute_type) == ("cpu", "int8")
    if asked == "onnx" and not fits:
        raise ConfigError(
            f"The engine onnx serves int8 on a CPU, not {compute_type} on {device}.",
            remedy="Set DEVICE=cpu and COMPUTE_TYPE=int8, or ENGINE=auto.",
        )
    if asked != "auto":
        return asked
    if not fits:
        return "ct2"
    try:
        return "onnx" if supported(Weights(path / "model.bin")) else "ct2"
    except ModelError:
        return "ct2"  # It may know other formats; if not, it says what is wrong.


def create(spec: EngineSpec) -> Engine:
    """Return the loaded engine that ``spec`` asks for. Called in the engine process only.

    Each kind's module has a ``create(spec)`` and is imported only when asked for, since that loads its runtime.
    Raises ``ConfigError`` for an unknown kind, and whatever loading raises.
    """
    name = _MODULES.get(spec.kind)
    if name is None:
        raise ConfigError(f"There is no engine {spec.kind!r}.", remedy=f"Choose one of: {', '.join(sorted(_MODULES))}.")
    engine: Engine = import_module(name).create(spec)
    return engine
