"""The graph: tensors, operator nodes, and what makes them well-formed."""

from qinterp.ir.call import Call, UnknownValue
from qinterp.ir.graph import Graph, GraphBuilder, Node
from qinterp.ir.tensor import Quantization, Tensor

__all__ = ["Call", "Graph", "GraphBuilder", "Node", "Quantization", "Tensor", "UnknownValue"]
