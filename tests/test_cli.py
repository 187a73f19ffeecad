"""The command line: exit statuses, one-line errors, strict JSON, plain tables."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import qinterp
from qinterp.capture import Capture
from qinterp.cli import main
from qinterp.importers._shipped import samples, shipped_models
from qinterp.scheme import Scheme
from qinterp.schemes_io import load_scheme, to_toml
from qinterp.testing.tflite_writer import ModelWriter

MODEL = "digits_cnn.tflite"
FLOOR = (
    'name = "floor"\nextends = "tflite-reference"\nsource = "s"\nevidence.level = "source"\n'
    + ('[[rule]]\nset = { "requantize.shift_right.rounding" = "toward_negative" }\n')
)
SAME = ["-s", "exact", "-s", "exact"]
VERBS = {
    "run": ["run", MODEL],
    "plan": ["run", MODEL, "--plan"],
    "inspect": ["inspect", MODEL],
    "explain": ["explain", MODEL, "conv_2d_0[0,3,4,5]"],
    "verify": ["verify", MODEL, "--samples", "1"],
    "schemes": ["schemes"],
    "scheme": ["schemes", "exact"],
}


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


def child(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qinterp", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A model of long and odd names, a float and an int8 input, and a NaN on the way."""
    writer = ModelWriter()
    x = writer.input("x", (1, 2), "float32", stored_name="model/" + "very_long/" * 20 + "x")
    y = writer.tensor("y", (1, 2), "float32", stored_name="\x1b[31mred\n" + "y" * 200)
    writer.operator("SUB", [x, x], [y])
    q = writer.input("q", (1, 300), "int8", scale=0.5)
    r = writer.tensor("r", (1, 300), "int8", scale=0.25)
    writer.operator("ADD", [q, q], [r])
    path = tmp_path / "odd.tflite"
    writer.save(path, [y, r])
    return path


# ---- what the verbs print ---------------------------------------------------------------------


def test_run_prints_nodes_prediction_and_time() -> None:
    result = invoke("run", MODEL)
    assert result.exit_code == 0
    for word in ("conv_2d_0", "softmax_7", "which is right", "time", "ms"):
        assert word in result.output


@pytest.mark.parametrize("verb", VERBS)
def test_output_is_plain_narrow_and_without_trailing_blanks(verb: str) -> None:
    result = invoke(*VERBS[verb])
    assert result.exit_code == 0
    assert result.stderr == ""
    assert len(result.stdout.splitlines()) > 3
    assert "\x1b" not in result.stdout
    for line in result.stdout.splitlines():
        assert line == line.rstrip()
        assert verb == "scheme" or len(line) <= 100, line


@pytest.mark.parametrize(
    "arguments",
    [
        ["run"],
        ["run", "--plan"],
        ["inspect"],
        ["explain", "sub_0[0,0]"],
        ["diff", "-s", "tflite-reference", "-s", "exact"],
        ["verify", "--samples", "1"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_odd_names_do_not_widen_what_is_printed_nor_reach_the_terminal(
    arguments: list[str], odd: Path
) -> None:
    verb, *rest = arguments
    result = invoke(verb, odd, *rest)
    assert result.exit_code == 0
    assert "sub" in result.stdout
    for line in result.stdout.splitlines():
        assert line.isprintable()
        assert len(line) <= 100


def test_odd_names_do_not_reach_the_terminal_in_errors(odd: Path) -> None:
    result = invoke("explain", odd, "red\x1b[0m[0]")
    assert result.exit_code == 2
    assert result.stderr.removesuffix("\n").isprintable()


@pytest.mark.parametrize("verb", VERBS)
def test_json_is_strict_and_names_its_schema(verb: str) -> None:
    result = invoke(*VERBS[verb], "--json")
    assert result.exit_code == 0
    assert result.stderr == ""
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert re.fullmatch(rf"qinterp\.{verb}/\d+", found["schema"])


def test_json_of_what_is_no_number(odd: Path, tmp_path: Path) -> None:
    graph = qinterp.load(odd)
    arrays = {graph.inputs[0]: np.float32([[np.inf, 1]]), "q": np.zeros((1, 300), np.int8)}
    Capture.of(arrays).save(tmp_path / "in.npz")
    result = invoke("run", odd, "-i", tmp_path / "in.npz", "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout, parse_constant=pytest.fail)
    assert found["outputs"][graph.outputs[0]] == [["nan", 0.0]]


def test_json_says_what_the_library_says() -> None:
    graph = qinterp.load(MODEL)
    own = samples(MODEL)
    assert own is not None
    for sample in (0, 7):
        found = json.loads(invoke("run", MODEL, "--sample", sample, "--json").stdout)
        result = qinterp.run(graph, own.inputs[sample : sample + 1], capture=True)
        assert found["outputs"] == {n: v.tolist() for n, v in result.outputs.items()}
        assert found["label"] == own.labels[sample]
        assert found["inputs"] == result.tensors.record["inputs"]
        assert found["model"]["sha256"] == graph.sha256
        assert [row["tensor"] for row in found["nodes"]] == list(result.tensors)
    found = json.loads(invoke("inspect", MODEL, "--json").stdout)
    assert [n["node"] for n in found["nodes"]] == [n.name for n in graph.nodes]
    assert found["bytes"] == len(graph.source)
    assert found["multiply_adds"] == sum(n["multiply_adds"] for n in found["nodes"]) > 1000


def test_capture_holds_every_tensor_and_accumulators(tmp_path: Path) -> None:
    file = tmp_path / "out.npz"
    assert invoke("run", MODEL, "--capture", file, "--accumulators").exit_code == 0
    capture = Capture.load(file)
    assert len(capture) == 8
    assert set(capture.notes["conv_2d_0"]) == {"accumulator", "multiplier", "shift"}
    assert capture.record["qinterp"] == qinterp.__version__
    plain = tmp_path / "plain.npz"
    assert invoke("run", MODEL, "--capture", plain).exit_code == 0
    assert Capture.load(plain).notes == {}


def test_inputs_from_files_and_random_ones(tmp_path: Path, odd: Path) -> None:
    own = samples(MODEL)
    assert own is not None
    wanted = json.loads(invoke("run", MODEL, "--sample", 3, "--json").stdout)
    np.save(tmp_path / "x.npy", own.inputs[3:4])
    np.savez(tmp_path / "x.npz", **{own.input_name: own.inputs[3:4]})
    for file in (tmp_path / "x.npy", tmp_path / "x.npz"):
        found = json.loads(invoke("run", MODEL, "-i", file, "--json").stdout)
        assert found["outputs"] == wanted["outputs"]
        assert found["input_origin"] == str(file)
    runs = [json.loads(invoke("run", odd, "--seed", n, "--json").stdout) for n in (1, 1, 2)]
    assert runs[0]["outputs"] == runs[1]["outputs"] != runs[2]["outputs"]
    assert runs[0]["input_origin"] == "random, seed 1"


def test_set_and_node_change_the_scheme(tmp_path: Path) -> None:
    changed = invoke("run", MODEL, "--set", "accumulator.bits=12", "--node", "conv_2d_2=exact")
    assert changed.exit_code == 0
    assert "accumulator.bits=12" in changed.output
    (tmp_path / "floor.toml").write_text(FLOOR)
    rounding = "requantize.shift_right.rounding=toward_negative"
    outputs = [
        json.loads(invoke("run", MODEL, *more, "--json").stdout)["nodes"]
        for more in (
            [],
            ["--set", rounding],
            ["--set", rounding.replace("=", ' = "') + '"'],
            ["-s", tmp_path / "floor.toml"],
        )
    ]
    tensors = [[(row["min"], row["max"], row["at_limits"]) for row in rows] for rows in outputs]
    assert tensors[0] != tensors[1] == tensors[2] == tensors[3]
    plan = json.loads(invoke("run", MODEL, "--node", "conv_2d_2=exact", "--plan", "--json").stdout)
    by_scheme = {entry["node"]: entry["scheme"] for entry in plan["nodes"]}
    assert [node for node, scheme in by_scheme.items() if scheme == "exact"] == ["conv_2d_2"]


def test_schemes_lists_and_resolves_them() -> None:
    listed = json.loads(invoke("schemes", "--json").stdout)["schemes"]
    assert [scheme["name"] for scheme in listed] == qinterp.scheme_names()
    hashes = {
        line.split()[1]: line.split()[0] for line in invoke("schemes", "--hash").stdout.splitlines()
    }
    for name in qinterp.scheme_names():
        scheme = load_scheme(name)
        assert hashes[name] == scheme.sha256
        assert invoke("schemes", name).stdout == to_toml(scheme)
        assert invoke("schemes", name, "--hash").stdout == scheme.sha256 + "\n"
        assert json.loads(invoke("schemes", name, "--json").stdout)["sha256"] == scheme.sha256


# ---- exit statuses ----------------------------------------------------------------------------


def test_explain_exits_with_1_where_two_schemes_part(tmp_path: Path) -> None:
    (tmp_path / "floor.toml").write_text(FLOOR)
    graph, own = qinterp.load(MODEL), samples(MODEL)
    assert own is not None
    one, other = (
        qinterp.run(graph, own.inputs[:1], scheme, capture="conv_2d_0").tensors
        for scheme in ("tflite-reference", str(tmp_path / "floor.toml"))
    )
    (name,) = one
    differs = np.argwhere(one[name] != other[name])[0]
    same = np.argwhere(one[name] == other[name])[0]
    for at, status in ((differs, 1), (same, 0)):
        element = f"conv_2d_0[{','.join(map(str, at))}]"
        sides = ["-s", "tflite-reference", "-s", tmp_path / "floor.toml"]
        result = invoke("explain", MODEL, element, *sides)
        assert result.exit_code == status
        assert result.stderr == ""
        found = json.loads(invoke("explain", MODEL, element, *sides, "--json").stdout)
        values = [trace["value"] for trace in found["traces"]]
        assert values == [one[name][tuple(at)], other[name][tuple(at)]]
        assert (found["parted"] is not None) >= status
    one_scheme = invoke("explain", MODEL, "conv_2d_0[0,3,4,5]")
    assert "sum of products" in one_scheme.output
    assert "0x" in one_scheme.output


def test_diff_exits_with_1_where_two_sides_part() -> None:
    same = invoke("diff", MODEL, "-s", "exact", "-s", "exact", "--samples", 2)
    assert same.exit_code == 0
    other = invoke("diff", MODEL, "-s", "exact", "-s", "glow-cpu", "--samples", 2, "--json")
    assert other.exit_code == 1
    assert json.loads(other.stdout)["schema"].startswith("qinterp.diff/")


def test_the_hint_at_explain_is_of_the_same_input(tmp_path: Path) -> None:
    own = samples(MODEL)
    assert own is not None
    file = tmp_path / "a file.npy"
    np.save(file, own.inputs[3:4])
    plain = tmp_path / "plain.tflite"
    writer = ModelWriter()
    x = writer.input("x", (1, 300), "int8", scale=0.5)
    y = writer.tensor("y", (1, 300), "int8", scale=0.37)
    writer.operator("RELU", [x], [y])
    writer.save(plain, [y])
    sides = ["-s", "tflite-reference", "-s", "glow-cpu"]
    hints = 0
    for model, options in (
        (MODEL, []), (MODEL, ["--samples", 3]), (MODEL, ["-i", file]), (plain, ["--seed", 5]),
        (plain, ["--random", 2, "--seed", 7]), (MODEL, ["--random", 2]),
    ):  # fmt: skip
        said = " ".join(invoke("diff", model, *sides, *options).stdout.split())
        hint = re.search(r"see qinterp (explain .*? -s tflite-reference -s glow-cpu)", said)
        if hint is None:
            assert options == ["--random", 2]  # which explain has no options for
            continue
        hints += 1
        result = invoke(*shlex.split(hint[1]))
        assert (result.exit_code, result.stderr) == (1, "")
    assert hints == 5


def test_verify_exits_with_1_where_a_scheme_is_not_its_runtime(
    tmp_path: Path, monkeypatch: Any
) -> None:
    result = invoke("verify", MODEL, "--samples", 1)
    assert result.exit_code == 0
    assert "DIFFERS" not in result.output
    assert "exact" in result.output
    reference = load_scheme("tflite-reference")
    changed = reference.with_({"requantize.shift_right.rounding": "toward_negative"})
    # a changed scheme claims no runtime, so this one has to lie
    broken = Scheme({**changed.to_table(), "evidence": reference.evidence})
    monkeypatch.setattr("qinterp.report.verification.sound_scheme_names", lambda: ["broken"])
    monkeypatch.setattr("qinterp.report.verification.load_scheme", lambda name: broken)
    result = invoke("verify", MODEL, "--samples", 1)
    assert result.exit_code == 1
    assert "DIFFERS" in result.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "Missing argument 'MODEL'."),
        (["run", "nope.tflite"], "nope.tflite: no such file; shipped models: "),
        (["run", "model.h5"], "model.h5: no importer reads "),
        (["run", MODEL, "-s", "nope"], "no scheme 'nope'"),
        (["run", MODEL, "-s", "nope.toml"], "nope.toml: No such file or directory"),
        (["run", MODEL, "-s", "exact", "-s", "exact"], "one scheme is needed here, got 2"),
        (["run", MODEL, "--set", "accumulator.bitz=3"], "unknown key 'bitz'"),
        (["run", MODEL, "--set", "accumulator.bits"], "'accumulator.bits' is not of the form"),
        (["run", MODEL, "--set", "accumulator.bits=many"], "expected int, got 'many'"),
        (["run", MODEL, "--node", "bogus=exact"], "no node 'bogus'"),
        (["run", MODEL, "--node", "conv_2d_0=nope"], "no scheme 'nope'"),
        (["run", MODEL, "-i", "missing.npy"], "missing.npy"),
        (["run", MODEL, "-i", "missing.npz"], "missing.npz: no such file"),
        (["run", MODEL, "--sample", "999999"], "no number 999999"),
        (["run", MODEL, "--sample", "-1"], "Invalid value for '--sample'"),
        (["run", MODEL, "--accumulators"], "--accumulators needs --capture"),
        (["run", MODEL, "--capture", "/nowhere/x.npz"], "/nowhere/x.npz: No such file"),
        (["inspect"], "Missing argument 'MODEL'."),
        (["explain", MODEL, "conv_2d_0"], "TENSOR[i,j,...]"),
        (["explain", MODEL, "conv_2d_0[0,x,0,0]"], "'conv_2d_0[0,x,0,0]' is not of the form"),
        (["explain", MODEL, "conv_2d_0[0,99,0,0]"], "out of range"),
        (["explain", MODEL, "conv_2d_0[0]"], "needs 4 indices, got [0]"),
        (["explain", MODEL, "nope[0]"], "no tensor 'nope'"),
        (["explain", MODEL, "#0[0,0,0,0]"], "is not computed: there is nothing to explain"),
        (["explain", MODEL, "conv_2d_0[0,0,0,0]", *["-s", "exact"] * 3], "scheme or two, got 3"),
        (["diff", MODEL, "-s", "exact"], "two sides"),
        (["diff", MODEL, "-s", "exact", "-s", ""], "no scheme ''"),
        (["diff", MODEL, *SAME, "--match", "order"], "--match is for the names of a dump"),
        (["diff", MODEL, *SAME, "--tolerance", "nnapi", "--fail-lsb", "1"], "exclude each other"),
        (["diff", MODEL, *SAME, "--tolerance", "nobody"], "no tolerances 'nobody'; known: nnapi"),
        (["diff", MODEL, *SAME, "--samples", "1", "--random", "1"], "exclude each other"),
        (["diff", MODEL, *SAME, "--samples", "1", "--csv", "/nowhere/x"], "/nowhere/x: No such"),
        (["schemes", "nope"], "no scheme 'nope'"),
        (["nope"], "No such command 'nope'."),
        (["run", MODEL, "--nope"], "No such option"),
    ],
)  # fmt: skip
def test_errors_are_one_line_and_exit_with_2(arguments: list[str], said: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("qinterp: ")
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert result.stdout == ""


def test_a_bug_is_not_a_difference(monkeypatch: Any) -> None:
    def fail(*arguments: Any) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr("qinterp.report.inspect.inspection", fail)
    result = invoke("inspect", MODEL)
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.splitlines()[-1] == (
        "qinterp: a bug: ZeroDivisionError('oops'); please report it"
    )


def test_what_a_fallback_computes_is_said() -> None:
    said = invoke("run", "digits_mobilenet.tflite", "-s", "cmsis-nn").output
    assert "note    computed by a fallback: mean_11 (tflite-micro)\n" in said
    plan = invoke("run", "digits_mobilenet.tflite", "-s", "cmsis-nn", "--plan").output
    assert "as tflite-micro, a fallback" in plan
    assert "fallback" not in invoke("run", "digits_resnet.tflite", "-s", "cmsis-nn").output


def test_help_and_version() -> None:
    assert invoke("--version").output == f"qinterp, version {qinterp.__version__}\n"
    for arguments in (["-h"], ["--help"], ["run", "-h"]):
        result = invoke(*arguments)
        assert result.exit_code == 0
        assert "Usage: " in result.stdout


# ---- a process of its own -----------------------------------------------------------------------


def test_as_a_module() -> None:
    version = child("--version")
    assert version.stdout == f"qinterp, version {qinterp.__version__}\n"
    done = child("run", MODEL, NO_COLOR="1")
    assert (done.returncode, done.stderr) == (0, "")
    assert "which is right" in done.stdout
    assert "\x1b" not in done.stdout
    failed = child("run", "nope.tflite")
    assert failed.returncode == 2
    assert (failed.stdout, failed.stderr.count("\n")) == ("", 1)
    assert child("diff", MODEL, "-s", "exact", "-s", "glow-cpu", "--samples", "1").returncode == 1


INTERRUPTED = """
import os, signal
from qinterp.cli import main
from qinterp.report import inputs
made = inputs.random_inputs
def interrupt(graph, seed):
    if seed == 30:
        os.kill(os.getpid(), signal.SIGINT)
    return made(graph, seed)
inputs.random_inputs = interrupt
main()
"""


@pytest.mark.parametrize(("other", "status"), [("exact", 1), ("tflite-reference", 2)])
def test_an_interrupted_diff_tells_what_it_knows(other: str, status: int) -> None:
    sides = ["-s", "tflite-reference", "-s", other]
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, "diff", MODEL, *sides, "--random", "100000"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == status
    assert "interrupted: this is what the samples before say" in done.stdout
    assert "conv_2d_2" in done.stdout
    if status == 1:
        assert done.stderr == ""
    else:
        assert re.fullmatch(r"qinterp: interrupted after \d+ samples, .*\n", done.stderr)


def on_a_terminal(*arguments: str, **environment: str) -> str:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "140", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "qinterp", *arguments], stdout=theirs, stderr=theirs, env=environment
    )
    os.close(theirs)
    said = b""
    try:
        while chunk := os.read(ours, 65536):
            said += chunk
    except OSError:  # how a terminal ends on Linux
        pass
    os.close(ours)
    assert process.wait() == 0
    return said.decode().replace("\r\n", "\n")


def test_a_terminal_gets_no_colour_where_it_wants_none_and_no_wide_table() -> None:
    said = on_a_terminal("run", MODEL, NO_COLOR="1")
    assert re.search(r"\x1b\[[0-9;]*(3|4|9|10)[0-7]", said) is None
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert "which is right" in plain
    assert all(len(line) <= 100 for line in plain.splitlines())


def test_progress_is_for_terminals_only() -> None:
    same = ["-s", "exact", "-s", "exact", "--samples", "30"]
    assert "comparing" in on_a_terminal("diff", MODEL, *same)
    assert child("diff", MODEL, *same).stderr == ""


def test_a_dump_may_be_a_side_too(tmp_path: Path, monkeypatch: Any) -> None:
    file = tmp_path / "device.npz"
    assert invoke("run", MODEL, "-s", "exact", "--capture", file).exit_code == 0
    for sides in (["-s", "exact", "-s", file], ["-s", file, "-s", "exact"], ["-s", file] * 2):
        result = invoke("diff", MODEL, *sides)
        assert (result.exit_code, result.stderr) == (0, "")
    # a folder is not taken for the scheme of its name
    monkeypatch.chdir(tmp_path)
    Path("glow-cpu").mkdir()
    np.save("glow-cpu/softmax_7.npy", Capture.load(file)["probabilities"])
    result = invoke("diff", MODEL, "-s", "exact", "--against", "glow-cpu")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "7 nodes were not captured" in result.stdout
    result = invoke("diff", MODEL, "-s", "exact", "--against", tmp_path / "absent")
    assert result.exit_code == 2
    assert "absent: no such file or folder" in result.stderr


def test_every_shipped_model_is_inspected() -> None:
    for name in shipped_models():
        result = invoke("inspect", name)
        assert result.exit_code == 0
        assert name in result.stdout
