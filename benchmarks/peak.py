"""The physical limit: multiply-adds a second of this core's instruction sets, from a loop in C."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path

from qinterp import _kernels

ROUNDS = 2_000_000


def peaks() -> dict[str, float]:
    """Multiply-adds a second by instruction set; empty without a compiler for x86-64."""
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "peak.so"
        source = Path(__file__).with_name("peak.c")
        command = [compiler, "-O2", "-shared", "-fPIC", str(source), "-o", str(library)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return {}
        loops = ctypes.CDLL(str(library))
    found = {}
    for isa in _kernels.available_isas():
        loop = getattr(loops, isa, None)
        if loop is not None:
            loop.restype, loop.argtypes = ctypes.c_int64, [ctypes.c_int64]
            found[isa] = max(_rate(loop) for _ in range(5))
    return found


def _rate(loop: ctypes._CFuncPtr) -> float:
    started = time.perf_counter()
    multiply_adds = loop(ROUNDS)
    return multiply_adds * ROUNDS / (time.perf_counter() - started)
