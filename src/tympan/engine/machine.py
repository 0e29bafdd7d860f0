"""What this machine has. Only files are read and ``nvidia-smi`` asked: the parent process never initialises CUDA."""

import ctypes.util
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_SMI_LIMIT_S = 10.0
# Best first. The last ones are what every CPU of the last ten years has.
_INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")
_UNLIMITED_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class Gpu:
    """A CUDA device: its name, its memory in bytes, its compute capability times ten (80 is 8.0); 0 is unknown."""

    name: str
    memory_bytes: int = 0
    capability: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """What this process may use.

    ``cores`` are physical cores it is allowed to run on, ``cpu_flags`` the instruction sets that speed up int8, and
    ``cuda_libraries`` says whether the libraries are there that a model on a CUDA device needs; ``has_metal`` is true
    of Macs.
    """

    cores: int
    memory_bytes: int
    cpu_name: str = ""
    cpu_flags: tuple[str, ...] = ()
    gpus: tuple[Gpu, ...] = ()
    cuda_libraries: bool = True
    has_metal: bool = False


def probe_machine(root: Path = Path("/")) -> Machine:
    """Return what this process may use of the machine; ``root`` is where ``/proc`` and ``/sys`` are.

    Limits of affinity and of control groups count. What cannot be found out is taken for absent.
    """
    name, flags = _cpu(root)
    return Machine(
        cores=_cores(root),
        memory_bytes=_memory_bytes(root),
        cpu_name=name,
        cpu_flags=tuple(flag for flag in _INT8_FLAGS if flag in flags),
        gpus=_gpus(root),
        cuda_libraries=_has_cublas(),
        has_metal=sys.platform == "darwin",
    )


def _cores(root: Path) -> int:
    """Return the physical cores this process may run on, at least 1."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
    cores = {_core_of(root, cpu) for cpu in allowed}
    quotas = [_cpu_quota(folder) for folder in _control_groups(root)]
    return max(1, int(min([len(cores), *(quota for quota in quotas if quota is not None)])))


def _core_of(root: Path, cpu: int) -> str:
    """Return what the two hyper-threads of one core have in common."""
    return _text(root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def _cpu_quota(group: Path) -> float | None:
    """Return how many CPUs a control group may use (version 2 or 1), ``None`` for no limit."""
    quota, _, period = _text(group / "cpu.max").partition(" ")
    if not quota:
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory_bytes(root: Path) -> int:
    """Return the memory this process may use in all, in bytes."""
    limits = [
        int(text)
        for folder in _control_groups(root)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (text := _text(folder / name)).isdigit()
    ]
    physical_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical_bytes, *(limit for limit in limits if 0 < limit < _UNLIMITED_BYTES)])


def _control_groups(root: Path) -> Iterator[Path]:
    """Yield the folders of the control groups this process is in, and of those around them."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        base = root / "sys/fs/cgroup"
        for mount in [base, *(base / controller for controller in controllers.split(",") if controller)]:
            folder = mount / path.lstrip("/")
            while folder.is_relative_to(mount):
                yield folder
                folder = folder.parent


def _cpu(root: Path) -> tuple[str, frozenset[str]]:
    """Return the name and the instruction sets of the first CPU."""
    fields: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = fields.get("flags") or fields.get("features") or ""
    return fields.get("model name") or platform.machine(), frozenset(flags.split())


def _gpus(root: Path) -> tuple[Gpu, ...]:
    """Return the CUDA devices this process may see, in the runtime's order."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    found = _ask_nvidia_smi() or _read_driver(root)
    if visible is None:
        return found
    chosen: list[Gpu] = []
    for item in visible.split(","):
        if not item.strip().isdigit():
            # A UUID names a device that is there; anything else hides it and all that follow, as in the runtime.
            return found[:1] if item.strip().startswith(("GPU-", "MIG-")) else tuple(chosen)
        if int(item) < len(found):
            chosen.append(found[int(item)])
    return tuple(chosen)


def _ask_nvidia_smi() -> tuple[Gpu, ...]:
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return ()
    command = [smi, "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SMI_LIMIT_S)
    except (OSError, subprocess.SubprocessError):
        # A broken driver is the same as none: the reader of `tympan doctor` is told that no GPU was found.
        return ()
    return tuple(gpu for line in done.stdout.splitlines() if (gpu := _parse_gpu(line)))


def _parse_gpu(line: str) -> Gpu | None:
    """Return the device in one line of ``nvidia-smi``; a figure it does not know is 0."""
    name, *figures = [field.strip() for field in line.split(",")]
    if len(figures) != 2:
        return None
    memory_mib, capability = (figure.replace(".", "") for figure in figures)
    return Gpu(
        name=name,
        memory_bytes=int(memory_mib) << 20 if memory_mib.isdigit() else 0,
        capability=int(capability) if capability.isdigit() else 0,
    )


def _read_driver(root: Path) -> tuple[Gpu, ...]:
    """Return the devices the kernel driver shows; containers without ``nvidia-smi`` have at least this."""
    gpus = []
    for information in sorted((root / "proc/driver/nvidia/gpus").glob("*/information")):
        names = [line.partition(":")[2].strip() for line in _text(information).splitlines() if line.startswith("Model")]
        gpus.append(Gpu(names[0] if names else "NVIDIA GPU"))
    return tuple(gpus)


def _has_cublas() -> bool:
    """Return whether cuBLAS 12, which models on a GPU need, is installed for the system or beside Tympan."""
    if ctypes.util.find_library("cublas"):
        return True
    try:
        return importlib.util.find_spec("nvidia.cublas") is not None
    except ModuleNotFoundError:
        return False


def _text(path: Path) -> str:
    """Return a small file's text, or nothing when it is not there or not ours to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
