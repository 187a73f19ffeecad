"""The command line. Exit status: 0 the same or done, 1 a difference was found, 2 an error."""

from __future__ import annotations

import json
import math
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import click

import qinterp
from qinterp.errors import InputError, QInterpError, SchemeError
from qinterp.ir import Graph
from qinterp.scheme import Scheme
from qinterp.text import printable


class _Group(click.Group):
    """Turns every error into one line on stderr and exit status 2: status 1 is a difference."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            status = super().main(*args, **{**kwargs, "standalone_mode": False})
        except getattr(click.exceptions, "NoArgsIsHelpError", ()) as error:
            error.show()
        except click.ClickException as error:
            _complain(error.format_message())
        except QInterpError as error:
            _complain(str(error))
        except (click.Abort, KeyboardInterrupt):
            _complain("interrupted")
        except Exception as error:
            traceback.print_exc()
            _complain(f"a bug: {error!r}; please report it")
        else:
            sys.exit(status if isinstance(status, int) else 0)
        sys.exit(2)


def _complain(message: str) -> None:
    click.echo(f"qinterp: {printable(' '.join(message.split()))}", err=True)


_SCHEME_HELP = "A name (see 'qinterp schemes') or a path to a .toml."


def _scheme_options(*, many: bool = False) -> Callable[[Any], Any]:
    def add(command: Any) -> Any:
        for option in (
            click.option(
                "--node",
                "nodes",
                multiple=True,
                metavar="NODE=SCHEME",
                help="Another scheme for one node. May be repeated.",
            ),
            click.option(
                "--set",
                "changes",
                multiple=True,
                metavar="PATH=VALUE",
                help="A field of the scheme, e.g. accumulator.bits=20 or "
                "conv_2d.accumulator.overflow=saturate. May be repeated.",
            ),
            click.option(
                "-s",
                "--scheme",
                "schemes",
                multiple=True,
                help=_SCHEME_HELP + (" Twice: side by side." if many else ""),
            ),
        ):
            command = option(command)
        return command

    return add


_input_option = click.option(
    "-i",
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help="An .npz of arrays by tensor name, or an .npy for a model with one input.",
)
_sample_option = click.option(
    "--sample", type=click.IntRange(0), default=0, help="Which of a shipped model's samples."
)
_seed_option = click.option("--seed", default=0, help="Of random inputs, where nothing is given.")
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(qinterp.__version__, prog_name="qinterp")
def main() -> None:
    """Run a quantized model as a backend would, bit for bit, and say where two backends part."""


@main.command()
@click.argument("model")
@_input_option
@_sample_option
@_seed_option
@_scheme_options()
@click.option("--capture", type=click.Path(path_type=Path), help="Write every tensor to an .npz.")
@click.option("--accumulators", is_flag=True, help="Put accumulators into the capture too.")
@click.option("--plan", is_flag=True, help="Print how each node will be computed, and why.")
@_json_option
def run(
    model: str,
    input_file: Path | None,
    sample: int,
    seed: int,
    schemes: Sequence[str],
    changes: Sequence[str],
    nodes: Sequence[str],
    capture: Path | None,
    accumulators: bool,
    plan: bool,
    as_json: bool,
) -> None:
    """Execute MODEL and print every node's outputs, the prediction and the time."""
    from qinterp.importers import load
    from qinterp.interpreter import Interpreter
    from qinterp.report.inputs import choose_inputs
    from qinterp.report.run import RunReport, print_plan

    if accumulators and capture is None:
        raise InputError("--accumulators needs --capture")
    graph = load(model)
    interpreter = Interpreter(graph, _one_scheme(schemes, changes, nodes, graph))
    if plan:
        print_plan(interpreter, as_json=as_json)
        return
    chosen = choose_inputs(graph, input_file, sample, seed)
    notes = ("accumulator", "multiplier", "shift") if accumulators else ()
    report = RunReport(interpreter, chosen, notes)
    if capture is not None:
        _write(lambda: report.result.tensors.save(capture), capture)
    if as_json:
        _print_json(report.to_json())
    else:
        report.print(captured=capture)


@main.command()
@click.argument("model")
@_json_option
def inspect(model: str, as_json: bool) -> None:
    """Print MODEL's nodes, shapes, quantization, multiply-adds and parameters."""
    from qinterp.importers import load
    from qinterp.report.inspect import inspection, print_inspection

    found = inspection(load(model))
    if as_json:
        _print_json(found)
    else:
        print_inspection(found)


@main.command()
@click.argument("model")
@click.argument("element")
@_input_option
@_sample_option
@_seed_option
@_scheme_options(many=True)
@_json_option
def explain(
    model: str,
    element: str,
    input_file: Path | None,
    sample: int,
    seed: int,
    schemes: Sequence[str],
    changes: Sequence[str],
    nodes: Sequence[str],
    as_json: bool,
) -> None:
    """Explain one ELEMENT, 'TENSOR[i,j,...]', of MODEL step by step.

    With two schemes, side by side. Exit status 1 if they give different values.
    """
    from qinterp.explanation import explain as explain_element
    from qinterp.explanation import parse_element
    from qinterp.importers import load
    from qinterp.report.inputs import choose_inputs
    from qinterp.report.tables import say

    if len(schemes) > 2:
        raise InputError(f"explain takes one scheme or two, got {len(schemes)}")
    tensor, index = parse_element(element)
    graph = load(model)
    chosen = choose_inputs(graph, input_file, sample, seed)
    sides = [_one_scheme([name], changes, nodes, graph) for name in schemes or ["tflite-reference"]]
    found = explain_element(graph, chosen.arrays, tensor, index, *sides)
    if as_json:
        _print_json(found.to_json())
    else:
        say(f"input: {chosen.origin}")
        for line in str(found).splitlines():
            say(line)
    sys.exit(int(not found.agrees))


@main.command()
@click.argument("model")
@_input_option
@_scheme_options(many=True)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    help="A device's tensors as side B: an .npz, a folder of .npy files, or a manifest (TOML or "
    "JSON) of raw binaries.",
)
@click.option(
    "--match",
    "matching",
    multiple=True,
    help="auto, exact, order, or DUMPED=TENSOR (may be repeated): how a dump's names are found.",
)
@click.option("--samples", type=click.IntRange(1), help="How many of a shipped model's samples.")
@click.option("--random", "random_count", type=click.IntRange(1), help="How many random inputs.")
@_seed_option
@click.option("--labels", type=click.Path(path_type=Path), help="An .npy of the right classes.")
@click.option("--original", help="The float model that MODEL was quantized from.")
@click.option(
    "--fail-lsb",
    type=click.IntRange(0),
    metavar="N",
    help="Exit with 0 unless some node creates, or differs by, more than N steps of its scale.",
)
@click.option(
    "--tolerance",
    help="Instead: a policy by name (nnapi: 1 step a node, 3 at the outputs), or a TOML file of "
    "tolerances by kind, node or tensor, each with its reason.",
)
@click.option(
    "--csv", "csv_file", type=click.Path(path_type=Path), help="Also write a CSV, a row a node."
)
@click.option("--workers", type=click.IntRange(1), help="Threads; one a core by default.")
@_json_option
def diff(
    model: str,
    input_file: Path | None,
    schemes: Sequence[str],
    changes: Sequence[str],
    nodes: Sequence[str],
    against: Path | None,
    matching: Sequence[str],
    samples: int | None,
    random_count: int | None,
    seed: int,
    labels: Path | None,
    original: str | None,
    fail_lsb: int | None,
    tolerance: str | None,
    csv_file: Path | None,
    workers: int | None,
    as_json: bool,
) -> None:
    """Say where two sides part on MODEL, and why.

    A side (-s) is a scheme, runtime:NAME, or a dump as for --against. Exit status: 0 the same, or
    within tolerance; 1 they differ; 2 an error. Interrupted, it tells what it knows so far.
    """
    from qinterp.importers import load
    from qinterp.report.difference import run_diff
    from qinterp.report.inputs import choose_for_diff

    graph = load(model)
    sides = [_side(name, changes, nodes, graph) for name in schemes]
    if against is not None:
        if not against.exists():
            raise InputError(f"--against {against}: no such file or folder")
        sides.append(against)
    if len(sides) != 2:
        raise InputError(
            f"diff takes two sides (-s A -s B, or -s A --against DUMP), got {len(sides)}"
        )
    dump = next((side for side in sides if isinstance(side, Path)), None)
    if matching and dump is None:
        raise InputError("--match is for the names of a dump: give --against")
    if tolerance is not None and fail_lsb is not None:
        raise InputError("--tolerance and --fail-lsb exclude each other")
    match = tuple(matching) or "auto"
    chosen = choose_for_diff(
        graph,
        input_file,
        samples=samples,
        random_count=random_count,
        seed=seed,
        labels=labels,
        original=original,
        dump=dump,
        match=match,
    )
    status = run_diff(
        graph,
        chosen.inputs,
        *sides,
        origin=chosen.origin,
        model=model,
        options=chosen.options,
        match=match,
        labels=chosen.labels,
        original=chosen.original,
        tolerance=tolerance,
        fail_lsb=fail_lsb,
        as_json=as_json,
        csv_file=csv_file,
        workers=workers,
    )
    sys.exit(status)


@main.command()
@click.argument("model")
@_input_option
@click.option("--samples", type=click.IntRange(1), default=4, help="How many inputs.")
@_seed_option
@_json_option
def verify(model: str, input_file: Path | None, samples: int, seed: int, as_json: bool) -> None:
    """Compare every scheme that has a runtime here with that runtime, per operator kind."""
    from qinterp.importers import load
    from qinterp.report.inputs import choose_many
    from qinterp.report.verification import Verification

    graph = load(model)
    report = Verification(graph, choose_many(graph, input_file, samples, seed))
    if as_json:
        _print_json(report.to_json())
    else:
        report.print()
    sys.exit(int(report.differs))


@main.command()
@click.argument("name", required=False)
@click.option("--hash", "show_hash", is_flag=True, help="Print the hash of the arithmetic.")
@_json_option
def schemes(name: str | None, show_hash: bool, as_json: bool) -> None:
    """List the named schemes, or print one of them resolved, as TOML."""
    from qinterp.report.schemes import print_schemes, scheme_list
    from qinterp.schemes_io import load_scheme, to_toml

    if name is None:
        if as_json:
            listed = {"schema": "qinterp.schemes/1", "schemes": scheme_list()}
            _print_json(listed)
        else:
            print_schemes(scheme_list(), show_hash=show_hash)
        return
    scheme = load_scheme(name)
    if as_json:
        resolved = {"schema": "qinterp.scheme/1", "sha256": scheme.sha256, **scheme.to_table()}
        _print_json(resolved)
    elif show_hash:
        click.echo(scheme.sha256)
    else:
        click.echo(to_toml(scheme), nl=False)


def _one_scheme(
    names: Sequence[str], changes: Iterable[str], nodes: Iterable[str], graph: Graph
) -> Scheme:
    from qinterp.schemes_io import load_scheme

    if len(names) > 1:
        raise InputError(f"one scheme is needed here, got {len(names)}: {', '.join(names)}")
    scheme = load_scheme(names[0] if names else "tflite-reference")
    values = dict(_pair(change, "--set") for change in changes)
    if values:
        scheme = scheme.with_({path: _value(text) for path, text in values.items()})
    for node, other in (_pair(entry, "--node") for entry in nodes):
        scheme = scheme.with_node(graph.node(node).name, load_scheme(other))
    return scheme


def _side(
    name: str, changes: Iterable[str], nodes: Iterable[str], graph: Graph
) -> str | Path | Scheme:
    """A runtime by name, the path of a dump, or a scheme, to which the changes apply."""
    from qinterp.difference.dumps import is_dump
    from qinterp.schemes_io import scheme_names

    if name.startswith("runtime:"):
        return name
    if name and name not in scheme_names() and is_dump(Path(name)):
        return Path(name)
    return _one_scheme([name], changes, nodes, graph)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise SchemeError(f"{option}: {text!r} is not of the form NAME=VALUE")
    return name.strip(), value.strip()


def _value(text: str) -> Any:
    """A TOML value, or else a string without quotes."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise SchemeError(f"--set: {text[:40]!r}: {error}") from None


def _print_json(found: Any) -> None:
    """Print strict JSON: what is no finite number becomes its name."""
    click.echo(json.dumps(_finite(found), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _write(write: Callable[[], None], path: Path) -> None:
    try:
        write()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
