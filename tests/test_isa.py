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
from qinterp.testing.tflite_writer import ModelWriter

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


def large(kind: str, dtype: str) -> tuple[bytes, dict[str, Any]]:
    """A model of one operator on some thousand elements, which fill vectors and leave some over."""
    rng = np.random.default_rng(SEED)
    writer, shape = ModelWriter(), (1, 13, 17, 23)
    zero_point = 0 if dtype == "int16" else 5
    count = 2 if kind in ("ADD", "SUB", "MUL") else 1
    operands = [
        writer.input(f"x{i}", shape, dtype, scale=0.05 - 0.02 * i, zero_point=zero_point)
        for i in range(count)
    ]
    info = np.iinfo(dtype)
    inputs = {
        f"x{i}": rng.integers(info.min, info.max + 1, shape).astype(dtype) for i in range(count)
    }
    options: dict[str, Any] = {"fused_activation_function": "NONE"} if count == 2 else {}
    scale, end = 0.001 if kind == "MUL" and dtype == "int16" else 0.05, zero_point
    if kind.endswith("POOL_2D"):
        sizes = ("stride_h", "stride_w", "filter_height", "filter_width")
        options = {"padding": "SAME", "fused_activation_function": "NONE"}
        options |= dict(zip(sizes, (1, 1, 3, 5), strict=True))
    elif kind == "MEAN":
        operands.append(writer.constant("axes", np.array([1, 2], np.int32)))
        options, shape, scale = {"keep_dims": False}, (1, 23), 0.003
    elif kind == "SOFTMAX":
        options, scale, end = {"beta": 1.0}, 1 / 256, int(info.min)
    elif kind == "QUANTIZE":
        scale = 0.07
    out = writer.tensor("y", shape, dtype, scale=scale, zero_point=end)
    writer.operator(kind, operands, [out], **options)
    return writer.finish([out]), inputs


LARGE = [
    *((kind, dtype) for kind in ("ADD", "SUB", "MUL") for dtype in ("int8", "uint8", "int16")),
    *((f"{kind}_POOL_2D", dtype) for kind in ("AVERAGE", "MAX") for dtype in ("int8", "int16")),
    *((kind, dtype) for kind in ("MEAN", "SOFTMAX", "QUANTIZE") for dtype in ("int8", "uint8")),
]


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
    for kind, dtype in LARGE:
        model, inputs = large(kind, dtype)
        for scheme in SCHEMES:
            try:
                result = qinterp.run(qinterp.load(model), inputs, scheme=scheme)
            except QInterpError:
                continue
            found[f"large {kind} {dtype} {scheme}"] = hashed([result.outputs])
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
    assert {f"large {k} {d} tflite-reference" for k, d in LARGE} <= set(portable)
    assert forced(isa) == portable
