"""What an engine's process finds in its environment, before any library is loaded there."""

import os

from tympan.engine.machine import probe_machine


def engine_environment() -> dict[str, str]:
    """Return what the engine's process finds in its environment beside this one's.

    NumPy's OpenBLAS would keep threads of its own spinning beside the engine's, which doubled the time of an encoder
    call. Its huge pages would make arrays that are used in part, such as the past of a text, take up all of their
    memory: 100 MB more at five beams. CTranslate2 keeps to AVX2 unless told otherwise; with AVX-512 its encoder took
    7-13 % less time on a Zen 5 core.
    """
    wide = "avx512_vnni" in probe_machine().cpu_flags and "CT2_FORCE_CPU_ISA" not in os.environ
    numpy = {"OPENBLAS_NUM_THREADS": "1", "NUMPY_MADVISE_HUGEPAGE": "0"}
    return numpy | ({"CT2_FORCE_CPU_ISA": "AVX512"} if wide else {})
