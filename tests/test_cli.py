"""The command line: exit statuses, one-line errors, JSON, plain tables."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import qinterp
from qinterp.capture import Capture
from qinterp.cli import main

MODEL = "digits_cnn.tflite"


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def test_run_prints_nodes_prediction_and_time() -> None:
    result = invoke("run", MODEL)
    assert result.exit_code == 0
    assert all(len(line) <= 100 for line in result.output.splitlines())
    assert "\x1b" not in result.output
    for word in ("conv_2d_0", "softmax_7", "which is right", "time", "ms"):
        assert word in result.output


@pytest.mark.parametrize("verb", [["run", MODEL], ["inspect", MODEL], ["schemes"]])
def test_json_is_json(verb: list[str]) -> None:
    result = invoke(*verb, "--json")
    assert result.exit_code == 0
    found = json.loads(result.output)
    if isinstance(found, dict):
        assert found["schema"].startswith(f"qinterp.{verb[0]}/")


def test_capture_holds_every_tensor_and_accumulators(tmp_path: Path) -> None:
    file = tmp_path / "out.npz"
    assert invoke("run", MODEL, "--capture", file, "--accumulators").exit_code == 0
    capture = Capture.load(file)
    assert len(capture) == 8
    assert set(capture.notes["conv_2d_0"]) == {"accumulator", "multiplier", "shift"}
    assert capture.record["qinterp"] == qinterp.__version__


def test_explain_with_one_scheme_and_two() -> None:
    element = "conv_2d_0[0,3,4,5]"
    one = invoke("explain", MODEL, element)
    assert one.exit_code == 0
    assert "sum of products" in one.output
    assert "0x" in one.output
    two = invoke("explain", MODEL, element, "-s", "tflite-reference", "-s", "exact")
    assert two.exit_code in (0, 1)
    assert "exact" in two.output


def test_diff_finds_a_difference_and_none() -> None:
    same = invoke("diff", MODEL, "-s", "exact", "-s", "exact", "--samples", 2)
    assert same.exit_code == 0
    other = invoke("diff", MODEL, "-s", "exact", "-s", "glow-cpu", "--samples", 2, "--json")
    assert other.exit_code == 1
    assert json.loads(other.output)


def test_verify_against_the_runtimes() -> None:
    result = invoke("verify", MODEL, "--samples", 1)
    assert result.exit_code == 0
    assert "DIFFERS" not in result.output
    assert "exact" in result.output


def test_set_and_node_change_the_scheme() -> None:
    changed = invoke("run", MODEL, "--set", "accumulator.bits=12", "--node", "conv_2d_2=exact")
    assert changed.exit_code == 0
    assert "accumulator.bits=12" in changed.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "nope.tflite"], "no such file"),
        (["run", MODEL, "-s", "nope"], "no scheme 'nope'"),
        (["run", MODEL, "--set", "accumulator.bitz=3"], "unknown key 'bitz'"),
        (["run", MODEL, "--node", "bogus=exact"], "no node 'bogus'"),
        (["run", MODEL, "-i", "missing.npy"], "missing.npy"),
        (["explain", MODEL, "conv_2d_0"], "TENSOR[i,j,...]"),
        (["explain", MODEL, "conv_2d_0[0,99,0,0]"], "out of range"),
        (["diff", MODEL, "-s", "exact"], "two sides"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(arguments: list[str], said: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert result.stdout == ""


def test_as_a_module() -> None:
    made = subprocess.run(
        [sys.executable, "-m", "qinterp", "--version"], capture_output=True, text=True, check=True
    )
    assert qinterp.__version__ in made.stdout
