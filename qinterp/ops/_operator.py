"""How an operator is declared: its operands, attributes, shapes, recipes, and file formats.

An operator is one file in this folder (and its twin); importing the folder registers it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from qinterp import _kernels
from qinterp.errors import UnsupportedOperatorError
from qinterp.ir import Call, Tensor
from qinterp.ir.call import Shape, flip_sign
from qinterp.ir.tensor import Array
from qinterp.ops._copies import copies
from qinterp.scheme import RECIPES, Policy, RecipeChoice, Scheme

ANY_FAMILY = "*"


class Notes(dict[str, Any]):
    """Intermediates of one node; only those that were asked for are kept."""

    def __init__(self, wanted: Iterable[str] = ()) -> None:
        super().__init__()
        self.wanted = frozenset(wanted)

    def add(self, name: str, value: Any) -> None:
        """Keep ``value`` if ``name`` was asked for."""
        if name in self.wanted:
            self[name] = value


NO_NOTES = Notes()

Run = Callable[[Sequence[Any], Notes], Sequence[Array]]
"""A prepared node: operand arrays (None where absent) and notes to the output arrays, followed
by the new values of the operands in ``Operator.state``, if it has any."""


class KernelRun:
    """A run that, where no notes are wanted, is one task of the kernels."""

    def __init__(self, run: Run, task: _kernels.Task | None) -> None:
        self._run = run
        self.task = task

    def __call__(self, values: Sequence[Any], notes: Notes) -> Sequence[Array]:
        """See :data:`Run`."""
        return self._run(values, notes)


Prepare = Callable[[Call], Run]
Move = Callable[[Sequence[Any], Any], Sequence[Array]]
"""A data movement: arrays of any type, and the fill value, to arrays."""


@dataclass(frozen=True)
class Recipe:
    """One way to compute an operator."""

    name: str
    prepare: Prepare
    params: type | None


F = TypeVar("F", bound=Callable[..., Any])


class Operator:
    """A canonical operator.

    Parameters
    ----------
    kind : snake_case name.
    operands : names in order; "bias?" may be absent, "values*" (last) stands for any number.
    attributes : names with their default values.
    state : operands that the operator also rewrites (LSTM, SVDF).
    reads_shapes_only : the outputs depend on the shapes of the operands, not on their values.
    keeps_order : a data movement whose output is the first operand in another shape.
    """

    def __init__(
        self,
        kind: str,
        operands: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        state: Sequence[str] = (),
        *,
        reads_shapes_only: bool = False,
        keeps_order: bool = False,
    ) -> None:
        self.kind = kind
        self.keeps_order = keeps_order
        self.reads_shapes_only = reads_shapes_only
        self.operands = tuple(name.rstrip("?*") for name in operands)
        self.optional = {name[:-1] for name in operands if name.endswith("?")}
        self.variadic = bool(operands) and operands[-1].endswith("*")
        self.attributes = MappingProxyType(dict(attributes or {}))
        self.state = tuple(state)
        self.recipes: dict[str, Recipe] = {}
        self.float_recipe: str | None = None
        self.movement: Callable[[Call], Move] | None = None
        self.tflite: dict[str, tuple[Callable[[Any], Mapping[str, Any]], str | None]] = {}
        self._infer: Callable[[Call], Sequence[Shape]] | None = None
        if kind in OPERATORS:
            raise ValueError(f"operator {kind!r} is declared twice")
        OPERATORS[kind] = self

    # ---- declarations -------------------------------------------------------------------

    def reads_tflite(self, name: str, options: str | None = None) -> Callable[[F], F]:
        """Declare how the option table of a TFLite operator becomes attributes.

        Parameters
        ----------
        name : of the builtin operator ("CONV_2D").
        options : of its option table ("Conv2DOptions"). The function takes an object whose
            attributes are the table's fields in snake_case, with the schema's defaults, and
            whose ``enum(field)`` names enumerations; or None for an operator without options.
        """

        def declare(read: F) -> F:
            self.tflite[name] = (read, options)
            return read

        return declare

    def infers(self, infer: F) -> F:
        """Declare the output shapes of a :class:`Call`, checking operands on the way."""
        self._infer = infer
        return infer

    def recipe(
        self,
        name: str,
        params: type | None = None,
        *,
        family: str | None = None,
        floats: bool = False,
    ) -> Callable[[F], F]:
        """Declare a way to prepare the operator.

        Parameters
        ----------
        name : what schemes call it.
        params : a frozen dataclass; ``call.params`` is an instance of it.
        family : schemes with ``recipes = family`` take it; "*" stands for every family.
        floats : it is the one for real-valued (float32) operands.
        """

        def declare(prepare: F) -> F:
            self.recipes[name] = Recipe(name, prepare, params)
            RECIPES.add(self.kind, name, params, family)
            if floats:
                self._declare_float(name, prepare)
            return prepare

        return declare

    def _declare_float(self, name: str, prepare: Prepare) -> None:
        """``prepare`` is for real operands; wrapped, it serves quantized ones too."""
        from qinterp.ops._dequantized import Dequantized, dequantized

        self.float_recipe = name
        self.recipe("dequantized", Dequantized, family="float")(dequantized(prepare, self.state))

    def moves(self, movement: Callable[[Call], Move]) -> Callable[[Call], Move]:
        """Declare a data movement: one index map, which the twin applies to indices."""
        self.movement = movement

        def prepare(call: Call) -> Run:
            move = movement(call)
            fill = call.output.zero_point if call.output.quantization else 0

            def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
                return [np.ascontiguousarray(x).reshape(x.shape) for x in move(values, fill)]

            return KernelRun(run, None if self.keeps_order else copies(call, move))

        self.recipe("move", family=ANY_FAMILY)(prepare)
        return movement

    # ---- use ------------------------------------------------------------------------------

    def names(self, count: int) -> tuple[str, ...]:
        """Operand names of a call with ``count`` inputs."""
        if not self.variadic:
            return self.operands
        last = self.operands[-1]
        fixed = self.operands[:-1]
        return (*fixed, *(f"{last}{i}" for i in range(count - len(fixed))))

    def infer(self, call: Call) -> list[Tensor]:
        """The output tensors with their shapes.

        Raises
        ------
        ModelFormatError : operands that do not fit the operator.
        UnknownValue : a shape depends on a value that is not known yet.
        """
        least = len(self.operands) - len(self.optional) - self.variadic
        most = float("inf") if self.variadic else len(self.operands)
        if not least <= len(call.inputs) <= most:
            call.malformed(f"takes {least} to {most} operands, got {len(call.inputs)}")
        for name, tensor in zip(self.names(len(call.inputs)), call.inputs, strict=False):
            if tensor is None and name not in self.optional:
                call.malformed(f"operand {name!r} is missing")
        if self._infer is None:
            raise TypeError(f"operator {self.kind!r} declares no shapes")
        shapes = list(self._infer(call))
        if len(shapes) != len(call.outputs):
            call.malformed(f"gives {len(shapes)} outputs, the model has {len(call.outputs)}")
        return [
            t.with_shape(tuple(int(d) for d in s))
            for t, s in zip(call.outputs, shapes, strict=True)
        ]

    def choose(self, call: Call, scheme: Scheme) -> tuple[Recipe, RecipeChoice, Policy]:
        """The recipe that ``scheme`` gives this call.

        Raises
        ------
        UnsupportedOperatorError : the scheme has none.
        """
        policy = scheme.policy(call.facts())
        if policy.lacks:
            raise UnsupportedOperatorError(
                call.where(f"scheme {scheme.name!r} has no {self.kind} here: {policy.lacks}")
            )
        choice = self.choice(call, policy)
        if choice is None or choice.name not in self.recipes:
            raise UnsupportedOperatorError(
                call.where(f"scheme {scheme.name!r} has no rule for {self.kind}")
            )
        recipe = self.recipes[choice.name]
        if choice.params is None and recipe.params is not None:
            choice = RecipeChoice(choice.name, recipe.params())
        if policy.unsigned == "as_signed" and call.is_unsigned:
            recipe = replace(recipe, prepare=_as_signed(recipe.prepare))
        return recipe, choice, policy

    def choice(self, call: Call, policy: Policy) -> RecipeChoice | None:
        """The recipe that a policy names for this call, or else its family."""
        first = call.subject
        if policy.recipe is None and self.float_recipe and first is not None and first.is_float:
            return RecipeChoice(self.float_recipe)
        return policy.recipe or RECIPES.standard(self.kind, policy.recipes)

    @property
    def source_file(self) -> str:
        """Where the operator is declared."""
        return inspect.getsourcefile(self._infer) or "" if self._infer else ""


def _as_signed(prepare: Prepare) -> Prepare:
    """``prepare`` of the call with int8 for uint8."""

    def prepare_signed(call: Call) -> Run:
        run_signed = prepare(call.as_signed())

        def run(values: Sequence[Any], notes: Notes) -> Sequence[Array]:
            codes = [
                None if v is None else flip_sign(t, v)
                for t, v in zip(call.inputs, values, strict=False)
            ]
            outputs = run_signed(codes, notes)
            return [flip_sign(t, v) for t, v in zip(call.outputs, outputs, strict=True)]

        return run

    return prepare_signed


OPERATORS: dict[str, Operator] = {}
