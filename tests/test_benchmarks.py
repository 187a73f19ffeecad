"""The benchmark runs and tells what it should; memory stays within bounds; times are not judged."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from judging import session

import qinterp

ROOT = Path(__file__).resolve().parents[1]


def test_one_command_measures_models(tmp_path: Path) -> None:
    out = tmp_path / "figures.json"
    command = [sys.executable, "benchmarks", "resnet_8", "mobilenet_v2_224", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--samples", "2", "--json", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert all(len(line.rstrip()) <= 100 for line in done.stdout.splitlines())
    found = json.loads(out.read_text())
    assert found["schema"] == "qinterp.benchmark/1"
    assert found["models"]["resnet_8"]["multiply_adds"] == 12_501_632
    for figures in found["models"].values():
        names = list(figures["batch_1"])
        assert names[:3] == ["litert-reference", "litert-optimized", "litert-xnnpack"]
        assert {"qinterp, all captured", "qinterp portable", "qinterp, saturating"} <= set(names)
        assert all(len(times) == 1 and times[0] > 0 for times in figures["batch_1"].values())
        if figures["resident"] is not None:
            assert figures["resident"] < 2.5 * figures["bytes"] + figures["live_tensors"] + 32e6


def test_mobilenet_equals_litert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from networks import mobilenet_v2

    data, multiply_adds = mobilenet_v2()
    assert multiply_adds == 300_774_272
    path = tmp_path / "mobilenet.tflite"
    path.write_bytes(data)
    graph = qinterp.load(path)
    tensor = graph.tensors[graph.inputs[0]]
    x = np.random.default_rng(1).normal(0, 40, tensor.shape).clip(-128, 127).astype(np.int8)
    inputs = {tensor.name: x}
    theirs = session("litert-reference").open(data).run(inputs)
    ours = qinterp.run(graph, inputs, capture=True).tensors
    assert {n: int((ours[n] != v).sum()) for n, v in theirs.items()} == dict.fromkeys(theirs, 0)
