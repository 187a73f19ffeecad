"""Compare qinterp with its peers: ``python benchmarks --help``.

All contestants take turns within one run, so that a noisy machine is noisy for all of them; what
counts is the ratio within a round, of which the median and the quartiles are given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from contestants import Array, Contestant, Run, contestants, threaded
from networks import NETWORKS
from peak import peaks
from rich.console import Console
from rich.table import Table

import qinterp
from qinterp import Graph, Interpreter, _kernels
from qinterp.importers._shipped import shipped_models

CONSOLE = Console(width=100, highlight=False)
SLICE = 0.03  # seconds that a contestant runs before the next one


def main() -> None:
    """Measure, print tables, write JSON."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    shipped = [name for name in shipped_models() if _is_quantized(name)]
    parser.add_argument("models", nargs="*", help=f"of: {', '.join([*NETWORKS, *shipped])}")
    parser.add_argument("--rounds", type=int, default=15, help="turns of every contestant")
    parser.add_argument("--samples", type=int, default=64, help="inputs of the runs over many")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    limits = peaks()
    found: dict[str, Any] = {
        "schema": "qinterp.benchmark/1",
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "instruction_sets": _kernels.available_isas(),
            "peak_multiply_adds_per_second": limits,
        },
        "versions": {"qinterp": qinterp.__version__, "python": platform.python_version()},
        "start": start_up(),
        "models": {},
    }
    _print_machine(found)
    for name in options.models or [*NETWORKS, *shipped]:
        found["models"][name] = measure(name, limits, options.rounds, options.samples)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


def _is_quantized(name: str) -> bool:
    graph = qinterp.load(name)
    return all(graph.tensors[tensor].dtype == "int8" for tensor in graph.inputs)


# ---- one model ------------------------------------------------------------------------------


def measure(name: str, limits: dict[str, float], rounds: int, samples: int) -> dict[str, Any]:
    """Everything about one model."""
    with tempfile.TemporaryDirectory() as folder:
        path, multiply_adds = name, 0
        if name in NETWORKS:
            data, multiply_adds = NETWORKS[name]()
            path = str(Path(folder) / f"{name}.tflite")
            Path(path).write_bytes(data)
        graph = qinterp.load(path)
        memory = memory_of(path)
    tensor = graph.tensors[graph.inputs[0]]
    codes = np.random.default_rng(0).normal(0, 40, tensor.shape)
    x = codes.clip(-128, 127).astype(tensor.numpy_dtype)
    isas = _kernels.available_isas()
    one = in_turns(contestants(isas), graph, x, rounds)
    cores = os.cpu_count() or 1
    result = {
        "multiply_adds": multiply_adds,
        "bytes": len(graph.source),
        "nodes": len(graph.nodes),
        "prepare": preparation(graph),
        "resident": memory,
        "live_tensors": live_tensors(graph),
        "batch_1": one,
        "batch_1_threads": in_turns(threaded(cores), graph, x, max(rounds // 3, 3)),
        "many": many(graph, x, samples, cores, max(rounds // 5, 3)),
    }
    _print_model(name, result, limits, isas)
    return result


def in_turns(
    who: Sequence[Contestant], graph: Graph, x: Array, rounds: int
) -> dict[str, list[float]]:
    """Seconds of a run of each contestant, one value a round: the fastest of that turn."""
    runs = {one.name: one.open(graph, x) for one in who}
    for run in runs.values():
        run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            times[name].append(_turn(run))
    return times


def _turn(run: Run) -> float:
    best, end = float("inf"), time.perf_counter() + SLICE
    while True:
        started = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - started)
        if now > end:
            return best


def many(graph: Graph, x: Array, samples: int, cores: int, rounds: int) -> dict[str, list[float]]:
    """Seconds for all samples with one worker and with one a core, in turns."""
    interpreter = Interpreter(graph)
    times: dict[str, list[float]] = {"1": [], str(cores): []}
    for _ in range(rounds):
        for workers in sorted({1, cores}):
            started = time.perf_counter()
            for _result in interpreter.run_many([x] * samples, workers=workers):
                pass
            times[str(workers)].append(time.perf_counter() - started)
    return times


def preparation(graph: Graph) -> float:
    """Seconds to load the model's bytes and prepare it, the best of three."""
    best = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.tflite"
        path.write_bytes(graph.source)
        for _ in range(3):
            started = time.perf_counter()
            Interpreter(qinterp.load(path))
            best = min(best, time.perf_counter() - started)
    return best


# ---- in processes of their own ------------------------------------------------------------


def _child(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def start_up() -> dict[str, float]:
    """Seconds that ``import numpy`` takes, and ``import qinterp`` after it; the best of five."""
    code = (
        "import time; a = time.perf_counter(); import numpy; b = time.perf_counter(); "
        "import qinterp; print(b - a, time.perf_counter() - b)"
    )
    both = [list(map(float, _child(code).split())) for _ in range(5)]
    return {"numpy": min(b[0] for b in both), "qinterp": min(b[1] for b in both)}


MEMORY = """
import sys, numpy, qinterp, networkx, qinterp.interpreter, qinterp.importers.tflite
def resident(which):
    with open("/proc/self/status") as status:
        return next(1024 * int(line.split()[1]) for line in status if line.startswith(which))
before = resident("VmRSS")
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")  # the peak starts anew
graph = qinterp.load(sys.argv[1])
tensor = graph.tensors[graph.inputs[0]]
x = numpy.zeros(tensor.shape, tensor.numpy_dtype)
qinterp.Interpreter(graph).run(x)
print(resident("VmHWM") - before)
"""


def live_tensors(graph: Graph) -> int:
    """Bytes of the largest set of computed tensors that are needed at once."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in (*node.inputs, *node.outputs)}

    def size(name: str) -> int:
        tensor = graph.tensors[name]
        return tensor.numpy_dtype.itemsize * math.prod(tensor.shape)

    alive = {name: size(name) for name in graph.inputs}
    greatest = 0
    for i, node in enumerate(graph.nodes):
        alive |= {name: size(name) for name in node.outputs}
        greatest = max(greatest, sum(alive.values()))
        alive = {name: n for name, n in alive.items() if last.get(name, i) > i}
    return greatest


def memory_of(path: str) -> int | None:
    """Bytes resident at most, above those after import; None where the system does not tell."""
    if not Path("/proc/self/clear_refs").exists():
        return None
    return int(_child(MEMORY, path))


# ---- tables ---------------------------------------------------------------------------------


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), "")


def _print_machine(found: dict[str, Any]) -> None:
    machine, start = found["machine"], found["start"]
    CONSOLE.print(f"{machine['processor']}, {machine['cores']} cores")
    for isa, rate in machine["peak_multiply_adds_per_second"].items():
        CONSOLE.print(f"{isa}: at most {rate / 1e9:.0f} G multiply-adds a second on one core")
    CONSOLE.print(f"import qinterp adds {start['qinterp']:.3f} s to numpy's {start['numpy']:.3f} s")


def _print_model(
    name: str, result: dict[str, Any], limits: dict[str, float], isas: Sequence[str]
) -> None:
    times: dict[str, list[float]] = result["batch_1"]
    work = result["multiply_adds"]
    table = Table(title=f"{name}: batch 1, one thread", title_justify="left", box=None)
    table.add_column("", no_wrap=True)
    for column in ("ms", "x reference", "(quartiles)", "x xnnpack", "(quartiles)", "of peak"):
        table.add_column(column, justify="right", no_wrap=True)
    for contestant, taken in {**times, **result["batch_1_threads"]}.items():
        cells = [contestant, f"{statistics.median(taken) * 1e3:.3f}"]
        for peer in ("litert-reference", "litert-xnnpack"):
            rounds = list(zip(times[peer], taken, strict=False))
            cells += _ratios([theirs / mine for theirs, mine in rounds])
        isa = next((isa for isa in isas if contestant.endswith(isa)), None)
        share = ""
        if isa in limits and work:
            share = f"{work / min(taken) / limits[isa] * 100:.0f} %"
        table.add_row(*cells, share)
    CONSOLE.print()
    CONSOLE.print(table)
    first = f"qinterp {isas[0]}"
    extra = [b / a - 1 for a, b in zip(times[first], times["qinterp, all captured"], strict=True)]
    CONSOLE.print(f"capturing every tensor costs {statistics.median(extra) * 100:.0f} %")
    spans = result["many"]
    for workers, taken in spans.items():
        if workers != "1":
            gain = [one / all_ for one, all_ in zip(spans["1"], taken, strict=True)]
            CONSOLE.print(f"{workers} workers over many samples: {' '.join(_ratios(gain))} x one")
    size = result["bytes"]
    CONSOLE.print(f"load and prepare {result['prepare']:.3f} s for {size / 1e6:.1f} MB")
    if result["resident"] is not None:
        allowed = 2.5 * size + result["live_tensors"] + 32e6
        CONSOLE.print(
            f"resident {result['resident'] / 1e6:.1f} MB above imports; 2.5 files + live tensors "
            f"+ 32 MB are {allowed / 1e6:.1f}"
        )


def _ratios(values: Sequence[float]) -> list[str]:
    if len(values) < 3:
        return [f"{statistics.median(values):.2f}", ""]
    low, middle, high = statistics.quantiles(values, n=4)
    return [f"{middle:.2f}", f"({low:.2f}-{high:.2f})"]


if __name__ == "__main__":
    main()
