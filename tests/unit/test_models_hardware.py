"""The automatic choice of device, format, threads and model, and what it reads from the machine."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tympan.engine.hardware import MAX_THREADS, OF_THE_FILE, Choice, Gpu, Machine, choose_hardware
from tympan.engine.machine import probe_machine
from tympan.errors import ConfigError

GIB = 1 << 30
LAPTOP = Machine(cores=2, memory_bytes=16 * GIB, cpu_flags=("avx512_vnni", "avx2"))
SERVER = Machine(cores=32, memory_bytes=128 * GIB)
WITH_GPU = replace(SERVER, gpus=(Gpu("H200", 139 * GIB, 90),))


def _choose(machine: Machine, model: str = "auto", device: str = "auto", compute_type: str = "auto") -> Choice:
    return choose_hardware(model, device, compute_type, 0, machine)


@pytest.mark.parametrize(
    ("machine", "model"),
    [
        (Machine(cores=1, memory_bytes=GIB), "tiny"),
        (Machine(cores=1, memory_bytes=GIB // 4), "base"),
        (LAPTOP, "base"),
        (replace(LAPTOP, cores=8), "small"),
        (replace(LAPTOP, cores=8, memory_bytes=2 * GIB), "base"),
        (SERVER, "large-v3-turbo"),
        (WITH_GPU, "large-v3-turbo"),
        (replace(SERVER, gpus=(Gpu("small", 2 * GIB, 75),)), "small"),
    ],
)
def test_auto_takes_the_largest_model_that_runs_well(machine: Machine, model: str) -> None:
    """More cores or a GPU give a larger model; too little memory a smaller one, and nothing that fits the default."""
    assert _choose(machine).model == model


def test_auto_leaves_out_what_would_need_trust_and_says_so() -> None:
    """A model without published digests is named, not taken."""
    choice = choose_hardware("auto", "auto", "auto", 0, SERVER, usable={"base", "tiny.en"})
    assert choice.model == "base"
    assert any("large-v3-turbo --trust-first-use" in reason for reason in choice.reasons)


@pytest.mark.parametrize(
    ("gpu", "compute_type"),
    [
        (Gpu("H200", 139 * GIB, 90), "float16"),
        (Gpu("seen by the driver only"), "float16"),
        (Gpu("P40", 24 * GIB, 61), "int8"),
        (Gpu("P100", 16 * GIB, 60), "float32"),
    ],
)
def test_the_format_suits_the_gpu(gpu: Gpu, compute_type: str) -> None:
    """Half precision where the GPU is made for it, else what it can do."""
    choice = _choose(replace(LAPTOP, gpus=(gpu,)), model="base")
    assert (choice.device, choice.compute_type) == ("cuda", compute_type)


@pytest.mark.parametrize(
    ("machine", "compute_type", "reason"),
    [
        (LAPTOP, "auto", "no NVIDIA GPU"),
        (replace(WITH_GPU, cuda_libraries=False), "auto", "cuBLAS 12 is not"),
        (WITH_GPU, "int16", "CPUs only"),
        (replace(WITH_GPU, gpus=(Gpu("tiny", GIB // 4, 75),)), "auto", "too little memory"),
    ],
)
def test_why_the_cpu_was_chosen_is_said(machine: Machine, compute_type: str, reason: str) -> None:
    """Whoever expected the GPU reads what kept it from being used."""
    choice = _choose(machine, model="base", compute_type=compute_type)
    assert choice.device == "cpu"
    assert any(reason in text for text in choice.reasons)


def test_what_is_set_is_kept() -> None:
    """A setting that is not auto is never overruled."""
    choice = choose_hardware("/some/folder", "cpu", "float32", 3, WITH_GPU)
    assert (choice.model, choice.device, choice.compute_type, choice.threads) == ("/some/folder", "cpu", "float32", 3)
    assert choice.memory_bytes == 0


@pytest.mark.parametrize(
    ("device", "compute_type", "param"),
    [
        ("cuda", "auto", "device"),
        ("metal", "auto", "device"),
        ("tpu", "auto", "device"),
        ("cpu", "float16", "compute_type"),
        ("vulkan", "int8", "compute_type"),
    ],
)
def test_what_cannot_work_is_refused_by_name(device: str, compute_type: str, param: str) -> None:
    """An impossible device or format is a configuration error that names the setting."""
    with pytest.raises(ConfigError) as refused:
        _choose(LAPTOP, "base", device, compute_type)
    assert refused.value.param == param
    assert refused.value.remedy


def test_metal_is_for_macs_and_vulkan_for_everybody() -> None:
    """Both leave the number format to the model's file; whether the library can is found out when it is loaded."""
    for machine, device in ((replace(LAPTOP, has_metal=True), "metal"), (LAPTOP, "vulkan")):
        choice = _choose(machine, "mine-ggml-q5_0", device)
        assert (choice.device, choice.compute_type) == (device, "auto")
        assert any("model's file" in reason for reason in choice.reasons)


def test_a_file_may_decide_on_the_number_format() -> None:
    """Nothing is said of a format that is not ours to choose, on any device."""
    choice = _choose(LAPTOP, "mine-ggml-q5_0", compute_type=OF_THE_FILE)
    assert (choice.device, choice.compute_type) == ("cpu", "auto")
    assert not any("int8" in reason for reason in choice.reasons)


def test_too_little_memory_is_warned_of() -> None:
    """A model that was asked for is used even if memory may run short, with a warning."""
    choice = _choose(replace(LAPTOP, memory_bytes=2 * GIB), model="large-v3")
    assert choice.model == "large-v3"
    assert any("Warning" in reason for reason in choice.reasons)


def test_threads_are_the_cores_up_to_a_bound() -> None:
    """One engine gets the physical cores, but not a whole large server."""
    assert _choose(LAPTOP, model="base").threads == 2
    assert _choose(replace(LAPTOP, cores=64), model="base").threads == MAX_THREADS


def _pretend(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")


def test_probe_counts_limits_of_control_groups(tmp_path: Path) -> None:
    """A container's quota of CPUs and memory is what counts, wherever in the hierarchy it is set."""
    _pretend(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/box",
            "sys/fs/cgroup/pod/cpu.max": "100000 100000",
            "sys/fs/cgroup/pod/box/memory.max": "1000000000",
            "sys/fs/cgroup/pod/box/cpu.max": "max 100000",
            "proc/cpuinfo": "model name\t: Test CPU\nflags\t\t: sse4_1 avx2 avx512_vnni",
        },
    )
    found = probe_machine(tmp_path)
    assert (found.cores, found.memory_bytes) == (1, 1_000_000_000)
    assert (found.cpu_name, found.cpu_flags) == ("Test CPU", ("avx512_vnni", "avx2"))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
def test_probe_counts_hyper_threads_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads of one core are one core, and only allowed CPUs count."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    _pretend(
        tmp_path,
        {f"sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list": f"{n % 2},{n % 2 + 2}" for n in range(4)},
    )
    assert probe_machine(tmp_path).cores == 2


def test_probe_reads_the_driver_when_there_is_no_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU is found without nvidia-smi, and hidden as the runtime would hide it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    _pretend(tmp_path, {"proc/driver/nvidia/gpus/0000:01:00.0/information": "Model: \t\t NVIDIA H200"})
    assert probe_machine(tmp_path).gpus == (Gpu("NVIDIA H200"),)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert probe_machine(tmp_path).gpus == ()


def test_probe_asks_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name, memory and capability come from the tool; lines it does not know are left out."""
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA H200, 143771, 9.0'\necho 'Odd, [N/A], [N/A]'\necho nonsense\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert probe_machine().gpus == (Gpu("NVIDIA H200", 143771 << 20, 90), Gpu("Odd"))


def test_probe_finds_this_machine() -> None:
    """On the machine at hand there is at least a core and some memory."""
    found = probe_machine()
    assert 1 <= found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes > 100_000_000
