"""Imports run downwards only, importing is cheap, and no module hides a public function."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import qinterp

ROOT = Path(qinterp.__file__).parent
LAYERS = [  # from the bottom; a tuple stands for "only leftwards", a set for "not each other"
    {"errors", "integers", "text", "_kernels"},
    ("ir", "numerics", "scheme"),
    {"ops", "twin", "capture", "schemes_io"},
    {"interpreter", "importers", "runtimes"},
    ("difference", "identification", "explanation", "sweep"),
    {"report", "testing"},
    {"cli"},
]
PLACE = {
    part: (level, step if isinstance(layer, tuple) else 0)
    for level, layer in enumerate(LAYERS)
    for step, part in enumerate(layer)
}


def imports(file: Path) -> set[str]:
    """The parts of qinterp that a file imports anywhere, ``if TYPE_CHECKING`` included."""
    names = []
    for found in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(found, ast.Import):
            names += [alias.name for alias in found.names]
        elif isinstance(found, ast.ImportFrom):
            assert found.level == 0, f"{file.name}: relative import"
            module = found.module or ""
            names += [f"{module}.{a.name}" if module == "qinterp" else module for a in found.names]
    parts = {name.split(".")[1] for name in names if name.startswith("qinterp.")}
    return parts - {"__version__"}


SOURCES = {
    file: file.relative_to(ROOT).parts[0].removesuffix(".py")
    for file in sorted(ROOT.rglob("*.py"))
    if file.parent != ROOT or not file.name.startswith("__")
}


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_only_from_lower_layers(file: Path) -> None:
    part = SOURCES[file]
    assert part in PLACE, f"{part!r} is in no layer"
    for other in imports(file) - {part}:
        assert other in PLACE, f"imports qinterp.{other}, which is in no layer"
        assert PLACE[other] < PLACE[part], f"{part} imports {other}"


def test_the_layers_are_seen_at_all() -> None:
    assert {"ir", "ops", "scheme"} <= imports(ROOT / "interpreter.py")
    assert "scheme" in imports(ROOT / "cli.py")  # under TYPE_CHECKING or not
    assert set(SOURCES.values()) >= {"ir", "numerics", "scheme", "ops", "twin", "cli"}


def test_importing_loads_nothing_until_it_is_used() -> None:
    code = (
        "import sys, qinterp; print(*sorted({m.split('.')[0] for m in sys.modules} & set("
        "'numpy networkx rich click tflite flatbuffers tomli_w ai_edge_litert'.split())));"
        "print(*(m for m in sys.modules if m.startswith('qinterp.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n\n"


def test_public_names_exist_and_no_module_bears_the_name_of_a_function() -> None:
    modules = {file.stem for file in ROOT.iterdir() if file.suffix in (".py", ".pyx")}
    modules |= {folder.name for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()}
    public = {name: getattr(qinterp, name) for name in qinterp.__all__}
    assert not {name for name, value in public.items() if inspect.isroutine(value)} & modules
    assert {"load", "load_scheme", "run", "Interpreter", "Capture"} <= public.keys()
    assert set(dir(qinterp)) == set(qinterp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = qinterp.nonsense
