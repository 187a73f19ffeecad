"""TFLite flatbuffers to graphs, through the ``tflite`` package's readers of the public schema.

Source of the conventions: tflite/schema/schema.fbs; tflite/core/interpreter_builder.cc (buffers,
optional operands, quantization); tflite/kernels/internal/portable_tensor_utils.cc (int4 packing).
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from qinterp.errors import ModelFormatError, QInterpError, UnsupportedOperatorError
from qinterp.importers import importer
from qinterp.ir import Graph, GraphBuilder, Node, Quantization, Tensor
from qinterp.ir.tensor import MAX_ELEMENTS, NUMPY_TYPES, Array
from qinterp.ops import OPERATORS, Operator

_ENUM_OF_FIELD = {
    "padding": "Padding",
    "fused_activation_function": "ActivationFunctionType",
    "mode": "MirrorPadMode",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
    "kernel_type": "LSTMKernelType",
}
# A flatbuffers table without any field: its vtable, and the offset back to it.
_EMPTY_TABLE = (struct.pack("<HHi", 4, 4, 4), 4)
# What the generated readers raise on offsets and lengths that point nowhere.
_MALFORMED = (
    struct.error, IndexError, ValueError, TypeError, OverflowError, AttributeError,
    UnicodeDecodeError, MemoryError, RecursionError,
)  # fmt: skip


@importer(".tflite")
def read(data: bytes, name: str) -> Graph:
    """The main subgraph of a TFLite file as a Graph.

    Raises
    ------
    ModelFormatError : not a TFLite file, or not a well-formed one.
    UnsupportedOperatorError : every operator that is not known, with its node numbers.
    """
    import tflite

    if len(data) < 8 or data[4:8] != b"TFL3":
        raise ModelFormatError(f"{name}: not a TFLite file (no identifier TFL3)")
    try:
        return _Reader(tflite.Model.GetRootAs(data, 0), data, name).graph()
    except QInterpError:
        raise
    except _MALFORMED as error:
        raise ModelFormatError(f"{name}: malformed flatbuffer: {error}") from error


class Options:
    """An operator's option table: fields by their snake_case names, with schema defaults."""

    def __init__(self, table: Any, where: str) -> None:
        self._table = table
        self._where = where

    def __getattr__(self, field: str) -> Any:
        method = "".join(part.capitalize() for part in field.split("_"))
        vector = getattr(self._table, f"{method}AsNumpy", None)
        if vector is not None:
            values = vector()
            return tuple(int(v) for v in values) if isinstance(values, np.ndarray) else ()
        return getattr(self._table, method)()

    def enum(self, field: str) -> str:
        """The lower-case name of an enumeration's value."""
        value = getattr(self, field)
        name = _enum_names(_ENUM_OF_FIELD[field]).get(value)
        if name is None:
            raise ModelFormatError(f"{self._where}: {field} = {value}, which the schema lacks")
        return name.lower()

    def dtype(self, field: str) -> str:
        """The storage type that a TensorType field names."""
        return _enum_names("TensorType").get(getattr(self, field), "?").lower()


@cache
def _enum_names(enum: str) -> Mapping[int, str]:
    import tflite

    members = vars(getattr(tflite, enum))
    return {v: k for k, v in members.items() if isinstance(v, int) and not k.startswith("_")}


@cache
def _readers() -> Mapping[str, tuple[Operator, Any, str | None]]:
    return {
        builtin: (operator, read, options)
        for operator in OPERATORS.values()
        for builtin, (read, options) in operator.tflite.items()
    }


class _Reader:
    def __init__(self, model: Any, data: bytes, name: str) -> None:
        self.model = model
        self.data = data
        self.name = name
        if model.SubgraphsLength() < 1:
            raise ModelFormatError(f"{name}: the file has no subgraph")
        self.main = model.Subgraphs(0)
        self._bounded("tensor", self.main.TensorsLength())
        self._bounded("operator", self.main.OperatorsLength())
        self.names = self._tensor_names()
        self.inputs = self._indices(self.main.InputsAsNumpy(), "the graph's inputs")
        self.outputs = self._indices(self.main.OutputsAsNumpy(), "the graph's outputs")

    def _bounded(self, what: str, count: int) -> None:
        if count * 4 > len(self.data):
            raise ModelFormatError(f"{self.name}: {count} {what}s in {len(self.data)} bytes")

    def graph(self) -> Graph:
        """The whole graph."""
        nodes = self._nodes()
        builder = GraphBuilder(source=self.data, format="tflite", name=self.name)
        written = {t for node in nodes for t in node.outputs} | set(self.inputs)
        for i in range(len(self.names)):
            builder.tensor(self._tensor(i, written))
        for node in nodes:
            builder.node(node)
        return builder.build(self.inputs, self.outputs)

    # ---- tensors --------------------------------------------------------------------------

    def _tensor_names(self) -> list[str]:
        raw = []
        for i in range(self.main.TensorsLength()):
            name = self.main.Tensors(i).Name()
            raw.append(name.decode() if name else "")
        count = Counter(raw)
        return [n if n and count[n] == 1 else f"{n}#{i}" for i, n in enumerate(raw)]

    def _indices(self, values: Any, what: str) -> tuple[str, ...]:
        """Tensor names of a vector of indices; -1 (absent) becomes ""."""
        if not isinstance(values, np.ndarray):
            return ()
        names = []
        for value in values:
            if not -1 <= value < len(self.names):
                raise ModelFormatError(
                    f"{self.name}: {what}: no tensor {value}, there are {len(self.names)}"
                )
            names.append("" if value == -1 else self.names[value])
        return tuple(names)

    def _tensor(self, index: int, written: set[str]) -> Tensor:
        table = self.main.Tensors(index)
        name = self.names[index]
        dtype = _enum_names("TensorType").get(table.Type(), str(table.Type())).lower()
        shape = tuple(int(d) for d in table.ShapeAsNumpy()) if table.ShapeLength() else ()
        signature = (
            tuple(int(d) for d in table.ShapeSignatureAsNumpy())
            if table.ShapeSignatureLength()
            else ()
        )
        if table.Sparsity() is not None:
            raise UnsupportedOperatorError(f"{self.name}: tensor {name!r} is sparse")
        if dtype not in NUMPY_TYPES or min(shape, default=0) < 0 or math.prod(shape) > MAX_ELEMENTS:
            return Tensor(name, shape, dtype, index=index)  # validation says what is wrong
        data = self._constant(table, name, dtype, shape)
        if data is None and name not in written and 0 in shape:
            data = np.zeros(shape, NUMPY_TYPES[dtype])
        return Tensor(
            name,
            shape,
            dtype,
            self._quantization(table.Quantization(), name) if "float" not in dtype else None,
            data,
            index,
            bool(table.IsVariable()),
            tuple(i for i, d in enumerate(signature) if d == -1),
        )

    def _constant(self, table: Any, name: str, dtype: str, shape: tuple[int, ...]) -> Array | None:
        number = table.Buffer()
        if not 0 <= number < self.model.BuffersLength():
            raise ModelFormatError(f"{self.name}: tensor {name!r}: no buffer {number}")
        buffer = self.model.Buffers(number)
        if number == 0:
            return None
        if buffer.Offset() > 1:  # data behind the flatbuffer, in files above 2 GB
            start, size = buffer.Offset(), buffer.Size()
            if start + size > len(self.data):
                raise ModelFormatError(f"{self.name}: tensor {name!r}: its data ends past the file")
            raw = np.frombuffer(self.data, np.uint8, size, start)
        elif not buffer.DataLength():
            return None
        else:
            raw = buffer.DataAsNumpy()
        elements = math.prod(shape)
        wanted = (elements + 1) // 2 if dtype == "int4" else elements * NUMPY_TYPES[dtype].itemsize
        if raw.size != wanted:
            raise ModelFormatError(
                f"{self.name}: tensor {name!r} {dtype}{list(shape)} needs {wanted} bytes, "
                f"its buffer has {raw.size}"
            )
        if dtype == "int4":
            return _unpack_int4(raw, elements).reshape(shape)
        kind = NUMPY_TYPES[dtype]
        if raw.ctypes.data % kind.itemsize:  # files should align their buffers, but need not
            raw = np.frombuffer(raw.tobytes(), np.uint8)
        value: Array = raw.view(kind).reshape(shape)
        return value

    def _quantization(self, table: Any, name: str) -> Quantization | None:
        if table is None or not table.ScaleLength():
            return None
        if table.DetailsType() != 0:
            raise UnsupportedOperatorError(
                f"{self.name}: tensor {name!r} has custom or blockwise quantization"
            )
        scale = np.array(table.ScaleAsNumpy(), np.float32)
        zero_point = (
            np.array(table.ZeroPointAsNumpy(), np.int64)
            if table.ZeroPointLength()
            else np.zeros(1, np.int64)
        )
        if zero_point.size == 1:
            zero_point = np.broadcast_to(zero_point, scale.shape)
        dimension = int(table.QuantizedDimension())
        axis = dimension if scale.size > 1 else None
        return Quantization(scale, zero_point, axis, dimension)

    def _parameters(self, name: str) -> tuple[float, int] | None:
        """Scale and zero point of a tensor that stands for an intermediate of an operator."""
        table = self.main.Tensors(self.names.index(name)) if name else None
        q = self._quantization(table.Quantization(), name) if table else None
        return None if q is None else (float(q.scale[0]), int(q.zero_point[0]))

    # ---- operators ------------------------------------------------------------------------

    def _nodes(self) -> list[Node]:
        nodes = []
        unknown: dict[str, list[int]] = {}
        for i in range(self.main.OperatorsLength()):
            table = self.main.Operators(i)
            builtin = self._builtin(table.OpcodeIndex(), i)
            if builtin not in _readers():
                unknown.setdefault(builtin, []).append(i)
                continue
            nodes.append(self._node(i, table, builtin))
        if unknown:
            listed = "; ".join(
                f"{name} (node{'s' if len(where) > 1 else ''} {', '.join(map(str, where[:8]))}"
                f"{', ...' if len(where) > 8 else ''})"
                for name, where in sorted(unknown.items())
            )
            raise UnsupportedOperatorError(f"{self.name}: unsupported operators: {listed}")
        return nodes

    def _builtin(self, opcode: int, node: int) -> str:
        if not 0 <= opcode < self.model.OperatorCodesLength():
            raise ModelFormatError(f"{self.name}: operator {node}: no operator code {opcode}")
        code = self.model.OperatorCodes(opcode)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        builtin = _enum_names("BuiltinOperator").get(number, f"builtin {number}")
        if builtin == "CUSTOM":
            custom = code.CustomCode()
            return f"custom operator {custom.decode(errors='replace') if custom else '?'!r}"
        return builtin

    def _node(self, index: int, table: Any, builtin: str) -> Node:
        operator, read_options, options_type = _readers()[builtin]
        where = f"operator {index} ({builtin})"
        attributes = dict(operator.attributes)
        attributes |= read_options(self._options(table, options_type, where))
        if "intermediates" in attributes:
            names = self._indices(table.IntermediatesAsNumpy(), f"{where}: intermediates")
            attributes["intermediates"] = tuple(self._parameters(name) for name in names)
        inputs = self._indices(table.InputsAsNumpy(), f"{where}: inputs")
        outputs = self._indices(table.OutputsAsNumpy(), f"{where}: outputs")
        return Node(
            f"{operator.kind}_{index}",
            operator.kind,
            _strip(inputs),
            outputs,
            MappingProxyType(attributes),
            index,
        )

    def _options(self, table: Any, wanted: str | None, where: str) -> Options | None:
        import tflite

        if wanted is None:
            return None
        options = getattr(tflite, wanted)()
        have = _enum_names("BuiltinOptions").get(table.BuiltinOptionsType(), "?")
        union = table.BuiltinOptions()
        if have == "NONE" or union is None:
            options.Init(*_EMPTY_TABLE)
        elif have != wanted:
            raise ModelFormatError(f"{self.name}: {where}: has {have}, wanted {wanted}")
        else:
            options.Init(union.Bytes, union.Pos)
        return Options(options, f"{self.name}: {where}")


def _strip(names: Sequence[str]) -> tuple[str, ...]:
    """Operand names without absent ones at the end."""
    kept = list(names)
    while kept and not kept[-1]:
        kept.pop()
    return tuple(kept)


def _unpack_int4(raw: Array, elements: int) -> Array:
    """Two's-complement nibbles, low one first, one a byte."""
    nibbles = np.stack([raw & 15, raw >> 4], 1).reshape(-1)[:elements].astype(np.int8)
    codes: Array = np.where(nibbles > 7, nibbles - 16, nibbles).astype(np.int8)
    return codes
