"""Nodes run one at a time, from operands of anybody's choice."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

from qinterp.errors import InputError, QInterpError
from qinterp.interpreter import Inputs, Interpreter, Result
from qinterp.ir import Call, Graph, Node, Tensor
from qinterp.ir.tensor import Array
from qinterp.numerics.requantize import check_exact, needs_multiplier
from qinterp.ops import OPERATORS
from qinterp.ops._operator import Run
from qinterp.scheme import Policy, Scheme
from qinterp.schemes_io import load_scheme

Values = Mapping[str, Array]


def alone(
    graph: Graph, node: Node, values: Values, others: Mapping[str, Tensor] | None = None
) -> Graph:
    """The graph of one node; its inputs are the operands that the file does not hold.

    Parameters
    ----------
    values : arrays from which the inputs take their shapes.
    others : tensors to put in the place of the graph's own.
    """
    source = {**graph.tensors, **(others or {})}
    tensors = {}
    for name in dict.fromkeys((*node.inputs, *node.outputs)):
        if not name:
            continue
        tensor = source[name]
        if not tensor.is_constant and not tensor.variable:
            # shapes follow the operands, whatever the file says
            shape = values[name].shape if name in values else tensor.shape
            tensor = replace(tensor, shape=shape, dynamic=tuple(range(len(shape))))
        tensors[name] = tensor
    inputs = operands(graph, node)
    return Graph(tensors, [node], inputs, node.outputs, format=graph.format, name=graph.name)


def operands(graph: Graph, node: Node) -> tuple[str, ...]:
    """The tensors that ``node`` reads and the file does not hold."""
    named = (graph.tensors[name] for name in dict.fromkeys(node.inputs) if name)
    return tuple(t.name for t in named if not t.is_constant and not t.variable)


@dataclass(frozen=True, eq=False)
class Prepared:
    """How a scheme computes a node.

    Attributes
    ----------
    call : its operands, with the resolved policy and the recipe's parameters.
    recipe : its name.
    """

    node: Node
    call: Call
    recipe: str

    @property
    def policy(self) -> Policy:
        """What the node needs of the scheme."""
        policy: Policy = self.call.policy
        return policy

    @property
    def params(self) -> Any:
        """Parameters of the recipe."""
        return self.call.params

    def altered(self, policy: Policy, recipe: str, params: Any) -> Prepared:
        """The same node under another policy, or by another recipe."""
        call = copy.copy(self.call)
        call.policy, call.params = policy, params
        return Prepared(self.node, call, recipe)

    def runnable(self) -> Run | None:
        """The node ready to run; None if its policy makes no sense."""
        if not _possible(self.policy):
            return None
        try:
            return OPERATORS[self.node.kind].recipes[self.recipe].prepare(self.call)
        except (QInterpError, ValueError, ArithmeticError):
            return None


class NodeRunner:
    """The nodes of a graph under a scheme, each prepared by itself when it is first run.

    A node that the scheme has no rule for stands in nobody's way but its own.

    Parameters
    ----------
    graph : of which the nodes are.
    scheme : a name, a path to a .toml, or a Scheme.
    """

    def __init__(self, graph: Graph, scheme: str | Scheme) -> None:
        self.graph = graph
        self.scheme = load_scheme(scheme)
        self._prepared: dict[str, Interpreter | QInterpError] = {}
        self._lock = Lock()
        bare = Graph(graph.tensors, (), graph.inputs, (), name=graph.name)
        self._reader = Interpreter(bare, self.scheme)

    def codes(self, inputs: Inputs) -> dict[str, Array]:
        """``inputs`` by tensor name, real values as codes by the scheme's rule; see ``run``."""
        if isinstance(inputs, Mapping):
            inputs = {self.graph.find_tensor(name).name: v for name, v in inputs.items()}
        return self._reader.input_codes(inputs)

    def run(self, node: Node, values: Values, notes: Iterable[str] = ()) -> Result:
        """Run one node.

        Parameters
        ----------
        values : arrays by tensor name, at least of the node's operands.

        Raises
        ------
        QInterpError : the scheme has no rule for the node, or it failed.
        """
        interpreter = self._interpreter(node, values)
        return interpreter.run({n: values[n] for n in interpreter.graph.inputs}, notes=notes)

    def prepared(self, node: Node, values: Values) -> Prepared:
        """How the node is computed; raises as :meth:`run`."""
        interpreter = self._interpreter(node, values)
        step = interpreter.step_for(node, operand_values(interpreter.graph, node, values))
        assert step.call is not None
        return Prepared(node, step.call, step.recipe)

    def run_nodes(self, nodes: Sequence[Node], given: Values) -> tuple[dict[str, Array], str]:
        """Run ``nodes`` one after the other.

        Returns
        -------
        Every tensor, ``given`` included, and why the first node that could not run could not.
        """
        values, reason = dict(given), ""
        for node in nodes:
            if all(name in values for name in node.outputs):
                continue
            absent = [n for n in operands(self.graph, node) if n not in values]
            if absent:
                reason = reason or f"{node.name} lacks {absent[0]!r}"
                continue
            try:
                values = {**self.run(node, values).outputs, **values}
            except QInterpError as error:
                reason = reason or str(error)
        return values, reason

    def _interpreter(self, node: Node, values: Values) -> Interpreter:
        with self._lock:
            found = self._prepared.get(node.name)
            if found is None:
                try:
                    found = Interpreter(alone(self.graph, node, values), self.scheme)
                except InputError:
                    raise
                except QInterpError as error:
                    found = error
                self._prepared[node.name] = found
        if isinstance(found, QInterpError):
            raise found
        return found


def operand_values(graph: Graph, node: Node, values: Values) -> list[Array | None]:
    """The arrays of a node's operands in order: from ``values``, else the file's own.

    A variable holds what it does when a run starts.
    """

    def operand(name: str) -> Array | None:
        if name in values:
            return values[name]
        tensor = graph.tensors[name]
        return tensor.initial() if tensor.variable else tensor.data

    return [operand(name) if name else None for name in node.inputs]


def _possible(policy: Policy) -> bool:
    """Whether the parts of a policy go together, as a scheme's must."""
    lists = [policy.requantize, *([policy.tail.requantize] if policy.tail else [])]
    for stages in lists:
        if check_exact(stages, policy.effective_scale) is not None:
            return False
        if needs_multiplier(stages) and policy.multiplier.form == "none":
            return False
        shifts = {getattr(stage, "amount", "literal") for stage in stages}
        if shifts & {"pre", "post"} and policy.multiplier.form != "pre_post_shift":
            return False
    return True
