"""What makes a graph well-formed, as clauses G1 to G8 of docs/numerics.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qinterp.integers import INT_TYPES
from qinterp.ir.graph import Node
from qinterp.ir.tensor import MAX_ELEMENTS, NUMPY_TYPES, Tensor


def problems(
    tensors: Mapping[str, Tensor],
    nodes: Sequence[Node],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> list[str]:
    """Every broken clause, each naming its node or tensor; empty when well-formed."""
    return [
        *(p for tensor in tensors.values() for p in _tensor(tensor)),
        *_nodes(tensors, nodes),
        *_ends(tensors, nodes, inputs, outputs),
    ]


def _tensor(tensor: Tensor) -> Iterator[str]:
    name = f"tensor {tensor.name!r}"
    if tensor.dtype not in NUMPY_TYPES:
        yield f"{name}: storage type {tensor.dtype} is not one of {', '.join(NUMPY_TYPES)} (G1)"
        return
    if any(d < 0 for d in tensor.shape):
        yield f"{name}: shape {list(tensor.shape)} has a negative dimension (G2)"
        return
    elements = 1
    for dimension in tensor.shape:
        elements *= dimension
    if elements > MAX_ELEMENTS:
        yield f"{name}: shape {list(tensor.shape)} has more than {MAX_ELEMENTS} elements (G2)"
    if tensor.data is not None and tensor.data.shape != tensor.shape:
        yield (
            f"{name}: the file holds a value of shape {list(tensor.data.shape)}, "
            f"wanted {list(tensor.shape)} (G3)"
        )
    yield from _quantization(tensor, name)


def _quantization(tensor: Tensor, name: str) -> Iterator[str]:
    q = tensor.quantization
    if q is None:
        return
    if not (np.isfinite(q.scale).all() and (q.scale > 0).all()):
        bad = q.scale[~(np.isfinite(q.scale) & (q.scale > 0))]
        yield f"{name}: scale {float(bad[0])} is not finite and positive (G4)"
    if q.scale.shape != q.zero_point.shape:
        yield f"{name}: {q.scale.size} scales but {q.zero_point.size} zero points (G4)"
    if q.axis is not None and (
        not 0 <= q.axis < len(tensor.shape) or tensor.shape[q.axis] != q.scale.size
    ):
        yield (
            f"{name}: {q.scale.size} scales on axis {q.axis} do not fit shape "
            f"{list(tensor.shape)} (G4)"
        )
    kind = INT_TYPES.get(tensor.dtype)
    if kind and not all(kind.fits(int(z)) for z in (q.zero_point.min(), q.zero_point.max())):
        yield f"{name}: zero point {int(q.zero_point.max())} does not fit {tensor.dtype} (G4)"


def _nodes(tensors: Mapping[str, Tensor], nodes: Sequence[Node]) -> Iterator[str]:
    for name, count in Counter(node.name for node in nodes).items():
        if count > 1:
            yield f"{count} nodes are called {name!r} (G5)"
    producers: dict[str, str] = {}
    for node in nodes:
        for tensor in (*filter(None, node.inputs), *node.outputs):
            if tensor not in tensors:
                yield f"node {node.name!r}: no tensor {tensor!r} (G6)"
        if not node.outputs:
            yield f"node {node.name!r}: has no output (G6)"
        for tensor in node.outputs:
            if tensor in producers:
                yield (
                    f"tensor {tensor!r}: written by {producers[tensor]!r} and by {node.name!r} (G7)"
                )
            elif tensor in tensors and tensors[tensor].is_constant:
                yield f"node {node.name!r}: writes the constant {tensor!r} (G7)"
            producers[tensor] = node.name


def _ends(
    tensors: Mapping[str, Tensor],
    nodes: Sequence[Node],
    inputs: Sequence[str],
    outputs: Sequence[str],
) -> Iterator[str]:
    produced = {t for node in nodes for t in node.outputs}
    for name in inputs:
        if name not in tensors:
            yield f"graph input {name!r} is not a tensor (G8)"
        elif name in produced or tensors[name].is_constant:
            yield f"graph input {name!r} is also computed or constant (G8)"
    given = {*inputs, *produced, *(n for n, t in tensors.items() if t.is_constant or t.variable)}
    for name in outputs:
        if name not in given:
            yield f"graph output {name!r} is never computed (G8)"
    for node in nodes:
        for tensor in filter(None, node.inputs):
            if tensor in tensors and tensor not in given:
                yield f"node {node.name!r}: input {tensor!r} is never computed (G8)"
