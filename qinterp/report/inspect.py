"""What ``qinterp inspect`` prints."""

from __future__ import annotations

import math
from typing import Any

from qinterp.ir import Graph, Node, Tensor
from qinterp.report.tables import paragraph, print_table, say

_WEIGHTED = {
    "conv_2d": "filter",
    "depthwise_conv_2d": "filter",
    "transpose_conv": "weights",
    "fully_connected": "weights",
}


def multiply_adds(graph: Graph, node: Node) -> int:
    """Products of one run, padding taps counted too."""
    if node.kind not in _WEIGHTED and node.kind != "batch_matmul":
        return 0
    output = math.prod(graph.tensors[node.outputs[0]].shape)
    first, second = (graph.tensors[name].shape for name in node.inputs[:2])
    if node.kind == "batch_matmul":
        depth = first[-2] if node.attributes.get("adj_x") else first[-1]
        return output * depth
    if node.kind == "transpose_conv":
        image = math.prod(graph.tensors[node.inputs[2]].shape)
        return image * math.prod(second[:3])
    if node.kind == "depthwise_conv_2d":
        return output * math.prod(second[1:3])
    return output * math.prod(second[1:])


def inspection(graph: Graph) -> dict[str, Any]:
    """Nodes, tensors and totals of a graph."""
    nodes = []
    for node in graph.nodes:
        constants = [t for n in node.inputs if n and (t := graph.tensors[n]).is_constant]
        nodes.append(
            {
                "node": node.name,
                "kind": node.kind,
                "attributes": {k: _plain(v) for k, v in node.attributes.items()},
                "inputs": [_tensor(graph.tensors[n]) for n in node.inputs if n],
                "outputs": [_tensor(graph.tensors[n]) for n in node.outputs],
                "multiply_adds": multiply_adds(graph, node),
                "parameters": sum(math.prod(t.shape) for t in constants),
            }
        )
    used = {n for node in graph.nodes for n in node.inputs if n}
    constants = [graph.tensors[n] for n in used if graph.tensors[n].is_constant]
    return {
        "schema": "qinterp.inspect/1",
        "model": graph.name,
        "sha256": graph.sha256,
        "bytes": len(graph.source),
        "inputs": [_tensor(graph.tensors[n]) for n in graph.inputs],
        "outputs": [_tensor(graph.tensors[n]) for n in graph.outputs],
        "nodes": nodes,
        "multiply_adds": sum(n["multiply_adds"] for n in nodes),
        "parameters": sum(math.prod(t.shape) for t in constants),
    }


def print_inspection(found: dict[str, Any]) -> None:
    """The inspection as a table."""
    say(f"model      {found['model']}, {found['bytes']:,} bytes, sha256 {found['sha256'][:16]}")
    for what in ("inputs", "outputs"):
        for t in found[what]:
            paragraph(what[:-1], _one_line(t), 11)
    say("")
    print_table(
        ("~node", "~attributes", "output", "~quantization", ">MACs", ">params"),
        [
            (
                n["node"],
                _attributes(n["attributes"]),
                f"{out['dtype']} {'x'.join(map(str, out['shape']))}",
                out["quantization"] or "",
                f"{n['multiply_adds']:,}" if n["multiply_adds"] else "",
                f"{n['parameters']:,}" if n["parameters"] else "",
            )
            for n in found["nodes"]
            for out in n["outputs"]
        ],
    )
    say("")
    say(
        f"{len(found['nodes'])} nodes, {found['multiply_adds']:,} multiply-adds, "
        f"{found['parameters']:,} parameters"
    )


def _tensor(tensor: Tensor) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "dtype": tensor.dtype,
        "shape": list(tensor.shape),
        "quantization": _quantization(tensor),
        "constant": tensor.is_constant,
    }


def _quantization(tensor: Tensor) -> str | None:
    q = tensor.quantization
    if q is None:
        return None
    if q.per_channel:
        return f"{q.scale.size} scales {q.scale.min():.3g}..{q.scale.max():.3g} axis {q.axis}"
    return f"{float(q.scale[0]):.6g} zp {int(q.zero_point[0])}"


def _one_line(t: dict[str, Any]) -> str:
    shape = "x".join(map(str, t["shape"]))
    return f"{t['name']}: {t['dtype']} {shape}" + (
        f", {t['quantization']}" if t["quantization"] else ""
    )


def _attributes(attributes: dict[str, Any]) -> str:
    usual = ("none", "valid", [1, 1], 1, False)
    return " ".join(
        f"{k} {'x'.join(map(str, v)) if isinstance(v, list) else v}"
        for k, v in attributes.items()
        if v not in usual
    )


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, (tuple, list)) else value
