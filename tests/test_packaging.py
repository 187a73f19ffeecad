"""What is shipped: every package, every scheme and model, and a core that needs no extra."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import qinterp
from qinterp.importers._shipped import provenance, samples, shipped_models
from qinterp.schemes_io import folder

CHECKOUT = Path(qinterp.__file__).parents[1]
DATA = ("schemes", "models")

pytestmark = pytest.mark.skipif(
    not (CHECKOUT / "pyproject.toml").is_file(), reason="not a checkout or editable install"
)


@pytest.fixture(scope="module")
def setuptools() -> Any:
    text = (CHECKOUT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["tool"]["setuptools"]


def test_packages_are_the_folders_that_hold_an_init(setuptools: Any) -> None:
    inits = list((CHECKOUT / "qinterp").rglob("__init__.py"))
    wanted = {".".join(init.parent.relative_to(CHECKOUT).parts) for init in inits}
    wanted |= {f"qinterp.{kind}" for kind in DATA if (CHECKOUT / kind / "__init__.py").is_file()}
    assert set(setuptools["packages"]) == wanted
    assert len(setuptools["packages"]) == len(wanted)
    assert set(setuptools["package-dir"]) == {f"qinterp.{d}" for d in DATA}
    assert setuptools["include-package-data"] is False


def test_every_folder_with_python_files_is_a_package() -> None:
    files = [*(CHECKOUT / "qinterp").rglob("*.py")]
    assert len(files) > 50
    assert all((file.parent / "__init__.py").is_file() for file in files)


def test_every_file_of_data_matches_a_pattern_of_the_package_data(setuptools: Any) -> None:
    for kind in DATA:
        patterns = setuptools["package-data"][f"qinterp.{kind}"]
        shipped = {f for p in patterns for f in (CHECKOUT / kind).glob(p)}
        present = {
            f
            for f in (CHECKOUT / kind).rglob("*")
            if f.is_file() and f.suffix not in (".py", ".pyc", ".md")
        }
        assert present, kind
        assert present == shipped


def test_every_scheme_and_model_is_found_through_folder() -> None:
    schemes = {f.name for f in folder("schemes").iterdir() if f.name.endswith(".toml")}
    assert schemes == {f.name for f in (CHECKOUT / "schemes").glob("*.toml")}
    assert {name.removesuffix(".toml") for name in schemes} <= set(qinterp.scheme_names())
    models = {f.name for f in (CHECKOUT / "models").glob("*/*.tflite")}
    assert set(shipped_models()) == models
    assert len(models) >= 6
    with pytest.raises(FileNotFoundError, match="ships no 'nonsense'"):
        folder("nonsense")


def test_every_model_has_provenance_and_samples() -> None:
    for name in shipped_models():
        record = provenance(name)
        own = samples(name)
        assert record is not None, name
        assert own is not None, name
        assert 0 < record["accuracy"]["int8"] <= 1
        assert len(own.inputs) == len(own.labels) >= 100
        assert len(set(own.labels.tolist())) == 10
        assert own.inputs.std() > 0
    assert provenance("nonsense.tflite") is None
    assert samples("nonsense.tflite") is None


def test_every_named_scheme_loads_and_bears_the_name_of_its_file() -> None:
    names = qinterp.scheme_names()
    assert {"exact", "tflite-reference"} <= set(names)
    for name in names:
        scheme = qinterp.load_scheme(name)
        assert scheme.name == name
        assert scheme.source
        assert scheme.evidence["level"]


EXTRAS = ("ai_edge_litert", "onnx", "onnxruntime", "matplotlib", "hypothesis", "tensorflow")
CORE = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS}))  # None: importing it fails
import numpy as np
import qinterp
import qinterp.cli, qinterp.explanation, qinterp.testing, qinterp.twin
from qinterp.errors import RuntimeUnavailableError
from qinterp.runtimes import RUNTIMES
from qinterp.testing.tflite_writer import ModelWriter
w = ModelWriter()
x = w.input("x", (1, 4), "int8", scale=0.5)
y = w.tensor("y", (1, 4), "int8", scale=0.25)
w.operator("ADD", [x, x], [y])
model = w.finish([y])
inputs = {{"x": np.array([[1, 2, 3, -9]], np.int8)}}
print(qinterp.run(qinterp.load(model), inputs).outputs["y"].tolist())
print(*sorted(name for name in RUNTIMES if RUNTIMES[name].unavailable()))
try:
    RUNTIMES["litert-reference"].run(model, inputs)
except RuntimeUnavailableError as error:
    print(error)
"""


def test_the_core_needs_no_extra() -> None:
    done = subprocess.run([sys.executable, "-c", CORE], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    values, missing, advice = done.stdout.splitlines()
    assert values == "[[4, 8, 12, -36]]"
    assert {"litert-reference", "litert-optimized", "litert-xnnpack"} <= set(missing.split())
    assert advice == "the runtime litert-reference needs: pip install 'qinterp[litert]'"
