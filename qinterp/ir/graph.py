"""A quantized network as a bipartite networkx graph of operator and tensor nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from qinterp.errors import InputError, ModelFormatError
from qinterp.ir.tensor import Tensor

if TYPE_CHECKING:
    import networkx


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of the graph.

    Attributes
    ----------
    name : the file's unique node name, else ``kind_index``.
    kind : canonical operator, snake_case ("conv_2d").
    inputs : tensor names in operand order, "" for an absent optional operand.
    outputs : tensor names in order.
    attributes : canonical attributes, every one present.
    index : position in the file.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    index: int = 0


class Graph:
    """An immutable quantized network; see :class:`GraphBuilder` for making one.

    Attributes
    ----------
    nx : the frozen bipartite ``networkx.DiGraph`` with nodes ``("op", name)`` and
        ``("tensor", name)``.
    nodes : operators in execution order.
    tensors : every tensor by name.
    inputs, outputs : names, in the file's order.
    source : the bytes of the file, ``format`` its kind ("tflite").
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        nodes: Iterable[Node],
        inputs: tuple[str, ...],
        outputs: tuple[str, ...],
        *,
        source: bytes = b"",
        format: str = "",
        name: str = "",
    ) -> None:
        import networkx as nx

        self.tensors: Mapping[str, Tensor] = MappingProxyType(dict(tensors))
        self.inputs = inputs
        self.outputs = outputs
        self.source = source
        self.format = format
        self.name = name
        by_name = {node.name: node for node in nodes}
        graph: networkx.DiGraph[tuple[str, str]] = nx.DiGraph()
        graph.add_nodes_from((("tensor", t.name) for t in tensors.values()), bipartite=0)
        for node in by_name.values():
            key = ("op", node.name)
            graph.add_node(key, bipartite=1)
            graph.add_edges_from((("tensor", t), key) for t in node.inputs if t)
            graph.add_edges_from((key, ("tensor", t)) for t in node.outputs)
        rank = {("tensor", t.name): (0, t.index) for t in tensors.values()}
        rank |= {("op", n.name): (1, n.index) for n in by_name.values()}
        try:
            order = list(nx.lexicographical_topological_sort(graph, key=rank.__getitem__))
        except nx.NetworkXUnfeasible:
            cycle = [name for what, name in nx.find_cycle(graph)[0] if what]
            raise ModelFormatError(f"the graph has a cycle through {cycle[-1]!r}") from None
        self.nx = nx.freeze(graph)
        self.nodes: tuple[Node, ...] = tuple(by_name[n] for what, n in order if what == "op")
        self._producer = {t: node for node in self.nodes for t in node.outputs}
        self._by_node_name = by_name

    def node(self, name: str) -> Node:
        """The node called ``name``; InputError listing near names otherwise."""
        try:
            return self._by_node_name[name]
        except KeyError:
            raise InputError(f"no node {name!r}{_suggest(name, self._by_node_name)}") from None

    def producer(self, tensor: str) -> Node | None:
        """The node that computes ``tensor``, None for inputs and constants."""
        return self._producer.get(tensor)

    def consumers(self, tensor: str) -> tuple[Node, ...]:
        """The nodes that read ``tensor``, in execution order."""
        readers = {name for _, name in self.nx.successors(("tensor", tensor))}
        return tuple(node for node in self.nodes if node.name in readers)

    def find_tensor(self, address: str) -> Tensor:
        """The tensor at ``address``: its name, ``#index``, its node's name, or a unique part.

        Raises
        ------
        InputError : nothing or more than one tensor answers to it.
        """
        if address in self.tensors:
            return self.tensors[address]
        number = address[1:]
        if address.startswith("#") and number.isascii() and number.isdecimal():
            for tensor in self.tensors.values():
                if str(tensor.index) == (number.lstrip("0") or "0"):
                    return tensor
        if address in self._by_node_name:
            return self.tensors[self._by_node_name[address].outputs[0]]
        parts = [t for name, t in self.tensors.items() if address and address in name]
        computed = [t for t in parts if not t.is_constant]
        for found in (parts, computed):
            if len(found) == 1:
                return found[0]
        if parts:
            names = ", ".join(repr(t.name) for t in (computed or parts)[:5])
            raise InputError(f"{address!r} is part of {len(parts)} tensor names: {names}")
        known = list(self._by_node_name) + list(self.tensors)
        raise InputError(f"no tensor {address!r}{_suggest(address, known)}")

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes."""
        return hashlib.sha256(self.source).hexdigest()

    def __repr__(self) -> str:
        name = f" {self.name}" if self.name else ""
        return f"<Graph{name}: {len(self.nodes)} nodes, {len(self.tensors)} tensors>"


def _suggest(name: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, list(known), n=3)
    return f"; near: {', '.join(map(repr, near))}" if near else ""


class GraphBuilder:
    """Collects tensors and nodes; ``build`` validates them all at once."""

    def __init__(self, *, source: bytes = b"", format: str = "", name: str = "") -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []
        self._source, self._format, self._name = source, format, name

    def tensor(self, tensor: Tensor) -> None:
        """Add a tensor; ModelFormatError if the name is taken."""
        if tensor.name in self.tensors:
            raise ModelFormatError(f"two tensors are called {tensor.name!r}")
        self.tensors[tensor.name] = tensor

    def node(self, node: Node) -> None:
        """Add an operator."""
        self.nodes.append(node)

    def build(self, inputs: Iterable[str], outputs: Iterable[str]) -> Graph:
        """Validate and freeze.

        Raises
        ------
        ModelFormatError : every problem found, each with its node, tensor and clause.
        """
        from qinterp.ir.validate import problems

        inputs, outputs = tuple(inputs), tuple(outputs)
        found = problems(self.tensors, self.nodes, inputs, outputs)
        if found:
            where = f"{self._name}: " if self._name else ""
            raise ModelFormatError(where + "; ".join(found[:20]))
        return Graph(
            self.tensors,
            self.nodes,
            inputs,
            outputs,
            source=self._source,
            format=self._format,
            name=self._name,
        )
