"""Every instruction set gives the same bits, by one thread and by several (15 s of a core)."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from conftest import SEED

import qinterp
from qinterp import _kernels as kernels
from qinterp.errors import QInterpError
from qinterp.importers._shipped import samples, shipped_models
from qinterp.testing.random_models import KINDS, random_model

SCHEMES = ("tflite-reference", "tflite-optimized", "xnnpack", "glow-cpu", "exact")
SAMPLES = 2


def hashed(results: Any) -> str:
    digest = hashlib.sha256()
    for tensors in results:
        for name, value in sorted(tensors.items()):
            digest.update(f"{name} {value.dtype} {value.shape}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()[:16]


def captured(interpreter: qinterp.Interpreter, inputs: Any) -> dict[str, Any]:
    return dict(interpreter.run(inputs, capture=True).tensors)


def everything() -> dict[str, str]:
    """A hash of all tensors of every shipped model and of random models of one operator."""
    found = {}
    for name in sorted(shipped_models()):
        own, graph = samples(name), qinterp.load(name)
        assert own is not None
        rows = [own.inputs[i : i + 1] for i in range(SAMPLES)]
        for scheme in SCHEMES:
            try:
                interpreter = qinterp.Interpreter(graph, scheme)
            except QInterpError:
                continue
            inputs = [interpreter.input_codes(row) for row in rows]
            run = partial(captured, interpreter)
            once = [run(x) for x in inputs]
            found[f"{name} {scheme}"] = hashed(once)
            with ThreadPoolExecutor(3) as pool:
                runs = list(pool.map(run, inputs * 2))
            assert hashed(runs) == hashed(once * 2), (name, scheme)
    for kind, dtypes in KINDS.items():
        for dtype in dtypes:
            case = random_model(kind, dtype, np.random.default_rng([SEED, 7]))
            graph = qinterp.load(case.model)
            for scheme in SCHEMES:
                try:
                    result = qinterp.run(graph, case.inputs, scheme=scheme)
                except QInterpError:
                    continue
                found[f"{kind} {dtype} {scheme}"] = hashed([result.outputs])
    return found


@pytest.fixture(scope="module")
def portable() -> dict[str, str]:
    return forced("portable")


def forced(isa: str) -> dict[str, str]:
    """What a process of its own gives when it must use an instruction set."""
    script = "import test_isa\nfor item in test_isa.everything().items(): print(*item, sep='\\t')"
    environment = os.environ | {
        "QINTERP_ISA": isa,
        "PYTHONPATH": os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)]),
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split("\t") for line in done.stdout.splitlines())


@pytest.mark.parametrize("isa", [name for name in kernels.available_isas() if name != "portable"])
def test_every_instruction_set_gives_the_bits_of_portable_c(
    isa: str, portable: dict[str, str]
) -> None:
    assert len(portable) > 400
    assert forced(isa) == portable
