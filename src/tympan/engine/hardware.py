"""Which device, number format, threads and model size suit a machine: a pure choice that says why."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from tympan.engine.catalogue import DEFAULT_MODEL, Entry, find, memory_bytes
from tympan.engine.machine import Gpu, Machine, probe_machine
from tympan.errors import ConfigError

__all__ = ["AUTO", "MAX_THREADS", "OF_THE_FILE", "Choice", "Gpu", "Machine", "choose_hardware", "probe_machine"]

AUTO = "auto"
"""What a setting says that leaves the choice to us."""

OF_THE_FILE = "file"
"""What stands for the number format where the model's file decides on it."""

MAX_THREADS = 16
"""Most threads one engine gets unless it is told otherwise; short windows have too little work for more."""

_CPU_TYPES = ("int8", "int8_float32", "int16", "float32")
_CUDA_TYPES = ("float16", "int8_float16", "bfloat16", "int8_bfloat16", "int8", "int8_float32", "float32")
_GGML_DEVICES = ("metal", "vulkan")
"""Reached through whisper.cpp alone, whose files have a number format of their own."""

_AUTO_MODELS = ("large-v3-turbo", "medium", "small", "base", "tiny")
_USABLE = 0.7
# Base in int8 with beam 5 ran at 11 times real time on two cores; cost grows with the parameters, speed with the
# cores to the power 0.7. An automatic choice keeps four times real time in hand for more than one caller.
_BASE_SPEED, _BASE_CORES, _BASE_PARAMETERS = 11.0, 2, 74_000_000
_CORES_EXPONENT = 0.7
_WANTED_SPEED = 4.0
_FLOAT16_CAPABILITY = 70
_INT8_CAPABILITY = 61


@dataclass(frozen=True, slots=True)
class Choice:
    """What to run and on what; ``memory_bytes`` is an estimate, 0 when the model is not in the catalogue."""

    model: str
    device: str
    compute_type: str
    threads: int
    memory_bytes: int
    reasons: tuple[str, ...]


def choose_hardware(
    model: str, device: str, compute_type: str, threads: int, machine: Machine, usable: Collection[str] | None = None
) -> Choice:
    """Return what to run on ``machine``; ``auto`` (for ``threads``: 0) leaves a choice to us, anything else is kept.

    ``OF_THE_FILE`` says that the model's file decides on the format. ``usable`` are the catalogue names that an
    automatic choice may pick (all, when ``None``): models that would need the user's trust first are left out of it.
    Raises ``ConfigError`` for a device or number format that cannot work.
    """
    reasons: list[str] = []
    if model == AUTO:
        model = _choose_model(device, compute_type, machine, usable, reasons)
    entry = find(model)
    chosen_device = _choose_device(device, entry, compute_type, machine, reasons)
    chosen_type = _choose_type(chosen_device, compute_type, entry, machine, reasons)
    chosen_threads = _choose_threads(chosen_device, threads, machine, reasons)
    needed_bytes = memory_bytes(entry, chosen_type) if entry else 0
    _warn_of_memory(chosen_device, needed_bytes, machine, reasons)
    return Choice(model, chosen_device, chosen_type, chosen_threads, needed_bytes, tuple(reasons))


def _choose_model(
    device: str, compute_type: str, machine: Machine, usable: Collection[str] | None, reasons: list[str]
) -> str:
    """Return the largest model that fits and is fast enough, and say which better one only lacks the user's trust."""
    on_gpu = _choose_device(device, find(DEFAULT_MODEL), compute_type, machine, []) == "cuda"
    fitting = [name for name in _AUTO_MODELS if _suits(_entry(name), compute_type, machine, on_gpu=on_gpu)]
    allowed = [name for name in fitting if usable is None or name in usable] or [DEFAULT_MODEL]
    chosen, where = allowed[0], "GPU" if on_gpu else f"{_count(machine.cores, 'core')}"
    reasons.append(f"Model {chosen}: the largest that this machine ({where}) runs well and that is ready to use.")
    if fitting and fitting[0] != chosen:
        reasons.append(
            f"{fitting[0]} would suit this machine too, but has no published digest: "
            f"`tympan models pull {fitting[0]} --trust-first-use` makes it ready."
        )
    return chosen


def _suits(entry: Entry, compute_type: str, machine: Machine, *, on_gpu: bool) -> bool:
    if on_gpu:
        return _fits_gpu(entry, compute_type, machine)
    needed_bytes = memory_bytes(entry, "int8" if compute_type == AUTO else compute_type)
    return needed_bytes <= _USABLE * machine.memory_bytes and _speed(entry, machine.cores) >= _WANTED_SPEED


def _speed(entry: Entry, cores: int) -> float:
    """Return how many times faster than real time ``entry`` should run on a CPU, roughly."""
    return _BASE_SPEED * math.pow(cores / _BASE_CORES, _CORES_EXPONENT) * _BASE_PARAMETERS / entry.parameters


def _choose_device(device: str, entry: Entry | None, compute_type: str, machine: Machine, reasons: list[str]) -> str:
    if device not in {AUTO, "cpu", "cuda", *_GGML_DEVICES}:
        raise ConfigError(
            f"{device!r} is not a device.", param="device", remedy="Set DEVICE to auto, cpu, cuda, metal or vulkan."
        )
    if device == "metal" and not machine.has_metal:
        raise ConfigError(
            "DEVICE is metal, but this is not a Mac.", param="device", remedy="Set DEVICE to auto or cpu."
        )
    if device == "cuda" and not machine.gpus:
        raise ConfigError(
            "DEVICE is cuda, but no NVIDIA GPU was found.",
            param="device",
            remedy="Check that nvidia-smi lists it (in a container: that it was started with GPU access), or set auto.",
        )
    if device != AUTO:
        reasons.append(f"Device {device}: as set.")
        return device
    obstacle = _gpu_obstacle(entry, compute_type, machine)
    reasons.append(f"Device cpu: {obstacle}." if obstacle else f"Device cuda: {machine.gpus[0].name} is there.")
    return "cpu" if obstacle else "cuda"


def _gpu_obstacle(entry: Entry | None, compute_type: str, machine: Machine) -> str:
    """Return why the GPU cannot be chosen automatically; empty when it can."""
    if not machine.gpus:
        return "no NVIDIA GPU was found"
    gpu = machine.gpus[0]
    if entry and entry.shape is None:
        return f"{entry.name} comes with int8 weights, which are for processors"
    if not machine.cuda_libraries:
        return f"{gpu.name} is there, but cuBLAS 12 is not (install the extra `cuda`)"
    if compute_type not in {AUTO, OF_THE_FILE, *_CUDA_TYPES}:
        return f"{compute_type} runs on CPUs only"
    if entry and not _fits_gpu(entry, compute_type, machine):
        return f"{gpu.name} has too little memory for {entry.name}"
    return ""


def _fits_gpu(entry: Entry, compute_type: str, machine: Machine) -> bool:
    """Return whether the model fits the first GPU in some format we would choose; unknown memory is taken to do."""
    gpu = machine.gpus[0]
    formats = _gpu_formats(gpu) if compute_type == AUTO else (compute_type,)
    return not gpu.memory_bytes or any(memory_bytes(entry, name) <= _USABLE * gpu.memory_bytes for name in formats)


def _gpu_formats(gpu: Gpu) -> tuple[str, ...]:
    """Return the number formats that suit a GPU, best first."""
    if gpu.capability >= _FLOAT16_CAPABILITY or not gpu.capability:
        return ("float16", "int8_float16")
    return ("int8", "float32") if gpu.capability >= _INT8_CAPABILITY else ("float32",)


def _choose_type(device: str, compute_type: str, entry: Entry | None, machine: Machine, reasons: list[str]) -> str:
    known = {"cpu": _CPU_TYPES, "cuda": _CUDA_TYPES}.get(device, ())
    if compute_type == OF_THE_FILE or (device in _GGML_DEVICES and compute_type == AUTO):
        reasons.append("Format: that of the model's file.")
        return AUTO
    if compute_type != AUTO:
        if compute_type not in known:
            raise ConfigError(
                f"The number format {compute_type} does not run on {device}.",
                param="compute_type",
                remedy=f"Set COMPUTE_TYPE to {' or '.join((AUTO, *known))}.",
            )
        reasons.append(f"Format {compute_type}: as set.")
        return compute_type
    if device == "cpu":
        flags = f", sped up by {machine.cpu_flags[0]}" if machine.cpu_flags else ""
        reasons.append(f"Format int8: the fastest and smallest on a CPU{flags}.")
        return "int8"
    gpu = machine.gpus[0]
    formats = _gpu_formats(gpu)
    chosen = next((name for name in formats if entry is None or _fits_gpu(entry, name, machine)), formats[-1])
    reasons.append(f"Format {chosen}: what suits {gpu.name} and fits its memory.")
    return chosen


def _choose_threads(device: str, threads: int, machine: Machine, reasons: list[str]) -> int:
    if threads:
        reasons.append(f"Threads {threads}: as set.")
        return threads
    chosen = min(machine.cores, MAX_THREADS) if device == "cpu" else min(machine.cores, 4)
    reasons.append(f"Threads {chosen}: {_count(machine.cores, 'physical core')} may be used.")
    return chosen


def _warn_of_memory(device: str, needed_bytes: int, machine: Machine, reasons: list[str]) -> None:
    available_bytes = machine.gpus[0].memory_bytes if device == "cuda" else machine.memory_bytes
    if available_bytes and needed_bytes > _USABLE * available_bytes:
        reasons.append(
            f"Warning: about {needed_bytes / 1e9:.1f} GB of memory may be needed, and {available_bytes / 1e9:.1f} GB "
            "are there in all; choose a smaller model if it runs short."
        )


def _entry(name: str) -> Entry:
    entry = find(name)
    if entry is None:
        raise LookupError(name)
    return entry


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
